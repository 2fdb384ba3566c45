"""A folder in a store that is written: a copy on this machine, and what is new in it uploaded from time to time.

A store has no append and no locks. The copy is appended to and locked as any folder; it is uploaded in an order that
leaves the store with something that can be resumed whenever this machine is lost.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from uuid import uuid4

from hafbench.errors import HafError, RunStopped
from hafbench.files import MAX_BYTES, locked, read_whole
from hafbench.leases import Lease, TakenOver
from hafbench.sources.addresses import refusal, system_of
from hafbench.sources.folder import Folder
from hafbench.sources.places import Place, Span
from hafbench.sources.source import check_name
from hafbench.stores import (
    CopyState,
    Layout,
    address_of,
    download,
    entries,
    files_in,
    folder_in,
    home_of,
    listed,
    names_apart,
    read_state,
    write_state,
)

UPLOAD_SECONDS = 60.0
"""From one upload to the next, unless HAFBENCH_UPLOAD_SECONDS is set."""
LEASE_SECONDS = 300.0
"""After which a process that was not heard of is taken for lost; at least five times the seconds of uploads."""
READ_ONLY: Mapping[str, str] = {
    "hf": "the hub makes a commit of each file; write a folder here, and upload it with `hf upload`",
    "http": "a web server takes no files; write a folder here, and copy it",
    "https": "a web server takes no files; write a folder here, and copy it",
}


@contextmanager
def writing(where: str | Path, layout: Layout) -> Iterator[tuple[Path, Mirror | None]]:
    """A folder of this machine to write in: `where` itself or, for one in a store, a copy that is uploaded.

    With a copy there is its Mirror. Raises HafError where another process writes the same, where the store cannot be
    written, and where it holds other files; RunStopped where it cannot be written any more.
    """
    address = address_of(where)
    if address is None:
        yield Path(where), None
        return
    _check_writable(address)
    with locked(home_of(address, "work"), layout.what, address):
        mirror = Mirror(address, layout)
        mirror.open()
        try:
            yield mirror.folder, mirror
        except BaseException:
            with suppress(HafError):  # the first error is the one to be told
                mirror.close()
            raise
        mirror.close()


def changing(mirror: Mirror | None) -> AbstractContextManager[None]:
    """`Mirror.changing` of a folder that has a mirror; nothing around the changes of any other."""
    return mirror.changing() if mirror else nullcontext()


def check_out(where: str | Path | None) -> None:
    """Raises HafError early for an address that cannot be written or reached; without one there is nothing to check."""
    address = address_of(where or "")
    if address is not None:
        _check_writable(address)
        with _store_errors(address):
            entries(*system_of(address))


def _check_writable(address: str) -> None:
    if why := READ_ONLY.get(address.split("://")[0]):
        raise HafError(f"{address} can only be read: {why}.")


class Mirror:
    """The copy of a folder in a store that this process writes, and a thread that uploads it."""

    def __init__(self, address: str, layout: Layout) -> None:
        self.address, self._layout = address, layout
        self._home = home_of(address, "work")
        self.folder = folder_in(self._home, address)
        self._apart = self.folder / (layout.apart or ".none")
        self._state = read_state(self._home) or CopyState(address=address, owner=uuid4().hex)
        self._seconds = _upload_seconds()
        self._system, self._root = system_of(address)
        self._lease = Lease(
            self._system, self._root, address, layout.what, self._state.owner, max(LEASE_SECONDS, 5 * self._seconds)
        )
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="upload", daemon=True)
        self._failed: HafError | None = None
        self._uploaded: set[str] = set()
        self._is_changed = False

    def open(self) -> None:
        """Take the lease, have what the store holds on this machine, and begin to upload.

        A copy that was the last to be uploaded is at least as new as the store; any other is thrown away. Where this
        fails the lease is released.
        """
        with _store_errors(self.address):
            self._check_free()
            is_last = self._lease.take()
            try:
                if not is_last or not self.folder.is_dir():
                    self._download()
                write_state(self._home, self._state)
            except BaseException:
                self._release()
                raise
        self._thread.start()

    def _download(self) -> None:
        """Copy what the store holds; what is cut short is not taken for a copy."""
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        for folder in (self.folder, partial):
            shutil.rmtree(folder, ignore_errors=True)
        partial.mkdir(parents=True)
        there = listed(self._system, self._root, self._layout.apart)
        if self._layout.mark in there:
            download(self._system, self._root, there, partial)
            there = files_in(partial)
        partial.replace(self.folder)
        # What a first upload left that was cut short is of no use: the next one deletes it.
        self._state = self._state.model_copy(update={"files": there})

    def _check_free(self) -> None:
        """Raises HafError for a folder with other files, of which none may be fetched or deleted."""
        self._system.invalidate_cache()
        names = {PurePosixPath(info["name"]).name for info in entries(self._system, self._root)}
        others = sorted(name for name in names if not name.startswith("."))
        if others and self._layout.mark not in names and not self._lease.exists():
            raise HafError(
                f"{self.address} holds other files ({others[0]}, ...) and is not a {self._layout.what} folder; "
                "choose another --out."
            )

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around changes of files that belong together: none is uploaded without the others.

        Raises RunStopped where uploads have failed for long, or another process has taken over.
        """
        with self._lock:
            if self._failed is not None:
                raise self._failed
            yield

    def has(self, name: str) -> bool:
        """Is a file of the folder `apart` on this machine, or in the store?"""
        return (self._apart / name).exists() or name in self._uploaded or name in self._stored

    @cached_property
    def _stored(self) -> set[str]:
        return names_apart(self.address, self._layout)

    def upload(self) -> None:
        """Upload what is new; raises RunStopped."""
        with _store_errors(self.address, "; run the same command again to resume", RunStopped):
            self._lease.renew()
            self._upload_apart()  # most of the bytes, while the work goes on
            with self._lock:
                self._upload_apart()
                there = files_in(self.folder, self._layout.apart)
                changed = [name for name, stamp in there.items() if self._state.files.get(name) != stamp]
                gone = sorted(self._state.files.keys() - there.keys())
                for name in sorted(changed, key=self._rank):
                    self._system.put_file(str(self.folder / name), f"{self._root}/{name}")
                for name in gone:
                    with suppress(FileNotFoundError):
                        self._system.rm_file(f"{self._root}/{name}")
                self._is_changed |= bool(changed or gone)
                self._state = self._state.model_copy(update={"files": there})
                write_state(self._home, self._state)

    def close(self) -> None:
        """Upload the rest, and release the lease."""
        self._closing.set()
        self._thread.join()
        self.upload()
        self._release()

    def _release(self) -> None:
        with suppress(Exception):  # it expires by itself
            if self._lease.is_new and not self._is_changed:
                self._lease.drop()  # nothing was begun
            else:
                self._lease.release()

    def _keep_up(self) -> None:
        """In the thread."""
        since: float | None = None
        while not self._closing.wait(self._seconds):
            try:
                self.upload()
                since = None
            except HafError as error:
                # A store that cannot be reached may come back. Until then this machine has what is new.
                since = since or time.monotonic()
                if isinstance(error, TakenOver) or time.monotonic() - since > self._lease.seconds:
                    self._failed = error
                    return

    def _upload_apart(self) -> None:
        """Those files, several at once."""
        files = {name: self._apart / name for name in files_in(self._apart)}
        if not files:
            return
        above = f"{self._root}/{self._layout.apart}"
        self._system.put([str(path) for path in files.values()], [f"{above}/{name}" for name in files])
        self._uploaded |= files.keys()
        self._is_changed = True
        for path in files.values():
            path.unlink()

    def _rank(self, name: str) -> tuple[int, str]:
        """The place of a file among those that are uploaded one after the other."""
        first, last, by = self._layout.first, self._layout.last, name.lstrip(".")
        if name in last:
            return len(first) + 1 + last.index(name), by
        return first.index(name) if name in first else len(first), by


@dataclass(frozen=True)
class _Leaving:
    """A file that is on this machine until it has been uploaded."""

    path: Path
    address: str

    def __str__(self) -> str:
        return self.address

    def read(self) -> bytes:
        try:
            return read_whole(self.path, MAX_BYTES)
        except FileNotFoundError:
            return Span(self.address).read()


@dataclass(frozen=True)
class Leaving(Folder):
    """Images below an address, or still in the folder `copy` of this machine."""

    copy: Path = Path()

    def place(self, image: str) -> Place:
        """The file; whether it is there shows when it is read."""
        name = check_name(image, self.address)
        return _Leaving(self.copy / name, f"{self.address}/{name}")


@contextmanager
def _store_errors(address: str, then: str = "", kind: type[HafError] = HafError) -> Iterator[None]:
    """Say in one sentence why a store cannot be written."""
    try:
        yield
    except HafError:
        raise
    except Exception as error:  # each store's client has errors of its own
        raise kind(f"{address} cannot be written {refusal(error)}{then}.") from error


def _upload_seconds() -> float:
    text = os.environ.get("HAFBENCH_UPLOAD_SECONDS") or str(UPLOAD_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise HafError(f"HAFBENCH_UPLOAD_SECONDS is {text}; give seconds, such as 60.")
    return seconds
