"""The `asap-train` command. Its subcommands (synth, audit, fit, score) come with later releases."""

from __future__ import annotations

from typing import Annotated

import typer

import hafbench

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Tune a text-to-image model on localized anatomical preferences (ASAP, arXiv 2605.25759). "
    "This release has no subcommands yet; `hafbench` measures.",
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"asap-train {hafbench.__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point."""
    app()
