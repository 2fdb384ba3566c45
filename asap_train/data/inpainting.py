"""Models that redraw a part of a picture: presets as data, loading by hafbench's rules, and one call to paint.

Any model of `hafbench models` whose architecture has an inpainting pipeline in diffusers can do it, too, at a high
strength: its latents outside the mask are put back after each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from hafbench.devices import pick_device
from hafbench.errors import HafError, Unavailable, nearest, one_line
from hafbench.generators.arguments import resolve_arguments
from hafbench.generators.diffusion import DTYPES, NotFinite, call_facts, pick_dtype, place
from hafbench.generators.presets import PRESETS, Preset
from hafbench.generators.sources import HUB_ID, Source, check_reachable, find_source, out_of_reach
from hafbench.provenance import without_folders
from hafbench.registry import Options

if TYPE_CHECKING:
    from asap_train.types import Mask
    from hafbench.types import Pixels

# fmt: off
_TABLE = (
    Preset("sd15-inpaint", "stable-diffusion-v1-5/stable-diffusion-inpainting", "CreativeML OpenRAIL-M", False,
           "StableDiffusionInpaintPipeline", "fp16", 512, 50, 7.5, arguments={"strength": 1.0}, variant="fp16"),
    Preset("sdxl-inpaint", "diffusers/stable-diffusion-xl-1.0-inpainting-0.1", "CreativeML OpenRAIL++-M", False,
           "StableDiffusionXLInpaintPipeline", "fp16", 1024, 20, 8.0, arguments={"strength": 0.99}, variant="fp16"),
    Preset("flux-fill", "black-forest-labs/FLUX.1-Fill-dev", "FLUX non-commercial", True, "FluxFillPipeline", "bf16",
           1024, 50, 30.0, arguments={"strength": 1.0}),
)
# fmt: on
INPAINTERS: dict[str, Preset] = {preset.name: preset for preset in _TABLE}
"""Models made for inpainting. Sources: their model cards and the examples in diffusers' docstrings."""

BASE_STRENGTH = 0.8
"""For a text-to-image model: of a part, its colours and rough shape are left to begin from."""
GRID = 16
"""Pictures that a model paints have sides of a multiple of this many pixels: latents of 8 and patches of 2."""
OURS = frozenset({"image", "mask_image", "control_image", "height", "width"})


@dataclass(frozen=True)
class Control:
    """A ControlNet that follows skeletons, and how strongly; `arguments` are further ones of the pipeline's call."""

    name: str
    hub_id: str
    licence: str
    arguments: Mapping[str, Any]


# fmt: off
_CONTROLS = (
    Control("sd15-openpose", "lllyasviel/control_v11p_sd15_openpose", "CreativeML OpenRAIL-M",
            {"controlnet_conditioning_scale": 1.0}),
    Control("sdxl-openpose", "xinsir/controlnet-openpose-sdxl-1.0", "Apache-2.0",
            {"controlnet_conditioning_scale": 1.0}),
    Control("flux-union", "Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro-2.0", "FLUX non-commercial",
            {"controlnet_conditioning_scale": 0.9, "control_guidance_end": 0.65}),
)
# fmt: on
CONTROLS: dict[str, Control] = {control.name: control for control in _CONTROLS}
"""For sd15 and sd15-inpaint, for sdxl and sdxl-inpaint, and for flux-dev."""


class PainterOptions(Options):
    """A model that redraws, and how.

    model: a name of INPAINTERS or of `hafbench models`, NAME=PATH, a folder, or a hub id. arguments: of the pipeline's
    call. size: of what is painted, in pixels of its longer side; None for the model's own. dtype and offload: as of a
    model that hafbench runs.
    """

    model: str = Field(default="", validate_default=True)
    arguments: Mapping[str, Any] = Field(default_factory=dict)
    size: int | None = Field(default=None, ge=2 * GRID)
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    offload: Literal["none", "model", "sequential", "group"] = "none"

    @field_validator("model")
    @classmethod
    def _named(cls, model: str) -> str:
        if not model:
            raise ValueError("name a model that redraws: --inpaint MODEL")
        return model


@dataclass(frozen=True)
class Painter:
    """A loaded inpainting pipeline. `settings` is what shapes its pictures, as JSON values."""

    pipeline: Any
    size: int
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any]

    def paint(self, image: Pixels, mask: Mask, prompt: str, seed: int, control: Pixels | None = None) -> Pixels:
        """Redraw `image` (height, width, 3) where `mask` (height, width) is True; sides are multiples of GRID.

        The noise is drawn on the CPU by `seed` in 0 .. 2^63 - 1, so that it does not depend on the device. What comes
        back may differ outside the mask, too. Raises NotFinite for NaN pixels.
        """
        import numpy as np
        import torch
        from PIL import Image as PILImage

        height, width = mask.shape
        pictures = {"image": PILImage.fromarray(image), "mask_image": PILImage.fromarray(mask)}
        if control is not None:
            pictures["control_image"] = PILImage.fromarray(control)
        with torch.no_grad():
            made = self.pipeline(
                prompt=prompt,
                height=height,
                width=width,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="np",
                **pictures,
                **self.arguments,
            )
        drawn = np.asarray(made.images[0], dtype=np.float64)
        if not np.isfinite(drawn).all():
            raise NotFinite(f"{self.settings['model']} made NaN pixels for seed {seed}; use another model or --device.")
        return np.rint(np.clip(drawn, 0, 1) * 255).astype(np.uint8)


def load_painter(options: PainterOptions, device: str = "auto", control: str | None = None) -> Painter:
    """Load the model that `options` names, with a ControlNet if one is named: a name of CONTROLS, or as a model.

    Raises HafError, and Unavailable for weights that are unavailable.
    """
    source = replace(find_source(options.model, {**PRESETS, **INPAINTERS}), option="--inpaint")
    if taken := sorted(OURS & options.arguments.keys()):
        raise HafError(f"arguments.{taken[0]}: asap-train sets this itself.")
    check_reachable(source)
    control_source = _find_control(control) if control else None
    device = pick_device(device)
    dtype = pick_dtype(options.dtype, device, source.preset)

    import torch

    from hafbench.generators.pipelines import load_pipeline

    torch_dtype = getattr(torch, DTYPES[dtype])
    pipeline, facts = load_pipeline(source, torch_dtype)
    made_for_it = _paints(pipeline)
    network, control_facts = _load_control(control_source, torch_dtype) if control_source else (None, None)
    if network is not None and _text_width(network) != _text_width(_network(pipeline)):
        raise HafError(f"The ControlNet {control} is made for another model than {options.model}.")
    if network is not None or not made_for_it:
        pipeline = _as_inpainting(pipeline, network)
    wanted = _arguments(source, control, made_for_it)
    arguments = resolve_arguments(pipeline, wanted, options.arguments)
    size = options.size or _size(source, pipeline)
    if size < 2 * GRID:
        raise HafError(f"A part is painted at {2 * GRID} pixels or more, not at {size}.")
    place(pipeline, device, options.offload)
    settings = {
        "model": without_folders(options.model),
        **facts,
        "control": control_facts,
        **call_facts(pipeline, arguments, dtype, device),
        "size": size,
    }
    return Painter(pipeline, size, arguments, settings)


def _paints(pipeline: Any) -> bool:
    import inspect

    return "mask_image" in inspect.signature(pipeline.__call__).parameters


def _as_inpainting(pipeline: Any, control: Any | None) -> Any:
    """The inpainting pipeline of the same components; raises HafError where diffusers has none."""
    import diffusers

    from hafbench.generators.pipelines import variant_of

    try:
        added = {} if control is None else {"controlnet": control}
        changed = variant_of(pipeline, diffusers.AutoPipelineForInpainting, **added)
    except ValueError as error:
        what = "inpainting" if control is None else "ControlNet inpainting"
        raise HafError(
            f"diffusers has no {what} pipeline for {type(pipeline).__name__}; use another model: "
            f"{', '.join(INPAINTERS)}."
        ) from error
    if isinstance(changed, diffusers.StableDiffusion3InpaintPipeline):
        # It tells a text-to-image transformer (16 channels in) from one made for inpainting (33) by this number alone.
        # Smaller ones, such as the built-in model's, are text-to-image, too.
        transformer = changed.transformer
        if transformer.config.in_channels == changed.vae.config.latent_channels:
            transformer.register_to_config(in_channels=16)
    return changed


def _arguments(source: Source, control: str | None, made_for_it: bool) -> dict[str, Any]:
    """What the pipeline is called with unless the user says otherwise."""
    chosen = source.preset.call() if source.preset else {}
    chosen = {name: value for name, value in chosen.items() if name not in OURS}
    if not made_for_it:
        chosen["strength"] = BASE_STRENGTH
    known = CONTROLS.get((control or "").partition("=")[0])
    return {**chosen, **(known.arguments if known else {})}


def _size(source: Source, pipeline: Any) -> int:
    if source.preset:
        return source.preset.size
    latents = getattr(pipeline, "default_sample_size", None) or _network(pipeline).config.sample_size
    return int(latents * pipeline.vae_scale_factor)


def _network(pipeline: Any) -> Any:
    """What predicts the noise."""
    return getattr(pipeline, "unet", None) or pipeline.transformer


def _text_width(network: Any) -> int | None:
    """How wide the text is that a network or its ControlNet takes: it tells the families of models apart."""
    width: int | None = network.config.get("cross_attention_dim") or network.config.get("joint_attention_dim")
    return width


def _find_control(text: str) -> Source:
    """A name of CONTROLS, NAME=PATH, a folder, or a hub id, in this order."""
    name, _, copy = text.partition("=")
    if text in CONTROLS:
        return Source(text, CONTROLS[text].hub_id, option="--control")
    path = Path(copy) if name in CONTROLS else Path(text)
    if path.exists():
        if not (path / "config.json").is_file():
            raise HafError(f"{path} is not a ControlNet in diffusers' layout: it has no config.json.")
        return Source(path.resolve().name, path=path)
    if HUB_ID.fullmatch(text):
        hub_id, _, revision = text.partition("@")
        return Source(hub_id.replace("/", "--"), hub_id, revision or None, option="--control")
    raise HafError(f"There is no ControlNet '{text}', neither a preset nor a path: {nearest(text, list(CONTROLS))}")


def _load_control(source: Source, dtype: Any) -> tuple[Any, dict[str, Any]]:
    """A ControlNet in the given torch dtype, and the facts about its files."""
    import json

    import diffusers

    from hafbench.images import sha256_of

    folder = source.path or _fetch_control(source)
    try:
        kind = getattr(diffusers, json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"])
        network = kind.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, local_files_only=True)
    except Exception as error:
        reason = one_line(error, 300)
        raise HafError(f"{folder} cannot be loaded as a ControlNet ({type(error).__name__}: {reason}).") from error
    hub = {"hub_id": source.hub_id, "commit": folder.name} if source.hub_id else {}
    weights = {file.name: sha256_of(file) for file in sorted(folder.glob("*.safetensors"))}
    return network, {**hub, "class": kind.__name__, "weights": weights}


def _fetch_control(source: Source) -> Path:
    from hafbench import hub

    hub.offline()
    from huggingface_hub import snapshot_download

    files = ["config.json", "diffusion_pytorch_model.safetensors"]
    try:
        return Path(snapshot_download(source.hub_id, revision=source.revision, allow_patterns=files))
    except Exception as error:
        raise Unavailable(out_of_reach(source, error)) from error
