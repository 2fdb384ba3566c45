"""`hafbench run`, `score` and `report`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hafbench.cli.options import (
    NOT_ALL_SCORED,
    Address,
    Cards,
    Clip,
    Config,
    Device,
    DryRun,
    EngineName,
    Iqa,
    Json,
    JudgeConcurrency,
    JudgeExamples,
    JudgeModels,
    JudgeProtocol,
    Judges,
    JudgeSamples,
    Labels,
    MaxQuestions,
    Offline,
    Out,
    Pose,
    PromptsFile,
    Quiet,
    Require,
    Resume,
    ScorerNames,
    Set,
    Stores,
    judge_settings,
    label_stores,
    scorer_settings,
)
from hafbench.errors import HafError

if TYPE_CHECKING:
    from hafbench.judges.estimate import Estimate
    from hafbench.runs import Run

WorkerCount = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Processes for the scorers on the CPU; default: 1.")
]


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
        int | None, typer.Option("--seeds", min=1, metavar="N", help="Images per prompt, with seeds 0, 1, ...")
    ] = None,
    first_seed: Annotated[
        int | None, typer.Option("--first-seed", min=0, metavar="S", help="The first seed, in place of 0.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="K", help="At most so many prompts, over all categories.")
    ] = None,
    scorers: ScorerNames = None,
    out: Out = None,
    config: Config = None,
    set_: Set = [],  # noqa: B006
    lora: Annotated[
        list[str], typer.Option("--lora", metavar="PATH[:SCALE]", help="An adapter; may be repeated.")
    ] = [],  # noqa: B006
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, metavar="N", help="Images generated at once; default: 1, mannequin 10."),
    ] = None,
    image_format: Annotated[
        str | None, typer.Option("--image-format", metavar="NAME", help="png (default), webp-lossless, jpeg95.")
    ] = None,
    device: Device = None,
    workers: WorkerCount = None,
    engine: EngineName = None,
    address: Address = None,
    devices: Annotated[
        str | None,
        typer.Option("--devices", metavar="LIST", help="Draw on several at once: all, 0,1, or such as cuda:0,cpu."),
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="NAME", help="auto, bf16, fp16, fp32.")] = None,
    offload: Annotated[
        str | None, typer.Option("--offload", metavar="NAME", help="none, model, sequential, group: for small GPUs.")
    ] = None,
    require: Require = [],  # noqa: B006
    iqa: Iqa = None,
    clip: Clip = None,
    pose: Pose = None,
    card: Cards = [],  # noqa: B006
    judge: Judges = [],  # noqa: B006
    judge_model: JudgeModels = [],  # noqa: B006
    judge_protocol: JudgeProtocol = None,
    judge_examples: JudgeExamples = None,
    judge_samples: JudgeSamples = None,
    judge_concurrency: JudgeConcurrency = None,
    max_questions: MaxQuestions = None,
    dry_run: DryRun = False,
    resume: Resume = True,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Generate a suite's images with a model, score them, and write a report. Run again to resume.

    Without --model it is the built-in one, which needs no network; suite and scorers follow the model. An argument of
    the pipeline is a setting, such as --set model.arguments.num_inference_steps=30.
    """
    from hafbench import api
    from hafbench.hub import go_offline
    from hafbench.progress import progress_bars
    from hafbench.settings import read_settings
    from hafbench.specs import RunSpec

    if offline:
        go_offline()
    spec = read_settings(
        RunSpec,
        config,
        set_,
        {
            "model.model": model,
            "model.lora": lora or None,
            "model.dtype": dtype,
            "model.offload": offload,
            "suite": suite,
            "seeds": seeds,
            "first_seed": first_seed,
            "limit": limit,
            "batch_size": batch_size,
            "devices": devices,
            "image_format": image_format,
            "scorers": scorers,
            "require": require or None,
            "device": device,
            "workers": workers,
            "engine.engine": engine,
            "engine.address": address,
            **scorer_settings(clip=clip, iqa=iqa, pose=pose),
            **judge_settings(
                judge,
                judge_model,
                protocol=judge_protocol,
                examples=judge_examples,
                samples=judge_samples,
                concurrency=judge_concurrency,
                max_questions=max_questions,
            ),
        },
    )
    if dry_run:
        _estimate(api.estimate(spec, out=out), as_json)
        return
    with progress_bars(quiet or as_json) as progress:
        finished = api.run(spec, out=out, resume=resume, cards=card, progress=progress)
    _tell([finished], quiet, as_json)


def score(
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGES",
            help="A folder, .tar shards, Parquet files or a data set; a path, or an address such as s3://.",
        ),
    ] = None,
    prompts: PromptsFile = None,
    per_subfolder: Annotated[
        bool, typer.Option("--per-subfolder", help="One run for each folder right below IMAGES, such as one a model.")
    ] = False,
    scorers: ScorerNames = None,
    out: Out = None,
    config: Config = None,
    set_: Set = [],  # noqa: B006
    device: Device = None,
    workers: WorkerCount = None,
    engine: EngineName = None,
    address: Address = None,
    require: Require = [],  # noqa: B006
    iqa: Iqa = None,
    clip: Clip = None,
    pose: Pose = None,
    card: Cards = [],  # noqa: B006
    judge: Judges = [],  # noqa: B006
    judge_model: JudgeModels = [],  # noqa: B006
    judge_protocol: JudgeProtocol = None,
    judge_examples: JudgeExamples = None,
    judge_samples: JudgeSamples = None,
    judge_concurrency: JudgeConcurrency = None,
    max_questions: MaxQuestions = None,
    dry_run: DryRun = False,
    resume: Resume = True,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score images made elsewhere, with or without their prompts, and write a report. Run again to resume."""
    from hafbench import api
    from hafbench.hub import go_offline
    from hafbench.progress import progress_bars
    from hafbench.settings import read_settings
    from hafbench.specs import ScoreSpec

    if offline:
        go_offline()
    if folder is None and config is None:
        raise HafError("Give a folder of images, or a --config FILE that names them.")
    spec = read_settings(
        ScoreSpec,
        config,
        set_,
        {
            "images": folder,
            "prompts": prompts,
            "scorers": scorers,
            "require": require or None,
            "device": device,
            "workers": workers,
            "engine.engine": engine,
            "engine.address": address,
            **scorer_settings(clip=clip, iqa=iqa, pose=pose),
            **judge_settings(
                judge,
                judge_model,
                protocol=judge_protocol,
                examples=judge_examples,
                samples=judge_samples,
                concurrency=judge_concurrency,
                max_questions=max_questions,
            ),
        },
    )
    if dry_run:
        _estimate(api.estimate(spec, subfolders=per_subfolder), as_json)
        return
    with progress_bars(quiet or as_json) as progress:
        if per_subfolder:
            runs = api.score_subfolders(spec, out=out, resume=resume, cards=card, progress=progress)
        else:
            runs = [api.score(spec, out=out, resume=resume, cards=card, progress=progress)]
    _tell(runs, quiet, as_json, several=per_subfolder)


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    card: Cards = [],  # noqa: B006
    labels: Labels = False,
    store: Stores = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Write the report of a finished run again, with the calibration cards that it carries and those given.

    With --labels it also states the rate by people's labels, alone and with the scorers' verdicts.
    """
    from hafbench import api

    page = api.report(folder, cards=card, labels=label_stores([folder], labels, store))
    print(json.dumps({"report": str(page)}) if as_json else page)


def _estimate(estimate: Estimate, as_json: bool) -> None:
    print(json.dumps(asdict(estimate)) if as_json else estimate)


def _tell(runs: Sequence[Run], quiet: bool, as_json: bool, several: bool = False) -> None:
    """The summaries on stdout, as JSON a list if there are `several`.

    Exits with NOT_ALL_SCORED where something could not be scored.
    """
    from hafbench.reports.summary import print_summary, read_summary

    summaries = [read_summary(finished.folder) for finished in runs]
    if as_json:
        plain = [summary.model_dump(mode="json") for summary in summaries]
        print(json.dumps(plain if several else plain[0], indent=2, ensure_ascii=False))
    elif not quiet:
        for summary in summaries:
            print_summary(summary)
    if any(summary.counts.failed or summary.counts.unscored for summary in summaries):
        raise typer.Exit(NOT_ALL_SCORED)
