"""Which judges are asked, and how: what the scorer `judge` and the judging of pairs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from hafbench import registry
from hafbench.errors import HafError

if TYPE_CHECKING:
    from hafbench.judges.asking import Asker
    from hafbench.judges.protocols import Asks, JudgeProtocol


class JudgeSpec(BaseModel):
    """One judge: `judge` is the base URL of an endpoint, or a name of the registry; `options` are that row's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str
    model: str = ""
    options: Mapping[str, Any] = {}

    @field_serializer("judge", when_used="json")
    def _shown(self, judge: str) -> str:
        from hafbench.judges.endpoint import shown_url

        return shown_url(judge) if "://" in judge else judge

    @field_serializer("options", when_used="json")
    def _without_secrets(self, options: Mapping[str, Any]) -> dict[str, Any]:
        from hafbench.judges.endpoint import shown_url

        return {name: shown_url(str(value)) if name == "url" else value for name, value in options.items()}

    @property
    def row(self) -> tuple[str, dict[str, Any]]:
        """The name in the registry, and all options."""
        model = {"model": self.model} if self.model else {}
        if "://" in self.judge:
            return "endpoint", {"url": self.judge, **model, **self.options}
        return self.judge, {**model, **self.options}


class JudgeOptions(registry.Options):
    """`judges` are asked by `protocol`, a name or a file; several of them vote.

    `samples` replies are asked for where a judge gives no log-probabilities. At most `concurrency` questions are asked
    at a time, and `max_questions` of each judge; a reply has at most `max_tokens`. `store` is the file of answers.
    """

    judges: tuple[JudgeSpec, ...] = ()
    protocol: str
    samples: Annotated[int, Field(ge=1)] = 1
    max_tokens: Annotated[int, Field(ge=16)] = 600
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    max_questions: Annotated[int, Field(ge=0)] | None = None
    store: Path | None = None


class PairOptions(JudgeOptions):
    """How pairs of pictures are judged."""

    protocol: str = "pair"


def load_askers(options: JudgeOptions, asks: tuple[Asks, ...], device: str) -> tuple[list[Asker], JudgeProtocol]:
    """The judges by their protocol, which asks about one of `asks`.

    Raises HafError where none is named or two have one name, Unavailable where a judge is.
    """
    from hafbench.judges import JUDGES, load_judge
    from hafbench.judges.asking import Asker
    from hafbench.judges.protocols import read_protocol
    from hafbench.judges.store import default_store

    if not options.judges:
        raise HafError(
            "Name a judge: --judge http://localhost:8000/v1 --judge-model NAME, or --judge with one of "
            f"{', '.join(JUDGES.names())}; of a fit, which has no such options: "
            "--set 'score.scorers.judge.judges=[{judge: http://localhost:8000/v1, model: NAME}]'."
        )
    texts = read_protocol(options.protocol, asks)
    judges = [load_judge(*spec.row, device) for spec in options.judges]
    names = [judge.name for judge in judges]
    if len(set(names)) < len(names):
        raise HafError(f"Two judges are called {max(names, key=names.count)}; name different models.")
    asked = options.model_dump(include={"concurrency", "max_questions", "samples", "max_tokens"})
    return [Asker(judge, texts, options.store or default_store(), **asked) for judge in judges], texts
