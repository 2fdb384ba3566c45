"""`asap-train fit` and `asap-train score`: tune a model on pairs, and say what became of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hafbench.cli.options import Device, Json, Quiet
from hafbench.errors import HafError

if TYPE_CHECKING:
    from asap_train.choose import Scores
    from asap_train.training.config import FitConfig, ScoreSettings
    from hafbench.evaluate import Progress as Told

Model = Annotated[
    str | None, typer.Option("--model", "-m", metavar="MODEL", help="Preset, hub id, folder, or .safetensors file.")
]


def fit(
    model: Model = None,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", metavar="HAP", help="A data set of `asap-train synth`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The fit's folder; given again, it goes on.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings in YAML.")] = None,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as weights.alpha=5; repeatable.")
    ] = [],  # noqa: B006
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="NAME", help="asap, dpo, sft ...; default: asap.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="Steps of the optimizer.")] = None,
    score: Annotated[bool, typer.Option("--score/--no-score", help="Run checkpoints through hafbench.")] = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Tune a text-to-image model on preference pairs, score its checkpoints against the base, write the page.

    Settings come from the model's family, then --config, then --set, then the other options.
    """
    from asap_train.training.config import read_config

    given = {"model": model, "pairs": pairs, "out": out, "objective": objective}
    if config is None and None in (model, pairs, out):
        raise HafError("Give --model MODEL, --pairs HAP and --out DIR, or a --config FILE that has them.")
    options = [
        f"{key}={json.dumps(str(value))}" for key, value in given.items() if value is not None and key != "steps"
    ]
    options += [f"steps={steps}"] if steps else []
    settings = read_config(config, [*set_, *options, *([] if score else ["score=null"])])

    from asap_train.autoscore import Autoscore, settle_unscored
    from asap_train.hap.read import read_hap
    from asap_train.training.trainer import fit as train

    read_hap(settings.pairs)  # what is not there is better told before the base is scored than after
    # Of the processes of `accelerate launch` the first one scores and speaks.
    first = os.environ.get("RANK", "0") == "0"
    with _bars(quiet or as_json or not first) as bars:
        scoring = Autoscore(settings, bars.images) if settings.score else None
        if scoring and first:
            scoring.prepare()
        train(settings, on_checkpoint=scoring, on_step=bars.steps(settings.steps))
    if not first:
        return
    if scoring is None:
        settle_unscored(settings)
    _say(settings, scoring.scores if scoring else None, quiet, as_json)


def score(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A fit, a checkpoint's folder, a LoRA file, or a pipeline.")
    ],
    model: Model = None,
    suite: Annotated[
        str | None, typer.Option("--suite", "-s", metavar="SUITE", help="A suite's name, or your own .jsonl file.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, metavar="N", help="Images per prompt.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="K", help="At most so many prompts, over all categories.")
    ] = None,
    scorers: Annotated[
        str | None, typer.Option("--scorers", metavar="A,B", help="Names; default: those that suit the model.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder to write; the default is below runs/.")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a checkpoint and its base through hafbench and compare them; of a fit, all checkpoints not yet scored.

    Within a fit, model and suite are the fit's unless they are given.
    """
    from asap_train.training.config import ScoreSettings, read_config

    given: dict[str, Any] = {"suite": suite, "seeds": seeds, "limit": limit}
    given["scorers"] = tuple(name.strip() for name in scorers.split(",") if name.strip()) if scorers else None
    where = checkpoint.resolve()
    home = next((folder for folder in (where, *where.parents[:3]) if (folder / "fit.yaml").is_file()), None)
    config = read_config(home / "fit.yaml") if home else None
    before = (config.score if config else None) or ScoreSettings()
    settings = replace(before, **{key: value for key, value in given.items() if value is not None})
    if config and home == where:
        if model or out:
            raise HafError(f"{checkpoint} is a fit, which has its model and its folder: leave out --model and --out.")
        _score_fit(replace(config, out=checkpoint, score=settings), device, quiet, as_json)
        return
    model = model or (config.model if config else None)
    if model is None:
        raise HafError(f"{checkpoint} does not lie in a fit: say by --model MODEL what it was tuned from.")
    _score_one(checkpoint, model, settings, out, device, quiet, as_json)


def _score_fit(config: FitConfig, device: str, quiet: bool, as_json: bool) -> None:
    from asap_train.autoscore import Autoscore, scored_runs
    from asap_train.training import checkpoints

    with _bars(quiet or as_json) as bars:
        scoring = Autoscore(config, bars.images, device)
        scoring.prepare()
        there = checkpoints.steps(config.out / "checkpoints")
        if not there:
            raise HafError(f"{config.out} has no checkpoint.")
        for folder in there:
            if int(folder.name) not in scored_runs(config.out):
                scoring.score(folder, int(folder.name))
        scores = scoring.settle()
    _say(config, scores, quiet, as_json)


def _score_one(
    checkpoint: Path, model: str, settings: ScoreSettings, out: Path | None, device: str, quiet: bool, as_json: bool
) -> None:
    from asap_train.autoscore import Bench, weights_of
    from hafbench.comparison import compare_runs
    from hafbench.comparison.tables import print_comparison, to_json
    from hafbench.files import slug
    from hafbench.reports.comparison import build_comparison

    weights_of(checkpoint)
    folder = out or Path("runs") / slug(f"score_{'_'.join(checkpoint.resolve().with_suffix('').parts[-3:])}")
    bench = Bench(model, settings, device)
    with _bars(quiet or as_json) as bars:
        base = bench.base(folder, bars.images)
        run = bench.run(checkpoint, folder / "scores" / "checkpoint", bars.images)
    comparison = compare_runs([base, run])
    page = build_comparison(comparison, folder)
    if as_json:
        typer.echo(json.dumps(to_json(comparison) | {"page": str(page)}, indent=2))
    elif not quiet:
        print_comparison(comparison, page)


def _say(config: FitConfig, scores: Scores | None, quiet: bool, as_json: bool) -> None:
    """What came out, on stdout."""
    page = config.out / "index.html"
    if as_json:
        said = {"out": str(config.out), "page": str(page), **asdict(scores)} if scores else {"out": str(config.out)}
        typer.echo(json.dumps(said, indent=2))
    elif not quiet and scores is None:
        typer.echo(f"Tuned, and not scored: {config.out}; `asap-train score {config.out}` does it.")
    elif not quiet and scores:
        _print_scores(scores, page)


def _print_scores(scores: Scores, page: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from asap_train.choose import verdict_of
    from asap_train.reporting.model_card import written

    console = Console(highlight=False)
    step = scores.choice.step
    title = Text.assemble((f"step {step}", "bold"), f" against {scores.model}, held-out prompts")
    table = Table(box=None, pad_edge=False, title_justify="left", title=title)
    columns = ("measure", "base", "checkpoint", "difference", "p", "verdict")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for figure in scores.reported:
        row = written(figure) | {"measure": figure.measure}
        style = {"worse": "red", "better": "green"}.get(figure.verdict, "")
        table.add_row(*(row[column] for column in columns), style=style)
    console.print(table)
    console.print(Text(verdict_of(step, scores.prompts, scores.reported)))
    console.print(Text(scores.choice.why, style="dim"))
    console.print(Text(f"Page: {page}"), soft_wrap=True)


@dataclass(frozen=True)
class Bars:
    """What is drawn on stderr while a fit goes on."""

    progress: Any

    def images(self, total: int, done: int) -> Told:
        """For hafbench: a bar of the images of one run, gone when it is full."""
        task = self.progress.add_task("images", total=total, completed=done, said="", visible=done < total)

        def tell(rows: Any) -> None:
            self.progress.advance(task)
            if self.progress.tasks[task].finished:
                self.progress.update(task, visible=False)

        return tell

    def steps(self, total: int) -> Callable[[Mapping[str, Any]], None]:
        """For the trainer: a bar of the steps with the gap, L(w) against the reference's, and the speed."""
        task = self.progress.add_task("steps", total=total, said="", visible=False)

        def tell(row: Mapping[str, Any]) -> None:
            self.progress.update(task, completed=row["step"], said=_brief(row), visible=True)

        return tell


def _brief(row: Mapping[str, Any]) -> str:
    parts = []
    if row.get("delta") is not None:
        parts.append(f"delta {row['delta']:+.4f}")
    if row.get("winner") is not None and row.get("ref_winner"):
        parts.append(f"L(w) {100 * (row['winner'] / row['ref_winner'] - 1):+.2f} % of the reference's")
    return ", ".join([*parts, f"{row['pairs_per_second']:.1f} pairs/s"])


@contextmanager
def _bars(quiet: bool) -> Iterator[Bars]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TimeRemainingColumn(), TextColumn("{task.fields[said]}")),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        yield Bars(progress)
