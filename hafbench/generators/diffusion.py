"""Any text-to-image pipeline of diffusers: a preset, a hub id, a local folder or a single .safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hafbench.devices import pick_device
from hafbench.errors import HafError
from hafbench.generators.arguments import default_arguments, resolve_arguments
from hafbench.generators.lora import Lora, apply_loras, parse_lora
from hafbench.generators.presets import Preset
from hafbench.generators.quantize import check_quantization, quantize
from hafbench.generators.sources import Source, check_reachable, find_source

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.specs import GeneratorSpec
    from hafbench.suites import Prompt

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
OFFLOADS = {
    "model": "enable_model_cpu_offload",
    "sequential": "enable_sequential_cpu_offload",
    "group": "enable_group_offload",
}


def noise_seed(text: str, seed: int) -> int:
    """The seed, from 0 to 2^63 - 1, of the noise of an image of the prompt `text`.

    It depends on the text, too: were it the seed alone, all prompts of a seed would begin with the same noise, and one
    unlucky noise would spoil many of them, while the statistics count prompts as independent.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}\n{text}".encode()).digest()[:8], "big") >> 1


def for_each(arguments: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A call's arguments with those that are prompts, such as negative ones, repeated for `count` images."""
    return {
        name: [value] * count if isinstance(value, str) and "prompt" in name else value
        for name, value in arguments.items()
    }


class NotFinite(HafError):
    """A pipeline made NaN pixels."""


class DiffusionGenerator:
    """Draws each image from its own generator, seeded by its prompt and seed (`noise_seed`)."""

    def __init__(self, name: str, pipeline: Any, arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self.name, self.settings = name, settings
        self._pipeline, self._arguments = pipeline, arguments

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image]:
        """One RGB image for each (prompt, seed).

        The noise is drawn on the CPU, one generator an image, so that it does not depend on batch or device. Raises
        NotFinite, naming prompt and seed, for NaN pixels (which diffusers would turn into black).
        """
        import numpy as np
        import torch
        from PIL import Image as PILImage

        texts = [prompt.text for prompt in prompts]
        arguments = for_each(self._arguments, len(texts))
        noise = [torch.Generator("cpu").manual_seed(noise_seed(*each)) for each in zip(texts, seeds, strict=True)]
        with torch.no_grad():
            made = self._pipeline(prompt=texts, generator=noise, output_type="np", **arguments)
        if not hasattr(made, "images"):
            raise HafError(f"{type(self._pipeline).__name__} does not make images.")
        pictures = []
        for picture, prompt, seed in zip(made.images, prompts, seeds, strict=True):
            pixels = np.array(picture, dtype=np.float64)
            if not np.isfinite(pixels).all():
                raise NotFinite(f"the model made NaN pixels for prompt {prompt.id}, seed {seed}; try another --dtype")
            # In place: the GPU waits for this.
            np.clip(pixels, 0, 1, out=pixels)
            pixels *= 255
            pictures.append(PILImage.fromarray(np.rint(pixels, out=pixels).astype(np.uint8)))
        return pictures


def load(spec: GeneratorSpec, device: str = "auto") -> DiffusionGenerator:
    """Load the model that `spec` names; raises HafError or Unavailable with what to do."""
    source = find_source(spec.model)
    loras = [parse_lora(text) for text in spec.lora]
    check_reachable(source)
    check_quantization(spec.quantization)
    device = pick_device(device)
    dtype = pick_dtype(spec.dtype, device, source.preset)

    import torch

    from hafbench.generators.pipelines import DENOISERS, load_pipeline

    pipeline, files = load_pipeline(source, getattr(torch, DTYPES[dtype]))
    arguments = resolve_arguments(pipeline, source.preset.call() if source.preset else {}, spec.arguments)
    if spec.quantization != "none":
        network = next(getattr(pipeline, name) for name in DENOISERS if getattr(pipeline, name, None) is not None)
        quantize(network, spec.quantization, "cpu" if spec.offload != "none" else device)
    applied = apply_loras(pipeline, loras)
    place(pipeline, device, spec.offload)
    settings = describe(spec, files, pipeline, arguments, applied, dtype, device)
    return DiffusionGenerator(name_of(source, loras), pipeline, arguments, settings)


def describe(
    spec: GeneratorSpec,
    files: Mapping[str, Any],
    pipeline: Any,
    arguments: Mapping[str, Any],
    loras: Sequence[Mapping[str, Any]],
    dtype: str,
    device: str,
) -> dict[str, Any]:
    """All that shapes a pipeline's images, as JSON values for run.json: two that say the same draw the same."""
    return {
        "model": spec.model,
        **files,
        **call_facts(pipeline, arguments, dtype, device),
        "loras": list(loras),
        **({"quantization": spec.quantization} if spec.quantization != "none" else {}),
        "offload": spec.offload,
    }


def call_facts(pipeline: Any, arguments: Mapping[str, Any], dtype: str, device: str) -> dict[str, Any]:
    """What shapes the images of a pipeline besides its files, as JSON values."""
    return {
        "pipeline": type(pipeline).__name__,
        "scheduler": scheduler_facts(pipeline),
        "arguments": arguments,
        "defaults": default_arguments(pipeline, arguments),
        "dtype": dtype,
        "device": device.split(":")[0],
    }


def name_of(source: Source, loras: Sequence[Lora]) -> str:
    """The generator's name: the model's with those of its LoRAs."""
    return "+".join([source.name, *map(_lora_name, loras)])


def pick_dtype(wanted: str, device: str, preset: Preset | None) -> str:
    """A key of DTYPES; `auto` takes the preset's on a GPU, and fp32 on a CPU."""
    if wanted != "auto":
        return wanted
    if device == "cpu":
        return "fp32"
    return "fp16" if device == "mps" else (preset.dtype if preset else "bf16")


def place(pipeline: Any, device: str, offload: str) -> None:
    """Bring a pipeline to a device, whole or in parts; raises HafError where it does not fit or cannot."""
    import torch

    if offload == "none":
        try:
            pipeline.to(device)
        except torch.OutOfMemoryError as error:
            name = type(pipeline).__name__
            raise HafError(
                f"{name} does not fit into the memory of {device}; try --offload model or --dtype bf16."
            ) from error
        return
    if device == "cpu":
        raise HafError(f"--offload {offload} moves parts between a GPU and memory; there is no GPU in use.")
    method = getattr(pipeline, OFFLOADS[offload], None)
    if method is None:
        raise HafError(f"--offload {offload}: {type(pipeline).__name__} of this diffusers does not have it.")
    if offload == "group":
        method(onload_device=torch.device(device), offload_type="leaf_level")
    else:
        method(device=device)


def scheduler_facts(pipeline: Any) -> dict[str, Any] | None:
    """The class and the configuration of a pipeline's scheduler, as JSON values."""
    scheduler = getattr(pipeline, "scheduler", None)
    if scheduler is None:
        return None
    config = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    plain = json.loads(json.dumps(config, default=str))
    return {"class": type(scheduler).__name__, **plain}


def _lora_name(lora: Lora) -> str:
    return lora.name if lora.scale == 1.0 else f"{lora.name}@{lora.scale:g}"
