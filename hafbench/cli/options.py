"""The options that several commands share, and how they print."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from hafbench.errors import HafError
from hafbench.files import is_utf8

USER_ERROR, NOT_ALL_SCORED, CONDITION_HELD, INTERRUPTED = 2, 3, 4, 130

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Folder to write, or an address such as s3://; default: below runs/."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _hush(quiet: bool) -> bool:
    """Under --quiet, what libraries warn of stays away from stderr, too."""
    if quiet:
        import logging
        import warnings

        warnings.simplefilter("ignore")
        logging.basicConfig(level=logging.ERROR)
    return quiet


Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_hush, help="No progress bar, no summary, no warnings.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings in YAML; options override them.")
]
Set = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as scorers.limbs.pose=FILE; may be repeated."),
]
ScorerNames = Annotated[
    str | None, typer.Option("--scorers", metavar="A,B", help="Names; default: those that suit the images.")
]
Require = Annotated[
    list[str], typer.Option("--require", metavar="SCORER", help="Stop if it is unavailable; may be repeated.")
]
Resume = Annotated[bool, typer.Option("--resume/--no-resume", help="Resume the run that the folder holds.")]
Iqa = Annotated[str | None, typer.Option("--iqa", metavar="METRIC", help="A pyiqa metric; default: piqe.")]
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
    typer.Option("--pose", metavar="DETECTOR", help="For limbs: mediapipe, a .task file, or an ultralytics pose file."),
]
Cards = Annotated[
    list[Path],
    typer.Option("--card", metavar="FILE", help="A calibration card of `hafbench calibrate`; may be repeated."),
]
Device = Annotated[str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.")]
EngineName = Annotated[
    str | None, typer.Option("--engine", metavar="NAME", help="Who draws and scores: local (default), or ray.")
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="With --engine ray: the head of a cluster that this machine belongs to, or auto.",
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing: use what is on this machine.")]
Judges = Annotated[
    list[str],
    typer.Option(
        "--judge",
        metavar="URL|NAME",
        help="Who judges: an endpoint's base URL, or a judge such as local; several vote. May be repeated.",
    ),
]
JudgeModels = Annotated[
    list[str], typer.Option("--judge-model", metavar="MODEL", help="The judge's model; one for each --judge.")
]
JudgeProtocol = Annotated[
    str | None, typer.Option("--judge-protocol", metavar="NAME|FILE", help="What it is asked: a protocol, or a file.")
]
JudgeExamples = Annotated[
    Path | None, typer.Option("--judge-examples", metavar="DIR", help="good/ and bad/ pictures that it is shown.")
]
JudgeSamples = Annotated[
    int | None,
    typer.Option("--judge-samples", min=1, metavar="N", help="Replies to ask for where it has no log-probabilities."),
]
JudgeConcurrency = Annotated[
    int | None, typer.Option("--judge-concurrency", min=1, metavar="N", help="Questions at a time; default: 32.")
]
MaxQuestions = Annotated[
    int | None, typer.Option("--max-questions", min=0, metavar="N", help="Stop before a judge is asked more than this.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many questions the judge would be asked.")]
Labels = Annotated[
    bool,
    typer.Option("--labels", help="Use people's labels (`hafbench label`), by default RUN/labels.sqlite."),
]
Stores = Annotated[
    list[Path], typer.Option("--store", metavar="FILE", help="A store of labels to use; may be repeated.")
]
PromptsFile = Annotated[
    Path | None, typer.Option("--prompts", metavar="FILE", help="Suite or table mapping images to prompts and seeds.")
]


def label_stores(runs: Sequence[Path], labels: bool, stores: Sequence[Path]) -> list[Path]:
    """The stores that --labels and --store name; raises HafError where --labels finds none beside the runs."""
    from hafbench.labelling.store import FILE
    from hafbench.runs import LAYOUT
    from hafbench.stores import reading_copy, shown

    if stores or not labels:
        return list(stores)
    found = [path for run in runs if (path := reading_copy(run, LAYOUT) / FILE).is_file()]
    if not found:
        name = shown(runs[0])
        raise HafError(f"{name} has no labels ({FILE}); give some with `hafbench label {name}`, or name a --store.")
    return found


def scorer_settings(*, clip: str | None = None, iqa: str | None = None, pose: str | None = None) -> dict[str, Any]:
    """The short options for scorers, by the keys of the settings that they stand for."""
    return {
        "scorers.clip.model": clip,
        "scorers.iqa.metric": iqa,
        "scorers.limbs.pose": pose,
    }


def judge_settings(
    judges: Sequence[str],
    models: Sequence[str],
    *,
    protocol: str | None = None,
    examples: Path | None = None,
    samples: int | None = None,
    concurrency: int | None = None,
    max_questions: int | None = None,
    within: str = "scorers.judge.",
) -> dict[str, Any]:
    """The options of judges, by the keys of the settings that they stand for; raises HafError for unequal numbers."""
    if models and len(models) != len(judges):
        raise HafError(
            f"{len(judges)} --judge and {len(models)} --judge-model are given; give one model for each judge."
        )
    named = [{"judge": judge, **({"model": models[place]} if models else {})} for place, judge in enumerate(judges)]
    return {
        f"{within}judges": named or None,
        f"{within}protocol": protocol,
        f"{within}examples": examples,
        f"{within}samples": samples,
        f"{within}concurrency": concurrency,
        f"{within}max_questions": max_questions,
    }


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
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


def run_app(app: typer.Typer, name: str) -> None:
    """Run a command: the user's mistakes become one sentence and exit code 2, an interruption its own."""

    def stop(sentence: str, code: int) -> NoReturn:
        print(f"{name}: {_printable(sentence)}", file=sys.stderr)
        sys.exit(code)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal need not have every character
    for word in sys.argv[1:]:
        if not is_utf8(word):
            stop(f"The argument {word} is not UTF-8; rename the file that it names.", USER_ERROR)
    try:
        app()
    except HafError as error:
        stop(str(error), USER_ERROR)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        stop(f"{where}{error.strerror or error}.", USER_ERROR)
    except (KeyboardInterrupt, SystemExit) as ended:
        # typer makes of the one the other.
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:
            raise
        stop("stopped; run the same command again to resume.", INTERRUPTED)


def _printable(text: str) -> str:
    """On one line, and without what a file's name could do to a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
