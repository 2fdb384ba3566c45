"""Checkpoints of a fit: each written whole or not at all, the newest good one found again, old ones deleted.

checkpoints/000100/
    pytorch_lora_weights.safetensors, or pipeline/      what one uses
    state.safetensors                                   what a resumed fit needs beside it
    state.json                                          the rest of it, and the SHA-256 of all other files
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from hafbench.files import disk_errors, sync
from hafbench.images import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

PIPELINE = "pipeline"
"""The folder of a checkpoint that is a whole model."""

STATE = "state.json"
TENSORS = "state.safetensors"


@dataclass(frozen=True)
class State:
    """What an exact resume needs: tensors by name, and plain JSON values, among them `step`."""

    tensors: Mapping[str, Tensor]
    plain: Mapping[str, Any]


def save(folder: Path, state: State, write_weights: Callable[[Path], None]) -> Path:
    """Write a checkpoint and return its folder; `write_weights` puts the weights into the folder that it is given."""
    step = state.plain["step"]
    path, partial = folder / f"{step:06d}", folder / f".{step:06d}.partial"
    with disk_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_weights(partial)
        save_file({name: _alone(value) for name, value in state.tensors.items()}, partial / TENSORS)
        files = [file for file in sorted(partial.rglob("*")) if file.is_file()]
        sums = {file.relative_to(partial).as_posix(): sha256_of(file) for file in files}
        text = json.dumps({**state.plain, "files": sums}, indent=1)
        (partial / STATE).write_text(text + "\n", encoding="utf-8")
        for place in [*files, partial / STATE, *(p for p in partial.rglob("*") if p.is_dir()), partial]:
            sync(place)
        shutil.rmtree(path, ignore_errors=True)  # a damaged one, which was passed over
        partial.rename(path)
        sync(folder)
    return path


def newest(folder: Path, note: Callable[[str], None]) -> Path | None:
    """The last checkpoint that is whole, if there is any; of later ones that are damaged a sentence goes to `note`."""
    for path in reversed(steps(folder)):
        problem = damage(path)
        if problem is None:
            return path
        note(f"{path} is damaged ({problem}) and is passed over.")
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None if it is whole."""
    try:
        files = json.loads((path / STATE).read_text(encoding="utf-8"))["files"]
        wrong = next((name for name, digest in files.items() if sha256_of(path / name) != digest), None)
    except (OSError, ValueError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{wrong} has changed" if wrong else None


def load(path: Path) -> State:
    """The state of a checkpoint that `newest` gave, on the CPU."""
    return State(load_file(path / TENSORS), json.loads((path / STATE).read_text(encoding="utf-8")))


def prune(folder: Path, keep: int | None) -> None:
    """Delete all but the newest `keep` checkpoints, and what a killed process left unfinished."""
    for path in steps(folder)[:-keep] if keep else ():
        shutil.rmtree(path)
    for path in folder.glob(".*.partial"):
        shutil.rmtree(path)


def steps(folder: Path) -> list[Path]:
    """The checkpoints' folders, the oldest first."""
    found = [path for path in folder.glob("[0-9]*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name))


def _alone(value: Tensor) -> Tensor:
    """On the CPU in memory of its own: optimizers share tables between parameters, which safetensors refuses."""
    return value.detach().cpu().contiguous().clone()
