"""The one place that knows pretrained files: their names, sources, checksums and licences.

A file is looked for in the folder that HAFBENCH_WEIGHTS names, then in the cache; what is missing is fetched into the
cache unless the user wants no network. What is used has always the SHA-256 of the table.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hafbench import hub
from hafbench.downloads import Url, Wheel, download
from hafbench.errors import HafError, Unavailable, nearest
from hafbench.files import cache_root
from hafbench.images import sha256_of


@dataclass(frozen=True)
class Weight:
    """One pretrained file."""

    name: str
    sha256: str
    megabytes: float
    licence: str
    source: Wheel | Url
    about: str


# A release of mediapipe whose wheel carries its models; those of 1.x load them as .task files.
_MEDIAPIPE = "mediapipe==0.10.14"


def _mediapipe(folder: str, name: str, sha256: str, megabytes: float, about: str) -> Weight:
    source = Wheel(_MEDIAPIPE, f"mediapipe/modules/{folder}/{name}")
    return Weight(name, sha256, megabytes, "Apache-2.0", source, about)


_TABLE = (
    _mediapipe(
        "palm_detection",
        "palm_detection_full.tflite",
        "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
        2.3,
        "palms in an image",
    ),
    _mediapipe(
        "hand_landmark",
        "hand_landmark_full.tflite",
        "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
        5.5,
        "21 points of a hand, its presence and handedness",
    ),
    _mediapipe(
        "hand_landmark",
        "hand_landmark_lite.tflite",
        "048edd3645c9bf7397d19a9f6e3a42957d6e414c9bea6598030a2e9b624156e6",
        2.1,
        "the same, smaller net",
    ),
    _mediapipe(
        "pose_detection",
        "pose_detection.tflite",
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        3.0,
        "people in an image",
    ),
    _mediapipe(
        "pose_landmark",
        "pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        6.4,
        "33 points of a body",
    ),
)
WEIGHTS: dict[str, Weight] = {weight.name: weight for weight in _TABLE}


def cache_folder() -> Path:
    """Where `pull` puts files: HAFBENCH_CACHE, or the system's cache folder."""
    return cache_root() / "weights"


def find(name: str) -> Path | None:
    """The file of that name in HAFBENCH_WEIGHTS or in the cache, unchecked; None if it is in neither."""
    given = os.environ.get("HAFBENCH_WEIGHTS")
    if given:
        if not Path(given).is_dir():
            raise HafError(f"HAFBENCH_WEIGHTS is {given}, which is not a folder; point it to one, or unset it.")
        found = sorted(path for path in Path(given).rglob(name) if path.is_file())
        if found:
            return found[0]
    path = cache_folder() / name
    return path if path.is_file() else None


def locate(name: str) -> Path:
    """The checked file of a weight of the table, fetched if it is not on this machine.

    Raises Unavailable if it is missing and cannot be fetched, HafError if its checksum is not the table's.
    """
    weight = _known(name)
    if find(name) is None:
        _fetch([weight])
    path = find(name) or cache_folder() / name
    status = path.stat()
    found = _checked_sha256(path, status.st_mtime_ns, status.st_size)
    if found != weight.sha256:
        raise HafError(
            f"{path} has the SHA-256 {found[:12]}... instead of {weight.sha256[:12]}...: it is another or a damaged "
            f"file; delete it and run `hafbench weights pull {name}`."
        )
    return path


def _known(name: str) -> Weight:
    if name not in WEIGHTS:
        raise HafError(f"There are no weights '{name}': {nearest(name, list(WEIGHTS))}")
    return WEIGHTS[name]


@cache
def _checked_sha256(path: Path, mtime_ns: int, size: int) -> str:
    return sha256_of(path)


def rows() -> list[dict[str, Any]]:
    """The table, with where each file is."""
    return [
        {
            "name": weight.name,
            "about": weight.about,
            "MB": weight.megabytes,
            "licence": weight.licence,
            "from": weight.source.origin,
            "here": str(find(weight.name) or "no"),
        }
        for weight in WEIGHTS.values()
    ]


def verify() -> list[dict[str, Any]]:
    """For every file that is here: is its SHA-256 the table's?"""
    paths = [(weight, find(weight.name)) for weight in WEIGHTS.values()]
    return [
        {"name": weight.name, "path": str(path), "ok": sha256_of(path) == weight.sha256}
        for weight, path in paths
        if path is not None
    ]


def pull(names: Sequence[str] = ()) -> list[Path]:
    """Fetch these weights (default: all) unless they are here already; returns the checked files.

    A damaged file in the cache is replaced; one in HAFBENCH_WEIGHTS is the user's, and only refused.
    """
    wanted = [_known(name) for name in (names or WEIGHTS)]
    _fetch([weight for weight in wanted if _is_needed(weight)])
    return [locate(weight.name) for weight in wanted]


def _is_needed(weight: Weight) -> bool:
    path = find(weight.name)
    return path is None or (path.parent == cache_folder() and sha256_of(path) != weight.sha256)


def _fetch(wanted: Sequence[Weight]) -> None:
    """Fetch these into the cache, with all others that the same downloads hold."""
    if not wanted:
        return
    if hub.asked_offline():
        raise Unavailable(
            f"{wanted[0].name} is not on this machine, and the command is to use no network (--offline, or "
            "HAFBENCH_OFFLINE or HF_HUB_OFFLINE is set): run `hafbench weights pull` once with a network, or point "
            "HAFBENCH_WEIGHTS to a folder that has it."
        )
    with _cache() as scratch:
        # Other processes may have fetched some of them while this one waited for the lock.
        origins = {weight.source.origin for weight in wanted if _is_needed(weight)}
        for weight in WEIGHTS.values():
            if weight.source.origin in origins and _is_needed(weight):
                _fetch_one(weight, scratch)


def _fetch_one(weight: Weight, scratch: Path) -> None:
    fetched = scratch / weight.name
    download(weight.source, fetched)
    found = sha256_of(fetched)
    if found != weight.sha256:
        raise HafError(
            f"{weight.name} came from {weight.source.origin} with the SHA-256 {found[:12]}... instead of "
            f"{weight.sha256[:12]}...; it was not kept."
        )
    fetched.replace(cache_folder() / weight.name)


@contextmanager
def _cache() -> Iterator[Path]:
    """Hold the lock of the cache, waiting for it; yields a temporary folder on the cache's own disk.

    From there a finished file moves into place in one step.
    """
    from filelock import FileLock

    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with FileLock(cache_folder() / ".lock"), tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            yield Path(scratch)
    except OSError as error:
        raise Unavailable(
            f"The cache {cache_folder()} cannot be written ({error.strerror}): point HAFBENCH_CACHE to another folder."
        ) from error
