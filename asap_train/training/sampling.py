"""Images by the network that is tuned, as hafbench draws them from its checkpoint: for validation and for scoring.

No second pipeline is loaded: the network is brought to what a checkpoint would be loaded as while it draws. Prompts
have been encoded before (prompts.py), and the autoencoder is on the GPU only while an image is drawn.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from asap_train.backbones.parts import TEXT_ENCODERS
from asap_train.training.config import DTYPES as PRECISIONS
from asap_train.training.config import ENCODING
from asap_train.training.optimizers import averaged
from asap_train.training.widening import narrowed
from hafbench.generators.arguments import resolve_arguments
from hafbench.generators.diffusion import DTYPES, DiffusionGenerator, describe, name_of
from hafbench.generators.lora import lora_facts, parse_lora
from hafbench.generators.pipelines import find_files
from hafbench.generators.sources import find_source

if TYPE_CHECKING:
    from asap_train.training.setup import Training
    from hafbench.specs import GeneratorSpec


class TunedPipeline:
    """What DiffusionGenerator calls in place of a pipeline: the tuned network draws prompts encoded before."""

    def __init__(self, training: Training) -> None:
        assert training.prompts is not None  # noqa: S101 (`prepare` makes them)
        self._training, self._prompts = training, training.prompts

    def __call__(
        self, prompt: Sequence[str], generator: Sequence[torch.Generator], output_type: str, **arguments: Any
    ) -> Any:
        """As diffusers' text-to-image pipelines; `images` (n, H, W, 3) of n prompts."""
        training = self._training
        pipeline = training.backbone.pipeline
        taken = inspect.signature(pipeline.__call__).parameters
        with sampling(training):
            given = self._prompts.batch(prompt, training.accelerator.device)
            if given is not None:
                embeddings = {name: value for name, value in given.items() if name in taken}
                return pipeline(generator=list(generator), output_type=output_type, **embeddings, **arguments)
        parts = [self([text], [one], output_type, **arguments) for text, one in zip(prompt, generator, strict=True)]
        return SimpleNamespace(images=np.concatenate([part.images for part in parts]))


@contextmanager
def sampling(training: Training) -> Iterator[None]:
    """Within it the network is what its checkpoint is loaded as, and ready to draw."""
    backbone, dtype = training.backbone, getattr(torch, DTYPES[PRECISIONS[training.config.mixed_precision]])
    network, pipeline, vae = backbone.network, backbone.pipeline, backbone.pipeline.vae
    encoders = [getattr(pipeline, name) for name in TEXT_ENCODERS if getattr(pipeline, name, None) is not None]
    training.policy.eval()
    vae.to(training.accelerator.device)
    try:
        with ExitStack() as stack:
            for within in (torch.no_grad(), averaged(training.ema, training.values), narrowed(network)):
                stack.enter_context(within)
            for model in (network, *encoders):
                stack.enter_context(as_loaded(model, dtype))
            yield
    finally:
        vae.to("cpu")
        training.policy.train()


@contextmanager
def as_loaded(network: Any, dtype: torch.dtype) -> Iterator[None]:
    """Within it what a file holds is in the dtype that diffusers would load it in; afterwards it is as it was."""
    single = set(getattr(network, "_keep_in_fp32_modules", None) or ())
    kept: list[tuple[Any, Any]] = []
    stored = set(network.state_dict())
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        if name not in stored:
            continue
        wanted = torch.float32 if single & set(name.split(".")) else dtype
        if value.is_floating_point() and value.dtype != wanted:
            kept.append((value, value.data))
            value.data = value.data.to(wanted)
    try:
        yield
    finally:
        for value, before in kept:
            value.data = before


def tuned_generator(training: Training, spec: GeneratorSpec) -> DiffusionGenerator:
    """A generator of the network as it is now, which says of itself what the one loaded by `spec` would say.

    `spec` names a checkpoint: the model with its LoRA, or a whole pipeline.
    """
    source, loras = find_source(spec.model), [parse_lora(text) for text in spec.lora]
    pipeline, device = training.backbone.pipeline, training.accelerator.device.type
    facts = training.backbone.facts if loras else find_files(source).files.facts
    arguments = resolve_arguments(pipeline, source.preset.call() if source.preset else {}, spec.arguments)
    settings = describe(spec, facts, pipeline, arguments, [lora_facts(lora) for lora in loras], spec.dtype, device)
    return DiffusionGenerator(name_of(source, loras), TunedPipeline(training), _said(arguments), settings)


def plain_generator(training: Training, arguments: Mapping[str, Any]) -> DiffusionGenerator:
    """A generator of the network as it is now, with these arguments of the pipeline's call."""
    return DiffusionGenerator(training.config.model, TunedPipeline(training), _said(arguments), {})


def _said(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Without what has gone into the embeddings, or would have to."""
    return {name: value for name, value in arguments.items() if name not in ENCODING | {"negative_prompt"}}
