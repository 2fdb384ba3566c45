"""The front of error against drift: a curve for each method, over checkpoints and strengths of its LoRA.

All points of all methods are of the same prompts and noises as the base's pictures that they are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import labels
import measures
import numpy as np
import pandas as pd
from found import Found, finished
from making import run_folder
from numpy.typing import NDArray
from plan import BASE, FRONT, LAST, Point

from hafbench.statistics import Mean, Rate, compare_means, holm, mean_interval
from hafbench.statistics.clusters import bootstrap

MEASURE = "pixels"
"""The drift of the plot, of `measures.drift`."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Place:
    """One point of a method's curve: by (prompt, seed) its errors and its drift, NaN where there is none."""

    point: Point
    errors: pd.Series[float]
    drift: pd.Series[float]

    @property
    def error(self) -> Rate:
        """The judge's error rate."""
        return measures.rate_of(self.errors)

    @property
    def far(self) -> Mean:
        """The mean drift."""
        return mean_interval(self.drift.to_numpy(), self.drift.index.get_level_values(0))


@dataclass(frozen=True)
class Curves:
    """By method its points, those that are made in all fits; the base's errors on the same prompts and noises."""

    base: pd.Series[float]
    places: Mapping[str, Sequence[Place]]

    def last(self, method: str) -> Place:
        """The point of a method that is reported."""
        return next(place for place in self.places[method] if place.point == LAST)


def curves(found: Found) -> Curves | None:
    """All that is there; None where no method has any point but its last."""
    plan, seeds = found.plan, range(found.plan.sizes.seeds)
    made = {
        name: {point: finished(run_folder(plan, name, seed, point) for seed in seeds) for point in (*FRONT, LAST)}
        for name in found.runs
    }
    places = {
        name: [
            Place(
                point,
                labels.verdicts(runs)["error"],
                measures.drifts(found.base, runs, plan.out)[MEASURE],
            )
            for point, runs in own.items()
            if len(runs) == len(seeds)
        ]
        for name, own in made.items()
    }
    for name in found.kept.names:
        tables = {point: found.kept.at(name, point) for point in found.kept.points(name)}
        places[name] = [Place(point, own["error"], own["drift"]) for point, own in tables.items()]
    if all(len(own) == 1 for own in places.values()):
        return None
    base = found.judge[BASE]
    # The last checkpoint has more pictures than the others.
    keys = [place.errors.index for own in places.values() for place in own]
    shared = base.index
    for one in keys:
        shared = shared.intersection(one)
    shared = shared.sort_values()
    return Curves(
        base[shared],
        {
            name: [Place(place.point, place.errors.reindex(shared), place.drift.reindex(shared)) for place in own]
            for name, own in places.items()
        },
    )


def drift_at(errors: NDArray[np.float64], drifts: NDArray[np.float64], wanted: float) -> float:
    """The least drift at which a curve's error is as low as `wanted`; infinite where it never is.

    The curve is linear from one point to the next in the order of their drift; `errors` and `drifts` (n,) begin with
    the base's, whose drift is 0.
    """
    order = np.argsort(drifts, kind="stable")
    errors, drifts = errors[order], drifts[order]
    for place, error in enumerate(errors):
        if error <= wanted:
            if place == 0:
                return float(drifts[0])
            before = errors[place - 1]
            share = (before - wanted) / (before - error)
            return float(drifts[place - 1] + share * (drifts[place] - drifts[place - 1]))
    return float("inf")


def ratio(found: Curves, own: str, other: str) -> tuple[float, float, float]:
    """The drift of `own`'s last checkpoint over that of `other` at the same error: estimate and 95 % bootstrap bounds.

    0 where the other never has so few errors; infinite where it has as few without any drift.
    """
    mine = found.last(own)
    columns = [found.base, mine.errors, mine.drift]
    columns += [values for place in found.places[other] for values in (place.errors, place.drift)]
    prompts = found.base.index.get_level_values(0)
    table = pd.DataFrame({number: values.to_numpy() for number, values in enumerate(columns)})
    sums = table.groupby(np.asarray(prompts)).sum().to_numpy()
    counts = table.notna().groupby(np.asarray(prompts)).sum().to_numpy()

    def statistic(totals: NDArray[np.float64]) -> NDArray[np.float64]:
        means = totals[:, : len(columns)] / totals[:, len(columns) :]
        made = []
        for row in means:
            errors, drifts = np.array([row[0], *row[3::2]]), np.array([0.0, *row[4::2]])
            with np.errstate(divide="ignore"):
                made.append(np.float64(row[2]) / drift_at(errors, drifts, row[1]))
        return np.array(made)[:, None]

    totals = np.hstack([sums, counts]).astype(np.float64)
    low, high = bootstrap(totals, statistic, resamples=RESAMPLES, seed=0, confidence=0.95)
    return float(statistic(totals.sum(0)[None])[0, 0]), float(low[0]), float(high[0])


def dominating(found: Curves, own: str, exempt: Sequence[str]) -> list[tuple[str, Point, float | None, float | None]]:
    """Points of other methods with fewer errors and less drift than `own`'s last: with the p-values of both, by Holm.

    Holm is over all points of all methods but the exempt ones, of both tests.
    """
    mine = found.last(own)
    others = [(name, one) for name, places in found.places.items() if name not in (own, *exempt) for one in places]
    prompts = found.base.index.get_level_values(0)
    moved = [
        compare_means(values.to_numpy(), prompts, other.to_numpy(), prompts)
        for _, one in others
        for values, other in ((mine.errors, one.errors), (mine.drift, one.drift))
    ]
    p_values = holm([one.p_value for one in moved])
    return [
        (name, one.point, p_values[2 * place], p_values[2 * place + 1])
        for place, (name, one) in enumerate(others)
        if all((moved[2 * place + k].estimate or 0) < 0 for k in (0, 1))
    ]


def draw(found: Curves, out: Path) -> None:
    """front.png: error rate by drift with 95 % intervals; a colour a method, broken lines with the guard."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    roots = list(dict.fromkeys(name.removesuffix("-guard") for name in found.places))
    start = measures.rate_of(found.base)
    level = 100 * (start.estimate or 0)
    axes.axhline(level, color="0.6", lw=0.8)
    axes.annotate(BASE, (0, level), xytext=(3, 3), textcoords="offset points", fontsize=9, color="0.4")
    for name, places in found.places.items():
        colour = plt.get_cmap("tab10")(roots.index(name.removesuffix("-guard")) % 10)
        rows = sorted(((100 * (one.far.estimate or 0), one) for one in places), key=lambda row: row[0])
        told = [(far, 100 * (one.error.estimate or 0)) for far, one in rows]
        style = "--" if name.endswith("-guard") else "-"
        axes.plot(*zip((0.0, level), *told, strict=True), style, color=colour, lw=1.2, label=name)
        for (far, error), (_, one) in zip(told, rows, strict=True):
            spread = [[100 * (one.error.estimate - one.error.low)], [100 * (one.error.high - one.error.estimate)]]
            wide = None if one.far.low is None else [[far - 100 * one.far.low], [100 * one.far.high - far]]
            marker = "s" if one.point == LAST else "o"
            axes.errorbar(far, error, spread, wide, fmt=marker, color=colour, ms=5, lw=0.7, alpha=0.85)
    axes.set_xlabel("drift outside the hands, % of the range of pixels (squares: the last checkpoint)")
    axes.set_ylabel("judge's error rate, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(out / "front.png", dpi=120)
    plt.close(figure)
