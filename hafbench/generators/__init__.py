"""Where images come from: a diffusers model, or a folder of images made elsewhere."""

from hafbench.generators.diffusion import DiffusionRequest, load_generator
from hafbench.generators.folder import FolderImage, read_folder
from hafbench.generators.presets import PRESETS, Preset

__all__ = ["PRESETS", "DiffusionRequest", "FolderImage", "Preset", "load_generator", "preset_rows", "read_folder"]


def preset_rows() -> list[dict[str, object]]:
    """The presets for `hafbench models`."""
    return [
        {
            "model": preset.name,
            "hub id": preset.hub_id or "comes with hafbench",
            "licence": preset.licence,
            "gated": "yes" if preset.gated else "no",
            "size": preset.size,
            "steps": preset.steps,
            "guidance": preset.guidance,
            "dtype": preset.dtype,
        }
        for preset in PRESETS.values()
    ]
