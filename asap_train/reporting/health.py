"""The health of a margin: how far the gaps are, by which branch they came about, where, and above what noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from asap_train.training.adaptive import spread
from asap_train.training.fit_log import QUARTERS
from asap_train.training.objectives import OBJECTIVES

if TYPE_CHECKING:
    from asap_train.training.config import FitConfig
    from asap_train.training.fit_log import Row

NOISY = 0.5
"""A rounding error of delta of more than that share of its mean is said to be one."""


@dataclass(frozen=True)
class Line:
    """A number of a fit, written out, and what it means."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Quarter:
    """Means over the draws of one quarter of the family's times, written out."""

    name: str
    delta: str
    inside: str
    outside: str


@dataclass(frozen=True)
class Health:
    """What a page says of the margin of a fit; no quarters where there is no reference."""

    lines: tuple[Line, ...]
    quarters: tuple[Quarter, ...]


def health_of(rows: Sequence[Row], config: FitConfig) -> Health | None:
    """Over the last fifth of the steps; None without any step."""
    if not rows:
        return None
    last = rows[-max(1, len(rows) // 5) :]
    lines = [*_of_gap(last, config), *_of_winner(last), *_of_rounding(rows, last), *_of_clipping(rows, config)]
    return Health(tuple(lines), _quarters(last))


def mean_of(rows: Sequence[Row], name: str) -> float | None:
    """The mean of a column over the steps that have it; None if none has."""
    known = [value for row in rows if (value := row.get(name)) is not None]
    return fmean(known) if known else None


def _of_gap(rows: Sequence[Row], config: FitConfig) -> list[Line]:
    gap, target = mean_of(rows, "delta"), mean_of(rows, "target")
    if gap is None:
        return []
    objective, note = OBJECTIVES.built_in.get(config.objective), ""
    held = objective is not None and "tau" in objective.uses
    if held and target:
        note = f"{100 * gap / target:z.0f} % of the target {target:.3g}"
        if (square := spread(rows)) is not None:
            note += f"; CV² of the gaps is {square:.2f}, with which the mean stalls at {100 / (1 + square):.0f} %"
    lines = [Line("mean gap δ", f"{gap:+.4g}", note)]
    below, above = mean_of(rows, "below_zero"), mean_of(rows, "above_tau")
    if below is not None:
        lines.append(Line("pairs with δ below 0", f"{100 * below:.0f} %", "the loser is still preferred"))
    if above is not None and held:
        lines.append(Line("pairs with δ above the target", f"{100 * above:.0f} %", "pulled back"))
    return lines


def _of_winner(rows: Sequence[Row]) -> list[Line]:
    lines = []
    for branch, note in (
        ("winner", "above 0: the good image got likelier"),
        ("loser", "above 0: the bad image got less likely"),
    ):
        if (value := mean_of(rows, f"{branch}_advantage")) is not None:
            lines.append(Line(f"{branch}'s advantage", f"{value:+.4g}", note))
    for part, where in (("in", "inside M"), ("out", "outside M")):
        own, other = mean_of(rows, f"winner_{part}"), mean_of(rows, f"ref_winner_{part}")
        if own is not None and other:
            rise = f"{100 * (own / other - 1):+.2f} %"
            lines.append(Line(f"L(w) against the reference's, {where}", rise, "above 0: worse than the reference"))
    return lines


def _of_rounding(rows: Sequence[Row], last: Sequence[Row]) -> list[Line]:
    measured = [value for row in rows[len(rows) // 2 :] if (value := row.get("delta_noise")) is not None]
    gap = mean_of(last, "delta")
    if not measured or gap is None:
        return []
    noise = median(measured)
    lost = noise > NOISY * abs(gap)
    note = "as large as the gap: use residual_in_fp32, or mixed_precision no" if lost else "of one pair, by rounding"
    return [Line("error of δ by rounding", f"{noise:.2g}", note)]


def _of_clipping(rows: Sequence[Row], config: FitConfig) -> list[Line]:
    share = mean_of(rows, "clipped")
    if share is None:
        return []
    norms = [value for row in rows if (value := row.get("norm")) is not None]
    note = f"of all steps; the median norm is {median(norms):.3g}, max_grad_norm {config.max_grad_norm:g}"
    return [Line("gradient clipped", f"{100 * share:.0f} %", note)]


def _quarters(rows: Sequence[Row]) -> tuple[Quarter, ...]:
    names = ("least noise", "second quarter", "third quarter", "most noise")
    made = []
    for number in range(QUARTERS):
        columns = (f"{name}_q{number + 1}" for name in ("delta", "winner_in_rise", "winner_out_rise"))
        values = [mean_of(rows, column) for column in columns]
        made.append(Quarter(names[number], *("–" if value is None else f"{value:+.4g}" for value in values)))
    return tuple(made) if mean_of(rows, "delta") is not None else ()
