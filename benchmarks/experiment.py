"""The controlled experiment: `python benchmarks/experiment.py --pairs HAP --out DIR [--steps 1000 --seeds 3]`.

Every method tunes the same model on the same pairs in the same order, with the same steps and batch, once a seed. Base
and fits then draw the suite's held-out prompts (those of `asap_train.choose.Split` that choose no checkpoint), at least
`--images` images each, at the same noise. Given again, the command goes on where it ended; `--table` only reads runs:

    DIR/fits/METHOD-SEED/     fits, of which the last checkpoint counts: none is chosen
    DIR/runs/base, METHOD-SEED/     runs of hafbench
    DIR/table.md, forest.svg, forest.png, grid.png     what came out

A method's fits are pooled: the images of a prompt by all of them are one cluster, each is paired with the base's image
of the same prompt and seed. The intervals are of other prompts for these very fits; how far fits of other seeds differ,
the column `each fit` shows. `--set KEY=VALUE` changes a setting of all fits, `--set METHOD:KEY=VALUE` of one method's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw

from asap_train.autoscore import Bench
from asap_train.choose import Split
from asap_train.config import FitConfig, ScoreSettings, read_config
from hafbench.cards import attach_cards
from hafbench.compare import Comparison, Measured, compare_runs
from hafbench.compare.tables import judged_unevenly, line
from hafbench.errors import HafError
from hafbench.evaluate import spread
from hafbench.figures import ScorerFigures, all_figures, number, p_value, percent, share
from hafbench.images import load_image
from hafbench.report.plots import INK, LOOKS, as_svg, make_axes
from hafbench.runs import Run, read_run, write_whole
from hafbench.statistics import Mean, Rate
from hafbench.suites import load_suite
from hafbench.worlds import world_of

METHODS: Mapping[str, Sequence[str]] = {
    "sft": ("objective=sft",),
    "dpo": ("objective=dpo",),
    "dpo-local": ("objective=dpo-local",),
    "margin": ("objective=margin",),
    "asap": ("objective=asap",),
}
"""By method what differs from the others."""
BASE, HELD_OUT = "base", "held-out"
ROWS, TILE = 6, 160
"""Of the grid: prompts, and the side of an image in pixels."""
FOOT = (
    "95 % intervals: of rates Wilson's on the effective size, of differences a bootstrap, prompts as clusters. "
    "`each fit` is the AER of each, %. `corrected` is the rate corrected by the scorer's calibration card (Rogan and "
    "Gladen), where the run carries one: those that come with hafbench are of the base model alone. p of a permutation "
    "test over prompts, corrected by Holm over methods. RSI = (win + tie) / (lose + tie). TOST: two one-sided tests "
    "that the mean stayed within the margin; `kept` is that it did."
)


def config_of(asked: argparse.Namespace, method: str, seed: int) -> FitConfig:
    """The settings of one fit."""
    every = max(1, asked.steps // 10)
    given = [f"model={asked.model}", f"pairs={asked.pairs}", f"out={asked.out / 'fits' / f'{method}-{seed}'}"]
    given += [f"cache={asked.cache or asked.out / 'cache'}", f"steps={asked.steps}", f"seed={seed}"]
    given += [f"checkpoint_every={every}", "keep=1", "score=null", *METHODS[method]]
    for text in asked.set:
        name, colon, own = text.partition(":")
        if colon and name in METHODS:
            given += [own] if name == method else []
        else:
            given.append(text)
    return read_config(None, given)


def bench_of(asked: argparse.Namespace) -> Bench:
    """How runs are made: of a suite of the held-out prompts alone, DIR/held-out/SUITE.jsonl."""
    suite = load_suite(asked.suite or world_of(asked.model).suite)
    kept = [prompt for prompt in suite.prompts if Split().part_of(prompt.id) == HELD_OUT]
    path = asked.out / HELD_OUT / f"{suite.name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, "".join(prompt.model_dump_json(exclude_defaults=True) + "\n" for prompt in kept))
    limit = asked.images if asked.images < len(kept) else None
    seeds = ceil(asked.images / min(asked.images, len(kept)))
    return Bench(asked.model, ScoreSettings(suite=str(path), seeds=seeds, limit=limit))


def make(asked: argparse.Namespace) -> None:
    """The fits and runs that are not there yet, a seed of all methods after the other."""
    from asap_train.trainer import fit

    bench, runs = bench_of(asked), asked.out / "runs"
    configs = {f"{m}-{seed}": config_of(asked, m, seed) for seed in range(asked.seeds) for m in asked.methods}
    print(f"{BASE}: run", flush=True)
    attach_cards(bench.run(None, runs / BASE), ())
    for name, config in configs.items():
        print(f"{name}: fit of {config.steps} steps", flush=True)
        folder = fit(config) / "checkpoints" / f"{config.steps:06d}"
        print(f"{name}: run", flush=True)
        attach_cards(bench.run(folder, runs / name), ())


def found_runs(out: Path, methods: Iterable[str]) -> tuple[Run, dict[str, list[Run]]]:
    """The base's run, and by method those of its fits that are finished; raises HafError if there are none."""
    runs: dict[str, list[Run]] = {}
    for method in methods:
        folders = sorted(path.parent for path in (out / "runs").glob(f"{method}-[0-9]*/records.parquet"))
        if folders:
            runs[method] = [read_run(folder, findings=False) for folder in folders]
    if not runs:
        raise HafError(f"{out}/runs has no finished run of any method; give the command without --table.")
    return read_run(out / "runs" / BASE, findings=False), runs


def pooled(runs: Sequence[Run], name: str) -> Run:
    """The runs as one, in which every run has seeds of its own: those of the k-th are moved on by k times their number.

    Prompts stay what they are, and so do the clusters.
    """
    parts = []
    for place, run in enumerate(runs):
        seeds = run.records["seed"] + place * int(run.manifest["request"]["seeds"])
        parts.append(run.records.assign(image=f"{place}/" + run.records["image"].astype(str), seed=seeds))
    return replace(runs[0], records=pd.concat(parts, ignore_index=True), manifest={**runs[0].manifest, "name": name})


def compared(base: Run, runs: Mapping[str, list[Run]]) -> tuple[Comparison, dict[str, Run]]:
    """All methods against the base, with Holm's correction over them; and each method's pooled run."""
    most = max(map(len, runs.values()))
    candidates = {method: pooled(own, method) for method, own in runs.items()}
    return compare_runs([pooled([base] * most, BASE), *candidates.values()]), candidates


def table(base: Run, runs: Mapping[str, list[Run]]) -> tuple[str, Comparison]:
    """The Markdown of table.md, and the comparison behind it."""
    comparison, candidates = compared(base, runs)
    errors, quality = [], []
    for figures in all_figures(base):
        if figures.role == "anatomy":
            errors.append([BASE, figures.scorer, "–", percent(figures.coverage), interval(figures.rate)])
            errors[-1] += [corrected(figures), *"–" * 5]
        else:
            quality.append([BASE, figures.scorer, interval(figures.mean), *"–" * 5])
    for versus in comparison.versus:
        own = {figures.scorer: figures for figures in all_figures(candidates[versus.label])}
        each = [{figures.scorer: figures for figures in all_figures(run)} for run in runs[versus.label]]
        for one in versus.measured:
            if one.role == "anatomy":
                errors.append(error_row(versus.label, one, own[one.name], [fit[one.name] for fit in each]))
            else:
                quality.append(quality_row(versus.label, one))
    heads = ("method", "measure", "each fit", "judged", "AER", "corrected", "difference", "p", "win / tie / lose")
    notes = [f"{v.label}: {said}" for v in comparison.versus for one in v.measured if (said := judged_unevenly(one))]
    request, settings = base.manifest["request"], base.manifest["notes"]
    text = [
        f"{base.manifest['counts']['images']} images of the base on {base.records['prompt_id'].nunique()} held-out "
        f"prompts, {request['seeds']} a prompt, and as many of each fit; fits: "
        f"{', '.join(f'{method} {len(own)}' for method, own in runs.items())}.",
        markdown((*heads, "RSI", "verdict"), errors),
        markdown(("method", "measure", "mean", "difference", "margin", "p of TOST", "p", "verdict"), quality),
        FOOT,
        "\n".join(f"- {said}" for said in [*notes, *settings]),
    ]
    return "\n\n".join(text) + "\n", comparison


def error_row(method: str, one: Measured, figures: ScorerFigures, fits: Sequence[ScorerFigures]) -> list[str]:
    """An anatomy measure of a method."""
    told = line(method, one)
    each = ", ".join(f"{100 * (fit.rate.estimate or 0):.1f}" for fit in fits if fit.rate and fit.rate.scored)
    start = [method, one.name, each, percent(figures.coverage), interval(figures.rate), corrected(figures)]
    return [*start, told.difference, told.p, told.counts, told.rsi, told.verdict]


def quality_row(method: str, one: Measured) -> list[str]:
    """A quality score of a method."""
    told, kept = line(method, one), one.equivalence
    margin, p = (f"±{number(kept.margin)}", p_value(kept.p_value)) if kept else ("–", "–")
    return [method, one.name, interval(one.candidate), told.difference, margin, p, told.p, told.verdict]


def interval(found: Rate | Mean | None) -> str:
    """A rate in percent or a mean in its units, with its interval."""
    if found is None or isinstance(found, Rate):
        return share(found) if found else "–"
    ends = "" if found.low is None else f" [{number(found.low)}, {number(found.high)}]"
    return number(found.estimate) + ends


def corrected(figures: ScorerFigures) -> str:
    """The rate that is behind the one seen, or why there is none."""
    found = figures.corrected
    return "–" if found is None else found.reason if found.reason and found.low is None else share(found)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; nothing in it may end a cell."""
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {one.replace('<', '&lt;')} |" for one in lines)


def forest(comparison: Comparison, out: Path) -> None:
    """The differences of the anatomy measures from the base, a row a method: forest.svg and forest.png."""
    names = [one.name for one in comparison.versus[0].measured if one.role == "anatomy"]
    figure, axes = make_axes(6.2, 1.2 + 0.5 * len(comparison.versus))
    for row, versus in enumerate(comparison.versus):
        for one in versus.measured:
            found = one.difference
            if one.name not in names or found.estimate is None or found.low is None or found.high is None:
                continue
            colour, marker = LOOKS[names.index(one.name) % len(LOOKS)]
            place = row + (names.index(one.name) - (len(names) - 1) / 2) * 0.24
            axes.plot([100 * found.low, 100 * found.high], [place] * 2, color=colour, lw=2)
            axes.plot(100 * found.estimate, place, marker, color=colour, ms=6)
    for name, (colour, marker) in zip(names, LOOKS, strict=False):
        axes.plot([], [], f"{marker}-", color=colour, label=name)
    axes.axvline(0, color=INK, lw=1)
    axes.set_yticks(range(len(comparison.versus)), [versus.label for versus in comparison.versus])
    axes.set_ylim(len(comparison.versus) - 0.5, -0.5)
    far = max(5.0, *(abs(value) for value in axes.get_xlim()))
    axes.set_xlim(-far, far)
    axes.set_xlabel("← fewer errors than the base · percentage points · more →")
    legend = axes.legend(frameon=False, ncols=len(names), loc="lower right", bbox_to_anchor=(1, 1))
    for label in legend.get_texts():
        label.set_color(INK)  # as a plain name, by which as_svg knows it
    write_whole(out / "forest.svg", as_svg(figure, "Differences of error rates from the base", out / "forest.png"))


def grid(base: Run, runs: Mapping[str, list[Run]], out: Path) -> None:
    """The same prompts and seed by the base and by the first fit of each method: grid.png, a column each."""
    columns = {BASE: base, **{method: own[0] for method, own in runs.items()}}
    first = base.records.drop_duplicates("prompt_id")
    drawn, suite = set(first["prompt_id"]), load_suite(str(next((out / HELD_OUT).glob("*.jsonl"))))
    shown = spread([prompt for prompt in suite.prompts if prompt.id in drawn], ROWS)
    images = [first.loc[first["prompt_id"] == prompt.id, "image"].iloc[0] for prompt in shown]
    sheet = Image.new("RGB", (len(columns) * (TILE + 4), 24 + len(images) * (TILE + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (name, run) in enumerate(columns.items()):
        draw.text((column * (TILE + 4) + 4, 6), name, fill="black")
        for row, image in enumerate(images):
            tile = load_image(run.image_root / image).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (column * (TILE + 4), 24 + row * (TILE + 4)))
    sheet.save(out / "grid.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="a data set of `asap-train synth`")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="mannequin")
    parser.add_argument("--suite", help="default: the one that suits the model")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS), help=", ".join(METHODS))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3, help="fits of each method")
    parser.add_argument("--images", type=int, default=1000, help="at least so many of the base and of each fit")
    parser.add_argument("--cache", type=Path, help="latents of the pairs; default: DIR/cache")
    parser.add_argument("--set", action="append", default=[], metavar="[METHOD:]KEY=VALUE")
    parser.add_argument("--table", action="store_true", help="only make the table from the runs that are there")
    asked = parser.parse_args()
    if unknown := [method for method in asked.methods if method not in METHODS]:
        parser.error(f"--methods: there is no {unknown[0]}; known: {', '.join(METHODS)}")
    if not asked.table:
        if asked.pairs is None:
            parser.error("--pairs is needed, but for --table")
        asked.out.mkdir(parents=True, exist_ok=True)
        make(asked)
    base, runs = found_runs(asked.out, asked.methods)
    text, comparison = table(base, runs)
    write_whole(asked.out / "table.md", text)
    forest(comparison, asked.out)
    grid(base, runs, asked.out)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except HafError as error:
        raise SystemExit(f"Error: {error}") from None
