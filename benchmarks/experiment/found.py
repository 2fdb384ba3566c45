"""What has been made so far: the runs of the base and of the methods whose fits are finished, and the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import labels
import pandas as pd
from plan import BASE, Plan

from hafbench.errors import HafError
from hafbench.runs import Run, read_run


@dataclass(frozen=True)
class Found:
    """All that was made: the base's run, each method's runs, the judge's verdicts by name, labels by eye or None."""

    plan: Plan
    base: Run
    runs: Mapping[str, Sequence[Run]]
    verdicts: Mapping[str, pd.DataFrame]
    eye: pd.DataFrame | None

    @property
    def names(self) -> list[str]:
        """The base and the methods."""
        return [BASE, *self.runs]


def find(plan: Plan, methods: Sequence[str]) -> Found:
    """What is there of the methods whose fits are all finished; raises HafError if there is none."""
    folder = plan.out / "runs"
    runs = {}
    for method in methods:
        own = [folder / f"{method}-{seed}" for seed in range(plan.seeds)]
        if all((run / "records.parquet").exists() for run in own):
            runs[method] = own
    if not runs or not (folder / BASE / "records.parquet").exists():
        raise HafError(f"{folder} has no finished runs of the base and of a method; give `make` first.")
    return Found(
        plan,
        read_run(folder / BASE, findings=False),
        {method: [read_run(run, findings=False) for run in own] for method, own in runs.items()},
        {BASE: labels.verdicts([folder / BASE]), **{method: labels.verdicts(own) for method, own in runs.items()}},
        labels.read(plan),
    )
