"""`hafbench judge`: the judges, their protocols, and the store of their answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hafbench.cli.options import Json, print_rows
from hafbench.errors import HafError
from hafbench.files import write_whole

app = typer.Typer(invoke_without_command=True, help="List the judges and their protocols, show the store of answers.")


@app.callback()
def judge_list(context: typer.Context, as_json: Json = False) -> None:
    """List the judges."""
    if context.invoked_subcommand is None:
        from hafbench.judges import JUDGES

        print_rows([{"judge": row.name, "about": row.about} for row in JUDGES], as_json)


@app.command()
def protocols(as_json: Json = False) -> None:
    """List the protocols: what a judge is asked, and the SHA-256 of the texts."""
    from hafbench.judges.protocols import TEXTS, protocol_names, read_protocol

    read = [read_protocol(name, ("image", "regions", "pair")) for name in protocol_names()]
    rows = [
        {"protocol": one.label, "asks": one.asks, "sha256": one.sha256[:12], "file": str(TEXTS / f"{one.name}.yaml")}
        for one in read
    ]
    print_rows(rows, as_json)


@app.command()
def cache(
    store: Annotated[
        Path | None, typer.Option("--store", metavar="FILE", help="The file; default: in the cache folder.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write all answers to this .jsonl file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how many answers are kept, of which judge and protocol; they are never asked for again."""
    from hafbench.judges.store import AnswerStore, default_store

    path = store or default_store()
    if not path.is_file():
        raise HafError(f"There are no answers yet: {path} does not exist.")
    answers = AnswerStore(path)
    names = ("judge", "protocol", "answers", "tokens in", "tokens out")
    rows = [dict(zip(names, row, strict=True)) for row in answers.counts()]
    if export is not None:
        write_whole(export, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answers.rows()))
    print_rows(rows, as_json)
    if not as_json:
        typer.echo(f"Store: {path}")
