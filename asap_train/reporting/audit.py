"""The audit of a HAP data set: how alike its pairs are inside and outside of M, beside what is reported, and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asap_train.hap.card import COUNTED
from asap_train.hap.manifest import Counts, Rejected, Skipped
from asap_train.hap.read import read_hap, read_table
from hafbench.errors import HafError

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.statistics import Mean

REPORTED: Mapping[str, tuple[str, float]] = {
    "ssim_in": ("SSIM inside M", 0.5315),
    "lpips_in": ("LPIPS inside M", 0.3446),
    "ssim_out": ("SSIM outside M", 0.9827),
    "lpips_out": ("LPIPS outside M", 0.0109),
}
"""By column the metric and its mean in the paper's table (arXiv 2605.25759)."""


@dataclass(frozen=True)
class Line:
    """One metric: the mean over `mean.n` pairs with a 95 % interval that knows that pairs of one photo are alike."""

    metric: str
    reported: float
    mean: Mean


@dataclass(frozen=True)
class Audit:
    """What `asap-train audit` says of a data set.

    `families` has the same lines for each family if there are several; `counts`, `skipped` and `rejections` are those
    of hap.json (docs/reference/pairs.md).
    """

    folder: str
    title: str
    lines: tuple[Line, ...]
    families: Mapping[str, tuple[Line, ...]]
    counts: Counts
    skipped: Mapping[str, Skipped]
    rejections: Mapping[str, Rejected]


def audit(folder: Path) -> Audit:
    """Measure a finished data set; raises HafError if `folder` is not one, or holds no pairs."""
    manifest = read_hap(folder)
    if not manifest.counts.pairs:
        raise HafError(f"{folder} has no pairs: see the rejections in its README.md.")
    table = read_table(folder, ["source", "family", *REPORTED])
    if len(table) != manifest.counts.pairs:
        raise HafError(
            f"{folder}: hap.json says {manifest.counts.pairs} pairs, and the shards have {len(table)}; see "
            "`asap-train validate`."
        )
    by_family = {str(name): _lines(rows) for name, rows in table.groupby("family", sort=True)}
    return Audit(
        folder=str(folder),
        title=manifest.details.title or folder.resolve().name,
        lines=_lines(table),
        families=by_family if len(by_family) > 1 else {},
        counts=manifest.counts,
        skipped=manifest.skipped,
        rejections=manifest.rejections,
    )


def _lines(table: pd.DataFrame) -> tuple[Line, ...]:
    from hafbench.statistics import mean_interval

    return tuple(
        Line(metric, reported, mean_interval(table[column], table["source"]))
        for column, (metric, reported) in REPORTED.items()
    )


def to_json(found: Audit) -> dict[str, Any]:
    """The audit as JSON values."""
    return asdict(found)


def print_audit(found: Audit, page: Path) -> None:
    """The table and the counts on stdout, then where the page is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, title_justify="left", title=Text(found.title, style="bold"))
    for column in ("metric", "mean", "95 % interval", "pairs", "reported"):
        table.add_column(column)
    for line in found.lines:
        table.add_row(line.metric, *written(line.mean), str(line.mean.n), f"{line.reported:.4f}")
    console.print(table)
    for name in COUNTED:
        values = ", ".join(f"{value} {count}" for value, count in getattr(found.counts, name).items())
        console.print(Text(f"{name}: {values}"))
    for gate, skipped in found.skipped.items():
        reasons = "; ".join(skipped.reasons)
        console.print(Text(f"gate {gate} not applied to {skipped.pairs} pairs: {reasons}", style="bold"))
    for gate, rejected in found.rejections.items():
        first = next(iter(rejected.reasons))
        console.print(Text(f"rejected by {gate}: {rejected.count}, such as: {first}", style="dim"))
    console.print(Text(f"Page: {page}"), soft_wrap=True)


def written(mean: Mean) -> tuple[str, str]:
    """A mean and its interval with four decimals, as the paper gives them."""
    if mean.estimate is None:
        return "not measured", "–"
    return f"{mean.estimate:.4f}", "–" if mean.low is None else f"{mean.low:.4f} to {mean.high:.4f}"
