"""Where a model's files are: what --model may say, fetched from the hub if need be, with their checksums."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hafbench import hub
from hafbench.errors import HafError, Unavailable, causes, nearest, one_line
from hafbench.files import read_whole
from hafbench.generators.presets import PRESETS, Preset
from hafbench.images import sha256_of
from hafbench.worlds import built_in

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
COMPONENT = re.compile(r"[A-Za-z_]\w{0,99}", re.ASCII)
"""Components are parameters of a pipeline: a name that could not be one, such as a path, is never loaded."""
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
LEFT_OUT = ("safety_checker",)
"""Components that are not loaded: a safety checker replaces images that it dislikes by black ones, which would be
scored as if the model had drawn them."""


@dataclass(frozen=True)
class Source:
    """What --model says. With `path` the files are there; else they are the hub's, at `revision` or its main branch.

    `option` is how a command that has other models, too, calls this one.
    """

    name: str
    hub_id: str | None = None
    revision: str | None = None
    path: Path | None = None
    preset: Preset | None = None
    option: str = "--model"

    @property
    def variant(self) -> str | None:
        """Which of a hub repository's several sets of weights; a copy on this machine has the one it has."""
        return self.preset.variant if self.preset and not self.path else None


@dataclass(frozen=True)
class Files:
    """A model on this machine: a folder in diffusers' layout, a single file, or a file with the folder it belongs to.

    `facts` go into run.json: hub id and commit where they are known, and the SHA-256 of each weight file.
    """

    folder: Path | None = None
    file: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def find_source(model: str, presets: Mapping[str, Preset] = PRESETS) -> Source:
    """A preset's name, an existing path, PRESET=PATH, or a hub id (ORG/NAME or ORG/NAME@REVISION), in this order."""
    if model in presets:
        preset = presets[model]
        if preset.built_in:
            return Source(model, path=built_in(preset.built_in), preset=preset)
        return Source(model, preset.hub_id, preset.revision, preset=preset)
    name, equals, copy = model.partition("=")
    path = Path(model)
    if path.exists():
        return Source(_checked(path), path=path)
    if equals and name in presets:
        _checked(Path(copy))
        return Source(name, presets[name].hub_id, presets[name].revision, Path(copy), presets[name])
    if HUB_ID.fullmatch(model):
        hub_id, _, revision = model.partition("@")
        return Source(hub_id.replace("/", "--"), hub_id, revision or None)
    raise HafError(f"There is no model '{model}', neither a preset nor a path: {nearest(model, list(presets))}")


def _checked(path: Path) -> str:
    """The name of the model at `path`, if it is one."""
    if not path.exists():
        raise HafError(f"There is no file or folder {path}.")
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise HafError(f"{path} is not a diffusers model: it has no model_index.json.")
        return path.resolve().name
    if path.suffix != ".safetensors" or not path.is_file():
        raise HafError(f"{path}: only .safetensors files are loaded; other formats can run code when they are read.")
    return path.stem


def check_reachable(source: Source) -> None:
    """Raise Unavailable at once, before anything heavy is imported, for a hub model that can only be missing."""
    if source.path or not hub.offline():
        return
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import OfflineModeIsEnabled

    if not isinstance(try_to_load_from_cache(source.hub_id or "", "model_index.json", revision=source.revision), str):
        raise Unavailable(out_of_reach(source, OfflineModeIsEnabled()))


def locate(source: Source) -> Files:
    """The files of `source`, fetched from the hub unless they are here; raises Unavailable if that cannot be done."""
    if source.path is None:
        return fetch(source)
    if source.path.is_dir():
        refuse_pickles(source.path)
        return Files(source.path, facts={"weights": weights_of(source.path)})
    beside = source.path.parent
    folder = beside if (beside / "model_index.json").is_file() else None
    return Files(folder, source.path, {"weights": {source.path.name: sha256_of(source.path)}})


def fetch(source: Source) -> Files:
    """Download a hub repository's safetensors and configuration, or find them in the hub's cache."""
    from diffusers import DiffusionPipeline

    try:
        folder = Path(
            DiffusionPipeline.download(
                source.hub_id,
                revision=source.revision,
                variant=source.variant,
                use_safetensors=True,
                trust_remote_code=False,
                **dict.fromkeys(LEFT_OUT),
            )
        )
    except Exception as error:
        raise Unavailable(out_of_reach(source, error)) from error
    refuse_pickles(folder)
    weights = weights_of(folder, source.variant)
    return Files(folder, facts={"hub_id": source.hub_id, "commit": folder.name, "weights": weights})


def out_of_reach(source: Source, error: Exception) -> str:
    """One sentence for a model that cannot be fetched: why, and the way out."""
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    chain = list(causes(error))
    copy = f"{source.option} {source.name}=PATH" if source.preset else f"{source.option} PATH"
    login = "accept its licence on its hub page and run `hf auth login`"
    if any(isinstance(cause, GatedRepoError) for cause in chain):
        return f"{source.hub_id} is gated: {login}; or give the path of a local copy by {copy}."
    if any(isinstance(cause, RevisionNotFoundError) for cause in chain):
        return f"{source.hub_id} has no revision '{source.revision}' on the hub."
    if any(isinstance(cause, RepositoryNotFoundError) for cause in chain):
        return f"The hub has no public model {source.hub_id}: check the name; if it is private, run `hf auth login`."
    first = f" It is gated: {login} first." if source.preset and source.preset.gated else ""
    reason = f"{type(chain[-1]).__name__}: {one_line(chain[-1], 160)}"
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in chain):
        reason = "offline"
    return (
        f"{source.hub_id} is not on this machine and cannot be fetched ({reason}); "
        f"connect to the hub, or give the path of a local copy by {copy}.{first}"
    )


def read_index(folder: Path) -> dict[str, Any]:
    """A folder's model_index.json; raises HafError if it is broken."""
    path = folder / "model_index.json"
    try:
        index = json.loads(read_whole(path))
    except (OSError, ValueError, RecursionError) as error:
        raise HafError(f"{path} cannot be read ({error}).") from error
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise HafError(f"{path} does not name a pipeline of diffusers; pipelines with code of their own are not run.")
    return index


def _parts(folder: Path) -> list[Path]:
    """The subfolders of the components that are loaded."""
    listed = (
        name for name, value in read_index(folder).items() if isinstance(value, list) and COMPONENT.fullmatch(name)
    )
    return sorted(folder / name for name in listed if name not in LEFT_OUT and (folder / name).is_dir())


def weights_of(folder: Path, variant: str | None = None) -> dict[str, str]:
    """The SHA-256 of each weight file that is loaded, by its path in the folder."""
    weights = {}
    for part in _parts(folder):
        files = sorted(part.glob("*.safetensors"))
        wanted = [file for file in files if variant and f".{variant}" in file.stem]
        for file in wanted or [file for file in files if "." not in file.stem] or files:
            # In the hub's cache a large file is a link to a blob that is named by its SHA-256.
            blob = file.resolve().name
            checksum = blob if file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob) else sha256_of(file)
            weights[file.relative_to(folder).as_posix()] = checksum
    return weights


def refuse_pickles(folder: Path) -> None:
    """Refuse a component whose only weights are pickles, which would run their own code when they are read."""
    for part in _parts(folder):
        files = [file for file in sorted(part.iterdir()) if file.suffix in {*PICKLES, ".safetensors"}]
        if files and not any(file.suffix == ".safetensors" for file in files):
            raise HafError(f"{files[0]}: these weights are a pickle, which can run code; convert them to safetensors.")
