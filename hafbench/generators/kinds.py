"""Which pipeline of diffusers a model is, found without its weights: by preset, folder, hub repository or tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hafbench import hub
from hafbench.errors import HafError
from hafbench.generators.presets import PRESETS
from hafbench.generators.sources import Source, read_index


def pipeline_class(source: Source) -> str | None:
    """The name of the pipeline's class; None where the files that tell are not here and cannot be fetched."""
    if source.preset:
        return source.preset.pipeline
    if source.path is None:
        return _of_hub(source.hub_id or "", source.revision)
    if source.path.is_dir():
        return str(read_index(source.path)["_class_name"])
    beside = source.path.parent
    if (beside / "model_index.json").is_file():
        return str(read_index(beside)["_class_name"])
    return _of_file(source.path)


def _of_hub(hub_id: str, revision: str | None = None) -> str | None:
    """By the repository's model_index.json, a few hundred bytes; a preset's repository needs none."""
    for preset in PRESETS.values():
        if preset.hub_id == hub_id:
            return preset.pipeline
    offline = hub.offline()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = hf_hub_download(hub_id, "model_index.json", revision=revision, local_files_only=offline)
        return str(read_index(Path(path).parent)["_class_name"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, HafError):
        return None  # loading it will say why


def _of_file(path: Path) -> str | None:
    """By the names and shapes of a checkpoint's tensors, as diffusers tells them; their values are not read."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        from diffusers.loaders.single_file_utils import fetch_diffusers_config
    except ImportError:
        return None
    try:
        with safe_open(path, "pt") as file:
            shapes: dict[str, Any] = {
                name: torch.empty(file.get_slice(name).get_shape(), device="meta")
                for name in file.keys()  # noqa: SIM118 (it is no mapping)
            }
        return _of_hub(str(fetch_diffusers_config(shapes)["pretrained_model_name_or_path"]))
    except (OSError, SafetensorError):
        return None
