"""A run folder: lock it, resume it, append to it, finish it, read it. Its files: docs/reference/run-folder.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hafbench import provenance, record_tables
from hafbench.errors import HafError
from hafbench.files import disk_errors, locked, write_whole
from hafbench.images import encode_image
from hafbench.manifest import FILE, Counts, Manifest, read_manifest, write_manifest
from hafbench.mirrors import Leaving, Mirror, changing, writing
from hafbench.record_parts import JOURNAL, PARTS, WHOLE, GrowingRecords
from hafbench.records import Record, Sample
from hafbench.sources import open_source
from hafbench.sources.addresses import is_remote
from hafbench.stores import Layout, origin_of, reading_copy, shown

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from hafbench.sources import ImageSource
    from hafbench.types import Role


LAYOUT = Layout("run", FILE, last=(FILE, PARTS, JOURNAL), apart="images")
"""In a store, which so holds at any moment what a process that is killed may leave here: files before what tells of
them, the end before the list of parts is shortened, and the list that has a part before the journal without its lines.
"""


@dataclass(frozen=True)
class Run:
    """A finished run, read back. `folder` is on this machine: of a run in a store, a copy without its images.

    `records` have a row for each image and scorer, without its findings and measures: those are many times as large,
    and read when they are asked for.
    """

    folder: Path
    manifest: Manifest
    records: pd.DataFrame

    @property
    def address(self) -> str:
        """What users call the folder."""
        return shown(self.folder)

    @cached_property
    def findings(self) -> pd.DataFrame:
        """All findings, one a row: its record's `image` and `scorer`, and the fields of `Finding`.

        The cells of `box` and `keypoints` are lists, kept by Arrow until they are looked at.
        """
        found = record_tables.read_findings(self.table)
        owner = record_tables.read_arrow(self.table, ("image", "scorer")).take(found.pop("row").to_numpy())
        return found.assign(**owner.to_pandas())[["image", "scorer", *found]]

    @cached_property
    def measures(self) -> pd.DataFrame:
        """The numbers behind all values, one a row: its record's `image` and `scorer`, `name` and `value`."""
        return record_tables.every_measure(self.table)

    @property
    def table(self) -> Path:
        """The file of its records."""
        return self.folder / WHOLE

    @cached_property
    def source(self) -> ImageSource:
        """Where the records' images are."""
        return source_of(self.folder, self.manifest)


def source_of(folder: Path, manifest: Manifest) -> ImageSource:
    """Where the images of a run are: below its own folder, or what was scored."""
    root = manifest.image_root if is_remote(manifest.image_root) else str(folder / manifest.image_root)
    address = origin_of(folder)
    if address is not None and manifest.image_root == LAYOUT.apart:
        return Leaving(f"{address}/{LAYOUT.apart}", copy=Path(root))
    return open_source(root, manifest.images.kind if manifest.images else "folder")


def read_run(where: str | Path) -> Run:
    """Read a finished run from its folder or its address in a store; raises HafError if it is not one."""
    folder = reading_copy(where, LAYOUT)
    manifest = read_manifest(folder)
    if manifest is None:
        raise HafError(f"{folder} is not a run folder: it has no run.json.")
    if not _is_whole(folder, manifest):
        raise HafError(f"{shown(folder)} is an unfinished run: run the command that started it again to finish it.")
    run = Run(folder, manifest, record_tables.read_table(folder / WHOLE, _roles(manifest)))
    statuses = run.records["status"].value_counts().to_dict()
    # Each image has a row of every scorer: that was checked.
    counts = Counts.model_validate({"images": len(run.records) // max(1, len(manifest.scorers)), **statuses})
    if counts != manifest.counts:
        change = "; ".join(differences(manifest.counts.model_dump(), counts.model_dump()))
        raise HafError(f"{run.table} has other rows than run.json counts ({change}); run the same command again.")
    return run


def is_finished(folder: Path) -> bool:
    """Whether `folder` is a run that can be read; raises HafError for a run.json that cannot."""
    manifest = read_manifest(folder)
    return manifest is not None and _is_whole(folder, manifest)


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    return bool(manifest.ended) and (folder / WHOLE).exists()


def _roles(manifest: Manifest) -> dict[str, Role]:
    return {name: facts.role for name, facts in manifest.scorers.items()}


@dataclass
class RunFolder:
    """A run that this process is writing. Made by `open_run`, which holds the folder's lock.

    `mirror` uploads `folder` to the store where the run is.
    """

    folder: Path
    manifest: Manifest
    records: GrowingRecords
    mirror: Mirror | None = None
    grown: bool = False

    @cached_property
    def source(self) -> ImageSource:
        """Where the records' images are."""
        return source_of(self.folder, self.manifest)

    @property
    def finished_images(self) -> Set[str]:
        """The images whose records were all there when the run was opened."""
        return self.records.known

    @property
    def sha256_of_finished(self) -> dict[str, str | None]:
        """By image, what its bytes were when it was scored; None where they could not be read."""
        found: dict[str, str | None] = {}
        for table in self.records.tables(("image", "sha256")):
            found.update(zip(table["image"].to_pylist(), table["sha256"].to_pylist(), strict=True))
        return found

    def update_manifest(self, **changes: Any) -> None:
        """Change fields of run.json."""
        self.manifest = self.manifest.model_copy(update=changes)
        with changing(self.mirror), disk_errors(self.folder):
            write_manifest(self.folder, self.manifest)

    def check_samples(self, samples: Sequence[Sample]) -> None:
        """Raises HafError, with the line of records.jsonl, if an image that has records is none of these samples."""
        import pyarrow as pa
        import pyarrow.compute as pc

        tables = list(self.records.tables(("image", "prompt_id", "seed")))
        if not tables:
            return
        found = pa.concat_tables(tables)
        prompts = [sample.prompt.id if sample.prompt else None for sample in samples]
        wanted = {
            "prompt_id": pa.array(prompts, pa.string()),
            "seed": pa.array([sample.seed for sample in samples], pa.int64()),
        }
        place = pc.index_in(found["image"], pa.array([sample.image for sample in samples], pa.string()))
        strange = pc.is_null(place)
        for name, column in wanted.items():
            own, right = found[name], column.take(place)
            alike = pc.or_(pc.fill_null(pc.equal(own, right), False), pc.and_(pc.is_null(own), pc.is_null(right)))
            strange = pc.or_(strange, pc.invert(alike))
        rows = pc.indices_nonzero(strange)
        if not len(rows):
            return
        row = rows[0].as_py()
        image, line = found["image"][row].as_py(), row - (len(found) - len(self.records.journal)) + 1
        if line < 1:
            raise HafError(
                f"{shown(self.folder)}: {image} has records, and is no image of this run, or has another prompt or "
                "seed; choose another --out."
            )
        raise HafError(
            f"{shown(self.folder)}/{JOURNAL}, line {line}: {image} is no image of this run, or has another prompt or "
            "seed; delete the lines that name it."
        )

    def has_images(self, samples: Iterable[Sample]) -> bool:
        """Whether the pictures of all these samples are on disk, or in the store."""
        has = self.mirror.has if self.mirror else lambda image: (self.folder / "images" / image).exists()
        return all(has(sample.image) for sample in samples)

    def append(self, added: Sequence[Record]) -> None:
        """Add all records of one image in one write, and have them on disk before returning."""
        with changing(self.mirror), disk_errors(self.folder):
            self.records.append(added)
        self.grown = True

    def save_image(self, name: str, image: Image) -> Path:
        """Save an image below images/ in the format of its suffix, whole or not at all."""
        return self.save_bytes(name, encode_image(image, PurePosixPath(name).suffix))

    def save_bytes(self, name: str, content: bytes) -> Path:
        """Save the bytes of an image file below images/, whole or not at all."""
        return save_picture(self.folder, name, content)

    def finish(self, order: Sequence[str]) -> Run:
        """Write records.parquet, records.csv and run.json's end, in the order of these images and of the scorers.

        A run that had ended, and to which nothing was added, stays as it is, if it can be read. Where its tables are
        lost or changed they are written again from the records that the folder has besides, if it has any.
        """
        if self.manifest.ended and not self.grown:
            try:
                return read_run(self.folder)
            except HafError:
                if any(part.file == WHOLE for part in self.records.parts):
                    raise
        with changing(self.mirror):
            with disk_errors(self.folder):
                statuses = record_tables.write_tables(
                    self.records.tables, self.folder, order, list(self.manifest.scorers)
                )
            counts = Counts.model_validate({"images": len(order), **statuses})
            self.update_manifest(ended=provenance.now(), counts=counts)
            with disk_errors(self.folder):
                self.records.replace(self.folder / WHOLE, len(order), statuses.total())
        return read_run(self.folder)


def save_picture(folder: Path, name: str, content: bytes) -> Path:
    """Save the bytes of an image file below images/ of a run's folder, whole or not at all, from any process."""
    with disk_errors(folder):
        return write_whole(folder / "images" / name, content, shared=True)


@contextmanager
def open_run(where: str | Path, manifest: Manifest, resume: bool = True) -> Iterator[RunFolder]:
    """Start the run of this manifest in a folder or at an address of a store, or resume it there, and hold its lock.

    A folder that was started with another request, or where other weights were found, is refused, with the difference.
    Records of an image that a killed process left incomplete are dropped.
    """
    with writing(where, LAYOUT) as (folder, mirror), locked(folder, "run"):
        yield _start(folder, manifest, resume, mirror)


def _start(folder: Path, manifest: Manifest, resume: bool, mirror: Mirror | None) -> RunFolder:
    before, name = read_manifest(folder), shown(folder)
    if before is None:
        strangers = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if strangers:
            raise HafError(
                f"{name} holds other files ({strangers[0]}, ...) and is not a run folder; choose another --out."
            )
        with disk_errors(folder):
            write_manifest(folder, manifest)
        return RunFolder(folder, manifest, GrowingRecords(folder, _roles(manifest)), mirror)
    if not resume:
        raise HafError(f"{name} holds a run already; choose another --out, or leave out --no-resume to resume it.")
    if before.request is None:
        raise HafError(
            f"{name} was made by another version of hafbench, or with a scorer that is not installed here: it can be "
            "read, and not be resumed; choose another --out."
        )
    changes = differences(before.identity(), manifest.identity())
    if changes:
        raise HafError(f"{name} was started with other settings ({'; '.join(changes)}); choose another --out.")
    return RunFolder(folder, before, GrowingRecords(folder, _roles(before)), mirror)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What changed between two requests, as `key: old -> new`, nested keys joined by dots."""
    changes: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            changes.append(f"{prefix}{key}: {_brief(before)} -> {_brief(after)}")
    return changes


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
