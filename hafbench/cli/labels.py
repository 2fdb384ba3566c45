"""`hafbench labels`: what a store of labels holds, and labels as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hafbench.cli.options import Json
from hafbench.errors import HafError

if TYPE_CHECKING:
    from hafbench.labelling.agreement import Agreement
    from hafbench.labelling.estimates import PeopleFigures

app = typer.Typer(no_args_is_help=True, help="Labels by people: how far raters agree, and labels as files.")
Store = Annotated[Path, typer.Argument(metavar="STORE", help="A store of labels, such as RUN/labels.sqlite.")]
FORMATS = ("table", "coco", "label-studio", "examples")


@app.command()
def summary(
    store: Store,
    run: Annotated[
        list[Path], typer.Option("--run", metavar="RUN", help="State the rates of this run, too; may be repeated.")
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Show who labelled how much, how far raters agree, and what is left to be settled."""
    from hafbench.labelling.agreement import agreement
    from hafbench.labelling.estimates import people_figures
    from hafbench.labelling.store import LabelStore
    from hafbench.runs import read_run

    opened = LabelStore(store, must_exist=True)
    pictures = opened.pictures()
    labels = opened.labels()
    opened.close()
    prompts = {sha256: one.prompt_id or one.image for sha256, one in pictures.items()}
    clusters = {one.item: prompts.get(one.item[:64], one.item) for one in labels}
    found = agreement(labels, clusters)
    figures = {str(folder): people_figures(read_run(folder), [store]) for folder in run}
    if as_json:
        rates = {folder: asdict(one) for folder, one in figures.items()}
        typer.echo(json.dumps({"agreement": [asdict(one) for one in found], "runs": rates}, indent=2))
        return
    if not found:
        typer.echo(f"{store} holds no label yet.")
    for one in found:
        _print_agreement(one)
    for folder, people in figures.items():
        _print_rates(folder, people)


def _print_agreement(found: Agreement) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    kinds = list(dict.fromkeys(answer for one in found.raters for answer in one.answers))
    table = Table(box=None, pad_edge=False, title_justify="left", title=Text(found.what, style="bold"))
    for column in ("rater", "answers", *kinds, "seconds", "verdicts in sight"):
        table.add_column(column)
    for rater in found.raters:
        counts = [str(rater.answers.get(kind, 0)) for kind in kinds]
        seconds = "" if rater.seconds is None else f"{rater.seconds:.1f}"
        table.add_row(Text(rater.rater), str(sum(rater.answers.values())), *counts, seconds, str(rater.not_blind))
    console.print(table)
    alpha = found.alpha
    if alpha.estimate is not None:
        said = _figure(alpha.estimate, alpha.low, alpha.high)
        console.print(Text(f"Krippendorff's alpha of {alpha.raters} raters on {alpha.items} {found.what}: {said}"))
    for one, other, kappa in found.between:
        said = f"{_figure(kappa.estimate, kappa.low, kappa.high)}, alike in {kappa.agree:.0%} of {kappa.n}"
        console.print(Text(f"Cohen's kappa of {one} and {other}: {said}"))
    for name, kappa in found.within:
        said = f"{_figure(kappa.estimate, kappa.low, kappa.high)}, alike in {kappa.agree:.0%} of {kappa.n}"
        console.print(Text(f"{name} again: kappa {said}"))
    if found.disputed:
        console.print(Text(f"To be settled: {found.disputed} (`hafbench label RUN --settle`)."))


def _figure(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None:
        return "not defined (one answer only)"
    return f"{estimate:.2f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")


def _print_rates(folder: str, people: PeopleFigures) -> None:
    from hafbench.figures import share

    typer.echo(f"{folder}: {people.clear} of {people.images} images have a clear label.")
    typer.echo(f"  error rate by labels alone: {share(people.human)}, worth {people.human.effective or 0:.0f} labels")
    for name, rate in people.powered.items():
        typer.echo(f"  with the verdicts of {name}: {share(rate)}, worth {rate.effective or 0:.0f} labels")


@app.command()
def export(
    store: Store,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file, or for examples the folder, to write.")],
    form: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="table (.csv, .parquet), coco, label-studio, examples."),
    ] = "table",
    answers: Annotated[bool, typer.Option("--answers", help="A row for each answer, in place of each image.")] = False,
    names: Annotated[bool, typer.Option("--names", help="With --answers, raters by name, not number.")] = False,
    number: Annotated[int, typer.Option("--number", min=1, max=8, help="Examples of each label.")] = 4,
    as_json: Json = False,
) -> None:
    """Write the labels as a table that `calibrate` reads, as boxes, or as examples for a judge."""
    from hafbench.labelling import exchange
    from hafbench.labelling.store import LabelStore

    if form not in FORMATS:
        raise HafError(f"--format {form}: give one of {', '.join(FORMATS)}.")
    with closing(LabelStore(store, must_exist=True)) as opened:
        if form == "table":
            count = exchange.to_table(opened, to, answers, names)
        elif form == "coco":
            count = exchange.to_coco(opened, to)
        elif form == "label-studio":
            count = exchange.to_label_studio(opened, to)
        else:
            count = exchange.to_examples(opened, to, number)
    _tell({"file": str(to), "labels": count}, f"{count} labels: {to}", as_json)


@app.command("import")
def import_(
    store: Store,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A table (.csv, .parquet), COCO or Label Studio .json.")],
    run: Annotated[
        list[Path], typer.Option("--run", metavar="RUN", help="The run whose images they are of; may be repeated.")
    ],
    rater: Annotated[
        str, typer.Option("--rater", metavar="NAME", help="Who gave them, where the file does not say it.")
    ] = "imported",
    as_json: Json = False,
) -> None:
    """Add labels that were given elsewhere. Rates take them as a random part of the run's images."""
    from hafbench.labelling.exchange import import_labels, labels_of_file
    from hafbench.labelling.store import LabelStore
    from hafbench.runs import read_run

    runs: Sequence[Any] = [read_run(folder) for folder in run]
    found = labels_of_file(file, runs, rater)  # before a store is made that would stay empty
    with closing(LabelStore(store)) as opened:
        count = import_labels(opened, found)
    _tell({"store": str(store), "new": count}, f"{count} new labels in {store}.", as_json)


def _tell(values: dict[str, Any], text: str, as_json: bool) -> None:
    typer.echo(json.dumps(values) if as_json else text)
