"""The step metrics of a fit, a line of log.jsonl for each step, and when they show that it has gone wrong.

`winner`, `loser`, `ref_winner`, `ref_loser` are the mean squared errors of policy and reference as the objective weighs
them; `_in` and `_out` are the plain ones inside and outside of M. `delta` is the gap; `above_zero` and `above_tau` the
share of pairs in which it is. `norm` is the gradient's before clipping, `memory` the peak in GiB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch

from asap_train.training.losses import Loss, Residuals
from hafbench.files import sync, write_whole

if TYPE_CHECKING:
    from torch import Tensor

Row = dict[str, float | int | None]

BRANCHES = ("winner", "loser", "ref_winner", "ref_loser")
WINDOW = 100
FEWEST = 20
"""Steps of which a running median is taken."""


def step_metrics(loss: Loss, residuals: Residuals, tau: float) -> dict[str, Tensor]:
    """The step metrics of one batch, each (b,) without gradient; NaN where there is no reference, or no M."""
    delta = loss.delta
    known = torch.where(delta.isnan(), torch.nan, 1.0)
    found = {
        "loss": loss.total.detach().expand_as(delta),
        "delta": delta,
        "above_zero": (delta > 0) * known,
        "above_tau": (delta > tau) * known,
    }
    for name in BRANCHES:
        found[name] = getattr(loss, name)
        inside, outside = _in_and_out(getattr(residuals, name), residuals.mask)
        found |= {f"{name}_in": inside, f"{name}_out": outside}
    return found


def _in_and_out(residual: Tensor | None, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared errors over M and over the rest, (b,), from (b, k, c, h, w) and (b, 1, 1, h, w)."""
    if residual is None:
        nothing = torch.full((len(mask),), torch.nan, device=mask.device)
        return nothing, nothing
    with torch.no_grad():
        error, share = residual.float().square().mean((1, 2)), mask[:, 0, 0]
        inside, outside = ((error * part).sum((1, 2)) / part.sum((1, 2)) for part in (share, 1 - share))
    return inside, outside


@dataclass
class FitLog:
    """log.jsonl, and its rows in memory; of several processes one writes the file."""

    path: Path
    writes: bool
    rows: list[Row] = field(default_factory=list)

    def read(self, step: int) -> None:
        """Read the rows of the file up to this step."""
        texts = self.path.read_text(encoding="utf-8").split("\n")[:-1] if self.path.exists() else []
        self.rows = [row for row in map(json.loads, texts) if row["step"] <= step]

    def cut(self) -> None:
        """Remove all other lines from the file: later steps, and a line that a killed process left unfinished."""
        if self.writes:
            write_whole(self.path, "".join(map(_as_text, self.rows)))

    def append(self, row: Row) -> None:
        """Add a step."""
        self.rows.append(row)
        if self.writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_as_text(row))

    def sync(self) -> None:
        """Write it through to the disk: a checkpoint must not be newer than the log."""
        sync(self.path)

    def trouble(self, row: Row, max_error_ratio: float) -> str | None:
        """Why a step that is not yet appended must be the last; None if all is well."""
        if row["loss"] is None or row["norm"] is None:
            return "the loss or its gradient is not finite"
        known = [_error(one) for one in self.rows[-WINDOW:]]
        if len(known) >= FEWEST and _error(row) > max_error_ratio * median(known):
            return f"the mean error is {_error(row):.3g}, over {max_error_ratio:g} times its running median"
        return None


def as_row(step: int, numbers: Mapping[str, float]) -> Row:
    """A line of the log; what is not finite becomes None."""
    return {"step": step, **{name: value if math.isfinite(value) else None for name, value in numbers.items()}}


def note_of(row: Row) -> str:
    """What a progress bar says of a step: the gap, L(w) against the reference's, and the speed."""
    said = []
    if row["delta"] is not None:
        said.append(f"delta {row['delta']:+.4f}")
    if row["winner"] is not None and row["ref_winner"]:
        said.append(f"L(w) {100 * (row['winner'] / row['ref_winner'] - 1):+.2f} % of the reference's")
    return ", ".join([*said, f"{row['pairs_per_second']:.1f} pairs/s"])


def _error(row: Row) -> float:
    """L(w) + L(l): unlike the losses it has the same scale with all objectives, and is never near zero."""
    return (row["winner"] or 0.0) + (row["loser"] or 0.0)


def _as_text(row: Row) -> str:
    return json.dumps(row) + "\n"
