"""`asap-train synth`: make a HAP data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from hafbench.cli.options import Card, Json, Pose, Quiet
from hafbench.errors import HafError
from hafbench.types import Region

if TYPE_CHECKING:
    from asap_train.hap.manifest import HapManifest

FEWER_THAN_ASKED = 3
OF_FAMILIES = {"inpaint": "model", "control": "control", "candidates": "candidates"}
"""Options that set the same setting of each family that has it."""
OF_SCORERS = {"pose": "scorers.limbs.pose", "hands_card": "scorers.hands.card"}


def synth(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The data set; run again to resume.")],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings as YAML; options come on top of it.")
    ] = None,
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
        str | None, typer.Option("--source", metavar="NAME", help="mannequin: exact pairs of the built-in world.")
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
        typer.Option("--candidates", metavar="N", help="Pictures that a model draws of one error; default 4."),
    ] = None,
    per_photo: Annotated[
        int | None,
        typer.Option("--per-photo", metavar="N", help="Pairs of one photo before the next one's turn; default 4."),
    ] = None,
    tries: Annotated[
        int | None,
        typer.Option("--tries", metavar="N", help="Candidates for one part before it is given up; default 6."),
    ] = None,
    gate: Annotated[
        list[str], typer.Option("--gate", metavar="NAME=X", help="A threshold, such as inside_ssim=0.6; repeatable.")
    ] = [],  # noqa: B006
    scorers: Annotated[
        str | None,
        typer.Option(
            "--scorers", metavar="A,B", help="Must see the error, and none in the photo; default for photos: hands."
        ),
    ] = None,
    pose: Pose = None,
    hands_card: Card = None,
    segmenter: Annotated[
        str | None, typer.Option("--segmenter", metavar="MODEL", help="SAM 2 on this machine, for closer masks.")
    ] = None,
    text_boxes: Annotated[
        str | None, typer.Option("--text-boxes", metavar="MODEL", help="Grounding DINO, for parts without keypoints.")
    ] = None,
    captions: Annotated[
        Path | None, typer.Option("--captions", metavar="FILE", help="A table of images and captions; else photo.txt.")
    ] = None,
    captioner: Annotated[
        str | None, typer.Option("--captioner", metavar="MODEL", help="A model such as BLIP, for those without one.")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", metavar="PX", help="Of mannequins; default 128.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="S", help="Of all that is drawn.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="NAME", help="Of the data set, for its card.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Processes; default: one a core.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, mps.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make pairs (a good image, the same with one local error) from a folder of photos or from mannequins.

    Settings come from --config, then --set, then the other options. Exits with 3 if fewer pairs than asked for could be
    made.
    """
    from asap_train.data.spec import SynthSpec
    from asap_train.data.synthesis import synth as make
    from hafbench.progress import progress_bars
    from hafbench.settings import read_settings

    options = context.params
    given = {key: value for key, value in options.items() if key in SynthSpec.model_fields}
    given |= {key: options[name] for name, key in OF_SCORERS.items()}
    given |= _settings_of_families(families or "image", {name: options[name] for name in OF_FAMILIES})
    spec = read_settings(SynthSpec, config, [*set_, *(f"gates.{text}" for text in gate)], given)
    with progress_bars(quiet or as_json) as progress:
        manifest = make(spec, out=out, progress=progress)
    _print(out, manifest, quiet, as_json)
    if manifest.counts.pairs < spec.count:
        raise typer.Exit(FEWER_THAN_ASKED)


def _settings_of_families(families: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What OF_FAMILIES set in the families that --families names; raises HafError where none of them has it."""
    from asap_train.degrade import FAMILIES
    from hafbench.settings import names_and_options

    found: dict[str, Any] = {}
    for option, value in options.items():
        if value is None:
            continue
        setting = OF_FAMILIES[option]
        able = [
            name for name in names_and_options(families) if setting in FAMILIES.get(name).options_model.model_fields
        ]
        if not able:
            raise HafError(
                f"--{option} is for families that redraw: add --families inpaint or skeleton, or write "
                f"--set families.inpaint.{setting}={value}."
            )
        found |= {f"families.{name}.{setting}": value for name in able}
    return found


def _print(out: Path, manifest: HapManifest, quiet: bool, as_json: bool) -> None:
    counts = manifest.counts
    if as_json:
        found = manifest.model_dump(mode="json", include={"counts", "skipped", "rejections"})
        typer.echo(json.dumps({"out": str(out), **found}))
    elif not quiet:
        typer.echo(f"{counts.pairs} pairs of {counts.photos} images in {out}. Rejected or left out:")
        for gate, rejected in manifest.rejections.items():
            reasons = [reason.rstrip(".") for reason in rejected.reasons]
            typer.echo(f"  {rejected.count:6d}  {gate}: {'; '.join(reasons[:3])}{'; ...' if reasons[3:] else ''}")
        for gate, skipped in manifest.skipped.items():
            typer.echo(f"Gate {gate} was skipped for {skipped.pairs} pairs: {next(iter(skipped.reasons))}.")
        if counts.pairs:
            typer.echo(f"Look at them: asap-train audit {out}")
