"""The `judge` scorer: whether vision-language models see an anatomical error, asked by a protocol.

The Anatomical Error Rate of HAF-Bench (ASAP, eq. 7) is the share of images in which a judge finds one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from hafbench.judges.options import JudgeOptions, load_askers
from hafbench.judges.parts import cut, shown
from hafbench.judges.votes import Voting, majority, vote
from hafbench.registry import Home
from hafbench.scorers.absence import unseen
from hafbench.types import Role

if TYPE_CHECKING:
    from hafbench.judges.asking import Asker
    from hafbench.judges.examples import Examples
    from hafbench.judges.parts import Part, PartFinders
    from hafbench.judges.protocols import JudgeProtocol
    from hafbench.suites import Prompt
    from hafbench.types import Pixels, Score


SHOWN = ("people", "hands", "arms")
"""What a prompt may say that a correct image shows, in which a judge could see an error."""


class Options(JudgeOptions):
    """`examples` is a folder with good/ and bad/ pictures that are shown with each question.

    `detector` finds the parts. An image is an error from p(error) = `threshold` on.
    """

    protocol: str = "regions"
    examples: Path | None = None
    detector: Literal["photographs", "mannequins"] = "photographs"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @classmethod
    def home_defaults(cls, home: Home) -> Mapping[str, Any]:
        """The detector of the built-in world for its pictures."""
        return {"detector": home}


class JudgeScorer:
    """Asks judges about one image; called from many threads at once."""

    name = "judge"
    role: Role = "anatomy"
    higher_is_better: bool | None = False

    def __init__(
        self,
        askers: Sequence[Asker],
        protocol: JudgeProtocol,
        options: Options,
        finder: PartFinders | None,
        examples: Examples,
    ) -> None:
        names = " and ".join(one.judge.name for one in askers)
        more = [f"{options.samples} samples"] if options.samples > 1 else []
        more += [f"threshold {options.threshold:g}"] if options.threshold != Options().threshold else []
        more += [f"examples {examples.sha256[:8]}"] if examples.sha256 else []
        # All on which verdicts depend: a calibration card is of one version.
        self.version = ", ".join([names, protocol.label, *more])
        many = "by a majority of the judges" if len(askers) > 1 else "by the judge"
        self.about = f"Whether an image has an anatomical error, {many} {names} asked by the protocol {protocol.label}."
        self.settings: Mapping[str, Any] = {
            "judges": [{"name": one.judge.name, "version": one.judge.version, **one.judge.settings} for one in askers],
            "protocol": protocol.label,
            "protocol_sha256": protocol.sha256,
            "examples": examples.sha256,
            "samples": options.samples,
            "max_tokens": options.max_tokens,
            "threshold": options.threshold,
            "detector": finder.name if finder else None,
            "weights": dict(finder.weights) if finder else {},
        }
        # More images than questions: while one is read or its parts are found, others keep the questions in flight.
        self.concurrency = 2 * options.concurrency
        self.askers, self._protocol, self._finder, self._examples = askers, protocol, finder, examples
        self._threshold = options.threshold
        self._names = [name for name in protocol.questions if finder is None or name in finder.parts]

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """The majority of the judges; unknown where it is a tie, or where they cannot tell or see nobody."""
        parts = self.parts(image)
        votes = [vote(asker, self.questions(parts, prompt), parts, self._threshold) for asker in self.askers]
        score = majority([Voting(asker.judge.name, one) for asker, one in zip(self.askers, votes, strict=True)])
        return replace(score, cause=unseen(prompt, *SHOWN)) if score.cause == "absent" else score

    def parts(self, image: Pixels) -> list[Part]:
        """What is asked about in an image."""
        if self._finder is None:
            return self.unseen(image)
        return cut(image, self._finder.find(image), self._names)

    def unseen(self, image: Pixels) -> list[Part]:
        """The same for an image in which no detector finds anything."""
        return cut(image, [], self._names)

    def questions(self, parts: Sequence[Part], prompt: Prompt | None) -> list[tuple[str, list[Any]]]:
        """The name of each question, and its texts and pictures."""
        about = self._protocol.about(prompt.text if prompt else None)
        return [
            (
                part.name,
                [
                    *self._examples.of(part.name),
                    *([about] if about else []),
                    part.picture,
                    self._protocol.question(part.name, part.place),
                ],
            )
            for part in parts
        ]

    def note(self) -> str:
        """Questions, tokens and failures so far."""
        return "; ".join(f"{asker.judge.name}: {asker.tally}" for asker in self.askers if asker.tally.asked)

    @property
    def asked(self) -> int:
        """The questions that went to the judge who was asked most."""
        return max(asker.tally.asked for asker in self.askers)

    def is_example(self, image: Pixels) -> bool:
        """Whether the judge is shown this image with its label."""
        return bool(self._examples.pictures) and shown(image).sha256 in self._examples.hashes

    def stop(self) -> None:
        """End what is asked at the moment."""
        for asker in self.askers:
            asker.stop()


def load(options: Options, device: str) -> JudgeScorer:
    """The scorer; raises HafError where no judge is named, Unavailable if the detector's weights are."""
    from hafbench.judges.examples import read_examples
    from hafbench.judges.parts import load_parts

    askers, protocol = load_askers(options, ("image", "regions"), device)
    finder = load_parts(options.detector, device) if protocol.asks == "regions" else None
    return JudgeScorer(askers, protocol, options, finder, read_examples(options.examples))
