"""`hafbench leaderboard`: add a run, check the entries, build the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hafbench.cli.options import USER_ERROR, Cards, Json, Labels, Stores, label_stores
from hafbench.errors import HafError

app = typer.Typer(no_args_is_help=True, help="Add runs to a leaderboard, check its entries, build its page.")

Folder = Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder of entries.")]
HERE = Path("leaderboards")


@app.command()
def add(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who ran it: a person or a group.")],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The model's name; default: that of the run."),
    ] = None,
    link: Annotated[str | None, typer.Option("--link", metavar="URL", help="Where the model can be found.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", metavar="NAME", help="The model's licence.")] = None,
    card: Cards = [],  # noqa: B006
    pairs: Annotated[
        list[Path],
        typer.Option(
            "--pairs",
            metavar="DIR",
            help="A folder that `hafbench compare BASELINE RUN --judge` wrote: what judges say of the run's pairs; "
            "may be repeated.",
        ),
    ] = [],  # noqa: B006
    labels: Labels = False,
    store: Stores = [],  # noqa: B006
    rater_names: Annotated[
        bool, typer.Option("--rater-names", help="Publish the names of those who labelled, if they wish it.")
    ] = False,
    to: Folder = HERE,
    as_json: Json = False,
) -> None:
    """Make a run's entry, with its calibration cards, those given, what judges said of its pairs, and labels."""
    from hafbench.cards import attach_cards
    from hafbench.leaderboard import make_entry, write_entry
    from hafbench.runs import read_run

    finished = read_run(run)
    attach_cards(finished, card)
    entry = make_entry(
        finished,
        by,
        model=name,
        link=link,
        licence=licence,
        pairs=pairs,
        labels=label_stores([run], labels, store),
        rater_names=rater_names,
    )
    path = write_entry(entry, to)
    typer.echo(json.dumps({"entry": str(path)}) if as_json else path)


@app.command()
def validate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of entries.")] = HERE, as_json: Json = False
) -> None:
    """Check that every entry fits the schema and that its figures follow from its verdicts."""
    from hafbench import leaderboard

    entries, problems = leaderboard.validate(folder)
    if as_json:
        typer.echo(json.dumps({"sound": [str(path) for path in entries], "problems": problems}, indent=2))
    else:
        typer.echo(f"{len(entries)} sound entries in {folder}.")
    for problem in problems:
        typer.echo(f"hafbench: {problem}", err=True)
    if problems:
        raise typer.Exit(USER_ERROR)


@app.command()
def build(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of entries.")] = HERE,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the page; default: that of the entries.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the page, index.html; a folder with an entry that does not hold is refused."""
    from hafbench import leaderboard
    from hafbench.reports.board import build_board

    entries, problems = leaderboard.validate(folder)
    if problems:
        more = f" ({len(problems) - 1} more problems: `hafbench leaderboard validate {folder}`)" if problems[1:] else ""
        raise HafError(f"{problems[0]}{more}")
    page = build_board(leaderboard.tables(list(entries.values())), out or folder)
    typer.echo(json.dumps({"page": str(page), "entries": len(entries)}) if as_json else page)
