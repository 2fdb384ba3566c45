"""`asap-train redraw`: pairs that are there, as a model draws them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from asap_train.cli.sets import Folder, Made
from hafbench.cli.options import Config, Device, Json, Offline, Quiet


def redraw(
    context: typer.Context,
    pairs: Folder,
    out: Made,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="As `asap-train fit` is given it.")
    ] = None,
    config: Config = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as arguments.guidance_scale=2."),
    ] = [],  # noqa: B006
    strength: Annotated[
        float | None,
        typer.Option("--strength", metavar="X", help="Share of the steps that are done again; default: 0.3."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", metavar="PX", help="Pixels of the longer side; default: the model's, if it has a preset."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, metavar="N", help="Pairs drawn at once; default: 8.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="S", help="Of the noise.")] = None,
    device: Device = None,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw both images of each pair anew by the model that is to be tuned, with little noise: the anatomy stays.

    Settings come from --config, then --set, then the other options.
    """
    from asap_train.data.redrawing import redraw_pairs
    from asap_train.data.spec import RedrawSpec
    from hafbench.hub import go_offline
    from hafbench.progress import progress_bars
    from hafbench.settings import read_settings
    from hafbench.stores import shown

    if offline:
        go_offline()
    given = {key: value for key, value in context.params.items() if key in RedrawSpec.model_fields}
    spec = read_settings(RedrawSpec, config, set_, given)
    with progress_bars(quiet or as_json) as progress:
        manifest = redraw_pairs(spec, out=out, progress=progress)
    name = shown(out)
    if as_json:
        typer.echo(json.dumps({"out": name, **manifest.model_dump(mode="json", include={"counts"})}))
    elif not quiet:
        typer.echo(f"{manifest.counts.pairs} pairs in {name}. Look at them: asap-train audit {name}")
