"""`asap-train synth`: make a HAP data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from asap_train.cli.sets import Made
from hafbench.cli.options import Address, Config, Device, EngineName, Json, Offline, Pose, Quiet, scorer_settings
from hafbench.errors import HafError
from hafbench.types import Region

if TYPE_CHECKING:
    from asap_train.hap.manifest import HapManifest

FEWER_THAN_ASKED = 3
OF_FAMILIES = {"inpaint": "model", "control": "control", "candidates": "candidates"}
"""Options that set the same setting of each family that has it."""


def synth(
    context: typer.Context,
    out: Made,
    config: Config = None,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any setting, such as families.inpaint.arguments.strength=0.9."
        ),
    ] = [],  # noqa: B006
    count: Annotated[int | None, typer.Option("--count", metavar="N", help="How many pairs.")] = None,
    photos: Annotated[
        Path | None, typer.Option("--photos", metavar="DIR", help="Good images of people; photo.mask.png marks a part.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="Exact pairs of a built-in world: mannequin or people."),
    ] = None,
    home: Annotated[
        str | None,
        typer.Option("--world", metavar="NAME", help="What photos show: photographs (default) or mannequins."),
    ] = None,
    families: Annotated[
        str | None,
        typer.Option("--families", metavar="A,B", help="Of image (default), inpaint, skeleton; photos only."),
    ] = None,
    regions: Annotated[
        str | None,
        typer.Option("--regions", metavar="A,B", help=f"Where errors are put; default: {','.join(get_args(Region))}."),
    ] = None,
    inpaint: Annotated[
        str | None,
        typer.Option("--inpaint", metavar="MODEL", help="What redraws: sd15-inpaint, sdxl-inpaint, flux-fill, or any."),
    ] = None,
    control: Annotated[
        str | None, typer.Option("--control", metavar="MODEL", help="The ControlNet of the skeleton family.")
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option("--candidates", metavar="N", help="Candidates drawn by the model for each error; default 4."),
    ] = None,
    per_photo: Annotated[
        int | None,
        typer.Option("--per-photo", metavar="N", help="Pairs made of one photo before the next; default 4."),
    ] = None,
    tries: Annotated[
        int | None,
        typer.Option("--tries", metavar="N", help="Candidates tried for one part; default 6."),
    ] = None,
    gate: Annotated[
        list[str], typer.Option("--gate", metavar="NAME=X", help="A threshold, such as inside_ssim=0.6; repeatable.")
    ] = [],  # noqa: B006
    scorers: Annotated[
        str | None,
        typer.Option(
            "--scorers", metavar="A,B", help="Must see the error in the loser, and none in the photo; default: hands."
        ),
    ] = None,
    pose: Pose = None,
    segmenter: Annotated[
        str | None, typer.Option("--segmenter", metavar="MODEL", help="SAM 2 on this machine, for closer masks.")
    ] = None,
    text_boxes: Annotated[
        str | None,
        typer.Option(
            "--text-boxes", metavar="MODEL", help="Grounding DINO on this machine, for parts without keypoints."
        ),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option("--captions", metavar="FILE", help="A table of images and captions; default: photo.txt."),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option("--captioner", metavar="MODEL", help="A model such as BLIP, for photos without a caption."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", metavar="PX", help="Pixels of --source; default: mannequin 128, people 256."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="S", help="Random seed.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="NAME", help="Licence of the data set, for its card.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Processes; default: one a core.")
    ] = None,
    engine: EngineName = None,
    address: Address = None,
    device: Device = None,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make pairs (a good image, the same with one local error) from a folder of photos or a built-in world.

    Settings come from --config, then --set, then the other options. Exits with 3 if fewer pairs than asked for could be
    made.
    """
    from asap_train.data.spec import SynthSpec
    from asap_train.data.synthesis import synth as make
    from hafbench.hub import go_offline
    from hafbench.progress import progress_bars
    from hafbench.settings import given_settings, read_settings

    if offline:
        go_offline()
    options = context.params
    given = {key: value for key, value in options.items() if key in SynthSpec.model_fields and key != "engine"}
    given |= {"engine.engine": engine, "engine.address": address, **scorer_settings(pose=pose)}
    overrides = [*set_, *(f"gates.{text}" for text in gate)]
    asked = given_settings(SynthSpec, config, overrides, given).get("families") or "image"
    given |= _settings_of_families(asked, {name: options[name] for name in OF_FAMILIES})
    spec = read_settings(SynthSpec, config, overrides, given)
    with progress_bars(quiet or as_json) as progress:
        manifest = make(spec, out=out, progress=progress)
    _print(out, manifest, quiet, as_json)
    if manifest.counts.pairs < spec.count:
        raise typer.Exit(FEWER_THAN_ASKED)


def _settings_of_families(families: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What OF_FAMILIES set in the families that are asked for; raises HafError where none of them has it."""
    from asap_train.degrade import FAMILIES
    from hafbench.settings import names_and_options

    try:
        names = list(names_and_options(families))
    except ValueError as error:
        raise HafError(f"families: {error}.") from error
    found: dict[str, Any] = {}
    for option, value in options.items():
        if value is None:
            continue
        setting = OF_FAMILIES[option]
        able = [name for name in names if setting in FAMILIES.get(name).options_model.model_fields]
        if not able:
            raise HafError(
                f"--{option} is for families that redraw: add --families inpaint or skeleton, or write "
                f"--set families.inpaint.{setting}={value}."
            )
        found |= {f"families.{name}.{setting}": value for name in able}
    return found


def _print(out: Path, manifest: HapManifest, quiet: bool, as_json: bool) -> None:
    from hafbench.stores import shown

    counts, name = manifest.counts, shown(out)
    if as_json:
        found = manifest.model_dump(mode="json", include={"counts", "skipped", "rejections"})
        typer.echo(json.dumps({"out": name, **found}))
    elif not quiet:
        typer.echo(f"{counts.pairs} pairs of {counts.photos} images in {name}. Rejected or left out:")
        for gate, rejected in manifest.rejections.items():
            reasons = [reason.rstrip(".") for reason in rejected.reasons]
            typer.echo(f"  {rejected.count:6d}  {gate}: {'; '.join(reasons[:3])}{'; ...' if reasons[3:] else ''}")
        for gate, skipped in manifest.skipped.items():
            typer.echo(f"Gate {gate} was skipped for {skipped.pairs} pairs: {next(iter(skipped.reasons))}.")
        if counts.pairs:
            typer.echo(f"Look at them: asap-train audit {name}")
