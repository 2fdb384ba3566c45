"""What is compared: the methods, the settings tried for each, and how a fit and a run are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd

from asap_train.choose import Part, Split
from asap_train.training.config import FitConfig
from hafbench.files import write_whole
from hafbench.settings import read_settings
from hafbench.specs import RunSpec
from hafbench.suites import load_suite
from hafbench.worlds import world_of

BASE = "base"
COMMON: Sequence[str] = ("time_range=[0.5,1]", "score=null", "checkpoints_total_limit=1")
"""Of all fits. That the noisier half is the better one was an assumption, and false (docs/studies/experiment.md)."""

SLOW, FAST = "learning_rate=3e-4", "learning_rate=1e-3"
GRID: Mapping[str, Sequence[Sequence[str]]] = {
    "sft": (("learning_rate=1e-4",), (SLOW,), (FAST,), (SLOW, "time_range=[0,1]")),
    "dpo": ((SLOW,), (FAST,), (SLOW, "loss.beta=500"), (SLOW, "loss.beta=50")),
    "dpo-local": ((SLOW,), (FAST,), (SLOW, "loss.beta=500"), (SLOW, "loss.beta=50")),
    "margin": (
        (SLOW, "loss.tau=0.01"),
        (SLOW, "loss.tau=0.03"),
        (SLOW, "loss.tau=0.1"),
        (FAST, "loss.tau=0.03"),
    ),
    "asap": (
        (SLOW, "loss.tau=0.01"),
        (SLOW, "loss.tau=0.1"),
        (SLOW, "loss.tau=0.3"),
        (FAST, "loss.tau=0.1"),
    ),
}
"""By method, which is an objective, the settings tried: as many for each, the paper's beta and tau among them."""
TUNING_SEED = 100
"""Of the fits that choose settings; those that are reported have the seeds 0, 1, ..."""
ANATOMY = ("digits", "limb_count")


@dataclass(frozen=True)
class Plan:
    """The experiment in the folder `out`: `steps` a fit, `seeds` fits a method, `images` of the base and each method.

    `tuning_images`: a prompt, for every setting tried.
    """

    out: Path
    pairs: Path
    steps: int
    seeds: int
    images: int
    tuning_images: int
    model: str = "mannequin"

    def config(self, kind: str, name: str, seed: int, settings: Sequence[str]) -> FitConfig:
        """The settings of one fit, OUT/KIND/fits/NAME."""
        given = [f"model={self.model}", f"pairs={self.pairs}", f"out={self.out / kind / 'fits' / name}"]
        given += [f"cache_dir={self.out / 'cache'}", f"max_train_steps={self.steps}", f"seed={seed}"]
        given += [f"checkpointing_steps={max(1, self.steps // 3)}", f"objective={name.rpartition('-')[0]}"]
        return read_settings(FitConfig, None, [*given, *COMMON, *settings])

    def log(self, kind: str, name: str) -> pd.DataFrame:
        """The log of a fit, a row a step; NaN for what its objective does not have."""
        path = self.out / kind / "fits" / name / "log.jsonl"
        return pd.DataFrame(map(json.loads, path.read_text().splitlines())).astype(float)

    def last_steps(self, kind: str, name: str) -> pd.DataFrame:
        """The last fifth of a fit's log."""
        rows = self.log(kind, name)
        return rows.tail(len(rows) // 5)

    def suite(self, part: Part) -> Path:
        """The prompts of one part of the suite as a suite of their own, OUT/PART.jsonl."""
        path = self.out / f"{part}.jsonl"
        if not path.exists():
            prompts = load_suite(world_of(self.model).suite).prompts
            kept = [prompt for prompt in prompts if Split().part_of(prompt.id) == part]
            write_whole(path, "".join(prompt.model_dump_json(exclude_defaults=True) + "\n" for prompt in kept))
        return path

    def tuning_spec(self) -> RunSpec:
        """How a setting that is tried is scored."""
        return self._spec("selection", seeds=self.tuning_images, scorers=(*ANATOMY, "clip"))

    def spec(self, fit: int | None) -> RunSpec:
        """How the base (None) or the fit-th fit of a method is scored.

        The fits of a method divide the images among them, each with seeds of its own, and the base has them all.
        """
        prompts = len(load_suite(str(self.suite("held-out"))).prompts)
        each = ceil(self.images / prompts / self.seeds)
        first, count = (0, each * self.seeds) if fit is None else (fit * each, each)
        return self._spec("held-out", seeds=count, first_seed=first)

    def _spec(self, part: Part, **settings: Any) -> RunSpec:
        given = {"model": self.model, "suite": str(self.suite(part)), **settings}
        return RunSpec.model_validate(given).resolved()
