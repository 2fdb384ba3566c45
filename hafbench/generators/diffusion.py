"""Any text-to-image pipeline of diffusers: a preset, a hub id, a local folder or a single .safetensors file."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench import hub
from hafbench.errors import HafError, Unavailable, nearest
from hafbench.generators.lora import Lora, apply_loras, parse_lora
from hafbench.generators.presets import PRESETS, Preset
from hafbench.images import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.suites import Prompt

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
OFFLOADS = {
    "model": "enable_model_cpu_offload",
    "sequential": "enable_sequential_cpu_offload",
    "group": "enable_group_offload",
}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class DiffusionRequest:
    """What the command line says about a model. `arguments` are KEY=VALUE texts for the pipeline's call."""

    model: str
    loras: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    offload: str = "none"


@dataclass(frozen=True)
class Source:
    """Where a model's files are: a hub repository, or a path on this machine."""

    name: str
    hub_id: str | None = None
    revision: str | None = None
    path: Path | None = None
    preset: Preset | None = None


class NotFinite(HafError):
    """A pipeline made NaN or infinite pixels."""


class DiffusionGenerator:
    """Draws each image from its own generator, seeded by the image's seed alone."""

    def __init__(self, name: str, pipeline: Any, arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self.name, self.settings = name, settings
        self._pipeline, self._arguments = pipeline, arguments

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image]:
        """One RGB image for each (prompt, seed).

        The noise is drawn on the CPU, one generator an image, so that it does not depend on batch or device. Raises
        NotFinite for pixels that are not numbers (which diffusers would turn into black).
        """
        import numpy as np
        import torch
        from PIL import Image as PILImage

        texts = [prompt.text for prompt in prompts]
        arguments = {
            key: [value] * len(texts) if key.startswith("negative_prompt") and isinstance(value, str) else value
            for key, value in self._arguments.items()
        }
        noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with torch.inference_mode():
            made = self._pipeline(prompt=texts, generator=noise, output_type="np", **arguments).images
        pixels = np.asarray(made, dtype=np.float64)
        for picture, prompt, seed in zip(pixels, prompts, seeds, strict=True):
            if not np.isfinite(picture).all():
                raise NotFinite(f"the model made NaN pixels for prompt {prompt.id}, seed {seed}; try another --dtype")
        return [PILImage.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)) for picture in pixels]


def load_generator(request: DiffusionRequest) -> DiffusionGenerator:
    """Load the model that `request` names; raises HafError or Unavailable with what to do."""
    source = find_source(request.model)
    loras = [parse_lora(text) for text in request.loras]
    given = dict(parse_argument(text) for text in request.arguments)
    device = pick_device(request.device)
    dtype = _dtype(request.dtype, device, source.preset)
    if request.offload != "none" and request.offload not in OFFLOADS:
        raise HafError(f"--offload {request.offload}: {nearest(request.offload, ['none', *OFFLOADS])}")

    pipeline, files = _load(source, dtype)
    arguments = {**(source.preset.call() if source.preset else {}), **given}
    _check_arguments(pipeline, arguments)
    applied = apply_loras(pipeline, loras)
    _place(pipeline, device, request.offload)
    settings = {
        "model": request.model,
        **files,
        "pipeline": type(pipeline).__name__,
        "scheduler": _scheduler(pipeline),
        "arguments": arguments,
        "loras": applied,
        "dtype": dtype,
        "device": device.split(":")[0],
        "offload": request.offload,
    }
    return DiffusionGenerator(_name(source, loras), pipeline, arguments, settings)


def find_source(model: str) -> Source:
    """A preset's name, an existing path or a hub id (with @revision), in this order."""
    if model in PRESETS:
        preset = PRESETS[model]
        return Source(model, preset.hub_id, preset.revision, preset=preset)
    path = Path(model)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise HafError(f"{path} is not a diffusers model: it has no model_index.json.")
        return Source(path.resolve().name, path=path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise HafError(
                f"{path}: only .safetensors files are loaded; other formats can run code when they are read."
            )
        return Source(path.stem, path=path)
    if HUB_ID.fullmatch(model):
        hub_id, _, revision = model.partition("@")
        return Source(hub_id.replace("/", "--"), hub_id, revision or None)
    raise HafError(f"There is no model '{model}', neither a preset nor a path: {nearest(model, list(PRESETS))}")


def parse_argument(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as JSON where it is JSON, else as text."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise HafError(f"--set {text}: write KEY=VALUE, for example --set num_inference_steps=30.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _load(source: Source, dtype: str) -> tuple[Any, dict[str, Any]]:
    """The pipeline, and which files it came from."""
    hub.offline()
    import diffusers
    import torch
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    options = {"torch_dtype": getattr(torch, DTYPES[dtype]), "use_safetensors": True}
    path, files = _local(source)
    try:
        if path.is_file():
            pipeline = diffusers.DiffusionPipeline.from_single_file(str(path), **options)
        else:
            _refuse_pickles(path)
            variant = source.preset.variant if source.preset else None
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                str(path), variant=variant, trust_remote_code=False, local_files_only=True, **options
            )
    except HafError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise HafError(f"{path} cannot be loaded as a diffusers model ({type(error).__name__}: {reason}).") from error
    pipeline.set_progress_bar_config(disable=True)
    if getattr(pipeline, "safety_checker", None) is not None:
        # It replaces images that it dislikes by black ones, which would be scored as if the model had drawn them.
        pipeline.safety_checker = None
    return pipeline, files


def _local(source: Source) -> tuple[Path, dict[str, Any]]:
    """The model's folder or file on this machine, fetched from the hub if need be, and its checksums."""
    if source.path is not None:
        files = [source.path] if source.path.is_file() else sorted(source.path.rglob("*.safetensors"))
        return source.path, {
            "weights": {str(file.relative_to(source.path.parent)): sha256_of(file) for file in files},
        }
    from diffusers import DiffusionPipeline

    variant = source.preset.variant if source.preset else None
    try:
        folder = Path(
            DiffusionPipeline.download(
                source.hub_id,
                revision=source.revision,
                variant=variant,
                use_safetensors=True,
                trust_remote_code=False,
            )
        )
    except Exception as error:
        raise Unavailable(_out_of_reach(source, error)) from error
    # In the hub's cache a large file is a link to a blob that is named by its SHA-256.
    weights = {str(file.relative_to(folder)): file.resolve().name for file in sorted(folder.rglob("*.safetensors"))}
    return folder, {"hub_id": source.hub_id, "commit": folder.name, "weights": weights}


def _out_of_reach(source: Source, error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    gated = bool(source.preset and source.preset.gated)
    if isinstance(error, GatedRepoError):
        return (
            f"{source.hub_id} is gated: accept its licence on its hub page, then run `hf auth login`; "
            "or give --model the path of a local copy."
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"The hub has no public model {source.hub_id}: check the name, run `hf auth login` if it is private."
    login = " It is gated: accept its licence on its hub page and run `hf auth login` first." if gated else ""
    reason = " ".join(str(error).split())[:160]
    return (
        f"{source.hub_id} is neither on this machine nor to be reached ({type(error).__name__}: {reason}); "
        f"connect to the hub, or give --model the path of a local copy.{login}"
    )


def _refuse_pickles(folder: Path) -> None:
    """Refuse a component whose only weights are pickles, which would run their own code when they are read."""
    for pickle in sorted(folder.rglob("*.bin")):
        if pickle.name.endswith("model.bin") and not list(pickle.parent.glob("*.safetensors")):
            raise HafError(f"{pickle}: these weights are a pickle, which can run code; convert them to safetensors.")


def _check_arguments(pipeline: Any, arguments: Mapping[str, Any]) -> None:
    known = list(inspect.signature(pipeline.__call__).parameters)
    reserved = {"prompt", "generator", "output_type", "return_dict", "num_images_per_prompt"}
    for name in arguments:
        if name in reserved:
            raise HafError(f"--set {name}: hafbench sets this itself.")
        if name not in known:
            raise HafError(f"--set {name}: {type(pipeline).__name__} has no such argument; {nearest(name, known)}")


def pick_device(wanted: str) -> str:
    """A torch device that is there: `auto` takes CUDA, then MPS, then the CPU."""
    import torch

    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if found[name])
    kind, _, index = wanted.partition(":")
    if kind not in found or (index and not index.isdigit()):
        raise HafError(f"--device {wanted}: write auto, cpu, cuda, cuda:1 or mps.")
    if not found[kind] or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        raise HafError(f"--device {wanted}: torch sees no such device here; --device auto takes what there is.")
    return wanted


def _dtype(wanted: str, device: str, preset: Preset | None) -> str:
    if wanted == "auto":
        if device == "cpu":
            return "fp32"
        return "fp16" if device == "mps" else (preset.dtype if preset else "bf16")
    if wanted not in DTYPES:
        raise HafError(f"--dtype {wanted}: {nearest(wanted, ['auto', *DTYPES])}")
    return wanted


def _place(pipeline: Any, device: str, offload: str) -> None:
    import torch

    if offload == "none":
        pipeline.to(device)
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


def _scheduler(pipeline: Any) -> dict[str, Any]:
    config = {key: value for key, value in pipeline.scheduler.config.items() if not key.startswith("_")}
    plain = json.loads(json.dumps(config, default=str))
    return {"class": type(pipeline.scheduler).__name__, **plain}


def _name(source: Source, loras: Sequence[Lora]) -> str:
    return "+".join([source.name, *(lora.path.stem for lora in loras)])
