"""WebDataset shards: tar files whose members with one key belong together, such as 07.png, 07.txt and 07.json.

The convention: https://github.com/webdataset/webdataset, "The WebDataset Format". The headers are looked through once;
after that each image is read by itself, from its place in the shard, so that nothing is unpacked.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from pathlib import PurePosixPath
from typing import IO, Any

from hafbench.errors import HafError, one_line
from hafbench.images import SUFFIXES
from hafbench.sources.addresses import BLOCK, Found, is_remote, open_at, reading
from hafbench.sources.places import READERS, Place, Span, Unreadable
from hafbench.sources.rows import of_prompts, prompt_of, seed_of
from hafbench.sources.source import SourceImage, SourceName, check_name, check_once, stem_of

MOST_TEXT = 1 << 20
"""Bytes of a text or JSON beside an image."""


@dataclass(frozen=True)
class Shards:
    """Tar files below `root`; an image is named SHARD/MEMBER, such as 000/07.png of 000.tar."""

    address: str
    name: str
    root: str
    files: tuple[Found, ...]
    kind: SourceName = "shards"
    _read: dict[str, list[SourceImage]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def _by_stem(self) -> dict[str, Found]:
        return {stem_of(one.address, self.root): one for one in self.files}

    def images(self, prompts: bool = True) -> list[SourceImage]:
        """The images of all shards, each shard in the order of its members."""
        with ThreadPoolExecutor(READERS, "shards") as pool:
            listed = pool.map(self._images_of, self._by_stem, repeat(prompts))
            found = [image for images in listed for image in images]
        if not found:
            raise HafError(f"There is no image in the shards of {self.address}.")
        return found

    def place(self, image: str) -> Place:
        """Where an image is in its shard, whose headers are looked through."""
        for stem in self._by_stem:
            if image.startswith(f"{stem}/"):
                if stem not in self._read:
                    self._read[stem] = self._images_of(stem, prompts=False)
                for one in self._read[stem]:
                    if one.name == image:
                        return one.place
        raise HafError(f"{self.address} has no image {image}.")

    def _images_of(self, stem: str, prompts: bool) -> list[SourceImage]:
        shard = self._by_stem[stem]
        with open_at(shard.address, BLOCK if is_remote(shard.address) else None) as file, reading(shard.address):
            images = list(_images(file, stem, shard, prompts))
        check_once(images, shard.address)
        return images


def _images(file: IO[bytes], stem: str, shard: Found, prompts: bool) -> Iterator[SourceImage]:
    """The images of a shard and, with `prompts`, what the texts of the same key say."""
    key, held, said = "", list[tarfile.TarInfo](), list[dict[str, Any]]()
    with tarfile.open(fileobj=file, mode="r:", errorlevel=0) as tar:
        for member in tar:
            if not member.isfile() and not member.islnk() and not member.issym():
                continue
            path = PurePosixPath(member.name)
            if path.name.startswith("."):
                continue
            own = str(path.parent / path.name.partition(".")[0])
            if own != key:
                yield from _of_key(held, of_prompts(*said), stem, shard)
                key, held, said = own, [], []
            if path.suffix.lower() in SUFFIXES:
                held.append(member)
            elif prompts and path.suffix.lower() in (".txt", ".json"):
                said.append(_said(tar, member, shard))
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
        yield from _of_key(held, of_prompts(*said), stem, shard)


def _of_key(held: list[tarfile.TarInfo], row: dict[str, Any], stem: str, shard: Found) -> Iterator[SourceImage]:
    for member in held:
        inside = check_name(member.name, shard.address)
        where = f"{shard.address}, {inside}"
        place: Place
        if not member.isfile() or member.issparse():
            place = Unreadable("this member of the shard is a link or a sparse file; write its bytes")
        else:
            place = Span(shard.address, member.offset_data, member.size)
        name = f"{stem}/{inside}"
        yield SourceImage(name, place, prompt_of(row, where), seed_of(row, where), member.size, shard.stamp)


def _said(tar: tarfile.TarFile, member: tarfile.TarInfo, shard: Found) -> dict[str, Any]:
    """What a text or JSON says of the images of its key: a text is the prompt."""
    file = tar.extractfile(member) if member.isreg() and member.size <= MOST_TEXT else None
    if file is None:
        raise HafError(f"{shard.address}, {member.name}: a text beside an image is a file of at most a megabyte.")
    try:
        text = file.read().decode("utf-8-sig")
        if member.name.lower().endswith(".txt"):
            return {"text": text.strip()}
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HafError(f"{shard.address}, {member.name} cannot be read ({one_line(error)}).") from error
    if not isinstance(said, dict):
        raise HafError(f"{shard.address}, {member.name}: this is not a JSON object.")
    return said
