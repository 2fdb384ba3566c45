"""Files on this machine or at any address of fsspec (s3://, gs://, az://, hf://): listed, and read in parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from hafbench import hub
from hafbench.errors import HafError, RunStopped, Unavailable, one_line
from hafbench.files import names_below, without_runs

PACKAGES: Mapping[str, str] = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
}
"""What reads a kind of address."""
STAMPS = (
    *("ETag", "etag", "md5Hash", "crc32c", "xet_hash", "blob_id"),
    *("mtime", "LastModified", "last_modified", "created"),
)
"""What stores say of a file that changes with its bytes, the surest first."""
BLOCK = 1 << 15
"""Bytes read at once while the headers of a shard are looked through: a header, and the texts beside an image."""
SECRET = re.compile(r"(sig|signature|token|key|secret|password|credential)=", re.IGNORECASE)
"""In the query of an address that somebody else signed, or with a key in it."""
MOST_EXPANDED = 1_000_000


@dataclass(frozen=True)
class Found:
    """A file: its address, its size in bytes if it is told, and what changes when its bytes do."""

    address: str
    size: int | None
    stamp: str


def is_remote(address: str) -> bool:
    """Has an address a scheme, such as s3://? Such a one is for fsspec; any other is a path of this machine."""
    return "://" in address


def absolute(address: str) -> str:
    """The address as it is kept in run.json: a path is made absolute; raises HafError for one that holds a secret."""
    if not is_remote(address):
        return str(Path(address).resolve())
    address = address.rstrip("/") if not address.endswith("://") else address
    parts = urlsplit(re.sub(r"[\[\]{}]", "", address))
    if parts.password is not None or SECRET.search(parts.query):
        raise HafError(
            f"{address.split('://')[0]}://...: an address is kept in run.json and may hold no password or signature; "
            "give it by the environment or the store's own settings."
        )
    return address


def expand(address: str) -> list[str]:
    """An address without braces, for each word of `{a,b}` and each number of `{000..007}`, as in a shell."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", address)
    if match is None:
        return [address]
    if match[3] is not None:
        words = match[3].split(",")
    else:
        first, last = int(match[1]), int(match[2])
        if not 0 <= last - first < MOST_EXPANDED:
            raise HafError(f"{address}: {match[0]} is not a range of numbers, such as {{000..007}}.")
        words = [str(number).zfill(len(match[1])) for number in range(first, last + 1)]
    before, after = address[: match.start()], address[match.end() :]
    return [whole for word in words for whole in expand(f"{before}{word}{after}")]


def is_pattern(address: str) -> bool:
    """Does an address name several files by braces or by `*`?"""
    return "*" in address or expand(address) != [address]


def fixed_part(address: str) -> str:
    """The folder above all files of a pattern: what stands before the first part with braces or `*`."""
    parts = address.split("/")
    wild = next(place for place, part in enumerate(parts) if re.search(r"[*{]", part))
    return "/".join(parts[:wild])


def matching(address: str) -> list[Found]:
    """The files that an address without braces names, in a fixed order; `*` is any part of a name.

    Raises HafError for one that names none.
    """
    with reading(address):
        system, path = system_of(address)
        if "*" in address:
            infos = [info for info in system.glob(path, detail=True).values() if info["type"] == "file"]
        elif system.isfile(path):
            infos = [system.info(path)]
        else:
            infos = []
    if not infos:
        raise HafError(f"{address}: there is no such file.")
    return _found(system, infos, address)


def below(address: str) -> list[Found]:
    """Every file below a folder at an address, in a fixed order; hidden ones, and those of runs, are left out.

    Raises HafError where there is none, and for a subfolder of this machine that cannot be read.
    """
    with reading(address):
        system, path = system_of(address)
        # A listing that was kept from before may be of files that are no longer there.
        system.invalidate_cache()
        if is_remote(address):
            there = system.find(path, detail=True).values()
        else:  # fsspec would leave out a folder that cannot be read
            names = [name for name in names_below(Path(path)) if not Path(path, name).is_symlink()]
            there = [system.info(f"{path}/{name}") for name in names]
        infos = [info for info in there if info["type"] == "file"]
    root = _whole(system, path, address).rstrip("/") if is_remote(address) else path
    files = {one.address[len(root) :].lstrip("/"): one for one in _found(system, infos, address)}
    names = without_runs(name for name in files if "/." not in f"/{name}")
    if not names:
        raise HafError(f"{address} is not a folder with files (run folders below it are left out).")
    return [files[name] for name in names]


def _found(system: Any, infos: list[Mapping[str, Any]], address: str) -> list[Found]:
    remote = is_remote(address)
    names = [_whole(system, info["name"], address) if remote else info["name"] for info in infos]
    files = [
        Found(name, info.get("size"), str(next((info[key] for key in STAMPS if info.get(key) is not None), "")))
        for name, info in zip(names, infos, strict=True)
    ]
    return sorted(files, key=lambda one: one.address)


def _whole(system: Any, path: str, address: str) -> str:
    """The address of a path, as people write it: those of memory:// have no slash at their beginning.

    The scheme is that of `address`: a store may have several, such as s3:// and s3a://, and knows itself by one.
    """
    whole = str(system.unstrip_protocol(path)).replace("memory:///", "memory://", 1)
    return f"{address.partition('://')[0]}://{whole.partition('://')[2]}"


def open_at(address: str, block: int | None = None) -> IO[bytes]:
    """A file to read and seek in; `block` bytes are read at once from a store far away."""
    with reading(address):
        system, path = system_of(address)
        options = {"block_size": block, "cache_type": "readahead"} if block else {}
        file: IO[bytes] = system.open(path, "rb", **options)
        return file


def read_span(address: str, start: int = 0, size: int | None = None) -> bytes:
    """Bytes of a file. Raises OSError where it is not there or closed to this user, RunStopped for any other reason.

    The clients of stores have tried again by then: other images would not be read either.
    """
    from hafbench.files import MAX_BYTES

    try:
        system, path = system_of(address)
        if size is None:
            size = system.size(path) or 0
        if size <= MAX_BYTES:
            content: bytes = system.cat_file(path, start=start or None, end=start + size)
            return content
    except (FileNotFoundError, PermissionError) as error:
        raise OSError(error.strerror or f"{type(error).__name__}: {one_line(error)}") from error
    except Exception as error:
        if isinstance(error, HafError) or (isinstance(error, OSError) and not is_remote(address)):
            raise
        raise RunStopped(
            f"{address} cannot be read ({type(error).__name__}: {one_line(error)}); run the same command again to "
            "resume."
        ) from error
    raise OSError(f"this file is over the limit of {MAX_BYTES >> 30} GiB")


@contextmanager
def reading(address: str) -> Iterator[None]:
    """Say in one sentence why something at an address cannot be read."""
    try:
        yield
    except HafError:
        raise
    except FileNotFoundError as error:
        raise HafError(f"{address}: there is no such file or folder.") from error
    except Exception as error:  # each store's client has errors of its own
        raise HafError(f"{address} cannot be read {refusal(error)}.") from error


def refusal(error: BaseException) -> str:
    """What a store's client said, and what to do where it has no keys."""
    text = f"({type(error).__name__}: {one_line(error)})"
    return f"{text}; set them where its client looks, such as AWS_PROFILE" if "credentials" in text.lower() else text


def system_of(address: str) -> tuple[Any, str]:
    """The file system of fsspec for an address, and the path in it; fsspec keeps one for each store and process.

    Raises Unavailable where a package is missing, HafError for a scheme that fsspec does not know, and for hf:// where
    the hub cannot be reached.
    """
    from fsspec.core import url_to_fs

    scheme = address.split("://")[0] if is_remote(address) else "file"
    if scheme == "hf" and hub.offline():
        raise HafError(
            f"{address} is on the model hub, which cannot be reached from here; download it, and name the local folder."
        )
    try:
        system, path = url_to_fs(address)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        what = f"`pip install {package}`" if package else one_line(error)
        raise Unavailable(f"{address} cannot be read without another package: {what}.") from error
    except ValueError as error:
        raise HafError(f"{address}: {one_line(error)}.") from error
    return system, path
