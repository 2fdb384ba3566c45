"""What makes images: a diffusers model, or a generator of another package."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hafbench.generators.presets import PRESETS, Preset
from hafbench.registry import Entry, Registry

if TYPE_CHECKING:
    from hafbench.specs import GeneratorSpec
    from hafbench.types import Generator

__all__ = ["GENERATORS", "PRESETS", "Preset", "load_generator", "preset_rows"]

GENERATORS: Registry[Entry] = Registry(
    "generator",
    "hafbench.generators",
    Entry,
    (Entry("diffusers", "any text-to-image pipeline of diffusers", "hafbench.generators.diffusion:load"),),
)


def load_generator(spec: GeneratorSpec, device: str = "auto") -> Generator:
    """Load the model that `spec` names; raises HafError or Unavailable with what to do.

    A row's loader is a function of the spec and the device; its Options, if it has any, check `spec.arguments`.
    """
    from hafbench.settings import parse_settings

    entry = GENERATORS.get(spec.generator)
    if entry.options:
        options = parse_settings(entry.options_model, spec.arguments, "model.arguments")
        spec = spec.model_copy(update={"arguments": options.model_dump()})
    return cast("Generator", entry.load()(spec, device))


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
