"""Pairs of one hand each: the renderer's, the same as the base draws them, or with losers that are the base's own.

The renderer's errors are of the kinds that the base has learnt. All kinds are of the same scenes in the same order. An
own loser is what the base draws where M is drawn anew, kept only where the judge that is meant for tuning calls it
wrong and the render right; the judge that reports is never asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import cv2
import numpy as np

from asap_train.data.gates import fingerprint
from asap_train.data.inpainting import Painter, PainterOptions, load_painter
from asap_train.data.redrawing import redraw_pairs
from asap_train.data.similarity import measure_similarity
from asap_train.data.spec import RedrawSpec, Thresholds
from asap_train.data.synthesis import add_pairs
from asap_train.data.workers import ItemResult, Run, processes
from asap_train.degrade.fill import grown
from asap_train.degrade.mannequin import mannequin_pair
from asap_train.degrade.redraw import CELL, Window, paste
from asap_train.hap import make_pair, to_row
from asap_train.hap.manifest import Details, HapManifest, SplitRule
from asap_train.hap.write import open_hap
from asap_train.types import Candidate, Mask, Photo
from hafbench.detectors.mannequin import MannequinDetector
from hafbench.images import sha256_of
from hafbench.mannequin.attributes import Framing
from hafbench.mannequin.captions import caption
from hafbench.mannequin.errors import COUNTING
from hafbench.mannequin.picture import SIZE, Picture, correct_picture
from hafbench.provenance import sha256_of_json
from hafbench.scorers.digits import judge
from hafbench.scorers.mannequin_card import SHIPPED, load_mannequin_card
from hafbench.worlds import built_in

if TYPE_CHECKING:
    from hafbench.types import Pixels, Score

FRAMING: Framing = "open_hand"
"""What the scenes show, as the prompts ask for it."""
FIRST_SEED = 60
"""Scene i has the seed FIRST_SEED * 10_000_000 + i: of no other data set (docs/studies/mannequin.md)."""
BLOCK = 8
"""Scenes that are redrawn in one batch."""
AT_ONCE = 1000
"""Scenes of one round."""
REACH = 7
"""Pixels by which M is larger than the hull of a hand: room for a digit too many."""
SURE = 0.8
"""The tuning judge's chance of an error from which a redraw is wrong; from 1 - SURE down a picture is right."""
STRENGTH = 0.85
"""Of own losers: the share of the sampler's steps that are done again inside M. With all of them the hand gets another
skin and place, of which a caption need say nothing."""
ALL_FOR_TRAINING = {"train": 1.0}

Verdict = Literal["right", "wrong", "doubtful"]
Kind = Literal["rendered", "redrawn", "own"]
"""Pairs of the renderer; the same pairs as the base draws them; renders against what the base drew in their place."""


@dataclass(frozen=True)
class Judge:
    """The files of a judge: a detector of the built-in world, and its card."""

    detector: Path = field(default_factory=lambda: built_in("detector.pt"))
    card: Path = SHIPPED


def row_of(photo: Photo, candidate: Candidate, skipped: Mapping[str, str]) -> dict[str, Any]:
    """The row of a pair."""
    similarity = measure_similarity(photo.pixels, candidate.pixels, candidate.mask)
    mark = fingerprint(photo.pixels, candidate.pixels, candidate.mask)
    return to_row(make_pair(photo, candidate, photo.caption or "", similarity, mark, skipped))


def seeds(round_: int) -> Iterable[str]:
    """The seeds of a round."""
    first = FIRST_SEED * 10_000_000 + round_ * AT_ONCE
    return map(str, range(first, first + AT_ONCE))


@dataclass(frozen=True)
class Rendered:
    """Pairs with one exact error, as `asap-train synth --source mannequin` has them, of hands alone."""

    def items(self, round_: int) -> Iterable[str]:
        """Seeds."""
        return seeds(round_)

    def process(self, item: str) -> ItemResult:
        """The pair of a seed, if there is one."""
        made = mannequin_pair(int(item), framing=FRAMING, errors=COUNTING)
        if made is None:
            return ItemResult(item, (), (("renderer", "no error that can be seen found a place in the scene"),))
        return ItemResult(item, (row_of(*made, {}),), ())


@dataclass(frozen=True)
class Own:
    """Renders against what the base draws where their M is drawn anew, if the tuning judge calls that wrong.

    Models are loaded when they are first needed, so that this can be sent to a worker process.
    """

    model: str
    judge: Judge
    strength: float = STRENGTH

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    @cached_property
    def painter(self) -> Painter:
        """The base as an inpainting pipeline."""
        return load_painter(PainterOptions(model=self.model, arguments={"strength": self.strength}), "cpu")

    @cached_property
    def judging(self) -> tuple[MannequinDetector, Any]:
        """The tuning judge's detector and card."""
        return MannequinDetector(self.judge.detector, "cpu"), load_mannequin_card(self.judge.card)

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the pairs, as JSON values."""
        weights = {"detector": sha256_of(self.judge.detector), "card": sha256_of(self.judge.card)}
        return {"painter": dict(self.painter.settings), "tuning_judge": weights, "sure": SURE, "reach": REACH}

    def items(self, round_: int) -> Iterable[str]:
        """Seeds."""
        return seeds(round_)

    def process(self, item: str) -> ItemResult:
        """The pair of a seed, if it gives one."""
        return self.process_all([item])[0]

    def process_all(self, items: Sequence[str]) -> list[ItemResult]:
        """The same of several seeds, drawn in one batch."""
        scenes = [scene_of(int(item)) for item in items]
        return [self.result(scene, drawn) for scene, drawn in zip(scenes, self.redraw(scenes), strict=True)]

    def result(self, scene: Scene, drawn: Pixels) -> ItemResult:
        """A pair of a scene and what was drawn in its M, or why there is none."""
        score = self.score(drawn)
        if verdict(score) != "wrong":
            return ItemResult(str(scene.seed), (), (("loser", "the tuning judge does not call it wrong"),))
        # Most redraws are no losers, so that winners are judged last.
        if verdict(self.score(scene.photo.pixels)) != "right":
            return ItemResult(str(scene.seed), (), (("winner", "the tuning judge does not call it right"),))
        return ItemResult(str(scene.seed), (row_of(scene.photo, self.candidate(scene, drawn, score), UNGATED),), ())

    def redraw(self, scenes: Sequence[Scene]) -> list[Pixels]:
        """The scenes with M drawn anew, all in one batch."""
        made = self.painter.pipeline(
            prompt=[scene.photo.caption or "" for scene in scenes],
            image=[as_pil(scene.photo.pixels) for scene in scenes],
            mask_image=[as_pil(grown(scene.mask, CELL)) for scene in scenes],
            height=SIZE,
            width=SIZE,
            generator=generators(scene.seed for scene in scenes),
            output_type="np",
            **self.painter.arguments,
        ).images
        return [
            paste(scene.photo.pixels, as_pixels(image), scene.mask, WHOLE)
            for scene, image in zip(scenes, made, strict=True)
        ]

    def score(self, pixels: Pixels) -> Score:
        """What the tuning judge says of a picture."""
        detector, card = self.judging
        return judge(detector.detect(pixels).hands, card)

    def candidate(self, scene: Scene, pixels: Pixels, score: Score) -> Candidate:
        """A redraw that is wrong, with the judge's worst finding as its error."""
        finding = score.findings[0]
        settings = {"seed": scene.seed, "strength": self.strength}
        return Candidate(pixels, scene.mask, finding.region, finding.kind, finding.detail, "own", settings)


def verdict(score: Score) -> Verdict:
    """What the tuning judge says, where it is sure of it."""
    if score.status != "scored" or score.value is None:
        return "doubtful"
    return "wrong" if score.value >= SURE else "right" if score.value <= 1 - SURE else "doubtful"


WHOLE = Window(0, 0, SIZE, SIZE, (SIZE, SIZE))
UNGATED = {
    name: "what the base has drawn passes no gates of similarity" for name in Thresholds.model_fields if "side" in name
}


@dataclass(frozen=True)
class Scene:
    """A correct render, and M about its hand."""

    seed: int
    photo: Photo
    mask: Mask


def scene_of(seed: int) -> Scene:
    """The scene of a seed."""
    picture = correct_picture(seed, FRAMING)
    text = caption(picture.scene.attributes, random.Random(seed))
    # As mannequin_pair has it: pairs of one scene are of one source.
    source = sha256_of_json({"world": "mannequin", "seed": seed, "framing": FRAMING})
    return Scene(seed, Photo(f"mannequin/{seed}", source, picture.image, text), hand_mask(picture))


def hand_mask(picture: Picture) -> Mask:
    """The hull of the hand without its forearm, grown by REACH."""
    name = picture.truth.hands[0].part
    shown = picture.truth.mask(name) & ~picture.truth.mask(f"{name}.forearm")
    hull = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(cv2.findNonZero(shown.astype(np.uint8))), 1)
    return grown(hull > 0, REACH)


def as_pil(array: Pixels | Mask) -> Any:
    """For pipelines."""
    from PIL import Image

    return Image.fromarray(array)


def generators(seeds: Iterable[int]) -> list[Any]:
    """A source of noise each, of the CPU."""
    import torch

    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def as_pixels(image: Any) -> Pixels:
    """Of a pipeline's image in 0 .. 1."""
    return np.rint(np.clip(np.asarray(image, np.float64), 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Blocks:
    """A source whose items are several of another one's, SEED,SEED..."""

    source: Own

    def items(self, round_: int) -> Iterable[str]:
        """Not asked for: `in_blocks` makes them."""
        return ()

    def process(self, item: str) -> Any:
        """The results of a block."""
        return self.source.process_all(item.split(","))


@contextmanager
def in_blocks(source: Own, workers: int) -> Iterator[Run]:
    """As `processes`, by batches of BLOCK items."""

    def joined(items: Iterable[str]) -> Iterator[str]:
        waiting = iter(items)
        while block := list(islice(waiting, BLOCK)):
            yield ",".join(block)

    with processes(Blocks(source), workers) as run:
        yield lambda items: chain.from_iterable(cast("Iterator[list[ItemResult]]", run(joined(items))))


def make_pairs(kind: Kind, folder: Path, model: str, tuning: Judge, count: int, workers: int) -> HapManifest:
    """Make the data set of a kind in `folder`/KIND, or resume it; all of it is for training.

    The tuning judge is asked for `own` alone. Redrawn pairs are those rendered ones that are there.
    """
    if kind == "redrawn":
        spec = RedrawSpec(pairs=folder / "rendered", model=model, device="cpu")
        return redraw_pairs(spec, out=folder / kind)
    source = Own(model, tuning) if kind == "own" else Rendered()
    request = {"pairs": kind, "framing": FRAMING, "first_seed": FIRST_SEED}
    facts = {}
    if isinstance(source, Own):
        request |= {"strength": source.strength}
        facts = source.facts
    details = Details(licence="Apache-2.0", about=("Hands of the built-in world, for the controlled experiment.",))
    split = SplitRule(shares=ALL_FOR_TRAINING)
    with open_hap(folder / kind, request, facts=facts, details=details, split=split) as hap:
        runner = in_blocks(source, workers) if isinstance(source, Own) else processes(source, workers)
        add_pairs(source, hap, count, runner, Thresholds().hash_distance)
        return hap.finish()
