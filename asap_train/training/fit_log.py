"""The step metrics of a fit, a line of log.jsonl for each step, and when they show that it has gone wrong.

`winner`, `loser`, `ref_winner`, `ref_loser` are the mean squared errors of policy and reference as the objective weighs
them; `_in` and `_out` are the plain ones inside and outside of M. `delta` is the gap, `target` where a margin holds it;
`below_zero` and `above_tau` are the shares of pairs with a gap below 0 and above that target. `winner_advantage` is
L_ref(w) - L(w) and `loser_advantage` L(l) - L_ref(l): what of delta comes from the winner getting better and from the
loser getting worse. `delta_square` is the mean of delta^2 and `delta_scale` of delta times the reference's error: see
adaptive.py. `_q1` to `_q4` are means over the draws of one quarter of the family's times, q1 with the least noise: of
delta, and of L(w) less the reference's inside and outside of M.

`norm` is the gradient's before clipping, `clipped` 1 where it was above max_grad_norm, `memory` the peak in GiB. `tau`
and `beta` are the loss's numbers at this step. `delta_noise` is the error of delta by rounding (see precision.py), at
the steps where it was measured.
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
from pydantic_core import from_json

from asap_train.training.losses import Loss, Residuals
from hafbench.errors import HafError
from hafbench.files import disk_errors, sync, write_whole

if TYPE_CHECKING:
    from torch import Tensor

Row = dict[str, float | int | None]

BRANCHES = ("winner", "loser", "ref_winner", "ref_loser")
QUARTERS = 4
WINDOW = 100
FEWEST = 20
"""Steps of which a running median is taken."""


def step_metrics(loss: Loss, residuals: Residuals, uniform: Tensor) -> dict[str, Tensor]:
    """The step metrics of one batch, each (b,) without gradient; NaN where there is no reference, no M, or no draw.

    `uniform` (b, k), 0 to 1, says where in the family's distribution of times each draw of a pair is.
    """
    delta = loss.delta
    known = torch.where(delta.isnan(), torch.nan, 1.0)
    found = {
        "loss": loss.total.detach().expand_as(delta),
        "delta": delta,
        "delta_square": delta.square(),
        "delta_scale": delta * (loss.ref_winner + loss.ref_loser) / 2,
        "target": loss.target,
        "below_zero": (delta < 0) * known,
        "above_tau": (delta > loss.target) * known,
        "winner_advantage": loss.ref_winner - loss.winner,
        "loser_advantage": loss.loser - loss.ref_loser,
    }
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    for name in BRANCHES:
        found[name] = getattr(loss, name)
        parts[name] = _in_and_out(getattr(residuals, name), residuals.mask, uniform.shape)
        found |= {f"{name}_{where}": _some(part) for where, part in zip(("in", "out"), parts[name], strict=True)}
    rises = [own - other for own, other in zip(parts["winner"], parts["ref_winner"], strict=True)]
    quarters = (4 * uniform.to(delta.device)).long().clamp(0, 3)
    timed = {"delta": loss.draws, "winner_in_rise": rises[0], "winner_out_rise": rises[1]}
    for name, values in timed.items():
        for quarter in range(QUARTERS):
            found[f"{name}_q{quarter + 1}"] = _some(torch.where(quarters == quarter, values, torch.nan))
    return found


def _some(values: Tensor) -> Tensor:
    """The mean over a pair's draws, (b, k) to (b,), of those that are not NaN."""
    return values.nanmean(1)


def _in_and_out(residual: Tensor | None, mask: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Mean squared errors over M and over the rest, (b, k), from (b, k, c, h, w) and (b, 1, 1, h, w)."""
    if residual is None:
        nothing = torch.full(shape, torch.nan, device=mask.device)
        return nothing, nothing
    with torch.no_grad():
        error, share = residual.float().square().mean(2), mask[:, 0]
        inside, outside = ((error * part).sum((2, 3)) / part.sum((2, 3)) for part in (share, 1 - share))
    return inside, outside


@dataclass
class FitLog:
    """log.jsonl, and its rows in memory; of several processes one writes the file."""

    path: Path
    writes: bool
    rows: list[Row] = field(default_factory=list)

    def all_rows(self) -> list[Row]:
        """The steps in the file, as far as it can be read: for pages."""
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        return [row for line in lines if (row := _parsed(line)) is not None]

    def read(self, step: int) -> None:
        """Read the rows of the file up to this step; raises HafError for a line that is not a step's."""
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        self.rows = []
        for number, line in enumerate(lines, 1):
            row = _parsed(line)
            if row is None or (self.rows and set(row) != set(self.rows[0])):
                raise HafError(
                    f"{self.path}, line {number} is not a step of a fit; restore the file, or move it away to resume "
                    "without the earlier steps."
                )
            self.rows.append(row)
        self.rows = [row for row in self.rows if (row["step"] or 0) <= step]

    def cut(self) -> None:
        """Remove all other lines from the file: later steps, and a line that a killed process left unfinished."""
        if self.writes:
            with disk_errors(self.path.parent):
                write_whole(self.path, "".join(map(_as_text, self.rows)))

    def append(self, row: Row) -> None:
        """Add a step."""
        self.rows.append(row)
        if self.writes:
            with disk_errors(self.path.parent), self.path.open("a", encoding="utf-8") as file:
                file.write(_as_text(row))

    def sync(self) -> None:
        """Write it through to the disk: a checkpoint must not be newer than the log."""
        with disk_errors(self.path.parent):
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


def _parsed(line: bytes) -> Row | None:
    """A line of the file; None if it is none."""
    try:
        row = from_json(line, allow_inf_nan=False)
    except ValueError:
        return None
    there = isinstance(row, dict) and row.keys() >= {"step", "loss", "norm", "winner", "loser"}
    whole = there and all(value is None or type(value) in (int, float) for value in row.values())
    return row if whole and isinstance(row["step"], int) else None


def _as_text(row: Row) -> str:
    return json.dumps(row) + "\n"
