"""Files on disk: the lock of a folder, the one way to write a file whole or not at all, and what the system refused."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hafbench.errors import HafError, Locked


def write_whole(
    path: Path, content: str | bytes | Callable[[Path], object], *, durable: bool = False, shared: bool = False
) -> Path:
    """Write a file whole or not at all and return its path; its folder is made if need be.

    `content` is its text (UTF-8) or bytes, or a function that writes the file at the path that it is given. With
    `durable` the bytes are on the disk before the file takes its place; `shared`: other processes may write the same
    file at the same time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    number = f".{os.getpid()}" if shared else ""
    # With the file's own suffix, which tells many writers the format.
    partial = path.with_name(f".{path.stem}{number}.partial{path.suffix}")
    try:
        if callable(content):
            content(partial)
        elif isinstance(content, bytes):
            partial.write_bytes(content)
        else:
            partial.write_text(content, encoding="utf-8", newline="")
        if durable:
            sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


def check_regular(path: Path) -> None:
    """Raise OSError unless there is a regular file: reading a pipe or a device may never end."""
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # NUL or a lone surrogate
        raise OSError(errno.EINVAL, "this cannot be the name of a file", str(path)) from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "this is a folder, not a file", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "this is a pipe or a device, not a file", str(path))


MAX_BYTES = 1 << 30
"""Of an image's file, which is read whole: 100 megapixels of four 16-bit channels, without compression, are less."""


def read_whole(path: Path, most: int | None = None) -> bytes:
    """The bytes of a regular file, of at most `most` where it is given; raises OSError for anything else."""
    check_regular(path)
    if most is not None and path.stat().st_size > most:
        raise OSError(errno.EFBIG, f"this file is over the limit of {most >> 30} GiB", str(path))
    return path.read_bytes()


RUN, RECORDS = "run.json", ("records.jsonl", "records.parquet")
"""The files that tell a run folder: the first, and one of the others."""


def names_below(folder: Path) -> list[str]:
    """The paths of all files below a folder of this machine, in no order, but for hidden ones and those of runs.

    There are none below a folder that is not there; links to folders are not followed. Raises HafError for a folder
    that cannot be read.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise HafError(
                f"{error.filename} cannot be read ({error.strerror}); let this user read it, or move it elsewhere."
            ) from error

    names: list[str] = []
    for above, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [one for one in folders if not one.startswith(".")]
        inside = Path(above).relative_to(folder).as_posix()
        before = "" if inside == "." else f"{inside}/"
        names += [f"{before}{one}" for one in files if not one.startswith(".")]
    return without_runs(names)


def without_runs(names: Iterable[str]) -> list[str]:
    """Paths below a folder, without those of the run folders in it; of a folder that is a run, those of its images."""
    names = list(names)
    there = {name for name in names if name.rpartition("/")[2] in (RUN, *RECORDS)}
    found = [name.removesuffix(RUN) for name in there if name.endswith(RUN)]
    runs = [run for run in found if any(f"{run}{records}" in there for records in RECORDS)]
    if "" in runs:
        names = [name for name in names if name.startswith("images/")]
    left_out = tuple(run for run in runs if run)
    return [name for name in names if not name.startswith(left_out)] if left_out else names


def is_utf8(text: str) -> bool:
    """False for a text with lone surrogates: Python's way to spell other bytes of file names, and JSON's escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_root() -> Path:
    """Where what can be made or fetched again is kept: HAFBENCH_CACHE, or the system's cache folder."""
    import pooch

    return Path(os.environ.get("HAFBENCH_CACHE") or pooch.os_cache("hafbench"))


@contextmanager
def locked(folder: Path, what: str, name: str | None = None) -> Iterator[None]:
    """Hold the lock of a folder, made if need be; raises Locked if another process is writing this `what`.

    `name` is what users call the folder, if not by its path.
    """
    from filelock import FileLock, Timeout

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise Locked(
                f"{name or folder}: another process is writing this {what}; wait for it, or choose another --out."
            ) from error
    try:
        yield
    finally:
        lock.release()


def wait_unlocked(folder: Path) -> None:
    """Until no process holds the lock of a folder that is there."""
    from filelock import FileLock

    with disk_errors(folder), FileLock(folder / ".lock").acquire(poll_interval=1):
        pass


@contextmanager
def disk_errors(path: Path, setting: str = "--out") -> Iterator[None]:
    """Say in one sentence what the operating system refused; `path`, a folder or a file, is what `setting` names."""
    try:
        yield
    except OSError as error:
        cause = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again: finished work is kept",
            errno.EFBIG: "a file grew over this system's limit",
            errno.EROFS: f"the file system is read-only; choose another {setting}",
        }.get(error.errno or 0, f"{error.strerror or error}; choose another {setting}")
        raise HafError(f"{path} cannot be written: {cause}.") from error


def slug(text: str) -> str:
    """A text as a file name of at most 100 bytes: letters of any script, digits, dot, dash and underscore only."""
    name = re.sub(r"[^\w.-]+", "-", text).strip("-.")
    return name.encode()[:100].decode(errors="ignore") or "run"
