"""Files of asap_train: folders of ours are deleted, and no others; and what the system refused, also to safetensors."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hafbench.errors import HafError
from hafbench.files import disk_errors

LEFT_BY_SAFETENSORS = re.compile(r"\.tmp[A-Za-z0-9]{6}")
"""The name of the file that safetensors writes before it gives it its own; it stays where the process is killed."""


def remove_own(folder: Path, is_own: Callable[[str], bool]) -> bool:
    """Delete a folder that this program wrote; returns whether there is nothing at that path now.

    It is left as it is if it is a link, no folder, or holds a file of which `is_own` denies the path below the folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        return not folder.is_symlink() and not folder.exists()
    files = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    named = [path for path in files if not LEFT_BY_SAFETENSORS.fullmatch(path.name)]
    if not all(is_own(path.relative_to(folder).as_posix()) for path in named):
        return False
    shutil.rmtree(folder)
    return True


def make_room(folder: Path, is_own: Callable[[str], bool]) -> None:
    """Delete a folder, if there is one, for a new one in its place; raises HafError if `remove_own` leaves it."""
    if not remove_own(folder, is_own):
        raise HafError(f"{folder} holds files of another origin; move it away, then run again to resume.")


@contextmanager
def tensor_errors(path: Path, setting: str = "--out") -> Iterator[None]:
    """As `disk_errors`, for what safetensors writes too: it gives the system's error as a text."""
    from safetensors import SafetensorError

    with disk_errors(path, setting):
        try:
            yield
        except SafetensorError as error:
            found = re.search(r"os error (\d+)", str(error))
            if found is None:
                raise
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
