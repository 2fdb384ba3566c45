"""The `judge` scorer: what a registered judge says of an image and its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hafbench import registry
from hafbench.errors import HafError
from hafbench.judges import JUDGES, load_judge
from hafbench.types import Role

if TYPE_CHECKING:
    from hafbench.suites import Prompt
    from hafbench.types import Judge, Pixels, Score


class Options(registry.Options):
    """`name` of the registry of judges, and that judge's own `options`."""

    name: str = ""
    options: Mapping[str, Any] = {}


class JudgeScorer:
    """Asks a judge about one image at a time."""

    name = "judge"
    role: Role = "anatomy"
    higher_is_better: bool | None = False

    def __init__(self, judge: Judge) -> None:
        self.version = f"{judge.name} {judge.version}"
        self.about = f"How sure the judge {judge.name} is that the image has an anatomical error."
        self.settings: Mapping[str, Any] = {"judge": judge.name, **judge.settings}
        self._judge = judge

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """The judge's answer; unknown where it has none."""
        return self._judge.judge(image, prompt)


def load(options: Options, device: str) -> JudgeScorer:
    """The scorer over the judge that `options` name; raises HafError where they name none."""
    if not options.name:
        known = ", ".join(JUDGES.names()) or "none is installed"
        raise HafError(f"The scorer judge asks a judge: name it by --set scorers.judge.name=NAME ({known}).")
    return JudgeScorer(load_judge(options.name, options.options, device))
