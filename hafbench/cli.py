"""The `hafbench` command: parse, call, print. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import hafbench
from hafbench.errors import HafError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hafbench.bench import Begin, BenchOptions
    from hafbench.runs import Run
    from hafbench.worlds import World

USER_ERROR, NOT_ALL_SCORED, INTERRUPTED = 2, 3, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: importing rich for it would take half of the time that --help has
    pretty_exceptions_enable=False,
    help="Measure how often a text-to-image model gets human anatomy wrong. "
    "Exit codes: 0 all was scored, 2 a mistake in the command or its input, 3 finished, but not all was scored.",
)
scorers_app = typer.Typer(invoke_without_command=True, help="List the scorers, or check their stability.")
weights_app = typer.Typer(invoke_without_command=True, help="List, fetch and verify the detectors' weights.")
app.add_typer(scorers_app, name="scorers")
app.add_typer(weights_app, name="weights")

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
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.")]
PromptsFile = Annotated[
    Path | None, typer.Option("--prompts", metavar="FILE", help="Suite or table mapping images to prompts and seeds.")
]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"hafbench {hafbench.__version__}")
        raise typer.Exit


@app.command(short_help="Generate a suite's images, score them, write a report.")
def run(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="Preset, hub id, local folder, or .safetensors file; default: mannequin.",
        ),
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", "-s", metavar="SUITE", help="A suite's name, or your own .jsonl file.")
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Images per prompt, with seeds 0, 1, ...")
    ] = 1,
    first_seed: Annotated[
        int, typer.Option("--first-seed", min=0, metavar="S", help="The first seed, in place of 0.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="K", help="At most so many prompts, over all categories.")
    ] = None,
    scorers: ScorerNames = None,
    out: Out = None,
    lora: Annotated[
        list[str], typer.Option("--lora", metavar="PATH[:SCALE]", help="An adapter; may be repeated.")
    ] = [],  # noqa: B006
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="An argument of the pipeline; may be repeated.")
    ] = [],  # noqa: B006
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Score this folder instead of running a model.")
    ] = None,
    prompts: PromptsFile = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, metavar="N", help="Images generated at once; default: 1, mannequin 10."),
    ] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option("--dtype", metavar="NAME", help="auto, bf16, fp16, fp32.")] = "auto",
    offload: Annotated[
        str, typer.Option("--offload", metavar="NAME", help="none, model, sequential, group: for small GPUs.")
    ] = "none",
    require: Require = [],  # noqa: B006
    iqa: Iqa = "piqe",
    clip: Clip = None,
    pose: Pose = None,
    hands_card: Card = None,
    resume: Resume = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Generate a suite's images with a model, score them, and write a report. Given again, it goes on.

    Without --model it is the built-in one, which needs no network; suite and scorers follow the model.
    """
    from hafbench.bench import run_model, score_folder
    from hafbench.worlds import BUILT_IN, PHOTOGRAPHS, world_of

    if images is not None and model is not None:
        raise HafError("Give either --model or --images, not both.")
    model = model or BUILT_IN
    world = PHOTOGRAPHS if images is not None else world_of(model)
    options = _options(world, scorers, require, out, resume, batch_size, device, iqa, clip, pose, hands_card)
    if images is not None:
        _bench(lambda begin: score_folder(images, prompts, options, begin), quiet, as_json)
        return
    if prompts is not None:
        raise HafError(
            "--prompts goes with --images; a model takes its prompts from --suite NAME or --suite FILE.jsonl."
        )
    from hafbench.generators import DiffusionRequest

    request = DiffusionRequest(
        model=model, loras=tuple(lora), arguments=tuple(set_), device=device, dtype=dtype, offload=offload
    )
    _bench(
        lambda begin: run_model(request, suite or world.suite, seeds, limit, options, begin, first_seed), quiet, as_json
    )


@app.command(short_help="Score a folder of images, write a report.")
def score(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images; they are left as they are.")],
    prompts: PromptsFile = None,
    scorers: ScorerNames = None,
    out: Out = None,
    device: Device = "auto",
    require: Require = [],  # noqa: B006
    iqa: Iqa = "piqe",
    clip: Clip = None,
    pose: Pose = None,
    hands_card: Card = None,
    resume: Resume = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score images made elsewhere, with or without their prompts, and write a report."""
    from hafbench.bench import score_folder
    from hafbench.worlds import PHOTOGRAPHS

    options = _options(PHOTOGRAPHS, scorers, require, out, resume, None, device, iqa, clip, pose, hands_card)
    _bench(lambda begin: score_folder(folder, prompts, options, begin), quiet, as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    as_json: Json = False,
) -> None:
    """Write the report of a finished run again."""
    from hafbench.report import build_report
    from hafbench.runs import read_run

    path = build_report(read_run(folder))
    print(json.dumps({"report": str(path)}) if as_json else path)


@app.command(short_help="List the model presets.")
def models(as_json: Json = False) -> None:
    """List the model presets. Any diffusers hub id, folder or .safetensors file works as well."""
    from hafbench.generators import preset_rows

    _print_rows(preset_rows(), as_json)


@app.command()
def suites(as_json: Json = False) -> None:
    """List the prompt suites. Any .jsonl file of the same format works as well."""
    from hafbench.suites import load_suite, suite_names

    loaded = [load_suite(name) for name in suite_names()]
    rows = [
        {
            "suite": suite.name,
            "prompts": len(suite.prompts),
            "categories": len({prompt.category for prompt in suite.prompts}),
            "sha256": suite.sha256[:12],
        }
        for suite in loaded
    ]
    _print_rows(rows, as_json)


@scorers_app.callback()
def scorers_list(context: typer.Context, as_json: Json = False) -> None:
    """List the scorers."""
    if context.invoked_subcommand is None:
        from hafbench.scorers import SCORERS

        rows = [{"scorer": name, "role": entry.role, "about": entry.summary} for name, entry in SCORERS.items()]
        _print_rows(rows, as_json)


@scorers_app.command("check")
def scorers_check(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    scorers: ScorerNames = None,
    device: Device = "auto",
    iqa: Iqa = "piqe",
    clip: Clip = None,
    pose: Pose = None,
    hands_card: Card = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the table to this .md file.")] = None,
    as_json: Json = False,
) -> None:
    """Measure how much a score moves with batch, order, repetition, JPEG, size, flip and brightness."""
    from hafbench.evaluate import load_scorers
    from hafbench.images import find_images
    from hafbench.scorers import robustness
    from hafbench.worlds import PHOTOGRAPHS

    options = _options(PHOTOGRAPHS, scorers, [], None, True, None, device, iqa, clip, pose, hands_card)
    paths = [path for given in images for path in (find_images(given) if given.is_dir() else [given])]
    if not paths:
        raise HafError(f"There is no image in {', '.join(map(str, images))}.")
    rows = []
    for name, scorer in load_scorers(options.scorers, options.scorer_options).items():
        if isinstance(scorer, HafError):
            print(f"{name}: not checked: {scorer}", file=sys.stderr)
            continue
        rows += robustness.check(scorer, paths)
    text = robustness.to_json(rows) if as_json else robustness.to_markdown(rows)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    print(text)


@weights_app.callback()
def weights_list(context: typer.Context, as_json: Json = False) -> None:
    """List the weights: where they come from, their licence, and whether they are here."""
    if context.invoked_subcommand is None:
        from hafbench import weights

        _print_rows(weights.rows(), as_json)


weights_app.command("list")(weights_list)


@weights_app.command("pull")
def weights_pull(
    names: Annotated[list[str] | None, typer.Argument(help="Names of weights; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch weights into the cache and check them."""
    from hafbench import weights

    _print_rows([{"file": path.name, "path": str(path)} for path in weights.pull(names or [])], as_json)


@weights_app.command("verify")
def weights_verify(as_json: Json = False) -> None:
    """Compare the SHA-256 of every file that is here with the table's."""
    from hafbench import weights

    rows = weights.verify()
    _print_rows(rows, as_json)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(USER_ERROR)


def _options(
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


def _bench(work: Callable[[Begin], Run], quiet: bool, as_json: bool) -> None:
    from hafbench.progress import progress_bar
    from hafbench.report import build_report
    from hafbench.summary import print_summary, summarize

    with progress_bar(quiet or as_json) as begin:
        finished = work(begin)
    page = build_report(finished)
    summary = summarize(finished, page)
    if as_json:
        print(json.dumps(summary, indent=2))
    elif not quiet:
        print_summary(summary)
    counts = finished.manifest["counts"]
    if counts["failed"] or counts["unscored"]:
        raise typer.Exit(NOT_ALL_SCORED)


def _print_rows(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
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


def main() -> None:
    """Entry point: the user's mistakes become one sentence and exit code 2."""
    try:
        app()
    except HafError as error:
        print(f"hafbench: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"hafbench: {where}{error.strerror or error}.", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        print("hafbench: stopped; the same command goes on where this one ended.", file=sys.stderr)
        sys.exit(INTERRUPTED)
