"""`hafbench calibrate`: how good a scorer is, on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hafbench.cli.options import (
    Device,
    Json,
    JudgeConcurrency,
    JudgeExamples,
    JudgeModels,
    JudgeProtocol,
    Judges,
    JudgeSamples,
    MaxQuestions,
    Pose,
    Quiet,
    Set,
    judge_settings,
    scorer_settings,
)
from hafbench.errors import HafError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from hafbench.cards import CalibrationCard, Coverage, Share

REASONS = 5
"""How many reasons are printed; the card has all."""


def calibrate(
    scorer: Annotated[str, typer.Option("--scorer", "-s", metavar="NAME", help="An anatomy scorer.")],
    labels: Annotated[
        str | None,
        typer.Argument(help="A folder with good/ and bad/, or a CSV with image and label; or else --truth."),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option("--truth", metavar="WORLD", help="Renders of a built-in world: mannequin or people."),
    ] = None,
    view: Annotated[
        list[str],
        typer.Option("--view", metavar="NAME", help="Of --truth people: hand, figure; default: the scorer's."),
    ] = [],  # noqa: B006
    store: Annotated[
        Path | None,
        typer.Option("--labels", metavar="STORE", help="Labels by people (`hafbench label`), in place of LABELS."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Where the CSV's images lie; default: beside it.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="Take the scores of this run; its images are labelled.")
    ] = None,
    false_alarms: Annotated[
        list[float],
        typer.Option("--false-alarms", metavar="X", help="Find the threshold for this rate; default: 0.01 0.05 0.1."),
    ] = [],  # noqa: B006
    made_on: Annotated[
        str | None, typer.Option("--made-on", metavar="TEXT", help="What the images are, and who labelled them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The card; default: cards/SCORER.json.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=10, metavar="N", help="How many renders --truth makes; default: 400.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="S", help="Which set of renders --truth makes; default: 40.")
    ] = None,
    set_: Set = [],  # noqa: B006
    device: Device = None,
    pose: Pose = None,
    judge: Judges = [],  # noqa: B006
    judge_model: JudgeModels = [],  # noqa: B006
    judge_protocol: JudgeProtocol = None,
    judge_examples: JudgeExamples = None,
    judge_samples: JudgeSamples = None,
    judge_concurrency: JudgeConcurrency = None,
    max_questions: MaxQuestions = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a scorer's calibration card from images labelled good or bad, and print what it says."""
    from hafbench import api
    from hafbench.progress import progress_bars
    from hafbench.settings import read_settings
    from hafbench.specs import ScoringSpec

    asked = {"scorers": scorer, "device": device, **scorer_settings(pose=pose)}
    asked |= judge_settings(
        judge,
        judge_model,
        protocol=judge_protocol,
        examples=judge_examples,
        samples=judge_samples,
        concurrency=judge_concurrency,
        max_questions=max_questions,
    )
    idle = {
        "--set": set_,
        "--device": device,
        "--pose": pose,
        "--judge": judge,
        "--judge-protocol": judge_protocol,
        "--judge-examples": judge_examples,
        "--judge-samples": judge_samples,
        "--judge-concurrency": judge_concurrency,
        "--max-questions": max_questions,
    }
    unused = [name for name, value in idle.items() if value not in (None, [])]
    if run is not None and unused:
        raise HafError(f"{unused[0]} is of a scorer that looks at the images: with --run the scores are the run's.")
    if store is not None and labels is not None:
        raise HafError("Give LABELS, or --labels STORE, and not both.")
    spec = read_settings(ScoringSpec, None, set_, asked)
    scorers = spec.scorers or ()
    if len(scorers) != 1:
        raise HafError(f"--scorer {scorer}: a card is of one scorer; give one.")
    with progress_bars(quiet or as_json) as progress:
        made = api.calibrate(
            labels,
            scorers[0],
            store=store,
            truth=truth,
            views=view,
            images=images,
            run=run,
            false_alarms=false_alarms,
            made_on=made_on,
            limit=limit,
            seed=seed,
            device=spec.device,
            out=out,
            progress=progress,
        )
    if as_json:
        typer.echo(made.card.model_dump_json(indent=1))
    elif not quiet:
        _print(made.card, made.path)
        rate = made.rate
        if rate is not None and rate.estimate is not None:
            typer.echo(
                f"True error rate of the {scorer} images of {run}, by labels and verdicts together "
                f"(prediction-powered): {rate.estimate:.1%}, {rate.low or 0:.1%} to {rate.high or 0:.1%}."
            )


def _print(card: CalibrationCard, path: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    from hafbench.figures import counted

    console = Console(highlight=False)
    console.print(_figures(card))
    if card.kinds:
        console.print()
        console.print(_kinds(card))
    if card.unknown_bad + card.unknown_good:
        console.print(Text(f"It could not judge {card.unknown_bad} bad and {card.unknown_good} good images."))
    for reason, count in list(card.reasons.items())[:REASONS]:
        console.print(Text(f"  {count} x {reason}", style="dim"))
    if len(card.reasons) > REASONS:
        console.print(Text(f"  and {counted(len(card.reasons) - REASONS, 'more reason')}, in the card", style="dim"))
    best = max((share.estimate or 0 for share in card.baselines.values()), default=0)
    if (card.auroc.low or 0) <= best:
        alone = " or ".join(card.baselines)
        console.print(Text(f"It is not shown to be better than {alone} alone.", style="bold"))
    if card.coverage and card.coverage.uneven:
        console.print(Text(_uneven(card.coverage), style="bold"))
    console.print(Text(f"Card: {path}"), soft_wrap=True)


def _figures(card: CalibrationCard) -> Table:
    from rich.text import Text

    title = Text.assemble((card.scorer, "bold"), f" {card.scorer_version}: {card.bad} bad and {card.good} good images")
    table = _table("", "figure", "95 % interval", "n", title=title)
    table.add_row("AUROC", *_cells(card.auroc))
    for name, share in card.baselines.items():
        table.add_row(f"  to beat: {name} alone", *_cells(share))
    if card.coverage:
        table.add_row("judged, of the good images", *_cells(card.coverage.good))
        table.add_row("judged, of the bad images", *_cells(card.coverage.bad))
    table.add_row("sensitivity", *_cells(card.sensitivity))
    table.add_row("specificity", *_cells(card.specificity))
    for one in card.operating:
        name = f"sensitivity from {one.threshold} on ({100 * one.false_alarms:g}% false alarms)"
        table.add_row(name, *_cells(one.sensitivity))
    for order in card.order:
        table.add_row(f"pairs by {order.judge}: the sound one chosen", *_cells(order.sounder))
        table.add_row("  orders disagree", *_cells(order.inconsistent))
        table.add_row("  the first one wins (50 % without bias)", *_cells(order.first))
    for stratum in card.strata:
        table.add_row(f"AUROC, {stratum.by} {stratum.name}", *_cells(stratum.auroc))
    return table


def _uneven(coverage: Coverage) -> str:
    """That a scorer judges good and bad images unevenly, and what follows."""
    bad, good = (f"{share.estimate:.0%}" for share in (coverage.bad, coverage.good))
    _, low, high = coverage.difference
    return (
        f"It judges {bad} of the bad images and {good} of the good ones (difference {low:+.0%} to {high:+.0%}). "
        "The other figures are of the images that it judged."
    )


def _kinds(card: CalibrationCard) -> Table:
    table = _table("true errors", "sensitivity", "95 % interval", "n", "judged", "95 % interval", "of")
    for row in card.kinds:
        judged = _cells(row.judged) if row.judged else ("", "", str(row.sensitivity.n + row.unknown))
        table.add_row(f"  {row.kind}" if row.kind else row.region, *_cells(row.sensitivity), *judged)
    return table


def _table(*columns: str, title: Text | None = None) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title_justify="left", title=title)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _cells(share: Share) -> tuple[str, str, str]:
    """A figure, its interval, and of how many images it is."""
    figure = "too few" if share.estimate is None else f"{share.estimate:.3f}"
    return figure, "" if share.low is None else f"{share.low:.3f} to {share.high:.3f}", str(share.n)
