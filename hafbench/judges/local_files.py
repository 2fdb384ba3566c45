"""Where the files of a local judge's model are: a folder, or a hub repository that is fetched without any code."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from hafbench import hub
from hafbench.errors import HafError, Unavailable
from hafbench.generators.sources import PICKLES, Source, out_of_reach
from hafbench.images import sha256_of

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
UNWANTED = ("*/*", "consolidated*")
"""Copies of the weights in other layouts, which some repositories have."""
HASHED_WHOLE = 2**30
"""Bytes of weights up to which all are hashed: eight billion parameters would take a minute."""
END = 2**20


@dataclass(frozen=True)
class Files:
    """A model on this machine. `weights` identify each weight file by its name; `commit` is the hub's, if known."""

    name: str
    folder: Path
    weights: dict[str, str]
    commit: str | None = None


def find(model: str, revision: str | None = None) -> Files:
    """The files of a folder or hub id, fetched unless they are here.

    Raises Unavailable if they cannot be had, and HafError for what is not a model in safetensors.
    """
    path = Path(model)
    if path.is_dir():
        if revision:
            raise HafError(f"{model} is a folder, which has no revision '{revision}'; leave the revision out.")
        folder, name = path, path.resolve().name
    elif HUB_ID.fullmatch(model) and not path.exists():
        folder, name = _fetch(model, revision), model
    else:
        raise HafError(f"There is no folder {model}, and it is not a hub id such as ORG/NAME either.")
    _check(folder)
    commit = folder.name if COMMIT.fullmatch(folder.name) else None
    return Files(name, folder, _weights_of(folder), commit)


def _fetch(model: str, revision: str | None) -> Path:
    """The folder of a hub repository's snapshot, which is named by its commit."""
    hub.offline()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED))
    except Exception as error:
        source = Source(model, model, revision, option="--judge-model")
        raise Unavailable(out_of_reach(source, error)) from error


def _check(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise HafError(f"{folder} is not a model of transformers: it has no config.json.")
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise HafError(f"{pickles[0]}: these weights are a pickle, which can run code; convert them to safetensors.")
    raise HafError(f"{folder} has no weights: there is no .safetensors file in it.")


def _weights_of(folder: Path) -> dict[str, str]:
    """What identifies each weight file: its SHA-256 where that is quick, else its size and a hash of its ends."""
    files = sorted(folder.glob("*.safetensors"))
    is_quick = sum(file.stat().st_size for file in files) < HASHED_WHOLE
    weights = {}
    for file in files:
        # In the hub's cache a large file is a link to a blob that is named by its SHA-256.
        blob = file.resolve().name
        if file.is_symlink() and SHA256.fullmatch(blob):
            weights[file.name] = blob
        else:
            weights[file.name] = sha256_of(file) if is_quick else _ends_of(file)
    return weights


def _ends_of(path: Path) -> str:
    """A file's size, and the SHA-256 of its first and last MiB: tensors' names and shapes, and some of their values."""
    size = path.stat().st_size
    with path.open("rb") as file:
        total = hashlib.sha256(file.read(END))
        file.seek(max(0, size - END))
        total.update(file.read(END))
    return f"{size} bytes, ends {total.hexdigest()}"
