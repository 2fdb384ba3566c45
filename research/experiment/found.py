"""What has been made so far: the runs of the base and of the methods whose fits are finished, labels, what was kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import labels
import pandas as pd
from kept import Kept, read_kept, with_kept
from making import run_folder
from plan import BASE, LAST, Plan

from hafbench.errors import HafError
from hafbench.runs import Run, is_finished, read_run


@dataclass(frozen=True)
class Found:
    """All that was made: the base's run, each method's runs, the judge's verdicts by name, labels by eye or None.

    `verdicts` has the methods that were `kept`, too, which have no runs here, and `eye` their labels.
    """

    plan: Plan
    base: Run
    runs: Mapping[str, Sequence[Run]]
    verdicts: Mapping[str, pd.DataFrame]
    eye: pd.DataFrame | None
    kept: Kept

    @property
    def names(self) -> list[str]:
        """The base and the methods."""
        return list(self.verdicts)

    @property
    def methods(self) -> list[str]:
        """The methods."""
        return self.names[1:]

    @property
    def judge(self) -> dict[str, pd.Series[float]]:
        """By name the judge's verdicts, by (prompt_id, seed): 1 an error, 0 none, NaN not judged."""
        return {name: table["error"] for name, table in self.verdicts.items()}

    @property
    def by_eye(self) -> dict[str, pd.Series[float]]:
        """By name the labels by eye, as `judge`: NaN unclear; only the names of which something was labelled."""
        if self.eye is None:
            return {}
        keyed = self.eye.set_index(["prompt_id", "seed"])
        groups = dict(iter(keyed.groupby("name")))
        return {name: groups[name]["bad"].astype(float) for name in self.names if name in groups}

    @property
    def strictly(self) -> Found:
        """The same with those pictures as wrong that were labelled good with a tint; labels must be there."""
        assert self.eye is not None
        return replace(self, eye=self.eye.assign(bad=self.eye["bad"].mask(self.eye["kind"] == labels.TINT, True)))

    @property
    def sources(self) -> dict[str, dict[str, pd.Series[float]]]:
        """Who said what is wrong: the judge, and the labels by eye where there are some."""
        return {"judge": self.judge, **({"by eye": self.by_eye} if self.eye is not None else {})}


def find(plan: Plan, methods: Sequence[str], folders: Sequence[Path] = ()) -> Found:
    """What is there of the methods whose fits are all finished, and of others that the reports in `folders` kept.

    Raises HafError if no fits are finished.
    """
    runs = {}
    for method in methods:
        own = finished(run_folder(plan, method, seed, LAST) for seed in range(plan.sizes.seeds))
        if len(own) == plan.sizes.seeds:
            runs[method] = own
    base = plan.out / "runs" / BASE
    if not runs or not is_finished(base):
        raise HafError(f"{base.parent} has no finished runs of the base and of a method; give `make` first.")
    own_base = read_run(base)
    verdicts = {name: labels.verdicts(own) for name, own in {BASE: [own_base], **runs}.items()}
    kept = read_kept(folders, list(runs))
    verdicts |= {name: kept.at(name)[["error", "chance"]] for name in kept.names}
    return Found(plan, own_base, runs, verdicts, with_kept(labels.read(plan), kept.labels), kept)


def finished(folders: Iterable[Path]) -> list[Run]:
    """The runs of those folders that have one."""
    return [read_run(one) for one in folders if is_finished(one)]
