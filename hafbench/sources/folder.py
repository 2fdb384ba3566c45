"""Loose image files, in a folder of this machine or below an address of fsspec."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hafbench.errors import HafError
from hafbench.files import is_utf8
from hafbench.images import SUFFIXES, find_images
from hafbench.sources.addresses import Found, below, is_remote
from hafbench.sources.places import File, Place, Span
from hafbench.sources.source import SourceImage, SourceName, check_name


@dataclass(frozen=True)
class Folder:
    """A folder, with its subfolders but for run folders; links that lead out of it are not followed."""

    address: str
    files: tuple[Found, ...] | None = field(default=None, compare=False, repr=False)
    """Those of a folder that is elsewhere, where they are listed already."""
    kind: SourceName = "folder"

    @property
    def name(self) -> str:
        """The folder's own name."""
        return PurePosixPath(self.address).name or "images"

    @property
    def local(self) -> Path | None:
        """The folder on this machine, None for one that is elsewhere."""
        return None if is_remote(self.address) else Path(self.address)

    def images(self, prompts: bool = True) -> list[SourceImage]:
        """Every image file by its suffix, hidden ones left out; a folder says nothing of prompts."""
        return self._here(self.local) if self.local else self._far()

    def place(self, image: str) -> Place:
        """The file; whether it is there shows when it is read."""
        return File(self.local, image) if self.local else Span(f"{self.address}/{image}")

    def _here(self, root: Path) -> list[SourceImage]:
        if not root.is_dir():
            raise HafError(f"{root} is not a folder.")
        if not is_utf8(str(root)):
            raise HafError(f"{root}: the folder's path is not UTF-8; rename it.")
        found = find_images(root)
        paths = [path for path in found if is_within(path, root)]
        if not paths:
            raise HafError(
                f"All {len(found)} images in {root} are links that point outside of it; "
                "copy the files, or name their folder."
                if found
                else f"There is no image in {root} (run folders below it are left out)."
            )
        return [_listed(path, root) for path in paths]

    def _far(self) -> list[SourceImage]:
        files = [
            one for one in self.files or below(self.address) if PurePosixPath(one.address).suffix.lower() in SUFFIXES
        ]
        if not files:
            raise HafError(f"There is no image in {self.address}.")
        images = []
        for one in files:
            name = check_name(one.address.removeprefix(self.address).lstrip("/"), self.address)
            images.append(SourceImage(name, Span(one.address), size=one.size, stamp=one.stamp))
        return images


def _listed(path: Path, root: Path) -> SourceImage:
    name = path.relative_to(root).as_posix()
    try:
        status = path.stat()
    except (OSError, RuntimeError):  # a link to nothing, or in a circle
        return SourceImage(name, File(root, name))
    return SourceImage(name, File(root, name), size=status.st_size, stamp=str(status.st_mtime_ns))


def is_within(path: Path, root: Path) -> bool:
    """Does a path stay in a folder if its links are followed? Links in a circle lead nowhere, and stay."""
    try:
        return path.resolve().is_relative_to(root)
    except RuntimeError:
        return True
