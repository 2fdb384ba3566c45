"""A backbone whose models are in memory only while they are needed: text encoders, then the autoencoder, the network.

Together they can be twice as large as the network alone, which is all that a step of training needs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from asap_train.backbones import Backbone, Loaded, backbone_of
from hafbench.generators.components import Components, open_pipeline
from hafbench.generators.diffusion import DTYPES
from hafbench.generators.pipelines import DENOISERS
from hafbench.generators.quantize import Quantization, quantize
from hafbench.generators.sources import check_reachable, find_source

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
AUTOENCODER = ("vae",)


@dataclass(frozen=True)
class Parts:
    """A backbone and the way to its models. Before `load_network` its network has a configuration and no weights."""

    backbone: Backbone
    components: Components
    device: Any

    @contextmanager
    def loaded(self, names: Sequence[str], dtype: torch.dtype | None = None) -> Iterator[None]:
        """Within it the pipeline has these models, on the device; afterwards they have left memory."""
        pipeline = self.backbone.pipeline
        for name, model in self.components.load(names, dtype).items():
            setattr(pipeline, name, model.to(self.device))
        try:
            yield
        finally:
            for name in names:
                if getattr(pipeline, name, None) is not None:
                    setattr(pipeline, name, None)
            free_memory()

    def load_text_encoders(self) -> None:
        """Bring in the text encoders, on the device, to stay: where they are tuned."""
        for name, model in self.components.load(TEXT_ENCODERS).items():
            setattr(self.backbone.pipeline, name, model.to(self.device))

    def load_autoencoder(self, dtype: torch.dtype | None = None) -> None:
        """Bring in the autoencoder to stay, in the memory of the CPU."""
        for name, model in self.components.load(AUTOENCODER, dtype).items():
            setattr(self.backbone.pipeline, name, model)

    def load_network(self, quantization: Quantization = "none", dtype: torch.dtype | None = None) -> None:
        """Bring in the denoiser, on the device, to stay."""
        for name, network in self.components.load(DENOISERS, dtype).items():
            quantize(network, quantization, self.device)
            self.backbone.network = network
            setattr(self.backbone.pipeline, name, network)


def open_backbone(model: str, dtype: str = "fp32", device: Any = "cpu") -> Parts:
    """The backbone of a model (as in `load_backbone`), none of whose models is loaded yet."""
    source = find_source(model)
    check_reachable(source)
    components = open_pipeline(source, getattr(torch, DTYPES[dtype]))
    backbone = backbone_of(model, Loaded(components.pipeline, components.facts))
    for name in components.empty:
        setattr(components.pipeline, name, None)
    return Parts(backbone, components, device)


def free_memory() -> None:
    """Give back what nothing refers to any more; a pipeline's parts refer to each other."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
