"""tau and beta that follow the gaps: the numbers of a step's loss, from the log of the steps before it.

They are functions of the log alone, so that a resumed fit has the same ones, and so has every process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from asap_train.training.fit_log import FEWEST, WINDOW
from asap_train.training.objectives import LossSettings

if TYPE_CHECKING:
    from asap_train.training.fit_log import Row

LARGEST = 10.0
"""Of the factor of tau: while hardly any mean gap is there, its spread over it says nothing."""


def settings_at(settings: LossSettings, rows: Sequence[Row]) -> LossSettings:
    """The numbers of the step after `rows`; those that were given while fewer than FEWEST steps are known.

    auto_tau: tau times `overshoot`. auto_beta: log((1 - f) / f) / r, f = gradient_factor and r the root mean square of
    the gaps, at most beta: a pair whose gap is r has sigmoid(-beta r) = f of the slope that the sigmoid has far below
    0, so that neither are all pairs beyond it nor all on its straight part, whatever the size of the losses.
    """
    known = [row for row in rows[-WINDOW:] if row.get("delta_square") is not None]
    if len(known) < FEWEST:
        return settings
    if settings.auto_tau:
        settings = settings.model_copy(update={"tau": settings.tau * overshoot(known)})
    if settings.auto_beta and (size := math.sqrt(_mean(known, "delta_square"))) > 0:
        beta = math.log(1 / settings.gradient_factor - 1) / size
        settings = settings.model_copy(update={"beta": min(beta, settings.beta)})
    return settings


def overshoot(rows: Sequence[Row]) -> float:
    """How many times the wanted mean gap the margin must be, from 1 to LARGEST.

    Least squares leaves the mean of gaps s g at tau / (1 + CV^2) (see `margin` in losses.py). With a target tau l that
    goes with each sample's error l, the best s is tau E[g l] / E[g^2] and the mean gap s E[g]; for it to be tau E[l]
    the target must be multiplied by E[g^2] E[l] / (E[g l] E[g]), which is 1 + CV^2 where l is the same for all.
    """
    gap, cross = _mean(rows, "delta"), _mean(rows, "delta_scale")
    if gap <= 0 or cross <= 0:
        return 1.0
    scale = (_mean(rows, "ref_winner") + _mean(rows, "ref_loser")) / 2
    return min(max(_mean(rows, "delta_square") * scale / (cross * gap), 1.0), LARGEST)


def spread(rows: Sequence[Row]) -> float | None:
    """CV^2 of the gaps of these steps, variance over squared mean; None without a mean above 0."""
    gaps = [row for row in rows if row.get("delta_square") is not None]
    if not gaps or (gap := _mean(gaps, "delta")) <= 0:
        return None
    return max(0.0, _mean(gaps, "delta_square") / gap**2 - 1)


def _mean(rows: Sequence[Row], name: str) -> float:
    return fmean(row[name] or 0.0 for row in rows)
