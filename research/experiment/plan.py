"""What is compared: the methods, the settings tried for each, and how a fit and a run are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd
from pairs import Judge, Kind

from asap_train.autoscore import tuned
from asap_train.training.config import FitConfig
from hafbench.evaluate import spread
from hafbench.settings import read_settings
from hafbench.specs import RunSpec
from hafbench.suites import load_suite
from hafbench.worlds import BUILT_IN

BASE = "base"
ANATOMY = ("digits",)
PROMPTS = Path(__file__).parent / "prompts"
"""Written by recipes/mannequin/hands_suite.py."""
SELECTION, HELD_OUT = "selection", ("held-out", "confirmation")
"""The suites there: settings are chosen on the first; results are reported on one of the others."""
COMMON: Sequence[str] = (
    *("score=null", "validation=null", "learning_rate=1e-3", "loss.guard=none"),
    *("noise_draws=1", "lora.layers=[attention]", "ema_decay=0", "torch_compile=true"),
)
"""Of all fits, unless a method or a setting that is tried says otherwise. Timesteps are all those of the base's own
training."""
GUARD: Sequence[str] = ("loss.guard=sft", "loss.guard_weight=0.5")
"""The weight is relative to the slope of the objective, so that it means the same for each."""
SLOW = "learning_rate=3e-4"
TUNING_SEED = 100
"""Of the fits that choose settings; those that are reported have the seeds 0, 1, ..."""
CHECKPOINTS = 8
"""Of a fit."""

Settings = tuple[str, ...]


@dataclass(frozen=True)
class Method:
    """An objective, the settings of all its fits, those that are tried for it, and the losers of its pairs."""

    objective: str
    tried: tuple[Settings, ...]
    settings: Settings = ()
    pairs: Kind = "rendered"

    def guarded(self) -> Method:
        """The same with the guard."""
        return replace(self, settings=(*self.settings, *GUARD))


def _values(name: str, *values: float) -> tuple[Settings, ...]:
    return tuple((f"{name}={value:g}",) for value in values)


_DPO = Method("dpo", (*_values("loss.beta", 5000, 1500, 500), ("loss.beta=5000", SLOW)))
_DPO_LOCAL = Method("dpo-local", (*_values("loss.beta", 5000, 500, 50), ("loss.beta=5000", SLOW)))
_MARGIN = Method("margin", _values("loss.tau", 0.01, 0.03, 0.1, 0.3))
_ASAP = Method("asap", _values("loss.tau", 0.01, 0.3, 1.0, 3.0))
_ON_POLICY = ("loss.auto_tau=true", "noise_draws=2", "lora.layers=[attention,feed_forward]", "ema_decay=0.99", *GUARD)
_OURS = Method("asap", _values("loss.tau", 0.2, 0.4, 0.8, 1.6), _ON_POLICY, "redrawn")

METHODS: Mapping[str, Method] = {
    "sft": Method("sft", _values("learning_rate", 1e-4, 3e-4, 1e-3, 3e-3)),
    "dpo": _DPO,
    "dpo-guard": _DPO.guarded(),
    "dpo-local": _DPO_LOCAL,
    "dpo-local-guard": _DPO_LOCAL.guarded(),
    "margin": _MARGIN,
    "margin-guard": _MARGIN.guarded(),
    "asap": _ASAP,
    "asap-guard": _ASAP.guarded(),
    "ipo": Method("ipo", _values("loss.ipo_beta", 5000, 500, 50, 5)),
    "ours": _OURS,
}
"""As many settings tried for each, the published beta and tau among them.

A guard holds L(w), which is all that sft has. ipo is margin with tau = 1 / (2 ipo_beta), by the betas of its users.
"""
ABLATIONS: Mapping[str, Method] = {
    "ours-rendered": replace(_OURS, pairs="rendered"),
    "ours-own": replace(_OURS, pairs="own"),
    "ours-no-guard": replace(_OURS, settings=(*_ON_POLICY, "loss.guard=none")),
    "ours-one-draw": replace(_OURS, settings=(*_ON_POLICY, "noise_draws=1")),
    "ours-fixed-tau": replace(_OURS, settings=(*_ON_POLICY, "loss.auto_tau=false")),
    "ours-attention": replace(_OURS, settings=(*_ON_POLICY, "lora.layers=[attention]")),
    "ours-no-ema": replace(_OURS, settings=(*_ON_POLICY, "ema_decay=0")),
    "dpo-redrawn": replace(_DPO, pairs="redrawn"),
}
"""One factor of `ours` changed, or dpo on its pairs; with the setting that was chosen for what they are of."""
PARENTS: Mapping[str, str] = {name: name.partition("-")[0] for name in ABLATIONS}


@dataclass(frozen=True)
class Point:
    """A place on a method's front: after a share of the steps, the LoRA at so many times its strength."""

    share: float = 1.0
    scale: float = 1.0

    @property
    def name(self) -> str:
        """Of folders."""
        return f"{self.share:g}x{self.scale:g}"


LAST = Point()
"""What is reported of a fit."""
FRONT = (Point(0.25), Point(0.5), Point(1.0, 0.5), Point(1.0, 1.5))
"""Besides LAST."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything: steps of a fit, fits of a method, pairs of each kind, and pictures.

    images: at least so many held-out ones of the base and of each method. selection: of each setting that is tried.
    front: of each point of a method. Smaller `prompts` (of each suite, the first ones) are for trials.
    """

    steps: int = 1000
    seeds: int = 3
    pairs: int = 4000
    images: int = 3000
    selection: int = 1000
    front: int = 960
    prompts: int | None = None


@dataclass(frozen=True)
class Plan:
    """The experiment in the folder `out` on the base `model`: the built-in one, or a folder of its layout.

    reporting: the judge whose verdicts are reported. held_out: the suite of the reported pictures.
    """

    out: Path
    model: str
    sizes: Sizes
    reporting: Judge = field(default_factory=Judge)
    held_out: str = HELD_OUT[0]

    @property
    def name(self) -> str:
        """The model as hafbench is asked for it: a folder with the built-in model's settings, suite and scorers."""
        return self.model if self.model == BUILT_IN else f"{BUILT_IN}={self.model}"

    def pairs(self, kind: Kind) -> Path:
        """The data set of a kind of pairs."""
        return self.out / "pairs" / kind

    def step(self, point: Point) -> int:
        """The checkpoint of a point: the last, which any number of steps has, or the nearest one."""
        if point.share == 1:
            return self.sizes.steps
        return max(1, round(self.sizes.steps * point.share / self.every)) * self.every

    @cached_property
    def every(self) -> int:
        """Steps from one checkpoint to the next."""
        return max(1, self.sizes.steps // CHECKPOINTS)

    def config(self, kind: str, method: str, seed: int, settings: Sequence[str], name: str) -> FitConfig:
        """The settings of one fit, OUT/KIND/fits/NAME. Latents and texts are shared by the fits on the same pairs."""
        own = (METHODS | ABLATIONS)[method]
        given = [f"model={self.name}", f"pairs={self.pairs(own.pairs)}", f"out={self.out / kind / 'fits' / name}"]
        given += [f"cache_dir={self.out / 'cache'}", f"max_train_steps={self.sizes.steps}", f"seed={seed}"]
        given += [f"checkpointing_steps={self.every}", f"objective={own.objective}"]
        return read_settings(FitConfig, None, [*given, *COMMON, *own.settings, *settings])

    def log(self, kind: str, name: str) -> pd.DataFrame:
        """The log of a fit, a row a step; NaN for what its objective does not have."""
        path = self.out / kind / "fits" / name / "log.jsonl"
        return pd.DataFrame(map(json.loads, path.read_text().splitlines())).astype(float)

    def last_steps(self, kind: str, name: str) -> pd.DataFrame:
        """The last fifth of a fit's log."""
        rows = self.log(kind, name)
        return rows.tail(max(1, len(rows) // 5))

    def prompts(self, suite: str) -> int:
        """How many prompts a suite has."""
        return len(spread(load_suite(str(PROMPTS / f"{suite}.jsonl")).prompts, self.sizes.prompts))

    def each(self, images: int) -> int:
        """Pictures of each held-out prompt that one fit of a method draws of so many in all."""
        return ceil(images / self.prompts(self.held_out) / self.sizes.seeds)

    def tuning_spec(self) -> RunSpec:
        """How a setting that is tried is scored."""
        seeds = ceil(self.sizes.selection / self.prompts(SELECTION))
        return self._spec(SELECTION, seeds=seeds, scorers=(*ANATOMY, "clip"))

    def spec(self, fit: int | None) -> RunSpec:
        """How the base (None) or the fit-th fit of a method is scored.

        The fits of a method divide the images among them, each with seeds of its own, and the base has them all.
        """
        each = self.each(self.sizes.images)
        first, count = (0, each * self.sizes.seeds) if fit is None else (fit * each, each)
        return self._spec(self.held_out, seeds=count, first_seed=first, scorers=(*ANATOMY, "clip", "iqa"))

    def front_spec(self, fit: int) -> RunSpec:
        """How one point of the front of the fit-th fit is scored: the first of the pictures that the fit draws."""
        each = min(self.each(self.sizes.front), self.each(self.sizes.images))
        first = fit * self.each(self.sizes.images)
        return self._spec(self.held_out, seeds=each, first_seed=first, scorers=ANATOMY)

    def _spec(self, suite: str, scorers: Sequence[str], **settings: Any) -> RunSpec:
        judge = {"detector": str(self.reporting.detector), "card": str(self.reporting.card)}
        given = {"model": self.name, "suite": str(PROMPTS / f"{suite}.jsonl"), "limit": self.sizes.prompts, **settings}
        given["scorers"] = {name: judge if name in ANATOMY else {} for name in scorers}
        return RunSpec.model_validate(given).resolved()


def at(spec: RunSpec, checkpoint: Path, scale: float) -> RunSpec:
    """The spec with a checkpoint's LoRA at so many times its strength."""
    found = tuned(spec, checkpoint)
    if scale == 1:
        return found
    lora = tuple(f"{path}:{scale:g}" for path in found.model.lora)
    return found.model_copy(update={"model": found.model.model_copy(update={"lora": lora})})
