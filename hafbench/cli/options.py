"""The options that several commands share, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hafbench.errors import HafError

if TYPE_CHECKING:
    from hafbench.bench import BenchOptions
    from hafbench.worlds import World

USER_ERROR, NOT_ALL_SCORED, CONDITION_HELD, INTERRUPTED = 2, 3, 4, 130

Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder to write; the default is below runs/.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")]
ScorerNames = Annotated[
    str | None, typer.Option("--scorers", metavar="A,B", help="Names; default: those that suit the model.")
]
Require = Annotated[
    list[str], typer.Option("--require", metavar="SCORER", help="Stop if it is not to be had; may be repeated.")
]
Resume = Annotated[bool, typer.Option("--resume/--no-resume", help="Go on with the run that the folder holds.")]
Iqa = Annotated[str, typer.Option("--iqa", metavar="METRIC", help="A pyiqa metric.")]
Clip = Annotated[
    str | None,
    typer.Option(
        "--clip",
        metavar="MODEL",
        help="An open_clip model: ARCH, ARCH:TAG, ARCH:FILE, hf-hub:ID or a folder; mannequin is the built-in one.",
    ),
]
Pose = Annotated[
    str | None,
    typer.Option(
        "--pose", metavar="DETECTOR", help="For limbs: mediapipe, a .task file, an ultralytics file, or mannequin."
    ),
]
Card = Annotated[
    Path | None, typer.Option("--hands-card", metavar="FILE", help="A logistic card of your own for the hands scorer.")
]
Cards = Annotated[
    list[Path],
    typer.Option("--card", metavar="FILE", help="A calibration card of `hafbench calibrate`; may be repeated."),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.")]
PromptsFile = Annotated[
    Path | None, typer.Option("--prompts", metavar="FILE", help="Suite or table mapping images to prompts and seeds.")
]


def print_rows(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Rows as a table, or as JSON."""
    if as_json:
        print(json.dumps(list(rows), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in rows[0] if rows else ():
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    # One line a row, however narrow the terminal: names and paths are there to be copied.
    Console(width=1000, markup=False).print(table)


def bench_options(
    world: World,
    scorers: str | None,
    require: Sequence[str],
    out: Path | None,
    resume: bool,
    batch_size: int | None,
    device: str,
    iqa: str,
    clip: str | None,
    pose: str | None,
    hands_card: Path | None,
) -> BenchOptions:
    """How to score and where to write, from the options of a command."""
    from hafbench.bench import BenchOptions
    from hafbench.scorers import ScorerOptions

    names = tuple(name.strip() for name in scorers.split(",") if name.strip()) if scorers else world.scorers
    card = str(hands_card) if hands_card else None
    return BenchOptions(
        scorers=tuple(dict.fromkeys((*names, *require))),
        require=tuple(require),
        scorer_options=ScorerOptions(device, iqa, clip or world.clip, pose or world.pose, card),
        out=out,
        resume=resume,
        batch_size=batch_size or world.batch_size,
    )


def run_app(app: typer.Typer, name: str) -> None:
    """Run a command: the user's mistakes become one sentence and exit code 2, an interruption its own."""
    try:
        app()
    except HafError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{name}: {where}{error.strerror or error}.", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on where this one ended.", file=sys.stderr)
        sys.exit(INTERRUPTED)
