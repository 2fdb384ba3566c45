"""Load LoRA adapters into a pipeline, and make sure that they do something.

diffusers may load a file whose keys it does not know without effect and without an error (diffusers issue 9291).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hafbench.errors import HafError
from hafbench.images import sha256_of


@dataclass(frozen=True)
class Lora:
    """A LoRA file and how strongly it is applied."""

    path: Path
    scale: float


def parse_lora(text: str) -> Lora:
    """PATH or PATH:SCALE; raises HafError if there is no such safetensors file."""
    head, _, tail = text.rpartition(":")
    try:
        lora = Lora(Path(head), float(tail)) if head else Lora(Path(text), 1.0)
    except ValueError:
        lora = Lora(Path(text), 1.0)
    if lora.path.suffix != ".safetensors":
        raise HafError(f"--lora {text}: only .safetensors files are loaded; other formats can run code.")
    if not lora.path.is_file():
        raise HafError(f"--lora {text}: there is no file {lora.path}.")
    return lora


def apply_loras(pipeline: Any, loras: list[Lora]) -> list[dict[str, Any]]:
    """Load all adapters and set their scales; returns what to write into run.json.

    Raises HafError for a file that is no LoRA for this pipeline, or of which a part found no place in it.
    """
    if not loras:
        return []
    if not hasattr(pipeline, "load_lora_weights"):
        raise HafError(f"--lora: {type(pipeline).__name__} takes no LoRA.")
    for index, lora in enumerate(loras):
        _load(pipeline, lora, f"lora{index}")
    pipeline.set_adapters([f"lora{index}" for index in range(len(loras))], [lora.scale for lora in loras])
    return [{"file": lora.path.name, "sha256": sha256_of(lora.path), "scale": lora.scale} for lora in loras]


def _load(pipeline: Any, lora: Lora, adapter: str) -> None:
    name = type(pipeline).__name__
    try:
        given = pipeline.lora_state_dict(str(lora.path))
        given = given[0] if isinstance(given, tuple) else given
        pipeline.load_lora_weights(str(lora.path), adapter_name=adapter, use_safetensors=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise HafError(f"--lora {lora.path}: this is not a LoRA for {name} ({reason}).") from error
    offered = sum(
        key.endswith(("lora_A.weight", "lora_B.weight", "lora.up.weight", "lora.down.weight")) for key in given
    )
    taken = sum(
        "lora_" in key and f".{adapter}." in key
        for part in pipeline.components.values()
        if hasattr(part, "named_parameters")
        for key, _ in part.named_parameters()
    )
    if taken == 0 or taken < offered:
        raise HafError(
            f"--lora {lora.path}: {name} has a place for {taken} of its {offered} tensors; is it for another model?"
        )
