"""A source of images: what is in it, in which order, under which names, and where each image's bytes are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, Protocol

from hafbench.errors import HafError
from hafbench.files import is_utf8

if TYPE_CHECKING:
    from hafbench.sources.places import Place
    from hafbench.suites import Prompt


SourceName = Literal["folder", "shards", "parquet", "dataset"]


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image and what is known of it before it is read.

    `name` is its path below the source, with `/`, as records have it. `size` is the number of its bytes, if it is told.
    `stamp` changes when the file that holds it is written again: a time or a checksum, as its store keeps them.
    """

    name: str
    place: Place
    prompt: Prompt | None = None
    seed: int | None = None
    size: int | None = None
    stamp: str = ""


class ImageSource(Protocol):
    """Images of one kind of place: a folder, shards, tables, a data set."""

    @property
    def address(self) -> str:
        """Absolute: opened again, it is the same source."""
        ...

    @property
    def kind(self) -> SourceName:
        """The name of its row in `hafbench.sources.SOURCES`."""
        ...

    @property
    def name(self) -> str:
        """What a report calls it."""
        ...

    def images(self, prompts: bool = True) -> list[SourceImage]:
        """All images in a fixed order; without `prompts` what the source says of those is not read.

        Raises HafError where there is no image, where one cannot be named, and for what is read and is no prompt.
        """
        ...

    def place(self, image: str) -> Place:
        """Where the image of that name is; raises HafError where there is none, if that is known."""
        ...


@dataclass(frozen=True)
class Identity:
    """What tells one set of images from another without reading them.

    `sha256` is over the names and sizes of all, `prompted` over their prompts and seeds. `stamp` is over what changes
    when a file is written again: where it is the same, the bytes are; where it is not, they may be.
    """

    sha256: str
    stamp: str
    prompted: str


def identity_of(images: Iterable[SourceImage]) -> Identity:
    """The identity of images in their order."""
    names, stamps, prompts = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for image in images:
        names.update(f"{image.name}\0{image.size}\n".encode())
        stamps.update(f"{image.name}\0{image.stamp}\n".encode())
        # Fields of later versions are left out where they say nothing.
        prompt = image.prompt.model_dump_json(exclude_defaults=True) if image.prompt else ""
        prompts.update(f"{image.name}\0{image.seed}\0{prompt}\n".encode())
    return Identity(names.hexdigest(), stamps.hexdigest(), prompts.hexdigest())


def check_name(name: str, where: str) -> str:
    """A name from inside of a file as records have it; raises HafError for one that would leave the source."""
    inside = name.removeprefix("./")
    if not is_utf8(inside) or re.search(r"^$|^/|(^|/)\.{1,2}(/|$)|//|\x00", inside):
        shown = inside.encode(errors="backslashreplace").decode()[:100]
        raise HafError(f"{where}: '{shown}' cannot be the name of an image; write the file again with plain names.")
    return inside


def stem_of(address: str, root: str) -> str:
    """What the images of a file are named after: its path below `root`, without the suffix."""
    return str(PurePosixPath(address.removeprefix(root).lstrip("/")).with_suffix(""))


def check_once(images: Sequence[SourceImage], where: str) -> None:
    """Raises HafError where two images have one name."""
    seen: set[str] = set()
    for image in images:
        if image.name in seen:
            raise HafError(f"{where}: {image.name} is there twice; give each image a name of its own.")
        seen.add(image.name)
