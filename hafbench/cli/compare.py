"""`hafbench compare`: two or more runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hafbench.cli.options import (
    CONDITION_HELD,
    Device,
    Json,
    JudgeConcurrency,
    JudgeModels,
    JudgeProtocol,
    Judges,
    JudgeSamples,
    Labels,
    MaxQuestions,
    Quiet,
    Stores,
    judge_settings,
    label_stores,
)
from hafbench.errors import HafError

if TYPE_CHECKING:
    from hafbench.comparison import Comparison


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN_A RUN_B [RUN_C ...]", help="Run folders.")],
    baseline: Annotated[
        Path | None,
        typer.Option("--baseline", metavar="RUN", help="Which of them is the baseline; default: the first."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the page; default: runs/compare_....")
    ] = None,
    margin: Annotated[
        list[str],
        typer.Option(
            "--margin",
            metavar="SCORER=X",
            help="How far a quality score may move and count as kept; default: 0.2 standard deviations.",
        ),
    ] = [],  # noqa: B006
    detect: Annotated[
        float, typer.Option("--detect", metavar="X", help="Say how many seeds or prompts would find this difference.")
    ] = 0.02,
    fail_if: Annotated[
        list[str],
        typer.Option(
            "--fail-if",
            metavar="CONDITION",
            help='Exit with 4 if this condition holds, such as "aer > baseline + 0.02".',
        ),
    ] = [],  # noqa: B006
    judge: Judges = [],  # noqa: B006
    judge_model: JudgeModels = [],  # noqa: B006
    judge_protocol: JudgeProtocol = None,
    judge_samples: JudgeSamples = None,
    judge_concurrency: JudgeConcurrency = None,
    max_questions: MaxQuestions = None,
    labels: Labels = False,
    store: Stores = [],  # noqa: B006
    device: Device = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table (booktabs).")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs on the prompts, seeds and scorers that they share: differences, their certainty, and a page."""
    from hafbench import api
    from hafbench.comparison.condition import failures, parse_condition
    from hafbench.judges.options import PairOptions
    from hafbench.progress import progress_bars
    from hafbench.settings import parse_settings

    if sum((markdown, latex, as_json)) > 1:
        raise HafError("Give only one of --markdown, --latex and --json.")
    conditions = [parse_condition(text) for text in fail_if]
    place = 0
    if baseline is not None:
        folders = [run.resolve() for run in runs]
        if baseline.resolve() not in folders:
            raise HafError(f"--baseline {baseline} is not one of the runs that are compared.")
        place = folders.index(baseline.resolve())
    margins = dict(_margin(text) for text in margin)
    asked = judge_settings(
        judge,
        judge_model,
        protocol=judge_protocol,
        samples=judge_samples,
        concurrency=judge_concurrency,
        max_questions=max_questions,
        within="",
    )
    given = {key: value for key, value in asked.items() if value is not None}
    if given and not judge:
        option = {"max_questions": "--max-questions"}.get(next(iter(given)), f"--judge-{next(iter(given))}")
        raise HafError(f"{option} says how pairs are judged: name a judge with it, --judge URL or NAME.")
    judges = parse_settings(PairOptions, given, "--judge") if judge else None
    with progress_bars(quiet or as_json) as progress:
        comparison = api.compare(
            runs,
            baseline=place,
            margins=margins,
            detect=detect,
            judges=judges,
            labels=label_stores(runs, labels, store),
            device=device or "auto",
            out=out,
            progress=progress,
        )
    held = [sentence for condition in conditions for sentence in failures(condition, comparison)]
    if not quiet or markdown or latex or as_json:
        _print(comparison, markdown, latex, as_json)
    for sentence in held:
        typer.echo(f"hafbench: {sentence}", err=True)
    if held:
        raise typer.Exit(CONDITION_HELD)


def _margin(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError as error:
        raise HafError(f"--margin {text}: give SCORER=X with a positive number, such as clip=0.01.") from error


def _print(comparison: Comparison, markdown: bool, latex: bool, as_json: bool) -> None:
    from hafbench.comparison.tables import print_comparison, to_json, to_latex, to_markdown

    if as_json:
        typer.echo(json.dumps(to_json(comparison) | {"page": str(comparison.page)}, indent=2))
    elif markdown or latex:
        typer.echo(to_markdown(comparison) if markdown else to_latex(comparison))
    else:
        print_comparison(comparison)
