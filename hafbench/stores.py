"""Folders in stores (s3://, gs://, az://, ...): what they are called, and their copies on this machine, to be read.

Copies are below HAFBENCH_CACHE/stores: in `read` those that are read, in `work` those that are written (`mirrors.py`).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from hafbench.errors import HafError
from hafbench.files import cache_root, write_whole
from hafbench.sources.addresses import STAMPS, absolute, reading, system_of
from hafbench.sources.source import check_name


@dataclass(frozen=True)
class Layout:
    """What a folder holds: `what` it is, and `mark`, the file without which it is none.

    `first` are uploaded before all other files, which go by name, and `last` after them, in this order. `apart` is the
    subfolder of files that never change and are not copied back: they stay in the store, and leave this machine when
    they are uploaded.
    """

    what: str
    mark: str
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    apart: str | None = None


class CopyState(BaseModel):
    """state.json beside a copy: its address, its own name, and of each file what changes when its bytes do."""

    address: str
    owner: str = ""
    files: dict[str, str] = {}


def read_state(home: Path) -> CopyState | None:
    """The state of the copy in a folder; None where there is no copy."""
    try:
        return CopyState.model_validate_json((home / "state.json").read_bytes())
    except (OSError, ValidationError):
        return None


def write_state(home: Path, state: CopyState) -> None:
    """Write state.json."""
    write_whole(home / "state.json", state.model_dump_json())


def address_of(where: str | Path) -> str | None:
    """The address of a folder in a store, whose second slash a Path has lost; None for a path of this machine.

    Raises HafError for an address that holds a secret, and for one that is of no store.
    """
    match = re.match(r"([A-Za-z][A-Za-z0-9+.:-]+):/+(.*)", str(where), re.DOTALL)
    if match is None:
        return None
    if match[1] == "file" or ":" in match[1]:
        raise HafError(f"{match[1]}:// is no store; give a path, or an address such as s3://BUCKET/NAME.")
    return absolute(f"{match[1]}://{match[2]}")


def check_local(folder: Path, what: str) -> None:
    """Raises HafError for an address of a store: `what` is kept on a disk of this machine."""
    if address := address_of(folder):
        raise HafError(
            f"{address}: a {what} is kept on a disk of this machine; name a local folder, and copy it from or to the "
            "store as a whole."
        )


def home_of(address: str, kind: Literal["work", "read"]) -> Path:
    """The folder of this machine that a copy and its state are in."""
    return _copies() / kind / hashlib.sha256(address.encode()).hexdigest()[:16]


def folder_in(home: Path, address: str) -> Path:
    """The copy itself, which has the name of what it is a copy of."""
    return home / check_name(PurePosixPath(address.split("://")[1]).name, address)


def origin_of(folder: Path) -> str | None:
    """The address that a folder of this machine is a copy of; None for any other folder."""
    copies, path = _copies(), folder.absolute()
    if not path.is_relative_to(copies):
        return None
    state = read_state(copies.joinpath(*path.relative_to(copies).parts[:2]))
    return state.address if state else None


def shown(folder: str | Path) -> str:
    """What users call a folder: its address if it is in a store, also for a copy of it; the path of any other."""
    return origin_of(Path(folder)) or address_of(folder) or str(folder)


def _copies() -> Path:
    return cache_root().absolute() / "stores"


def reading_copy(where: str | Path, layout: Layout) -> Path:
    """A folder of this machine to read: `where` itself or, for one in a store, a copy, brought up to date.

    Raises HafError where there is none.
    """
    from filelock import FileLock

    address = address_of(where)
    if address is None:
        return Path(where)
    home = home_of(address, "read")
    folder = folder_in(home, address)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(home / ".lock"), reading(address):
        system, root = system_of(address)
        found = listed(system, root, layout.apart)
        if layout.mark not in found:
            raise HafError(f"{address} is not a {layout.what} folder: it has no {layout.mark}.")
        before, here = read_state(home), files_in(folder)
        known = before.files if before else {}
        download(system, root, (name for name in found if name not in here or known.get(name) != found[name]), folder)
        for name in here.keys() - found.keys():
            (folder / name).unlink()
        write_state(home, CopyState(address=address, files=found))
    return folder


def kept_copy(where: str | Path, layout: Layout) -> Path:
    """As `reading_copy`, but a copy that is on this machine is taken as it is: nothing is asked of the store."""
    address = address_of(where)
    if address is not None and read_state(home := home_of(address, "read")) is not None:
        return folder_in(home, address)
    return reading_copy(where, layout)


def files_in(folder: Path, apart: str | None = None) -> dict[str, str]:
    """The files below a folder of this machine but for those in the subfolder `apart`, hidden ones left out.

    By path, with what changes when a file is written.
    """
    found = {}
    for above, folders, names in os.walk(folder):
        if Path(above) == folder and apart in folders:
            folders.remove(apart)
        for name in names:
            path = Path(above, name)
            if not name.startswith("."):
                about = path.stat()
                found[path.relative_to(folder).as_posix()] = f"{about.st_size} {about.st_mtime_ns}"
    return dict(sorted(found.items()))


def listed(system: Any, root: str, apart: str | None = None) -> dict[str, str]:
    """As `files_in`, of a folder of a file system of fsspec; there are none where there is no such folder."""
    system.invalidate_cache()
    found, todo, seen = {}, [root], {root}
    while todo:
        for info in entries(system, todo.pop()):
            path = info["name"].rstrip("/")
            name = path[len(root) :].lstrip("/")
            if info["type"] == "directory":
                if path not in seen and name != apart:
                    seen.add(path)
                    todo.append(path)
            elif name and not PurePosixPath(name).name.startswith("."):
                stamp = next((info[key] for key in STAMPS if info.get(key) is not None), "")
                found[check_name(name, root)] = f"{info.get('size')} {stamp}"
    return dict(sorted(found.items()))


def entries(system: Any, path: str) -> list[Mapping[str, Any]]:
    """What is right below a folder; nothing where there is no such folder."""
    try:
        return list(system.ls(path, detail=True))
    except FileNotFoundError:
        return []


def names_apart(address: str, layout: Layout) -> set[str]:
    """The paths of the files that stay in the store, below their folder."""
    with reading(address):
        system, root = system_of(address)
        system.invalidate_cache()
        above = f"{root}/{layout.apart}/"
        return {name[len(above) :] for name in system.find(above.rstrip("/")) if name.startswith(above)}


def download(system: Any, root: str, names: Iterable[str], folder: Path) -> None:
    """Copy files of a folder of a file system of fsspec, several at once, each whole or not at all."""
    partial = dict(_partial(folder, names))
    if partial:
        system.get([f"{root}/{name}" for name in partial], [str(path) for path in partial.values()])
    for name, path in partial.items():
        path.replace(folder / name)


def _partial(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        yield name, path.with_name(f".{path.name}.partial")
