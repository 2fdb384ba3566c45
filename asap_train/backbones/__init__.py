"""Backbones: what training needs to know of an architecture, one readable file for each.

A backbone wraps a diffusers pipeline that hafbench's rules have loaded. Shapes: b images of H x W pixels have latents
(b, c, h, w); times (b,) are timesteps as the network takes them; conditions are named tensors with the batch first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from hafbench.errors import HafError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Conditions = Mapping[str, "Tensor"]


class Backbone(Protocol):
    """An architecture. Encoders work without gradient; `predict` is what is tuned."""

    pipeline: Any
    """The diffusers pipeline whose parts these are."""
    network: torch.nn.Module
    """The denoiser: a part of `pipeline`, and where LoRA goes."""
    lora_targets: Sequence[str]
    """Modules of `network` that LoRA takes by default, by the ends of their names."""
    facts: Mapping[str, Any]
    """Of the model's files, as in run.json: hub id, commit, SHA-256 of each weight file."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Images (b, 3, H, W) in -1 .. 1 as latents, as the network knows them: the mean of the distribution."""
        ...

    def encode_texts(self, captions: Sequence[str], size: tuple[int, int]) -> Conditions:
        """Captions of images of `size` (height, width) as what the network takes beside latents and times."""
        ...

    def draw_times(self, uniform: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Times (b,), spread as the family's own training has it, from uniform numbers (b,) in 0 .. 1.

        They grow with the numbers, and so does the noise. `grid` is (h, w) of the latents, for families that have
        larger images noisier; None means the model's own size.
        """
        ...

    def noised(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents with noise, as at those times."""
        ...

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the network should predict: noise, v, or the velocity noise - latents."""
        ...

    def predict(self, noisy: Tensor, times: Tensor, conditions: Conditions) -> Tensor:
        """The network's prediction, in the latents' shape."""
        ...


@dataclass(frozen=True)
class Loaded:
    """A pipeline on its device, and the facts of its files: what a backbone is made from."""

    pipeline: Any
    facts: Mapping[str, Any]


Maker = Callable[[Loaded], Backbone]

ARCHITECTURES: Mapping[str, str] = {
    "StableDiffusionPipeline": "asap_train.backbones.stable_diffusion:StableDiffusion",
    "StableDiffusionXLPipeline": "asap_train.backbones.stable_diffusion:StableDiffusionXL",
    "StableDiffusion3Pipeline": "asap_train.backbones.sd3:StableDiffusion3",
    "FluxPipeline": "asap_train.backbones.flux:Flux",
}
"""By the pipeline's class the file and class of its backbone. The built-in mannequin model is a Stable Diffusion 3."""


def load_backbone(model: str, dtype: str = "fp32", device: str = "cpu") -> Backbone:
    """The backbone of a preset, hub id, folder or file (as `hafbench run --model`), encoders and network on `device`.

    Raises HafError for an architecture that is not known here, Unavailable for weights that are not to be had.
    """
    import torch

    from hafbench.generators.diffusion import DTYPES
    from hafbench.generators.pipelines import load_pipeline
    from hafbench.generators.sources import check_reachable, find_source

    source = find_source(model)
    check_reachable(source)
    pipeline, facts = load_pipeline(source, getattr(torch, DTYPES[dtype]))
    name = type(pipeline).__name__
    if name not in ARCHITECTURES:
        raise HafError(f"{model} is a {name}, which cannot be tuned here; known: {', '.join(ARCHITECTURES)}.")
    module, _, kind = ARCHITECTURES[name].partition(":")
    made: Maker = getattr(import_module(module), kind)
    return made(Loaded(pipeline.to(device), facts))


def mask_on_grid(mask: Tensor, latents: Tensor) -> Tensor:
    """M (b, 1, H, W), 0 to 1, on the grid of latents (b, c, h, w): the share that covers each cell, (b, 1, h, w)."""
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(mask.float(), latents.shape[-2:])
