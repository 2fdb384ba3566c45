"""Plots: rates by category, differences as a forest, prompts as a scatter. SVG that takes its colour from the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.cards import CalibrationCard
from hafbench.figures import ScorerFigures
from hafbench.statistics.rates import wilson

if TYPE_CHECKING:
    from hafbench.comparison import MetricComparison

INK = "#123456"  # stands for the page's own text colour, which is put in afterwards
LOOKS = (("#1591a8", "o"), ("#e8590c", "s"), ("#845ef7", "^"), ("#40a055", "D"))
"""Colour and marker of each scorer: told apart without colour, too."""


def category_plot(categories: Mapping[str, Sequence[ScorerFigures]], folder: Path) -> str | None:
    """Error rates with 95 % intervals, one row a category and a colour a scorer: an inline SVG, and by_category.png.

    None if no anatomy scorer judged anything.
    """
    scorers = [f.scorer for f in next(iter(categories.values()), []) if f.role == "anatomy"]
    judged = [[f for f in figures if f.rate and f.rate.estimate is not None] for figures in categories.values()]
    if not any(judged):
        return None
    figure, axes = make_axes(5.4, 1.0 + 0.5 * len(categories))
    for row, figures in enumerate(judged):
        for entry in figures:
            rate, index = entry.rate, scorers.index(entry.scorer)
            assert rate is not None  # noqa: S101 (judged holds only those)
            place = row + (index - (len(scorers) - 1) / 2) * 0.24
            draw_interval(axes, place, 100 * (rate.estimate or 0), 100 * (rate.low or 0), 100 * (rate.high or 0), index)
    draw_legend(axes, scorers)
    axes.set_yticks(range(len(categories)), [name.replace("_", " ") for name in categories])
    axes.set_ylim(len(categories) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("error rate of the judged images, % (95 % interval)")
    return as_svg(figure, "Error rates by category", folder / "by_category.png")


def forest_plot(metrics: Sequence[MetricComparison], label: str) -> str | None:
    """The differences of the anatomy metrics, over all and by category, with 95 % intervals: an inline SVG."""
    shown = [one for one in metrics if one.role == "anatomy" and one.difference.estimate is not None]
    if not shown:
        return None
    rows = ["all", *dict.fromkeys(category for one in shown for category in one.by_category)]
    figure, axes = make_axes(6.2, 1.2 + 0.5 * len(rows))
    for index, one in enumerate(shown):
        for row, name in enumerate(rows):
            found = one.difference if name == "all" else one.by_category.get(name)
            if found is None or found.estimate is None or found.low is None or found.high is None:
                continue
            place = row + (index - (len(shown) - 1) / 2) * 0.24
            draw_interval(axes, place, 100 * found.estimate, 100 * found.low, 100 * found.high, index)
    axes.axvline(0, color=INK, lw=1)
    if len(rows) > 1:
        axes.axhline(0.5, color=INK, lw=0.6, alpha=0.4)
    draw_legend(axes, [one.name for one in shown])
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    far = max(5.0, *(abs(value) for value in axes.get_xlim()))
    axes.set_xlim(-far, far)
    axes.set_xlabel("← fewer errors · percentage points · more errors →")
    return as_svg(figure, f"Differences of error rates, {label}")


MOST_DOTS, MOST_TOGETHER = 2000, 60
"""Dots of a plot: more of them make a page that nobody's browser opens. Prompts that the largest dot stands for, before
all are drawn smaller."""


def scatter_plot(
    baseline: Sequence[float],
    candidate: Sequence[float],
    labels: tuple[str, str],
    rate: bool,
    higher_is_better: bool | None,
) -> str:
    """Each prompt by its mean with the baseline and with the candidate; prompts at one place are one larger dot.

    Those where the candidate is better have the first colour; all are grey where neither direction is better.
    """
    scale = 100 if rate else 1
    points, counts = np.unique(np.c_[baseline, candidate] * scale, axis=0, return_counts=True)
    figure, axes = make_axes(4.6, 4.4)
    every = len(points)
    if every > MOST_DOTS:
        kept = np.random.default_rng(0).choice(every, MOST_DOTS, replace=False)
        points, counts = points[kept], counts[kept]
    size = 24 * min(1.0, MOST_TOGETHER / counts.max(initial=1))
    direction = {True: 1, False: -1, None: 0}[higher_is_better]
    better = direction * np.sign(points[:, 1] - points[:, 0])
    for sign, (colour, _) in zip((1, 0, -1), (LOOKS[0], ("#868e96", "o"), LOOKS[1]), strict=True):
        part = better == sign
        axes.scatter(*points[part].T, s=size * counts[part], color=colour, alpha=0.75, linewidths=0, clip_on=False)
    low, high = (0, 100) if rate else (float(points.min()), float(points.max()))
    axes.plot([low, high], [low, high], color=INK, lw=0.8, alpha=0.5, zorder=0)
    unit = "error rate of a prompt, %" if rate else "mean of a prompt"
    if every > MOST_DOTS:
        unit += f" ({MOST_DOTS:,} of {every:,} places)"
    axes.set_xlabel(f"{_short(labels[0])}: {unit}")
    axes.set_ylabel(_short(labels[1]))
    axes.grid(axis="y", alpha=0.2)
    axes.set_aspect("equal", adjustable="box")
    return as_svg(figure, "Prompts by both models")


def card_plots(card: CalibrationCard) -> tuple[str, str]:
    """The ROC with pointwise Wilson intervals, and the reliability curve, of a calibration card: inline SVGs."""
    figure, axes = make_axes(3.4, 3.3)
    false, hit = (np.array([point[place] for point in card.roc]) for place in (0, 1))
    bounds = np.array([wilson(value, max(1.0, card.effective_bad)) for value in hit])
    axes.fill_between(100 * false, *(100 * bounds.T), color=LOOKS[0][0], alpha=0.18, linewidth=0)
    axes.plot(100 * false, 100 * hit, color=LOOKS[0][0], lw=2)
    axes.plot([0, 100], [0, 100], color=INK, lw=0.8, alpha=0.5)
    passed = card.specificity.estimate
    if passed is not None and card.sensitivity.estimate is not None:
        axes.plot(100 * (1 - passed), 100 * card.sensitivity.estimate, LOOKS[1][1], color=LOOKS[1][0], ms=7)
    axes.set_xlabel("good images flagged, %")
    axes.set_ylabel("bad images flagged, %")
    roc = as_svg(figure, f"ROC of {card.scorer}")

    figure, axes = make_axes(3.4, 3.3)
    for one in card.reliability:
        if one.bad.estimate is not None and one.bad.low is not None and one.bad.high is not None:
            axes.plot([100 * one.value] * 2, [100 * one.bad.low, 100 * one.bad.high], color=LOOKS[0][0], lw=2)
            axes.plot(100 * one.value, 100 * one.bad.estimate, "o", color=LOOKS[0][0], ms=5)
    axes.plot([0, 100], [0, 100], color=INK, lw=0.8, alpha=0.5)
    axes.set_xlabel("the scorer's chance of an error, %")
    axes.set_ylabel("labelled bad, %")
    return roc, as_svg(figure, f"Reliability of {card.scorer}")


def _short(text: str, most: int = 32) -> str:
    """A name that fits beside an axis; a dollar sign would start a formula."""
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


STYLE = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK)


def make_axes(width: float, height: float) -> tuple[Any, Any]:
    """A figure in the pages' look, in inches."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({**STYLE, "font.size": 11}):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.grid(axis="x", alpha=0.2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure, axes


def draw_interval(axes: Any, place: float, estimate: float, low: float, high: float, index: int) -> None:
    """An estimate with its interval in the row `place`, in the look of the index-th of several."""
    colour, marker = LOOKS[index % len(LOOKS)]
    axes.plot([low, high], [place] * 2, color=colour, lw=2)
    axes.plot(estimate, place, marker, color=colour, ms=6)


def draw_legend(axes: Any, names: Sequence[str]) -> None:
    """The names of all that `draw_interval` drew, by index, above the axes."""
    for index, name in enumerate(names):
        colour, marker = LOOKS[index % len(LOOKS)]
        axes.plot([], [], f"{marker}-", color=colour, label=name)
    legend = axes.legend(frameon=False, ncols=len(names), loc="lower right", bbox_to_anchor=(1, 1))
    for text in legend.get_texts():
        text.set_color(INK)


def as_svg(figure: Any, label: str, png: Path | None = None) -> str:
    """The figure as an inline SVG in the page's text colour, named by `label`; and as a PNG in dark grey on white."""
    from html import escape

    from matplotlib import pyplot as plt

    buffer = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hafbench"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    if png is not None:
        for artist in figure.findobj(lambda artist: hasattr(artist, "get_color") and artist.get_color() == INK):
            artist.set_color("#333333")
        figure.savefig(png, dpi=170, facecolor="white")
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    named = f'width="100%" role="img" aria-label="{escape(label, quote=True)}"'
    return re.sub(r'width="[^"]*" height="[^"]*"', lambda _: named, svg, count=1)
