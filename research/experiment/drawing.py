"""The pictures of the experiment: differences of error rates, curves of gap and losses, one prompt by everyone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from found import Found
from measures import pictures
from PIL import Image, ImageDraw, ImageFont
from plan import BASE
from tables import against

from hafbench.images import load_image
from hafbench.reports.plots import INK, as_svg, draw_interval, draw_legend, make_axes

TILE, ROWS = 128, 8


def forest(found: Found, out: Path) -> None:
    """Differences from the base in percentage points, by eye and by the judge: forest.png."""
    sources = found.sources
    figure, axes = make_axes(6.2, 1.2 + 0.5 * len(found.methods))
    for index, values in enumerate(sources.values()):
        for name, one in against(values, BASE, [name for name in found.methods if name in values]).items():
            if one.estimate is None or one.low is None or one.high is None:
                continue
            place = found.methods.index(name) + (index - (len(sources) - 1) / 2) * 0.24
            draw_interval(axes, place, 100 * one.estimate, 100 * one.low, 100 * one.high, index)
    draw_legend(axes, list(sources))
    axes.axvline(0, color=INK, lw=1)
    axes.set_yticks(range(len(found.methods)), list(found.methods))
    axes.set_ylim(len(found.methods) - 0.5, -0.5)
    far = max(5.0, *(abs(value) for value in axes.get_xlim()))
    axes.set_xlim(-far, far)
    axes.set_xlabel("← fewer errors than the base · percentage points · more →")
    as_svg(figure, "Differences of error rates from the base", out / "forest.png")


def curves(found: Found, out: Path) -> None:
    """By step the gap, and how far L(w) and L(l) rose over the reference's, a colour a method: curves.png."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for index, name in enumerate(found.runs):
        logs = [found.plan.log("", f"{name}-{seed}") for seed in range(found.plan.sizes.seeds)]
        if not logs[0]["delta"].notna().any():
            continue
        both = pd.concat(logs).groupby("step").mean(numeric_only=True)
        smooth = both.rolling(25, min_periods=5, center=True).mean()
        shown = (smooth["delta"], smooth["winner"] - smooth["ref_winner"], smooth["loser"] - smooth["ref_loser"])
        for panel, values in zip(panels, shown, strict=True):
            panel.plot(smooth.index, values, label=name, color=plt.get_cmap("tab20")(index % 20))
    for panel, title in zip(
        panels, ("gap delta", "L(w) over the reference's", "L(l) over the reference's"), strict=True
    ):
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("step")
        panel.axhline(0, color="0.6", lw=0.8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=9)
    figure.savefig(out / "curves.png", dpi=110)
    plt.close(figure)


def grid(found: Found, out: Path) -> None:
    """The same prompts and noise by the base and by the first fit of each method: grid.png, a column each."""
    columns = {BASE: pictures([found.base]), **{name: pictures(runs[:1]) for name, runs in found.runs.items()}}
    ids = sorted({prompt for prompt, _ in columns[BASE]})
    shown = ids[:: max(1, len(ids) // ROWS)][:ROWS]
    first = min(seed for _, seed in columns[BASE])
    compose(columns, [(prompt, first) for prompt in shown]).save(out / "grid.png")


def compose(columns: Mapping[str, Mapping], keys: Sequence[tuple[str, int]]) -> Image.Image:
    """A column a name, a row a prompt and seed."""
    page = Image.new("RGB", (len(columns) * (TILE + 4), 22 + len(keys) * (TILE + 4)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for column, (name, shown) in enumerate(columns.items()):
        draw.text((column * (TILE + 4) + 4, 2), name, fill="black", font=font)
        for row, key in enumerate(keys):
            tile = load_image(shown[key].place).resize((TILE, TILE), Image.Resampling.LANCZOS)
            page.paste(tile, (column * (TILE + 4), 22 + row * (TILE + 4)))
    return page
