"""Backbones: what training needs to know of an architecture, one readable file for each.

A backbone wraps a diffusers pipeline that hafbench has loaded. Shapes: b images of H x W pixels have latents
(b, c, h, w); timesteps (b,) are as the network takes them; conditions are named tensors with the batch first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hafbench.errors import HafError
from hafbench.registry import Entry, Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Conditions = Mapping[str, "Tensor"]
Layers = Literal["attention", "feed_forward"]


@dataclass(frozen=True)
class Crop:
    """How an image was cut: (height, width) of what it was cut from, the cut's top and left, its (height, width).

    All in pixels; the corner is in those of the scaled image, as diffusers' SDXL scripts count it.
    """

    original: tuple[int, int]
    corner: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Crop:
        """Of an image that was neither scaled nor cut."""
        return cls(size, (0, 0), size)


class Backbone(Protocol):
    """An architecture. `predict` is what is tuned; encoders are frozen, but for adapters that are put into them."""

    pipeline: Any
    """The diffusers pipeline whose parts these are."""
    network: torch.nn.Module
    """The denoiser: a part of `pipeline`, and where LoRA goes."""
    lora_targets: Mapping[Layers, Sequence[str]]
    """Modules within the blocks of `network` that LoRA may take, by kind and by the ends of their names."""
    idle: Sequence[str]
    """Modules of `network`, by their whole names, whose weights have no effect on `predict`: they are not tuned."""
    text_encoders: Mapping[str, int]
    """Parts of `pipeline` that LoRA may take, and how many of their last layers have no effect on `encode_texts`."""
    guidance: float | None
    """What a model distilled with guidance is given while it is tuned; None for one that takes none."""
    text_tokens: int | None
    """Of the text encoder, in `encode_texts` and `encode_prompt`, at most; None for a family that has no choice.

    It must be the max_sequence_length that images are drawn with: texts are padded to it, and padding has an effect.
    """
    multiple: int
    """Of which height and width of images are multiples, in pixels."""
    facts: Mapping[str, Any]
    """Of the model's files, as in run.json: hub id, commit, SHA-256 of each weight file."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Images (b, 3, H, W) in -1 .. 1 as latents, as the network knows them: the mean of the distribution."""
        ...

    def encode_texts(self, captions: Sequence[str]) -> Conditions:
        """Captions as what the network takes beside latents and timesteps.

        A family whose texts have different lengths pads `words` (b, tokens, width) and says which of them are words,
        `words_mask` (b, tokens). See `joined`.
        """
        ...

    def encode_prompt(self, prompt: str, negative: str | None = None) -> Mapping[str, Any]:
        """A prompt as arguments of the pipeline's call, with the negative one where it samples with guidance.

        Without `negative` as the pipeline has it by default: most families take the empty prompt.
        """
        ...

    def encode_crops(self, crops: Sequence[Crop]) -> Conditions:
        """How images were cut, as what the network takes to know of it: nothing in most families."""
        ...

    def draw_timesteps(self, uniform: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Timesteps (b,), distributed as in the family's own training, from uniform numbers (b,) in 0 .. 1.

        They grow with the numbers, and so does the noise. `grid` is (h, w) of the latents, for families that have
        larger images noisier; None means the model's own size.
        """
        ...

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents with the noise of those timesteps."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should predict: noise, v, or the velocity noise - latents."""
        ...

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The network's prediction, in the latents' shape."""
        ...


@dataclass(frozen=True)
class Loaded:
    """A pipeline on its device, and the facts of its files: what a backbone is made from."""

    pipeline: Any
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class BackboneEntry(Entry):
    """An architecture; its name is the class of its pipeline, its loader makes a Backbone from a Loaded.

    `defaults`: settings of a fit that differ from FitConfig's for this family.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)


_LARGE = {
    "mixed_precision": "bf16",
    "gradient_checkpointing": True,
    "train_batch_size": 1,
    "gradient_accumulation_steps": 8,
}
_HALF = {"mixed_precision": "fp16", "train_batch_size": 4, "gradient_accumulation_steps": 2}


def _row(pipeline: str, about: str, loader: str, defaults: Mapping[str, Any]) -> BackboneEntry:
    return BackboneEntry(pipeline, about, f"{__name__}.{loader}", defaults=defaults)


# fmt: off
_TABLE = (
    _row("StableDiffusionPipeline", "Stable Diffusion 1.x and 2.x", "stable_diffusion:StableDiffusion", _HALF),
    _row("StableDiffusionXLPipeline", "Stable Diffusion XL", "stable_diffusion:StableDiffusionXL",
         {**_LARGE, "learning_rate": 5e-5}),
    _row("StableDiffusion3Pipeline", "Stable Diffusion 3 and 3.5, and the mannequin model", "sd3:StableDiffusion3",
         _LARGE),
    _row("FluxPipeline", "FLUX.1", "flux:Flux", _LARGE),
    _row("Flux2Pipeline", "FLUX.2 dev", "flux2:Flux2", _LARGE),
    _row("Flux2KleinPipeline", "FLUX.2 klein", "flux2:Flux2Klein", _LARGE),
    _row("QwenImagePipeline", "Qwen-Image", "qwen_image:QwenImage", _LARGE),
    _row("ZImagePipeline", "Z-Image and Z-Image-Turbo", "z_image:ZImage", _LARGE),
)
# fmt: on
BACKBONES: Registry[BackboneEntry] = Registry("backbone", "asap_train.backbones", BackboneEntry, _TABLE)
"""By the class of the pipeline.

Learning rates, batch sizes and the rank of LoRA are not reported in the paper as far as we know: the defaults are ours,
chosen so that a step fits a GPU of 24 GB (FLUX: 80 GB), and are not tuned.
"""


def load_backbone(model: str, dtype: str = "fp32", device: str = "cpu") -> Backbone:
    """The backbone of a preset, hub id, folder or file (as `hafbench run --model`), encoders and network on `device`.

    Raises HafError for an architecture that has no backbone, Unavailable for weights that are unavailable.
    """
    import torch

    from hafbench.generators.diffusion import DTYPES
    from hafbench.generators.pipelines import load_pipeline
    from hafbench.generators.sources import check_reachable, find_source

    source = find_source(model)
    check_reachable(source)
    pipeline, facts = load_pipeline(source, getattr(torch, DTYPES[dtype]))
    return backbone_of(model, Loaded(pipeline.to(device), facts))


def backbone_of(model: str, loaded: Loaded) -> Backbone:
    """The backbone of the pipeline that `model` is; raises HafError for an architecture that has none.

    Texts have the tokens that the model's preset says, or else the pipeline's own default.
    """
    from hafbench.generators.sources import find_source

    name = type(loaded.pipeline).__name__
    if name not in BACKBONES.names():
        raise HafError(f"{model} is a {name}, which cannot be tuned; known: {', '.join(BACKBONES.names())}.")
    made: Backbone = BACKBONES.get(name).load()(loaded)
    preset = find_source(model).preset
    made.text_tokens = preset.call().get("max_sequence_length", made.text_tokens) if preset else made.text_tokens
    return made


def mask_on_grid(mask: Tensor, latents: Tensor) -> Tensor:
    """M (b, 1, H, W), 0 to 1, on the grid of latents (b, c, h, w): the covered share of each cell, (b, 1, h, w)."""
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(mask.float(), latents.shape[-2:])


def joined(parts: Sequence[Conditions]) -> dict[str, Tensor]:
    """Conditions of several captions as one batch; shorter texts are padded with zeros, as their mask is."""
    from torch.nn.utils.rnn import pad_sequence

    return {name: pad_sequence([row for part in parts for row in part[name]], batch_first=True) for name in parts[0]}


def trimmed(conditions: Conditions) -> dict[str, Tensor]:
    """Without the padding that all texts of a batch have; texts without a mask are left as they are."""
    made = dict(conditions)
    if "words_mask" in made:
        longest = int(made["words_mask"].sum(1).max())
        made |= {name: made[name][:, :longest] for name in ("words", "words_mask")}
    return made
