"""Are images those that a run began with, or that were labelled?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hafbench.errors import BadImage, HafError
from hafbench.images import decode_image, load_image
from hafbench.sources.places import Content, Place, read_ahead, read_place
from hafbench.sources.source import Identity
from hafbench.stores import shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.records import Sample
    from hafbench.runs import RunFolder

AHEAD = 32


def check_unchanged(run: RunFolder, samples: Sequence[Sample], found: Identity) -> None:
    """Raises HafError where an image that the run has scored has other bytes by now, or any another prompt or seed.

    Names and sizes have been compared. Nothing is read where no file was written since; otherwise the images that have
    records are read, and their hashes compared. One without a hash could not be read or decoded, and still cannot be.
    """
    before = run.manifest.images
    if before is None or before.stamp == found.stamp:
        return
    if before.prompted not in (None, found.prompted):
        raise HafError(
            f"{shown(run.folder)}: prompts or seeds of the images have changed since it was started; choose another "
            "--out."
        )
    known = run.sha256_of_finished
    scored = (sample for sample in samples if sample.image in known)
    for sample in read_ahead(scored, _read, AHEAD):
        if sample.place and _is_another(sample.place, sample.image, known[sample.image]):
            raise HafError(
                f"{shown(run.folder)}: {sample.image} has changed since it was scored; choose another --out."
            )
    run.update_manifest(images=before.model_copy(update={"stamp": found.stamp, "prompted": found.prompted}))


def _read(sample: Sample) -> Sample:
    from dataclasses import replace

    return replace(sample, place=read_place(sample.place)) if sample.place else sample


def _is_another(found: Place, name: str, sha256: str | None) -> bool:
    if not isinstance(found, Content):
        return sha256 is not None
    if sha256 is not None:
        return found.sha256 != sha256
    try:
        decode_image(found.content, name)
    except BadImage:
        return False
    return True


def load_unchanged(place: Place, sha256: str, name: str) -> Image:
    """An image whose file had this SHA-256 when it was scored, or labelled; raises HafError if it has another now."""
    found = read_place(place)
    if isinstance(found, Content) and found.sha256 != sha256:
        raise HafError(f"{name} is not the image that was scored any more; score the run again.")
    try:
        return load_image(found)
    except BadImage as error:
        raise HafError(f"{name} cannot be read any more; label it as unsure.") from error
