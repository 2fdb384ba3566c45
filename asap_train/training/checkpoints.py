"""Checkpoints of a fit: each written whole or not at all, the newest good one found again, old ones deleted.

checkpoints/000100/
    pytorch_lora_weights.safetensors, or pipeline/      what one uses
    kohya_lora_weights.safetensors                      only where `export_lora` has been asked for it
    state.safetensors                                   what a resumed fit needs beside it
    state.json                                          the rest of it, and the SHA-256 of all other files
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from safetensors.torch import load_file, save_file

from asap_train.files import make_room, remove_own, tensor_errors
from asap_train.training.lora import FILE as LORA
from asap_train.training.lora import KOHYA
from hafbench.errors import one_line
from hafbench.files import sync
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
    """Write a checkpoint and return its folder; `write_weights` puts the weights into the folder that it is given.

    Raises HafError if a folder of that name holds files that are not a checkpoint's, and for what the system refused.
    """
    step = state.plain["step"]
    path, partial = folder / f"{step:06d}", folder / f".{step:06d}.partial"
    with tensor_errors(folder):
        make_room(partial, _own_names(partial))
        partial.mkdir(parents=True)
        write_weights(partial)
        save_file({name: _alone(value) for name, value in state.tensors.items()}, partial / TENSORS)
        files = [file for file in sorted(partial.rglob("*")) if file.is_file()]
        sums = {file.relative_to(partial).as_posix(): sha256_of(file) for file in files}
        text = json.dumps({**state.plain, "files": sums}, indent=1)
        (partial / STATE).write_text(text + "\n", encoding="utf-8")
        for place in [*files, partial / STATE, *(p for p in partial.rglob("*") if p.is_dir()), partial]:
            sync(place)
        make_room(path, _own_names(path))  # there may be a damaged one, which was passed over
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
        plain = read_plain(path)
        there = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
        for name, digest in plain["files"].items():
            if name not in there:
                return f"{name} is missing"
            if sha256_of(path / name) != digest:
                return f"{name} has changed"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {one_line(error)}"
    return None if plain["step"] == int(path.name) else f"{STATE} is of step {plain['step']}"


def load(path: Path) -> State:
    """The state of a checkpoint that `newest` gave, on the CPU."""
    return State(load_file(path / TENSORS), read_plain(path))


def read_plain(path: Path) -> dict[str, Any]:
    """state.json of a checkpoint; raises OSError or ValueError if it is not one."""
    plain = from_json((path / STATE).read_bytes())
    if not isinstance(plain, dict) or not isinstance(plain.get("step"), int):
        raise ValueError(f"{STATE} has no step")
    if not isinstance(plain.get("files"), dict) or TENSORS not in plain["files"]:
        raise ValueError(f"{STATE} does not name the files")
    return plain


def prune(folder: Path, keep: int | None, in_use: Collection[Path] = ()) -> None:
    """Delete all but the newest `keep` checkpoints and those in use, and what a killed process left unfinished."""
    partial = [path for path in folder.glob(".*.partial") if _is_step(path.name[1:].removesuffix(".partial"))]
    for path in [*(steps(folder)[:-keep] if keep else ()), *partial]:
        if path not in in_use:
            remove_own(path, _own_names(path))


def steps(folder: Path) -> list[Path]:
    """The checkpoints' folders, the oldest first."""
    found = [path for path in folder.glob("[0-9]*") if _is_step(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def _is_step(name: str) -> bool:
    return re.fullmatch(r"[0-9]{6,}", name) is not None


def _own_names(path: Path) -> Callable[[str], bool]:
    """Whether a file is a checkpoint's: state.json names them; without it, as while it is written, by their places."""
    try:
        known = {STATE, KOHYA, *read_plain(path)["files"]}
        return known.__contains__
    except (OSError, ValueError):
        return lambda name: name in (STATE, TENSORS, LORA, KOHYA) or name.startswith(f"{PIPELINE}/")


def _alone(value: Tensor) -> Tensor:
    """On the CPU in memory of its own: optimizers share tables between parameters, which safetensors refuses."""
    return value.detach().cpu().contiguous().clone()
