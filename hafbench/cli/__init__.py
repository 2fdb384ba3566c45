"""The `hafbench` command: parse, call, print. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

import hafbench
from hafbench.cli import calibrate, compare, judge, label, labels, leaderboard, lists, measure, schema
from hafbench.cli.options import run_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: importing rich for it would take half of the time that --help has
    pretty_exceptions_enable=False,
    help="Measure how often a text-to-image model gets human anatomy wrong. "
    "Exit codes: 0 finished (what a scorer cannot judge is unknown, and no failure), 2 a mistake in the command or its "
    "input, 3 finished, but something could not be scored, 4 a condition of --fail-if holds, 130 interrupted.",
)

app.command(short_help="Generate a suite's images, score them, write a report.")(measure.run)
app.command(short_help="Score images made elsewhere, write a report.")(measure.score)
app.command()(measure.report)
app.command(short_help="Compare runs: what differs, and how sure that is.")(compare.compare)
app.command(short_help="Measure how good a scorer is on labelled images.")(calibrate.calibrate)
app.command(short_help="Open a page on which people label images.")(label.label)
app.add_typer(labels.app, name="labels")
app.add_typer(leaderboard.app, name="leaderboard")
app.command(short_help="List the model presets.")(lists.models)
app.command()(lists.suites)
app.add_typer(lists.scorers_app, name="scorers")
app.add_typer(judge.app, name="judge")
app.add_typer(lists.weights_app, name="weights")
app.command(short_help="Print the JSON schemas of specs, records and entries.")(schema.schema)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"hafbench {hafbench.__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point."""
    run_app(app, "hafbench")
