"""A pipeline whose models are loaded when they are asked for: until then they have a configuration and no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hafbench.generators.pipelines import PipelineFiles, find_files, load_parts
from hafbench.generators.sources import COMPONENT, LEFT_OUT, Source, read_index

LIBRARIES = ("diffusers", "transformers")


@dataclass(frozen=True)
class Components:
    """A pipeline with empty models, on the meta device, and the way to their weights."""

    found: PipelineFiles
    dtype: Any
    pipeline: Any
    empty: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """Of the model's files, for run.json."""
        return self.found.files.facts

    def load(self, names: Sequence[str], dtype: Any = None) -> dict[str, Any]:
        """Those of these models that the pipeline has, with their weights, on the CPU; in `dtype`, or the pipeline's.

        Raises HafError for weights that cannot be loaded.
        """
        wanted = [name for name in names if name in self.empty]
        if not wanted:
            return {}
        here = {name: model for name, model in self.empty.items() if name not in wanted}
        pipeline, _ = load_parts(self.found, dtype or self.dtype, here)
        return {name: getattr(pipeline, name) for name in wanted}


def open_pipeline(source: Source, dtype: Any) -> Components:
    """The pipeline of a model in the given torch dtype, without its weights; raises as `load_pipeline` does."""
    found = find_files(source)
    empty = empty_models(found.configuration, dtype)
    pipeline, _ = load_parts(found, dtype, empty)
    return Components(found, dtype, pipeline, empty)


def empty_models(folder: Path, dtype: Any) -> dict[str, Any]:
    """The models that a folder's model_index.json lists, as their configurations have them, by name."""
    import torch

    made = {}
    for name, value in read_index(folder).items():
        if not (isinstance(value, list) and COMPONENT.fullmatch(name)) or name in LEFT_OUT:
            continue
        library, kind = value
        model = getattr(import_module(library), kind, None) if library in LIBRARIES else None
        if isinstance(model, type) and issubclass(model, torch.nn.Module):
            made[name] = _empty(model, folder / name).to(dtype)
    return made


def _empty(model: Any, folder: Path) -> Any:
    import torch

    with torch.device("meta"):
        if hasattr(model, "load_config"):
            return model.from_config(model.load_config(folder, local_files_only=True))
        return model(model.config_class.from_pretrained(folder, local_files_only=True))
