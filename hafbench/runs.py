"""A run folder: lock it, resume it, append to it, finish it, read it. Its files are described in docs/records.md."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench import provenance, records
from hafbench.errors import HafError
from hafbench.files import disk_errors, locked, write_whole
from hafbench.records import Row
from hafbench.types import STATUSES

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A finished run, read back."""

    folder: Path
    manifest: dict[str, Any]
    records: pd.DataFrame

    @property
    def image_root(self) -> Path:
        """The folder that the records' `image` paths start from."""
        return self.folder / str(self.manifest["image_root"])


def read_run(folder: Path, findings: bool = True) -> Run:
    """Read a finished run; raises HafError if `folder` is none. Without `findings` its records lack two columns."""
    manifest = _read_manifest(folder)
    if manifest is None:
        raise HafError(f"{folder} is not a run folder: it has no run.json.")
    if not (folder / "records.parquet").exists():
        raise HafError(f"{folder} is an unfinished run: the command that started it, given again, finishes it.")
    return Run(folder, manifest, records.read_table(folder / "records.parquet", findings))


@dataclass
class RunFolder:
    """A run that this process is writing. Made by `open_run`, which holds the folder's lock."""

    folder: Path
    manifest: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    grown: bool = False

    @property
    def finished_images(self) -> set[str]:
        """The images whose rows are all there."""
        return {row["image"] for row in self.rows}

    def append(self, rows: Sequence[Row]) -> None:
        """Add all rows of one image in one write, and have them on disk before returning."""
        text = "".join(records.to_line(row) for row in rows)
        with disk_errors(self.folder), (self.folder / "records.jsonl").open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.rows.extend(rows)
        self.grown = True

    def save_image(self, name: str, image: Image) -> Path:
        """Save a PNG below images/, whole or not at all."""
        path = self.folder / "images" / name
        partial = path.with_name(f".{path.name}.partial")
        with disk_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(partial, format="PNG")
            partial.replace(path)
        return path

    def finish(self, order: Sequence[str], scorers: Sequence[str]) -> Run:
        """Write records.parquet, records.csv and run.json's end, rows in the order of the images and scorers.

        A run that had ended, and to which nothing was added, stays as it is.
        """
        if self.manifest["ended"] and not self.grown:
            return read_run(self.folder)
        place = {name: index for index, name in enumerate(order)}
        rank = {name: index for index, name in enumerate(scorers)}
        self.rows.sort(key=lambda row: (place[row["image"]], rank[row["scorer"]]))
        counts = dict.fromkeys(STATUSES, 0)
        for row in self.rows:
            counts[row["status"]] += 1
        self.manifest |= {"ended": provenance.now(), "counts": {"images": len(order), **counts}}
        with disk_errors(self.folder):
            records.write_tables(self.rows, self.folder)
            _write_manifest(self.folder, self.manifest)
        return read_run(self.folder)


@contextmanager
def open_run(
    folder: Path,
    *,
    command: str,
    name: str,
    request: Mapping[str, Any],
    details: Mapping[str, Any],
    resume: bool = True,
) -> Iterator[RunFolder]:
    """Start or resume the run in `folder`, and hold its lock.

    `request` is what makes the numbers: a folder that was started with another one is refused, with the difference.
    `details` are further entries of run.json. Rows of an image that a killed process left incomplete are dropped.
    """
    with locked(folder, "run"):
        yield _start(folder, command, name, json.loads(json.dumps(request)), details, resume)


def _start(
    folder: Path, command: str, name: str, request: dict[str, Any], details: Mapping[str, Any], resume: bool
) -> RunFolder:
    manifest = _read_manifest(folder)
    if manifest is None:
        strangers = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if strangers:
            raise HafError(f"{folder} holds other files ({strangers[0]}, ...) and is no run; choose another --out.")
        manifest = {
            "format": FORMAT,
            "command": command,
            "name": name,
            "request": request,
            **details,
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "git": provenance.git_revision(),
            "started": provenance.now(),
            "ended": None,
        }
        with disk_errors(folder):
            _write_manifest(folder, manifest)
        return RunFolder(folder, manifest)
    if not resume:
        raise HafError(
            f"{folder} holds a run already; choose another --out, or leave out --no-resume to go on with it."
        )
    changes = differences(manifest["request"], request)
    if changes:
        raise HafError(f"{folder} was started with other settings ({'; '.join(changes)}); choose another --out.")
    rows = _whole_images(folder / "records.jsonl", len(request["scorers"]))
    return RunFolder(folder, manifest, rows)


def _whole_images(path: Path, rows_per_image: int) -> list[Row]:
    """The rows of completely recorded images; what else the file holds is cut off, whole or not at all."""
    if not path.exists():
        return []
    rows = records.read_lines(path)
    count: dict[str, int] = {}
    for row in rows:
        count[row["image"]] = count.get(row["image"], 0) + 1
    whole = [row for row in rows if count[row["image"]] == rows_per_image]
    text = "".join(records.to_line(row) for row in whole)
    if text.encode() != path.read_bytes():
        write_whole(path, text)
    return whole


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


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / "run.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HafError(f"{path}: this cannot be read ({error}); choose another --out.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise HafError(f"{path} is not a run of format {FORMAT}, which this version of hafbench reads.")
    return manifest


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_whole(folder / "run.json", json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
