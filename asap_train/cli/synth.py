"""`asap-train synth`: make a HAP data set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hafbench.cli.options import Device, Json, Quiet
from hafbench.errors import HafError, nearest

if TYPE_CHECKING:
    from asap_train.data.gates import Thresholds
    from asap_train.data.inpainting import PainterRequest
    from asap_train.data.synthesis import Judging
    from asap_train.data.workers import Maker
    from asap_train.types import Family

FAMILIES = ("image", "inpaint", "skeleton")
REGIONS = ("hands", "feet", "face", "limbs", "torso")
PHOTOGRAPHS, MANNEQUIN = "photographs", "mannequin"
SHORT_OF_COUNT = 3
DEFAULT_SIZE = 128


def synth(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The data set; given again, it goes on.")],
    count: Annotated[int, typer.Option("--count", min=1, metavar="N", help="How many pairs.")],
    photos: Annotated[
        Path | None, typer.Option("--photos", metavar="DIR", help="Good images of people; photo.mask.png wins.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="mannequin: exact pairs of the built-in world.")
    ] = None,
    families: Annotated[
        str, typer.Option("--families", metavar="A,B", help=f"Of {', '.join(FAMILIES)}; photos only.")
    ] = "image",
    regions: Annotated[
        str, typer.Option("--regions", metavar="A,B", help=f"Where errors are put, of {', '.join(REGIONS)}.")
    ] = ",".join(REGIONS),
    inpaint: Annotated[
        str | None,
        typer.Option("--inpaint", metavar="MODEL", help="What redraws: sd15-inpaint, sdxl-inpaint, flux-fill, or any."),
    ] = None,
    control: Annotated[
        str | None, typer.Option("--control", metavar="MODEL", help="The ControlNet of the skeleton family.")
    ] = None,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="An argument of the pipeline; may be repeated.")
    ] = [],  # noqa: B006
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, metavar="N", help="Pictures that a model draws of one error.")
    ] = 4,
    per_photo: Annotated[
        int, typer.Option("--per-photo", min=1, metavar="N", help="Pairs of one photo before the next one's turn.")
    ] = 4,
    tries: Annotated[
        int, typer.Option("--tries", min=1, metavar="N", help="Candidates for one part before it is given up.")
    ] = 6,
    gate: Annotated[
        list[str], typer.Option("--gate", metavar="NAME=X", help="A threshold, such as inside_ssim=0.6; repeatable.")
    ] = [],  # noqa: B006
    scorers: Annotated[
        str | None,
        typer.Option("--scorers", metavar="A,B", help="Must see the error, and none in the photo; default: hands."),
    ] = None,
    world: Annotated[
        str, typer.Option("--world", metavar="NAME", help="photographs, or mannequin for pictures of those.")
    ] = PHOTOGRAPHS,
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
    size: Annotated[int, typer.Option("--size", min=32, metavar="PX", help="Of mannequins.")] = DEFAULT_SIZE,
    seed: Annotated[int | None, typer.Option("--seed", min=0, metavar="S", help="Of all that is drawn.")] = None,
    licence: Annotated[
        str, typer.Option("--licence", metavar="NAME", help="Of the data set, for its card.")
    ] = "unknown",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, metavar="N", help="Processes; default: one a core.")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make pairs (a good image, the same with one local error) from a folder of photos or from mannequins.

    Exits with 3 if fewer pairs than asked for could be made.
    """
    if (photos is None) == (source is None):
        raise HafError("Give either --photos DIR or --source mannequin.")
    if source not in (None, MANNEQUIN):
        raise HafError(f"--source {source}: the only source without photos is mannequin.")
    if world not in (PHOTOGRAPHS, MANNEQUIN):
        raise HafError(f"--world {world}: {nearest(world, [PHOTOGRAPHS, MANNEQUIN])}")
    wanted = _names(families, FAMILIES, "--families")
    places = _names(regions, REGIONS, "--regions")
    exact = photos is None

    from asap_train.data.inpainting import PainterRequest
    from asap_train.data.synthesis import FromMannequins, FromPhotos, Judging, synthesize
    from asap_train.hap.write import open_hap
    from hafbench.devices import pick_device

    on = pick_device(device)
    default = () if exact or world == MANNEQUIN else ("hands",)
    names = default if scorers is None else tuple(name.strip() for name in scorers.split(",") if name.strip())
    judging = Judging(_thresholds(gate), names, MANNEQUIN if exact else world, on)
    maker: Maker
    if photos is None:
        from asap_train.degrade.mannequin import PAIR_SEED

        maker = FromMannequins(judging, size, PAIR_SEED if seed is None else seed)
        request, about, weights = _mannequin_request(maker, judging), [ABOUT_MANNEQUINS], {}
    else:
        from asap_train.data.captions import given_captions
        from asap_train.data.masks import find_photos
        from asap_train.data.regions import Finder

        root = photos.resolve()
        found = find_photos(root) if root.is_dir() else []
        if not found:
            raise HafError(f"{photos} is no folder with images.")
        painter = PainterRequest(inpaint or "", control, tuple(set_), device=device)
        maker = FromPhotos(
            folder=root,
            names=tuple(path.relative_to(root).as_posix() for path in found),
            finder=Finder(world, segmenter, text_boxes),  # type: ignore[arg-type]
            families=tuple(_families(wanted, painter, candidates)),
            judging=judging,
            captions={path.relative_to(root).as_posix(): text for path, text in given_captions(root, captions).items()},
            captioner=captioner,
            regions=places,
            per_photo=per_photo,
            tries=tries,
            seed=seed or 0,
        )
        weights = dict(maker.finder.weights)
        request, about = _photo_request(maker, judging), [ABOUT_PHOTOS.format(photos=len(found), name=root.name)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A model that redraws fills the device on its own.
    processes = 1 if not exact and set(wanted) - {"image"} else workers or cores
    details = {"licence": licence, "about": about, "weights": weights}
    with open_hap(out, request, details=details, seed=seed or 0) as hap, _bar(count, quiet or as_json) as progress:
        synthesize(maker, hap, count, processes, judging.thresholds.hash_distance, progress)
        manifest = hap.finish()
    _say(out, manifest, quiet, as_json)
    if manifest["counts"]["pairs"] < count:
        raise typer.Exit(SHORT_OF_COUNT)


ABOUT_MANNEQUINS = (
    "The pairs are of the built-in world of mannequins: exact, since both pictures are rendered from one scene. "
    "No scorer was asked, for the renderer knows the error."
)
ABOUT_PHOTOS = (
    "The pairs were made from {photos} images in the folder {name}. Why candidates were rejected, and why photos or "
    "parts of them were not used, is told under the rejections."
)


def _names(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise HafError(f"{option} {name}: {nearest(name, list(known))}")
    if not names:
        raise HafError(f"{option} is empty; known: {', '.join(known)}.")
    return names


def _thresholds(given: list[str]) -> Thresholds:
    from asap_train.data.gates import Thresholds

    kinds = {field.name: field.type for field in fields(Thresholds)}
    changed: dict[str, Any] = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in kinds:
            raise HafError(f"--gate {text}: {nearest(name, list(kinds))}")
        try:
            changed[name] = int(number) if kinds[name] == "int" else float(number)
        except ValueError as error:
            raise HafError(f"--gate {text}: give NAME=X with a number.") from error
    return replace(Thresholds(), **changed)


def _families(wanted: tuple[str, ...], painter: PainterRequest, candidates: int) -> Iterator[Family]:
    if "image" in wanted:
        from asap_train.degrade.image import ImageFamily

        yield ImageFamily()
    if set(wanted) == {"image"}:
        return
    if not painter.model:
        raise HafError("The families inpaint and skeleton need a model that redraws: give --inpaint MODEL.")
    from asap_train.data.inpainting import load_painter
    from asap_train.degrade.inpaint import InpaintFamily
    from asap_train.degrade.skeleton import SkeletonFamily

    if "inpaint" in wanted:
        yield InpaintFamily(load_painter(replace(painter, control=None)), candidates)
    if "skeleton" in wanted:
        if painter.control is None:
            raise HafError("The family skeleton needs a ControlNet for skeletons: give --control MODEL.")
        yield SkeletonFamily(load_painter(painter), candidates)


def _mannequin_request(maker: Any, judging: Judging) -> dict[str, Any]:
    return {"source": MANNEQUIN, "size": maker.size, "first_seed": maker.first, **judging.about()}


def _photo_request(maker: Any, judging: Judging) -> dict[str, Any]:
    """What makes the pairs; the number of pairs is not in it, so that a data set can grow."""
    return {
        "source": maker.folder.name,
        "photos": len(maker.names),
        "families": {family.name: dict(family.settings) for family in maker.families},
        "regions": list(maker.regions),
        "finder": {"world": maker.finder.world, "weights": dict(maker.finder.weights)},
        "captions": {"given": len(maker.captions), "captioner": maker.captioner},
        **{name: getattr(maker, name) for name in ("per_photo", "tries", "seed")},
        **judging.about(),
    }


@contextmanager
def _bar(total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("pairs", total=total)
        yield lambda pairs: bar.update(task, completed=pairs)


def _say(out: Path, manifest: dict[str, Any], quiet: bool, as_json: bool) -> None:
    counts = manifest["counts"]
    if as_json:
        typer.echo(json.dumps({"out": str(out), **{key: manifest[key] for key in ("counts", "skipped", "rejections")}}))
    elif not quiet:
        typer.echo(f"{counts['pairs']} pairs of {counts['photos']} images in {out}. Rejected or left out:")
        for gate, said in manifest["rejections"].items():
            reasons = [reason.rstrip(".") for reason in said["reasons"]]
            typer.echo(f"  {said['count']:6d}  {gate}: {'; '.join(reasons[:3])}{'; ...' if reasons[3:] else ''}")
        for gate, said in manifest["skipped"].items():
            typer.echo(f"Gate {gate} was skipped for {said['pairs']} pairs: {next(iter(said['reasons']))}.")
        if counts["pairs"]:
            typer.echo(f"Look at them: asap-train audit {out}")
