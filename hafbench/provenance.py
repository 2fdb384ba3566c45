"""With what a run was made: package versions, the machine, the revision of our code."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

import hafbench

PACKAGES = (
    *("torch", "torchvision", "diffusers", "transformers", "accelerate", "peft", "open-clip-torch"),
    *("ultralytics-opencv-headless", "ultralytics", "pyiqa", "mediapipe", "ai-edge-litert", "supervision"),
    *("opencv-python-headless", "numpy", "scipy", "statsmodels", "pandas", "pillow", "pyarrow", "imagehash"),
)


def sha256_of_json(value: Any) -> str:
    """The hex SHA-256 of a JSON value, whatever the order of its keys: one hash for equal settings."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def without_folders(value: Any) -> Any:
    """A JSON value in which each text that is a local path, or NAME=PATH, has the path's last name only.

    For what is shared: the folders in which people work are often called after them.
    """
    if isinstance(value, Mapping):
        return {key: without_folders(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(one) for one in value]
    path = _path_in(value)
    return value if path is None else value.removesuffix(path) + Path(path).name


def local_paths(value: Any) -> Iterator[str]:
    """The paths that `without_folders` cuts in a JSON value."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from local_paths(one)
    elif path := _path_in(value):
        yield path


def _path_in(value: Any) -> str | None:
    """The path that a text is, or that follows its first =; None without one."""
    texts = (value, value.partition("=")[2]) if isinstance(value, str) else ()
    return next((text for text in texts if _is_path(text)), None)


def _is_path(text: str) -> bool:
    """Whether it is an absolute path, or leads through a folder to what is there."""
    try:
        path = Path(text)
        return bool(path.name) and path.name != text and (path.is_absolute() or path.expanduser().exists())
    except (OSError, RuntimeError, ValueError):  # too long, no such home, or with a NUL
        return False


def now() -> str:
    """The present as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of ours, Python's, and of every package that shapes a number, where installed."""
    return {"hafbench": hafbench.__version__, "python": platform.python_version(), **_installed()}


@cache
def _installed() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Machine(BaseModel):
    """Platform, processor, memory in GB, and the GPU if torch sees one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    platform: str
    processor: str
    cores: int | None
    memory_gb: float
    gpu: str | None
    cuda: str | None


def machine() -> Machine:
    """This machine."""
    import psutil
    import torch

    cuda = torch.cuda.is_available()
    return Machine(
        platform=platform.platform(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        gpu=torch.cuda.get_device_name(0) if cuda else None,
        cuda=torch.version.cuda if cuda else None,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


@cache
def git_revision() -> str | None:
    """The commit of the checkout that the package lies in, with `+changes` if it was edited; None elsewhere.

    As it was when a process first asked: what is edited later is not what the process runs.
    """
    root = Path(hafbench.__file__).parents[1]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def made_with() -> dict[str, Any]:
    """The fields of run.json and hap.json that say with what, and from when on, something is made."""
    return {"versions": versions(), "machine": machine(), "git": git_revision(), "started": now()}
