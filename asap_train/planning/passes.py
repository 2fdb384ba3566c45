"""One pass of a model on the meta device: its network as a fit has it, its inputs, the most bytes, the operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from asap_train.planning.architectures import Architecture
from asap_train.planning.depth import SHORT, Watch

if TYPE_CHECKING:
    from asap_train.backbones import Backbone
    from asap_train.training.config import LoraSettings

SAMPLED = 2
"""Images in a pass of sampling: one, and its unguided half."""


@dataclass(frozen=True)
class Case:
    """What a profile depends on: `precision` is mixed_precision, `widened` whether the residual stream is float32."""

    side: int
    tokens: int
    precision: str = "bf16"
    widened: bool = True
    lora: LoraSettings | None = None


def build(architecture: Architecture, case: Case) -> Backbone:
    """The backbone with its network on the meta device, in the dtype that it has in a fit, and without encoders."""
    import diffusers
    import torch

    from asap_train.backbones import BACKBONES, Loaded
    from asap_train.training.precision import DTYPES

    dtype = DTYPES[case.precision] if case.lora else torch.float32
    with torch.device("meta"):
        network = getattr(diffusers, architecture.network)(**architecture.config).to(dtype)
    pipeline = empty_pipeline(architecture, network)
    return BACKBONES.get(architecture.pipeline).load()(Loaded(pipeline, {}))  # type: ignore[no-any-return]


def empty_pipeline(architecture: Architecture, network: Any) -> Any:
    """The pipeline with a denoiser and a scheduler only."""
    import inspect

    import diffusers

    kind = getattr(diffusers, architecture.pipeline)
    parameters = inspect.signature(kind.__init__).parameters
    unet = "unet" in parameters
    noise = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = (
        diffusers.DDPMScheduler(**noise, steps_offset=1, clip_sample=False)
        if unet
        else diffusers.FlowMatchEulerDiscreteScheduler()
    )
    required = {
        name: None
        for name, one in parameters.items()
        if name != "self" and (one.default is inspect.Parameter.empty) and one.kind is not one.VAR_KEYWORD
    }
    return kind(**{**required, "scheduler": scheduler, "unet" if unet else "transformer": network})


def tune(backbone: Backbone, case: Case) -> None:
    """Make a backbone ready for training, as a fit does."""
    from asap_train.training.lora import add_lora, freeze_idle, trained_parameters
    from asap_train.training.widening import widen

    if case.lora:
        add_lora(backbone, case.lora, 0)
    else:
        freeze_idle(backbone)
    if case.widened and case.precision != "no":
        widen(backbone.network)
    backbone.network.train()
    for _, parameter in trained_parameters(backbone):
        parameter.requires_grad_()


def quantizable_weights(network: Any) -> list[int]:
    """The sizes of the layers that quantization converts; none in a network that does not name its blocks."""
    from hafbench.errors import HafError
    from hafbench.generators.quantize import block_layers

    try:
        names = block_layers(network)
    except HafError:
        return []
    return [network.get_submodule(name).weight.numel() for name in names]


def inputs_of(architecture: Architecture, case: Case, images: int) -> tuple[Any, Any, dict[str, Any]]:
    """Noisy latents, timesteps and conditions of so many images, on the meta device."""
    import torch

    cells = case.side // architecture.cell
    with torch.device("meta"):
        noisy = torch.empty(images, architecture.channels, cells, cells)
        timesteps = torch.empty(images)
        conditions = {"words": torch.empty(images, case.tokens, architecture.words[1])}
        if architecture.pooled:
            name = "text_embeds" if architecture.network == "UNet2DConditionModel" else "pooled"
            conditions[name] = torch.empty(images, architecture.pooled)
        for name, shape in architecture.conditions.items():
            conditions[name] = torch.empty(images, *shape)
    # Whether a text has padding is asked of its mask, so that it has values.
    conditions["words_mask"] = torch.ones(images, case.tokens, dtype=torch.bool)
    if architecture.network not in ("QwenImageTransformer2DModel", "ZImageTransformer2DModel"):
        del conditions["words_mask"]
    return noisy, timesteps, conditions


def shortened(architecture: Architecture, longer: str = "") -> Architecture:
    """The same with SHORT blocks in each of its lists of equal blocks, and one more in the list `longer`."""
    if not architecture.blocks:
        return architecture
    lengths = {key: SHORT + (name == longer) for name, key in architecture.blocks.items()}
    return replace(architecture, config={**architecture.config, **lengths})


def peak_of(
    backbone: Backbone,
    architecture: Architecture,
    case: Case,
    images: int,
    depths: Mapping[str, int],
    checkpointing: bool = False,
) -> int:
    """The most bytes that live at once in a pass of so many images forward and back, beside what stays.

    `backbone` is that of a shortened architecture, `depths` the numbers of blocks that the answer is for.
    """
    from contextlib import nullcontext

    import torch
    from torch.utils.checkpoint import checkpoint

    from asap_train.planning.tracing import AsOnGpu, LiveBytes
    from asap_train.training.precision import DTYPES

    given = inputs_of(architecture, case, images)
    network: Any = backbone.network
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    stay = [*network.parameters(), *network.buffers()]
    stay += [one.grad for one in network.parameters() if one.grad is not None]
    live = LiveBytes(stay)
    watch = Watch(depths, live)
    on_gpu = AsOnGpu(None if case.precision == "no" else DTYPES[case.precision])
    if checkpointing:
        # What is computed again would be so outside of the mode.
        contexts = lambda: (nullcontext(), on_gpu)  # noqa: E731
        network.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, context_fn=contexts))
    hooks = watch.hook(network)
    with torch.device("meta"), live, on_gpu.of(network):
        torch.autograd.backward(backbone.predict(*given).float().square().mean())
    watch.close()
    for hook in hooks:
        hook.remove()
    return watch.peak(depths)


def sampling_peak(backbone: Backbone, architecture: Architecture, case: Case) -> int:
    """The most bytes of a forward pass without gradient, which are the same however deep the network is."""
    import torch

    from asap_train.planning.tracing import AsOnGpu, LiveBytes
    from asap_train.training.precision import DTYPES

    given, network = inputs_of(architecture, case, SAMPLED), backbone.network
    live = LiveBytes([*network.parameters(), *network.buffers()])
    on_gpu = AsOnGpu(None if case.precision == "no" else DTYPES[case.precision])
    with torch.device("meta"), torch.no_grad(), live, on_gpu.of(network):
        backbone.predict(*given)
    return int(live.peak)


def forward_operations(short: Architecture, depths: Mapping[str, int], case: Case) -> float:
    """Multiplications and additions of one image's way through the network that has so many blocks in each list."""
    counted = _operations(short, case)
    more = {name: _operations(shortened(short, name), case) - counted for name in depths}
    return counted + sum((depths[name] - SHORT) * each for name, each in more.items())


def _operations(architecture: Architecture, case: Case) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from asap_train.planning.tracing import AsOnGpu
    from asap_train.training.precision import DTYPES

    backbone, given = build(architecture, case), inputs_of(architecture, case, 1)
    on_gpu = AsOnGpu(DTYPES[case.precision], attention=False)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad(), on_gpu:
        backbone.predict(*given)
    return float(counter.get_total_flops())


def make_autoencoder(architecture: Architecture) -> Any:
    """The autoencoder of a model, on the meta device."""
    import diffusers
    import torch

    sizes: dict[str, Any] = {}
    if architecture.autoencoder == "AutoencoderKL":
        channels = (128, 256, 512, 512)
        sizes = {
            "block_out_channels": channels,
            "down_block_types": ("DownEncoderBlock2D",) * len(channels),
            "up_block_types": ("UpDecoderBlock2D",) * len(channels),
            "layers_per_block": 2,
            "latent_channels": architecture.channels,
        }
    with torch.device("meta"):
        return getattr(diffusers, architecture.autoencoder)(**sizes)


def autoencoder_peaks(autoencoder: Any, architecture: Architecture, case: Case) -> tuple[int, int]:
    """The most bytes beside its weights: when it encodes the two images of a pair, and when it decodes one."""
    import torch

    from asap_train.planning.tracing import AsOnGpu, LiveBytes

    video = architecture.autoencoder == "AutoencoderKLQwenImage"
    peaks = []
    with torch.device("meta"), torch.no_grad():
        pixels = torch.empty(2, 3, case.side, case.side, dtype=autoencoder.dtype)
        pixels = pixels[:, :, None] if video else pixels
        latents = autoencoder.encode(pixels).latent_dist.mode()[:1]
        for call, given in ((autoencoder.encode, pixels), (autoencoder.decode, latents)):
            live = LiveBytes([*autoencoder.parameters(), *autoencoder.buffers(), given])
            with live, AsOnGpu(None):
                call(given)
            peaks.append(int(live.peak))
    return peaks[0], peaks[1]
