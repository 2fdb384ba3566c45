"""Where the bytes of one image are: small values that can be sent to other processes and machines, and read there."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from hafbench.errors import one_line
from hafbench.files import MAX_BYTES, read_whole

READERS = 8
"""Images that are read at once: a store far away takes its time for each."""

T = TypeVar("T")


class Place(Protocol):
    """Where an image is. `str(place)` says it to people."""

    def read(self) -> bytes:
        """The bytes of the image's file.

        Raises OSError where this image cannot be read, and RunStopped where no other one could be read either.
        """
        ...


@dataclass(frozen=True, slots=True)
class File:
    """A file on this machine: `name` is its path below a folder, which many files share, since a path is large."""

    folder: Path
    name: str

    def __str__(self) -> str:
        return str(self.folder / self.name)

    def read(self) -> bytes:
        """The bytes of a regular file of at most MAX_BYTES."""
        return read_whole(self.folder / self.name, MAX_BYTES)


@dataclass(frozen=True, slots=True)
class Span:
    """A file at an address of fsspec, or a part of one: `size` bytes from `start` on."""

    address: str
    start: int = 0
    size: int | None = None

    def __str__(self) -> str:
        return self.address if self.size is None else f"{self.address} at byte {self.start}"

    def read(self) -> bytes:
        """The bytes; a file that has become shorter raises OSError."""
        from hafbench.sources.addresses import read_span

        content = read_span(self.address, self.start, self.size)
        if self.size is not None and len(content) != self.size:
            raise OSError(f"the file ends after {len(content)} of its {self.size} bytes")
        return content


@dataclass(frozen=True)
class Content:
    """An image that has been read; `sha256` is the hex SHA-256 of its bytes."""

    content: bytes
    sha256: str

    def read(self) -> bytes:
        """The bytes."""
        return self.content


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read, and why."""

    reason: str

    def __str__(self) -> str:
        return self.reason

    def read(self) -> bytes:
        """Raises OSError."""
        raise OSError(self.reason)


def read_place(place: Place) -> Content | Unreadable:
    """The image read, and hashed, once: what was read stays as it is. Raises RunStopped."""
    if isinstance(place, Content | Unreadable):
        return place
    try:
        content = place.read()
    except OSError as error:
        return Unreadable(error.strerror or one_line(error))
    return Content(content, hashlib.sha256(content).hexdigest())


def read_ahead(items: Iterator[T], read: Callable[[T], T], ahead: int) -> Iterator[T]:
    """`read(item)` for each item in order, with at most `ahead` read before they are asked for.

    With 0 each is read when it is asked for, by this thread.
    """
    if ahead == 0:
        yield from map(read, items)
        return
    reading: deque[Future[T]] = deque()
    with ThreadPoolExecutor(READERS, "reader") as pool:
        try:
            for item in items:
                reading.append(pool.submit(read, item))
                if len(reading) > ahead:
                    yield reading.popleft().result()
            while reading:
                yield reading.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
