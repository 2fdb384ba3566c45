"""Plots: error rates by category with their intervals. SVG that takes its colour from the page, and PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hafbench.figures import ScorerFigures

INK = "#123456"  # stands for the page's own text colour, which is put in afterwards
LOOKS = (("#1591a8", "o"), ("#e8590c", "s"), ("#845ef7", "^"), ("#40a055", "D"))
"""Colour and marker of each scorer: told apart without colour, too."""


def category_plot(categories: Mapping[str, Sequence[ScorerFigures]], folder: Path) -> str | None:
    """Error rates with 95 % intervals, one row a category and a colour a scorer: an inline SVG, and by_category.png.

    None if no anatomy scorer judged anything.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    scorers = [f.scorer for f in next(iter(categories.values()), []) if f.role == "anatomy"]
    judged = [[f for f in figures if f.rate and f.rate.estimate is not None] for figures in categories.values()]
    if not any(judged):
        return None
    style = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK)
    with plt.rc_context({**style, "svg.fonttype": "none", "svg.hashsalt": "hafbench", "font.size": 11}):
        figure, axes = plt.subplots(figsize=(5.4, 1.0 + 0.5 * len(categories)), layout="constrained")
        for row, figures in enumerate(judged):
            for entry in figures:
                rate, index = entry.rate, scorers.index(entry.scorer)
                assert rate is not None  # noqa: S101 (judged holds only those)
                place = row + (index - (len(scorers) - 1) / 2) * 0.24
                colour, marker = LOOKS[index % len(LOOKS)]
                axes.plot([100 * (rate.low or 0), 100 * (rate.high or 0)], [place] * 2, color=colour, lw=2)
                axes.plot(100 * (rate.estimate or 0), place, marker, color=colour, ms=6)
        for index, name in enumerate(scorers):
            colour, marker = LOOKS[index % len(LOOKS)]
            axes.plot([], [], f"{marker}-", color=colour, label=name)
        axes.set_yticks(range(len(categories)), [name.replace("_", " ") for name in categories])
        axes.set_ylim(len(categories) - 0.5, -0.5)
        axes.set_xlim(-2, 102)
        axes.set_xlabel("error rate of the judged images, % (95 % interval)")
        axes.grid(axis="x", alpha=0.2)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.legend(frameon=False, ncols=len(scorers), loc="lower right", bbox_to_anchor=(1, 1))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        with plt.rc_context(dict.fromkeys(style, "#333333")):
            figure.savefig(folder / "by_category.png", dpi=170, facecolor="white")
        plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return re.sub(
        r'width="[^"]*" height="[^"]*"', 'width="100%" role="img" aria-label="Error rates by category"', svg, count=1
    )
