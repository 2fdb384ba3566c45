"""`hafbench schema`: the JSON schemas of what hafbench reads and writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hafbench.schemas import Schemas

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="One of the names; without one they are listed.")]


def schema(name: Name = None) -> None:
    """Print a JSON schema of what hafbench reads and writes; without a name, list the names."""
    from hafbench.schemas import SCHEMAS

    print_schema(name, SCHEMAS)


def print_schema(name: str | None, schemas: Schemas) -> None:
    """The schema of that name on stdout, or the table's names."""
    from hafbench.schemas import schema_of

    if name is not None:
        typer.echo(json.dumps(schema_of(name, schemas), indent=1))
        return
    for known, (about, _) in schemas.items():
        typer.echo(f"{known:10} {about}")
