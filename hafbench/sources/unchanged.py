"""Are the images that a run is resumed with those that it began with? And which of them are the run's own pages?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hafbench.errors import HafError
from hafbench.sources.folder import Folder
from hafbench.sources.places import Content, read_ahead, read_place
from hafbench.sources.source import Identity, ImageSource, SourceImage
from hafbench.stores import address_of

if TYPE_CHECKING:
    from hafbench.records import Sample
    from hafbench.runs import RunFolder

AHEAD = 32


def check_unchanged(run: RunFolder, samples: Sequence[Sample], found: Identity) -> None:
    """Raises HafError where an image that the run has scored has other bytes by now.

    Names and sizes have been compared. Nothing is read where no file was written since; otherwise the images that have
    records are read, and their hashes compared.
    """
    before = run.manifest.images
    if before is None or before.stamp == found.stamp:
        return
    known = run.sha256_of_finished
    scored = (sample for sample in samples if sample.image in known)
    for sample in read_ahead(scored, _read, AHEAD):
        now = sample.place.sha256 if isinstance(sample.place, Content) else None
        if now != known[sample.image]:
            raise HafError(f"{run.folder}: {sample.image} has changed since it was scored; choose another --out.")
    run.update_manifest(images=before.model_copy(update={"stamp": found.stamp}))


def _read(sample: Sample) -> Sample:
    from dataclasses import replace

    return replace(sample, place=read_place(sample.place)) if sample.place else sample


def lies_in(source: ImageSource, image: SourceImage, folder: str | Path) -> bool:
    """Is an image of a folder below the run's own folder, both here or both in a store?"""
    if not isinstance(source, Folder):
        return False
    local, address = source.local, address_of(folder)
    if address is not None:
        return f"{source.address}/{image.name}".startswith(f"{address}/")
    return local is not None and (local / image.name).is_relative_to(Path(folder).resolve())
