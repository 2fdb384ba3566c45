"""`hafbench calibrate`: how good a scorer is, on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hafbench.cli.options import Card, Clip, Device, Iqa, Json, Pose, Quiet, bench_options
from hafbench.errors import HafError

if TYPE_CHECKING:
    from hafbench.calibration import Judged
    from hafbench.cards import CalibrationCard, Share


def calibrate(
    labels: Annotated[
        str,
        typer.Argument(help="A folder with good/ and bad/, a CSV with image and label, or the word mannequin."),
    ],
    scorer: Annotated[str, typer.Option("--scorer", "-s", metavar="NAME", help="An anatomy scorer.")],
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
    limit: Annotated[int, typer.Option("--limit", min=10, metavar="N", help="How many mannequins to render.")] = 400,
    seed: Annotated[int | None, typer.Option("--seed", min=0, metavar="S", help="Of the renders.")] = None,
    device: Device = "auto",
    iqa: Iqa = "piqe",
    clip: Clip = None,
    pose: Pose = None,
    hands_card: Card = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a scorer's calibration card from images labelled good or bad, and print what it says."""
    from hafbench import calibration as making
    from hafbench import labelled
    from hafbench.cards import write_card
    from hafbench.evaluate import load_scorers
    from hafbench.files import disk_errors
    from hafbench.runs import read_run
    from hafbench.scorers import SCORERS, check_names
    from hafbench.worlds import MANNEQUINS, PHOTOGRAPHS

    check_names([scorer])
    if SCORERS[scorer].role != "anatomy":
        raise HafError(f"{scorer} is a quality score: only anatomy scorers have verdicts to calibrate.")
    if any(not 0 < rate < 1 for rate in false_alarms):
        raise HafError("--false-alarms takes a rate between 0 and 1, such as 0.05.")
    renders = labels == labelled.WORLD and not Path(labels).exists()
    rates = false_alarms or making.FALSE_ALARMS
    judged: list[Judged]
    if run is not None:
        if renders or images:
            raise HafError("--run brings its own images; give a CSV of labels, and no --images.")
        finished = read_run(run, findings=False)
        found = labelled.read_labels(Path(labels), finished.image_root)
        judged = making.judged_by_run(found, finished, scorer)
        version, said = finished.manifest["scorers"][scorer]["version"], f"images of {finished.manifest['name']}"
    else:
        finished = None
        world = MANNEQUINS if renders or scorer == "digits" else PHOTOGRAPHS
        options = bench_options(world, scorer, [], None, True, None, device, iqa, clip, pose, hands_card)
        loaded = load_scorers([scorer], options.scorer_options, [scorer])[scorer]
        assert not isinstance(loaded, HafError)  # noqa: S101 (a required scorer that is not to be had raises)
        if renders:
            first = labelled.WORLD_SEED if seed is None else seed
            todo, count = labelled.render_world(scorer, limit, first), limit
            said = f"renders of the built-in world, seeds {first} x 10,000,000 and on, half of them with an error"
        else:
            listed = labelled.read_labels(Path(labels), images)
            todo, count, said = iter(listed), len(listed), f"images of {Path(labels).name}"
        from rich.console import Console
        from rich.progress import track

        shown = track(todo, f"{scorer}", total=count, console=Console(stderr=True), disable=quiet or as_json)
        judged, version = making.judge(shown, loaded), loaded.version
    card = making.make_card(
        judged, scorer, version, made_on=made_on or f"{len(judged)} {said}.", run=finished, false_alarms=rates
    )
    path = out or Path("cards") / f"{scorer}.json"
    with disk_errors(path.parent):
        write_card(card, path)
    if as_json:
        typer.echo(card.model_dump_json(indent=1))
    elif not quiet:
        _print(card, path)
        if finished is not None:
            found_rate = making.powered(judged, finished, scorer)
            if found_rate.estimate is not None:
                low, high = found_rate.low or 0.0, found_rate.high or 0.0
                typer.echo(
                    f"True error rate of the {scorer} images of {run}, by labels and verdicts together "
                    f"(prediction-powered): {found_rate.estimate:.1%}, {low:.1%} to {high:.1%}."
                )


def _print(card: CalibrationCard, path: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    title = Text.assemble((card.scorer, "bold"), f" {card.scorer_version}: {card.bad} bad and {card.good} good images")
    table = Table(box=None, pad_edge=False, title_justify="left", title=title)
    for column in ("", "figure", "95 % interval", "n"):
        table.add_column(column, no_wrap=True)

    def add(name: str, share: Share) -> None:
        figure = "too few" if share.estimate is None else f"{share.estimate:.3f}"
        interval = "" if share.low is None else f"{share.low:.3f} to {share.high:.3f}"
        table.add_row(name, figure, interval, str(share.n))

    add("AUROC", card.auroc)
    for name, share in card.baselines.items():
        add(f"  to beat: {name} alone", share)
    add("sensitivity", card.sensitivity)
    add("specificity", card.specificity)
    for one in card.operating:
        add(f"sensitivity from {one.threshold:.4f} on ({one.false_alarms:.0%} false alarms)", one.sensitivity)
    for stratum in card.strata:
        add(f"AUROC, {stratum.by} {stratum.name}", stratum.auroc)
    console.print(table)
    if card.unknown_bad + card.unknown_good:
        console.print(Text(f"It could not judge {card.unknown_bad} bad and {card.unknown_good} good images."))
    best = max((share.estimate or 0 for share in card.baselines.values()), default=0)
    if (card.auroc.low or 0) <= best:
        console.print(Text("It is not shown to be better than size or sharpness alone.", style="bold"))
    console.print(Text(f"Card: {path}"), soft_wrap=True)
