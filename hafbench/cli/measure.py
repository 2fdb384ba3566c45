"""`hafbench run`, `score` and `report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hafbench.cli.options import (
    NOT_ALL_SCORED,
    Card,
    Cards,
    Clip,
    Device,
    Iqa,
    Json,
    Out,
    Pose,
    PromptsFile,
    Quiet,
    Require,
    Resume,
    ScorerNames,
    bench_options,
)
from hafbench.errors import HafError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hafbench.bench import Begin
    from hafbench.runs import Run


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
    card: Cards = [],  # noqa: B006
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
    options = bench_options(world, scorers, require, out, resume, batch_size, device, iqa, clip, pose, hands_card)
    if images is not None:
        _bench(lambda begin: score_folder(images, prompts, options, begin), card, quiet, as_json)
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
        lambda begin: run_model(request, suite or world.suite, seeds, limit, options, begin, first_seed),
        card,
        quiet,
        as_json,
    )


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
    card: Cards = [],  # noqa: B006
    resume: Resume = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score images made elsewhere, with or without their prompts, and write a report."""
    from hafbench.bench import score_folder
    from hafbench.worlds import PHOTOGRAPHS

    options = bench_options(PHOTOGRAPHS, scorers, require, out, resume, None, device, iqa, clip, pose, hands_card)
    _bench(lambda begin: score_folder(folder, prompts, options, begin), card, quiet, as_json)


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    card: Cards = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Write the report of a finished run again, with the calibration cards that it carries and those given."""
    from hafbench.cards import attach_cards
    from hafbench.reports import build_report
    from hafbench.runs import read_run

    finished = read_run(folder)
    attach_cards(finished, card)
    path = build_report(finished)
    print(json.dumps({"report": str(path)}) if as_json else path)


def _bench(work: Callable[[Begin], Run], cards: Sequence[Path], quiet: bool, as_json: bool) -> None:
    from hafbench.cards import attach_cards, read_card
    from hafbench.progress import progress_bar
    from hafbench.reports import build_report
    from hafbench.summary import print_summary, summarize

    for path in cards:
        read_card(path)  # a file that is no card is better refused before an hour of work than after
    with progress_bar(quiet or as_json) as begin:
        finished = work(begin)
    attach_cards(finished, cards)
    page = build_report(finished)
    summary = summarize(finished, page)
    if as_json:
        print(json.dumps(summary, indent=2))
    elif not quiet:
        print_summary(summary)
    counts = finished.manifest["counts"]
    if counts["failed"] or counts["unscored"]:
        raise typer.Exit(NOT_ALL_SCORED)
