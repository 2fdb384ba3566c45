"""The step metrics of a fit as plots: does the gap grow, and does the winner get better or only the loser worse?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asap_train.training.objectives import OBJECTIVES
from hafbench.reports.plots import LOOKS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asap_train.training.config import FitConfig
    from asap_train.training.fit_log import Row

INK = "#7a828a"
"""A grey that can be read on white and on black."""
TEAL, ORANGE, VIOLET, GREEN = (colour for colour, _ in LOOKS)


def draw_plots(rows: Sequence[Row], config: FitConfig, folder: Path) -> None:
    """gap, errors, inside, loss and norm, each as .svg and .png; those of which there are no numbers are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    table = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]} if rows else {}
    for name, draw in PLOTS.items():
        figure, axes = _axes()
        if table and draw(axes, table, config):
            axes.set_xlabel("step")
            _save(figure, folder / name)
        _close(figure)


def _gap(axes: Any, table: dict[str, NDArray[np.float64]], config: FitConfig) -> bool:
    axes.axhline(0, color=INK, lw=0.8)
    if "tau" in OBJECTIVES.get(config.objective).uses and len(table.get("target", ())):
        _line(axes, table, table["target"], INK, raw=False)
        axes.annotate("τ", (1, table["target"][-1]), xycoords=("axes fraction", "data"), color=INK, va="bottom")
    _title(axes, "preference gap δ, mean of the pairs")
    return _line(axes, table, table.get("delta"), TEAL)


def _errors(axes: Any, table: dict[str, NDArray[np.float64]], config: FitConfig) -> bool:
    return _against(axes, table, "")


def _inside(axes: Any, table: dict[str, NDArray[np.float64]], config: FitConfig) -> bool:
    return _against(axes, table, "_in")


def _against(axes: Any, table: dict[str, NDArray[np.float64]], part: str) -> bool:
    """Winner and loser against the reference, of the same noise: what is above 0 has become worse."""
    axes.axhline(0, color=INK, lw=0.8)
    _title(axes, f"error {'inside M ' if part else ''}against the reference's, % (above 0: worse)")
    drawn = False
    for name, colour in (("winner", GREEN), ("loser", ORANGE)):
        own, other = table[f"{name}{part}"], table[f"ref_{name}{part}"]
        if not np.isfinite(own - other).any():
            return False
        own, other = np.nan_to_num(own), np.nan_to_num(other)  # a step without M counts on neither side
        drawn |= _line(axes, table, 100 * _mean(own - other) / _mean(other), colour, name, raw=False)
    if drawn:
        _legend(axes)
    return drawn


def _loss(axes: Any, table: dict[str, NDArray[np.float64]], config: FitConfig) -> bool:
    _title(axes, f"loss of {config.objective}")
    _logarithmic(axes)
    return _line(axes, table, table["loss"], TEAL)


def _norm(axes: Any, table: dict[str, NDArray[np.float64]], config: FitConfig) -> bool:
    _title(axes, "norm of the gradient")
    _logarithmic(axes)
    return _line(axes, table, table["norm"], VIOLET)


PLOTS = {"gap": _gap, "errors": _errors, "inside": _inside, "loss": _loss, "norm": _norm}


def _line(
    axes: Any,
    table: dict[str, NDArray[np.float64]],
    values: NDArray[np.float64] | None,
    colour: str,
    label: str | None = None,
    raw: bool = True,
) -> bool:
    """Single steps faintly, their running median clearly; False where there is nothing to draw."""
    from scipy.ndimage import median_filter

    if values is None or not np.isfinite(values).any():
        return False
    if raw:
        axes.plot(table["step"], values, color=colour, lw=0.6, alpha=0.35)
        # Not the mean: a single pair at an unlucky time would lift a whole window.
        values = median_filter(values, _window(values), mode="nearest")
    axes.plot(table["step"], values, color=colour, lw=2, label=label)
    return True


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the window around each step."""
    from scipy.ndimage import uniform_filter1d

    means: NDArray[np.float64] = uniform_filter1d(values, _window(values), mode="nearest")
    return means


def _window(values: NDArray[np.float64]) -> int:
    return max(1, len(values) // 20)


def _axes() -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    inked = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
    with plt.rc_context({**dict.fromkeys(inked, INK), "font.size": 11, "axes.titlesize": 11}):
        figure, axes = plt.subplots(figsize=(5.4, 2.8))
    figure.subplots_adjust(left=0.13, right=0.96, top=0.89, bottom=0.19)
    axes.grid(axis="y", alpha=0.2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def _logarithmic(axes: Any) -> None:
    from matplotlib.ticker import LogFormatter

    axes.set_yscale("log")
    # Plain text: of its own accord matplotlib sets each label as a formula, which takes most of a plot's time.
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, y=1.0)  # of its own accord matplotlib measures all labels to place it


def _legend(axes: Any) -> None:
    for text in axes.legend(frameon=False, ncols=2, loc="best").get_texts():
        text.set_color(INK)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "asap-train"}):
        figure.savefig(path.with_suffix(".svg"), transparent=True, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150, facecolor="white")


def _close(figure: Any) -> None:
    from matplotlib import pyplot as plt

    plt.close(figure)
