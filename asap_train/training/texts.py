"""Captions that are encoded in the step, since the text encoders themselves are tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asap_train.backbones import Backbone, Conditions

if TYPE_CHECKING:
    from torch import Tensor

CAPTION = "caption"
"""The name of a condition (b,): which of the texts each sample has."""


@dataclass(frozen=True)
class TunedTexts:
    """A backbone's prediction of conditions that name their texts: each different one is encoded once."""

    backbone: Backbone
    texts: Sequence[str]

    def predict(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The network's prediction, in the latents' shape, with a gradient by the adapters of the text encoders."""
        different, index = conditions[CAPTION].unique(return_inverse=True)
        encoded = self.backbone.encode_texts([self.texts[row] for row in different.tolist()])
        others = {name: value for name, value in conditions.items() if name != CAPTION}
        return self.backbone.predict(noisy, timesteps, others | {name: value[index] for name, value in encoded.items()})
