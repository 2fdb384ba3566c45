"""Load LoRA adapters into a pipeline, and make sure that they do something.

diffusers may load a file whose keys it does not know without effect and without an error (diffusers issue 9291).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hafbench.errors import HafError, one_line
from hafbench.images import sha256_of

HUB_FILE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./-]+\.safetensors)")
FOLDER_FILE = "pytorch_lora_weights.safetensors"
"""The file of a LoRA that is given as a folder, as diffusers and peft save it."""
MATRIX = re.compile(r"lora(_A|_B|\.up|\.down)(\.\w+)?\.weight$")
"""The names of a LoRA's matrices, in a file (diffusers' older or peft's form) and in a model (with the adapter)."""


@dataclass(frozen=True)
class Lora:
    """A LoRA file and how strongly it is applied."""

    path: Path
    scale: float

    @property
    def name(self) -> str:
        """The file's, or, of a file that is called as everyone's, the folder's: of a checkpoint with the fit's before.

        FIT/checkpoints/000300 is FIT-000300; the hub's models--ORG--NAME/snapshots/HASH is NAME.
        """
        if self.path.name != FOLDER_FILE:
            return self.path.stem
        folder = self.path.resolve().parent
        if folder.parent.name == "snapshots":
            return folder.parent.parent.name.rpartition("--")[2]
        if folder.parent.name == "checkpoints":
            return f"{folder.parent.parent.name}-{folder.name}"
        return folder.name or self.path.stem


def parse_lora(text: str) -> Lora:
    """PATH or PATH:SCALE; raises HafError if there is none.

    PATH is a file, a folder with a pytorch_lora_weights.safetensors in it or exactly one below, or ORG/NAME/FILE of
    the hub.
    """
    name, scale = text, 1.0
    head, colon, tail = text.rpartition(":")
    if colon and re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", tail):
        name, scale = head, float(tail)
    if not math.isfinite(scale):
        raise HafError(f"--lora {text}: the scale is too large.")
    path = Path(name)
    if path.is_dir():
        return Lora(_file_in(path, text), scale)
    if path.suffix != ".safetensors":
        raise HafError(f"--lora {text}: name a .safetensors file; other formats can run code when they are read.")
    if not path.is_file():
        on_hub = HUB_FILE.fullmatch(name)
        if not on_hub:
            raise HafError(f"--lora {text}: there is no file {path}.")
        path = _fetch(on_hub["repo"], on_hub["file"])
    return Lora(path, scale)


def _file_in(folder: Path, text: str) -> Path:
    """The LoRA file in a folder, or the only one below it: of several it would be a guess which one is meant."""
    if (folder / FOLDER_FILE).is_file():
        return folder / FOLDER_FILE
    found = sorted(folder.rglob(FOLDER_FILE))
    if len(found) != 1:
        several = f"{len(found)} files {FOLDER_FILE}, such as {found[0].parent}; name one of them" if found else ""
        raise HafError(f"--lora {text}: this folder holds {several or f'no {FOLDER_FILE}; name a .safetensors file'}.")
    return found[0]


def _fetch(repo: str, file: str) -> Path:
    from hafbench import hub

    hub.offline()
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file))
    except Exception as error:
        reason = one_line(error, 160)
        raise HafError(
            f"--lora {repo}/{file}: there is no such file here, and it cannot be fetched from the hub "
            f"({type(error).__name__}: {reason})."
        ) from error


def apply_loras(pipeline: Any, loras: list[Lora]) -> list[dict[str, Any]]:
    """Load all adapters and set their scales; returns what to write into run.json.

    Raises HafError for a file that is not a LoRA for this pipeline, or of which a part found no place in it.
    """
    if not loras:
        return []
    if not hasattr(pipeline, "load_lora_weights"):
        raise HafError(f"--lora: {type(pipeline).__name__} takes no LoRA.")
    for index, lora in enumerate(loras):
        _load(pipeline, lora, f"lora{index}")
    pipeline.set_adapters([f"lora{index}" for index in range(len(loras))], [lora.scale for lora in loras])
    return [lora_facts(lora) for lora in loras]


def lora_facts(lora: Lora) -> dict[str, Any]:
    """What to write of a LoRA into run.json."""
    return {"file": lora.path.name, "sha256": sha256_of(lora.path), "scale": lora.scale}


def _load(pipeline: Any, lora: Lora, adapter: str) -> None:
    name = type(pipeline).__name__
    try:
        given = pipeline.lora_state_dict(str(lora.path), use_safetensors=True)
        given = given[0] if isinstance(given, tuple) else given
        pipeline.load_lora_weights(str(lora.path), adapter_name=adapter, use_safetensors=True)
    except Exception as error:
        reason = one_line(error)
        raise HafError(f"--lora {lora.path}: this is not a LoRA for {name} ({reason}).") from error
    offered = sum(bool(MATRIX.search(key)) for key in given)
    taken = sum(
        f".{adapter}." in key and bool(MATRIX.search(key))
        for part in pipeline.components.values()
        if hasattr(part, "named_parameters")
        for key, _ in part.named_parameters()
    )
    if taken == 0 or taken < offered:
        raise HafError(
            f"--lora {lora.path}: {name} has a place for {taken} of its {offered} tensors; is it for another model?"
        )
