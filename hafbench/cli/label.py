"""`hafbench label`: the page on which people label images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from hafbench.cli.options import Quiet
from hafbench.errors import HafError

if TYPE_CHECKING:
    from hafbench.labelling.sampling import Choose, Target

Store = Annotated[
    Path | None, typer.Option("--store", metavar="FILE", help="The store of labels; default: RUN/labels.sqlite.")
]
CHOICES, TARGETS = ("all", "random", "active"), ("rate", "difference")


def label(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Finished run folders; they are mixed.")],
    pairs: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="RUN_B", help="Show pairs of RUN (the baseline) and RUN_B, sides by chance."),
    ] = None,
    store: Store = None,
    rater: Annotated[
        list[str], typer.Option("--rater", metavar="NAME", help="Who labels; may be repeated for several people.")
    ] = [],  # noqa: B006
    choose: Annotated[
        str, typer.Option("--choose", metavar="all|random|active", help="Which images; active: where scorers doubt.")
    ] = "all",
    number: Annotated[
        int | None, typer.Option("--number", min=1, metavar="N", help="How many images --choose draws.")
    ] = None,
    target: Annotated[
        str,
        typer.Option("--target", metavar="rate|difference", help="Whose interval active narrows: of rates, or of two."),
    ] = "rate",
    scorer: Annotated[
        str | None, typer.Option("--scorer", metavar="NAME", help="Whose doubt counts; default: the run's headline.")
    ] = None,
    shared: Annotated[
        float, typer.Option("--shared", min=0, max=1, metavar="X", help="Share of images that every rater labels.")
    ] = 0.1,
    again: Annotated[
        float, typer.Option("--again", min=0, max=1, metavar="X", help="Share that comes to the same rater twice.")
    ] = 0.05,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="S", help="Of the draw and of the order.")] = 0,
    prompts: Annotated[bool, typer.Option("--prompts/--no-prompts", help="Show the prompt above the image.")] = True,
    review: Annotated[bool, typer.Option("--review", help="A key shows what the scorers say.")] = False,
    settle: Annotated[bool, typer.Option("--settle", help="Show what raters disagree on, to be settled.")] = False,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Where to listen; elsewhere a token is asked for."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="PORT", help="0: any free one.")] = 8326,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    quiet: Quiet = False,
) -> None:
    """Open a page on which people label a run's images by keys and boxes. Run again to go on.

    Labels are kept at once. `hafbench report RUN --labels` uses them.
    """
    from hafbench.labelling.guard import guard_for
    from hafbench.labelling.server import Page, address_of, build_app, listen, serve
    from hafbench.labelling.start import Labelling, start, verdict_lines

    for value, known, option in ((choose, CHOICES, "--choose"), (target, TARGETS, "--target")):
        if value not in known:
            raise HafError(f"{option} {value}: give one of {', '.join(known)}.")
    asked = Labelling(
        runs=tuple(runs),
        pairs=pairs,
        store=store,
        raters=tuple(rater) or ("rater",),
        choose=cast("Choose", choose),
        number=number,
        target=cast("Target", target),
        scorer=scorer,
        shared=shared,
        again=again,
        seed=seed,
        prompts=prompts,
        settling=settle,
    )
    session, read = start(asked)
    page = Page(pairs is not None, settle, verdict_lines(read) if review else None)
    guard = guard_for(host)
    app = build_app(session, page, guard)
    bound = listen(host, port)
    many = len(session.raters) > 1
    addresses = [address_of(bound, guard, name if many else None) for name in session.raters]
    if not quiet:
        typer.echo(f"{len(session.items)} {'pairs' if pairs else 'images'}; labels are kept in {session.store.path}.")
    for name, address in zip(session.raters, addresses, strict=True):
        typer.echo(f"{name}: {address}" if many else address)
    if browser:
        typer.launch(addresses[0])
    serve(app, bound)
