"""Where images that were made elsewhere are: a folder, tar shards, Parquet files, a data set, here or in a store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hafbench.errors import HafError
from hafbench.files import names_below
from hafbench.images import SUFFIXES
from hafbench.sources.addresses import (
    Found,
    absolute,
    below,
    expand,
    fixed_part,
    is_pattern,
    is_remote,
    matching,
    reading,
)
from hafbench.sources.dataset import Dataset, marks_among
from hafbench.sources.folder import Folder, is_within
from hafbench.sources.parquet import Parquet
from hafbench.sources.places import Content, File, Place, Span, Unreadable, read_ahead, read_place
from hafbench.sources.prompts import category_of, read_images
from hafbench.sources.shards import Shards
from hafbench.sources.source import Identity, ImageSource, SourceImage, SourceName, identity_of

__all__ = [
    "SOURCES",
    "Content",
    "File",
    "Identity",
    "ImageSource",
    "Place",
    "SourceImage",
    "Span",
    "Unreadable",
    "category_of",
    "identity_of",
    "open_source",
    "parts_of",
    "read_ahead",
    "read_images",
    "read_place",
]


Files = tuple[Found, ...]


@dataclass(frozen=True)
class SourceKind:
    """A kind of source. about: a line for people. suffix: of the files that are it, for kinds made of such files.

    open: from an absolute address, and the files below it, where it is a folder elsewhere and they are listed already.
    """

    about: str
    open: Callable[[str, Files | None], ImageSource]
    suffix: str | None = None


def _shards(address: str, files: Files | None) -> ImageSource:
    return Shards(address, *_packed(address, ".tar", files))


def _parquet(address: str, files: Files | None) -> ImageSource:
    return Parquet(address, *_packed(address, ".parquet", files))


SOURCES: Mapping[SourceName, SourceKind] = {
    "folder": SourceKind("loose image files in a folder and its subfolders", Folder),
    "shards": SourceKind("WebDataset shards: SHARD.tar", _shards, ".tar"),
    "parquet": SourceKind("Parquet files with a column of images", _parquet, ".parquet"),
    "dataset": SourceKind("a folder of datasets' save_to_disk", lambda address, _: Dataset(address)),
}
KNOWN = SUFFIXES | {one.suffix for one in SOURCES.values() if one.suffix}
"""The suffixes of files that are images or hold some."""
PACKED = re.compile(r"\.(tar\.(gz|bz2|xz|zst)|tgz)$")


def open_source(where: str | Path, kind: SourceName | None = None) -> ImageSource:
    """The images at an address: a path, an address of fsspec such as s3://, or the id OWNER/NAME of a hub's data set.

    `{000..007}`, `{a,b}` and `*` name several files. `kind`, a name of SOURCES, is found by looking where it is not
    told. Raises HafError for an address at which there is nothing, or nothing of a known kind.
    """
    address = absolute(_of_hub(str(where)))
    if PACKED.search(address):
        raise HafError(f"{address}: images are read from their places in a shard, which has to be a plain .tar.")
    if kind is not None:
        return SOURCES[kind].open(address, None)
    if not _is_folder(address):
        return SOURCES[_kind_of_files(address)].open(address, None)
    if not is_remote(address):
        return SOURCES[_kind_here(Path(address))].open(address, None)
    files = tuple(below(address))
    names = [one.address for one in files]
    kind = _kind_of_names(names, address)
    if kind is None and marks_among(names):
        raise HafError(
            f"{address} is a folder of datasets' save_to_disk, which is read on this machine only; copy it here, or "
            "write it as Parquet (to_parquet)."
        )
    return SOURCES[kind or "folder"].open(address, files)


def _of_hub(where: str) -> str:
    """OWNER/NAME, where no such folder is here, is a data set of the hub."""
    is_file = Path(where).suffix.lower() in KNOWN or PACKED.search(where)
    is_id = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", where) and not is_file
    return f"hf://datasets/{where}" if is_id and not Path(where).exists() and not Path(where).parent.exists() else where


def _is_folder(address: str) -> bool:
    """Is an address that of a folder, and not of files? What is not here is taken to be one, and told of later."""
    if not is_remote(address) and Path(address).exists():
        return Path(address).is_dir()
    return not is_pattern(address) and PurePosixPath(address).suffix not in {one.suffix for one in SOURCES.values()}


def _kind_of_files(address: str) -> SourceName:
    kind = next((name for name, one in SOURCES.items() if one.suffix and address.endswith(one.suffix)), None)
    if kind is None:
        what = "a pattern of .tar or of .parquet files, or a folder" if is_pattern(address) else "a folder of images"
        raise HafError(f"{address}: this is not a source of images; give {what}.")
    return kind


def _kind_here(folder: Path) -> SourceName:
    with reading(str(folder)):
        top = [one.name for one in folder.iterdir() if not one.name.startswith(".")] if folder.is_dir() else []
    if marks_among(top):
        return "dataset"
    # Folders of very many images are not walked through twice.
    if any(PurePosixPath(one).suffix.lower() in SUFFIXES for one in top):
        return "folder"
    return _kind_of_names(names_below(folder), str(folder)) or "folder"


def _kind_of_names(names: Sequence[str], where: str) -> SourceName | None:
    """The kind of a folder with these files: loose images where there is one."""
    suffixes = {PurePosixPath(name).suffix.lower() for name in names}
    kinds = [name for name, one in SOURCES.items() if one.suffix in suffixes]
    if suffixes & SUFFIXES:
        return "folder"
    if len(kinds) > 1:
        raise HafError(f"{where} holds .tar and .parquet files; name those of one kind, such as {where}/*.tar.")
    return kinds[0] if kinds else None


def _packed(address: str, suffix: str, files: Files | None) -> tuple[str, str, Files]:
    """The name of a source of packed files, the folder above them, and the files, in the order of their names."""
    if _is_folder(address):
        root, found = address, [one for one in files or below(address) if one.address.endswith(suffix)]
    elif is_pattern(address) and not Path(address).exists():
        root, found = fixed_part(address), [one for part in expand(address) for one in matching(part)]
    else:
        return PurePosixPath(address).stem, address.rpartition("/")[0], tuple(matching(address))
    once = sorted({one.address: one for one in found}.values(), key=lambda one: one.address)
    return PurePosixPath(root).name or "images", root, tuple(once)


def parts_of(where: str | Path) -> list[str]:
    """The folders right below a folder, each with images of its own, in the order of their names.

    Hidden ones, and those with runs alone, are left out. Raises HafError where there is none, and for images that would
    be left out: those that lie in none of them, or in a folder elsewhere to which a link leads.
    """
    address = absolute(_of_hub(str(where)))
    if not _is_folder(address) or not (is_remote(address) or Path(address).is_dir()):
        raise HafError(f"{address} is not a folder.")
    names = _names_below(address)
    inside = [one for one in names if PurePosixPath(one).suffix.lower() in KNOWN] + marks_among(names)
    _check_links(address)
    outside = [name for name in inside if "/" not in name]
    if outside:
        raise HafError(
            f"{address}: {len(outside)} of {len(inside)} images lie in no subfolder, such as {outside[0]}; "
            "move them into one, or leave out --per-subfolder."
        )
    parts = sorted({name.partition("/")[0] for name in inside})
    if not parts:
        raise HafError(f"There is no image in the subfolders of {address} (run folders are left out).")
    return [f"{address}/{part}" for part in parts]


def _check_links(address: str) -> None:
    """Raises HafError for a subfolder with images that is a link to a folder elsewhere: links are not followed."""
    if is_remote(address):
        return
    shown = (path for path in sorted(Path(address).iterdir()) if not path.name.startswith("."))
    for path in (one for one in shown if one.is_symlink() and one.is_dir() and not is_within(one, Path(address))):
        if any(PurePosixPath(name).suffix.lower() in KNOWN for name in names_below(path)):
            raise HafError(f"{path} is a link to a folder elsewhere, which is not followed; move the folder here.")


def _names_below(address: str) -> list[str]:
    """The paths of all files below a folder; hidden ones, and those of runs, left out."""
    if is_remote(address):
        return [one.address.removeprefix(address).lstrip("/") for one in below(address)]
    return sorted(names_below(Path(address)))
