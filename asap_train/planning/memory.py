"""Bytes of a fit on its GPU, by part, in each of its phases; the largest phase is what the card must hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from asap_train.planning.architectures import ARCHITECTURES, Architecture
from asap_train.planning.passes import Case
from asap_train.planning.profiles import Profile, Traced, activations, profile_of
from asap_train.training.objectives import OBJECTIVES

if TYPE_CHECKING:
    from asap_train.training.config import FitConfig

GIB = 2**30
CONTEXT = int(0.75 * GIB)
"""Assumed: CUDA's context, and the workspaces of cuBLAS and cuDNN."""
FRAGMENTATION = 0.1
"""Assumed: the share by which the allocator holds more than the tensors that come and go."""
BILLION = 10**9
PIXELS_ENCODED = 2**20
"""Of pairs that the autoencoder takes at once, at least one pair (training/cache.py)."""


@dataclass(frozen=True)
class Part:
    """Some of the memory: how many bytes, and whether they are counted or a rule of thumb."""

    name: str
    bytes: int
    source: Literal["computed", "assumed"] = "computed"


@dataclass(frozen=True)
class Phase:
    """What is in memory at once."""

    name: str
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """Of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def largest(self) -> Part:
        """The part that takes most."""
        return max(self.parts, key=lambda part: part.bytes)


@dataclass(frozen=True)
class Estimate:
    """All phases of a fit, in order."""

    phases: tuple[Phase, ...]

    @property
    def worst(self) -> Phase:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.bytes)

    @property
    def step(self) -> Phase:
        """A step of training."""
        return next(phase for phase in self.phases if phase.name == STEP)


STEP = "training step"


def case_of(config: FitConfig, architecture: Architecture) -> Case:
    """What a fit's activations depend on; the text encoders, which a `Case` has not, are left out of its LoRA."""
    tokens = config.max_sequence_length or architecture.words[0]
    side, lora = config.resolution or architecture.side, config.lora
    network = lora and lora.model_copy(update={"text_encoder": False})
    return Case(side, tokens, config.mixed_precision, config.residual_in_fp32, network)


def estimate(name: str, config: FitConfig) -> Estimate:
    """The memory of a fit of the architecture `name` on one GPU: optimizer, gradients and tuned weights in full."""
    architecture = ARCHITECTURES[name]
    case = case_of(config, architecture)
    profile = profile_of(name, case)
    width = 4 if config.mixed_precision == "no" or config.lora is None else 2
    encoders = int(sum(architecture.encoders) * BILLION * width)
    autoencoder = Part("autoencoder, float32", 4 * profile.autoencoder)
    pairs = max(1, PIXELS_ENCODED // case.side**2)
    standing = (*_weights(profile, config), *_trained(profile, config))
    phases = [
        _phase("texts encoded", (Part(f"text encoders, {8 * width} bit", encoders),)),
        _phase("images encoded", (autoencoder,), (Part("activations of the autoencoder", pairs * profile.encoding),)),
        _phase(STEP, standing, _passing(architecture, case, profile, config)),
    ]
    drawn = Part("activations of sampling", max(profile.decoding, profile.sampling))
    if config.validation or config.score:
        phases.append(_phase("images by the tuned network", (*standing, autoencoder), (drawn,)))
    if config.score:
        pipeline = _pipeline(profile, config, encoders)
        phases.insert(0, _phase("base scored", (pipeline,), (drawn,)))
        if config.score.model.offload != "none":  # then checkpoints are not drawn by the network in memory
            phases.append(_phase("checkpoints scored", (*standing, pipeline), (drawn,)))
    return Estimate(tuple(phases))


def _phase(name: str, standing: tuple[Part, ...], passing: tuple[Part, ...] = ()) -> Phase:
    held = int(FRAGMENTATION * sum(part.bytes for part in passing))
    reserve = (Part("CUDA context", CONTEXT, "assumed"), Part("allocator's reserve", held, "assumed"))
    return Phase(name, (*standing, *passing, *reserve))


def weights_bytes(profile: Profile | Traced, config: FitConfig) -> int:
    """Of the frozen network: nf4 has 4 bits a weight and 8 for each 64, whose scales share one of 32 for each 256."""
    width = 4 if config.mixed_precision == "no" else 2
    packed = {"none": float(width), "nf4": 0.5 + 1 / 64 + 4 / (64 * 256), "fp8": 1.0}[config.quantization]
    return int(profile.quantizable * packed + (profile.weights - profile.quantizable) * width)


def _weights(profile: Profile | Traced, config: FitConfig) -> tuple[Part, ...]:
    if config.lora:
        kind = config.quantization if config.quantization != "none" else config.mixed_precision
        return (Part(f"frozen weights, {'float32' if kind == 'no' else kind}", weights_bytes(profile, config)),)
    if not OBJECTIVES.get(config.objective).reference:
        return ()
    return (Part("frozen reference, float32", 4 * profile.weights),)


def _trained(profile: Profile | Traced, config: FitConfig) -> tuple[Part, ...]:
    state = 8 if config.optimizer == "adamw" else 2 + 8 / 256
    what = "LoRA" if config.lora else "tuned"
    parts = [
        Part(f"{what} weights, float32", 4 * profile.tuned),
        Part("gradients", 4 * profile.tuned),
        Part(f"optimizer's state ({config.optimizer})", int(state * profile.tuned)),
    ]
    if config.ema_decay:
        parts.append(Part("average of the tuned weights", 4 * profile.tuned))
    return tuple(parts)


def images_in_a_pass(config: FitConfig) -> int:
    """Winners and losers together, or one after the other."""
    return config.train_batch_size * (1 if config.two_passes else 2)


def _passing(architecture: Architecture, case: Case, profile: Profile | Traced, config: FitConfig) -> tuple[Part, ...]:
    images = images_in_a_pass(config)
    how = ", ".join(
        (
            f"{images} images in a pass",
            "gradient checkpointing" if config.gradient_checkpointing else "no gradient checkpointing",
        )
    )
    latents = architecture.channels * (case.side // architecture.cell) ** 2
    # Clean and noisy latents, noise, targets, and what policy and reference predict of them, in float32.
    batch = 2 * config.train_batch_size * (6 * 4 * latents + 4 * case.tokens * architecture.words[1])
    parts = [
        Part(f"activations: {how}", activations(profile, images, config.gradient_checkpointing)),
        Part("latents and texts of a batch", batch),
    ]
    if config.quantization != "none":
        parts.append(Part("one layer's weights, unpacked", 2 * profile.largest))
    return tuple(parts)


def _pipeline(profile: Profile | Traced, config: FitConfig, encoders: int) -> Part:
    """A pipeline that hafbench loads, of the base before the training: all of it, or its largest model at a time."""
    assert config.score is not None  # noqa: S101 (the caller has checked)
    sizes = (weights_bytes(profile, config), encoders, 2 * profile.autoencoder)
    offload = config.score.model.offload
    held = {"none": sum(sizes), "model": max(sizes)}.get(offload, 0)
    return Part(f"pipeline, offload {offload}", held)
