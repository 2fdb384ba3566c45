"""The page of a fit: the verdict on held-out prompts, scores by step, curves, and images before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from asap_train.choose import PARTS, Point, verdict_of
from asap_train.page import render_page
from asap_train.reporting.health import health_of
from asap_train.training.config import as_plain
from asap_train.training.fit_log import FitLog
from asap_train.training.fit_plots import PLOTS
from asap_train.training.objectives import OBJECTIVES
from asap_train.training.validation import drawn_steps, drawn_with, prompts_of
from hafbench.comparison.tables import line, signed
from hafbench.errors import BadImage
from hafbench.figures import metrics_of
from hafbench.files import write_whole
from hafbench.generators import PRESETS
from hafbench.generators.sources import find_source
from hafbench.images import load_image
from hafbench.notes import counted_together
from hafbench.provenance import without_folders
from hafbench.reports.comparison import pair_items
from hafbench.reports.overlays import data_uri
from hafbench.reports.plots import INK, LOOKS, as_svg, make_axes
from hafbench.sources import File, Place

if TYPE_CHECKING:
    import pandas as pd

    from asap_train.choose import Scores
    from asap_train.training.config import FitConfig
    from hafbench.comparison import MetricComparison, Versus
    from hafbench.runs import Run

PAIR_CHARACTERS = 11_000_000
"""Where the pairs stop, so that the page opens on a phone."""
STRIP_PROMPTS, STRIP_STEPS, STRIP_PIXELS = 6, 6, 256


@dataclass(frozen=True)
class Cell:
    """One image of a strip; `error` is whether it is one by the headline metric, None if it was not judged."""

    step: int
    picture: str | None
    error: bool | None


@dataclass(frozen=True)
class Strip:
    """A prompt and seed across the base (step 0) and the checkpoints."""

    prompt: str
    cells: tuple[Cell, ...]


def build_plain_page(config: FitConfig) -> Path:
    """Write OUT/index.html of a fit without scores: how training went, and its validation images."""
    text = render_page(
        "fit",
        "compare.js",
        scores=None,
        facts=facts(config),
        **_of_training(config),
    )
    return write_whole(config.out / "index.html", text)


def _of_training(config: FitConfig) -> dict[str, Any]:
    """What every fit's page has, scored or not."""
    return {
        "title": config.out.resolve().name,
        "config": config,
        "model": shown_model(config.model),
        "health": health_of(FitLog(config.out / "log.jsonl", writes=False).all_rows(), config),
        "curves": _curves(config.out / "plots"),
        "validation": validation_strips(config),
        "settings": settings_text(config),
    }


def build_page(config: FitConfig, scores: Scores, base: Run, runs: Mapping[int, Run], versus: Versus) -> Path:
    """Write OUT/index.html and return its path. `versus` is the best checkpoint against the base, held-out prompts."""
    narrowed = scores.split.narrow(base, "held-out")
    pairs, left_out = pair_items(narrowed, versus, PAIR_CHARACTERS)
    text = render_page(
        "fit",
        "compare.js",
        scores=scores,
        versus=versus,
        verdict=verdict_of(scores.choice.step, scores.prompts, scores.reported),
        lines=[line("", one) for one in versus.metrics],
        selected=scores.split.narrow(base, "selection").records["prompt_id"].nunique(),
        notes=[*base.manifest.notes, *counted_together(base.manifest.scorers)],
        plots=step_plots(scores, versus),
        table=_table(scores),
        pairs=pairs,
        left_out=left_out,
        strips=strips(scores, narrowed, runs),
        facts=[*facts(config), *scoring_facts(scores, base)],
        parts=PARTS,
        signed=signed,
        **_of_training(config),
    )
    return write_whole(config.out / "index.html", text)


def facts(config: FitConfig) -> list[tuple[str, str]]:
    """What was trained, in short lines."""
    lora = config.lora
    tuned = f"LoRA of rank {lora.rank}, alpha {lora.lora_alpha:g}" if lora else "all weights of the network"
    batch = f"{config.train_batch_size * config.gradient_accumulation_steps} pairs per device"
    return [
        ("model", shown_model(config.model)),
        ("pairs", config.pairs.name),
        ("objective", f"{config.objective} ({_numbers(config)})"),
        ("tuned", tuned),
        ("training", f"{config.max_train_steps} steps of {batch}, learning rate {config.learning_rate:g}"),
    ]


def _numbers(config: FitConfig) -> str:
    """The numbers that the objective has, and what guards it."""
    loss = config.loss
    row = OBJECTIVES.built_in.get(config.objective)
    said = [f"alpha {loss.alpha:g}"] if row is None or row.localized else []
    for name in row.uses if row else ("tau", "beta"):
        auto = ", automatic" if getattr(loss, f"auto_{name}") else ""
        said.append(f"{name} {getattr(loss, name):g}{auto}")
    weight = f" of weight {loss.guard_weight:g}" if loss.guard in ("sft", "ceiling") else ""
    said.append(f"guard {loss.guard}{weight}" if loss.guard != "none" else "no guard")
    if loss.anchor_weight:
        said.append(f"anchor outside M of weight {loss.anchor_weight:g}")
    return ", ".join(said)


def scoring_facts(scores: Scores, base: Run) -> list[tuple[str, str]]:
    """How a fit was scored, in short lines."""
    judge = base.manifest.scorers.get("judge")
    return [
        ("scored on", f"{scores.suite}, {scores.seeds} image{'s' if scores.seeds > 1 else ''} a prompt"),
        *([("judge", judge.version)] if judge and judge.version else []),
    ]


def step_plots(scores: Scores, versus: Versus) -> list[tuple[str, str, str]]:
    """The headline and each quality score by step, on both parts: name, which way is better, and an inline SVG."""
    shown = [one for place, one in enumerate(versus.metrics) if place == 0 or one.role == "quality"]
    about = {True: "mean, higher is better", False: "mean, lower is better", None: "mean"}
    rate = "error rate, lower is better"
    return [
        (one.name, rate if one.role == "anatomy" else about[one.higher_is_better], _step_plot(scores, one))
        for one in shown
    ]


def _step_plot(scores: Scores, one: MetricComparison) -> str:
    figure, axes = make_axes(4.6, 3.1)
    rate, steps = one.role == "anatomy", [0, *scores.steps]
    scale = 100 if rate else 1
    # The two parts stand a little apart, so that intervals of one step are told from each other.
    apart = 0.012 * max(steps)
    for index, part in enumerate(PARTS):
        colour, marker = LOOKS[1 - index]
        points = [p for p in scores.points if p.metric == one.name and p.part == part and p.estimate is not None]
        places = [p.step + apart * (2 * index - 1) for p in points]
        axes.plot(
            places, [scale * (p.estimate or 0) for p in points], f"{marker}-", color=colour, ms=5, lw=1.4, label=part
        )
        for place, point in zip(places, points, strict=True):
            if point.low is not None and point.high is not None:
                axes.plot([place] * 2, [scale * point.low, scale * point.high], color=colour, lw=1.6, alpha=0.55)
    axes.axvline(scores.choice.step, color=INK, lw=0.8, alpha=0.5, ls=":")
    axes.set_xticks(*_ticks(steps))
    axes.set_xlabel("step")
    axes.set_ylabel("error rate, %" if rate else "mean")
    axes.grid(axis="y", alpha=0.2)
    if rate:
        axes.set_ylim(max(-1, axes.get_ylim()[0]), min(101, axes.get_ylim()[1]))
    legend = axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    for text in legend.get_texts():
        text.set_color(INK)
    return as_svg(figure, f"{one.name} by step")


def _ticks(steps: Sequence[int]) -> tuple[list[int], list[str]]:
    """At most eight of the steps, with the base named as such."""
    every = -(-len(steps) // 8)
    shown = [step for place, step in enumerate(steps) if place % every == 0]
    return shown, ["base" if step == 0 else str(step) for step in shown]


def _table(scores: Scores) -> list[tuple[str, str, list[tuple[int, dict[str, Point]]]]]:
    """Each metric with its role, and by step its points of both parts."""
    found: dict[str, dict[int, dict[str, Point]]] = {}
    for point in scores.points:
        found.setdefault(point.metric, {}).setdefault(point.step, {})[point.part] = point
    roles = {point.metric: point.role for point in scores.points}
    return [(name, roles[name], sorted(by_step.items())) for name, by_step in found.items()]


def _curves(folder: Path) -> list[str]:
    """The trainer's plots that are there, as inline SVGs."""
    texts = [path.read_text(encoding="utf-8") for name in PLOTS if (path := folder / f"{name}.svg").is_file()]
    return [text[text.index("<svg") :] for text in texts]


def settings_text(config: FitConfig) -> str:
    """All settings as YAML; of paths only the names, since pages and cards are shared and paths name people."""
    shown = {**as_plain(config), "model": shown_model(config.model), "pairs": config.pairs.name}
    shown = without_folders({key: value for key, value in shown.items() if key not in ("out", "cache_dir")})
    return str(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)).rstrip()


def shown_model(model: str) -> str:
    """The model as it is named on another machine: a path becomes its name."""
    source = find_source(model)
    if source.path is None or model in PRESETS:
        return model
    return f"{source.name}=PATH" if source.preset else source.name


def validation_strips(config: FitConfig) -> list[Strip]:
    """The validation images of a fit, a row for each prompt and seed that they were drawn with; of many steps some."""
    if config.validation is None:
        return []
    folders = {int(path.name): path for path in drawn_steps(config.out)}
    if not folders:
        return []
    rows: dict[tuple[str, int], dict[int, Cell]] = {}
    for step in _some(sorted(folders), max(folders)):
        drawn = drawn_with(folders[step]) or config.validation
        for number, prompt in enumerate(prompts_of(config, drawn)):
            picture = _small(File(folders[step], f"{number:02d}.png"))
            rows.setdefault((prompt, drawn.seed), {})[step] = Cell(step, picture, None)
    return [Strip(prompt, tuple(cells.values())) for (prompt, _), cells in rows.items()]


def strips(scores: Scores, base: Run, runs: Mapping[int, Run]) -> list[Strip]:
    """The same few held-out prompts for every fit, one of each category in turn, across the base and its checkpoints.

    Of many checkpoints some, the best and the last among them.
    """
    steps = _some(scores.steps, scores.choice.step)
    tables = {step: _errors(run) for step, run in {0: base, **{step: runs[step] for step in steps}}.items()}
    sources = {0: base.source, **{step: runs[step].source for step in steps}}
    made = []
    for _, row in _samples(base.records).head(STRIP_PROMPTS).iterrows():
        image = str(row["image"])
        cells = tuple(Cell(step, _small(sources[step].place(image)), tables[step].get(image)) for step in tables)
        made.append(Strip(str(row["prompt"]), cells))
    return made


def _some(steps: Sequence[int], best: int) -> list[int]:
    if len(steps) < STRIP_STEPS:
        return list(steps)
    places = {round(k * (len(steps) - 1) / (STRIP_STEPS - 2)) for k in range(STRIP_STEPS - 1)}
    return sorted({steps[place] for place in places} | {best})


def _samples(records: pd.DataFrame) -> pd.DataFrame:
    """One image a prompt, in an order by the hash of the prompt's id, the categories in turn."""
    first = records.sort_values("seed", kind="stable").drop_duplicates("prompt_id")
    order = first["prompt_id"].map(lambda name: hashlib.sha256(str(name).encode()).hexdigest())
    first = first.assign(order=order).sort_values("order")
    return first.assign(turn=first.groupby("category").cumcount()).sort_values(["turn", "order"])


def _errors(run: Run) -> dict[str, bool | None]:
    """By image whether it is an error by the headline metric; without those that were not judged."""
    rows = next(iter(metrics_of(run).values())).rows
    judged = rows[rows["is_error"].notna()]
    return {str(image): bool(error) for image, error in zip(judged["image"], judged["is_error"], strict=True)}


def _small(place: Place) -> str | None:
    try:
        image = load_image(place)
    except (BadImage, OSError):
        return None
    image.thumbnail((STRIP_PIXELS, STRIP_PIXELS))
    return data_uri(image)
