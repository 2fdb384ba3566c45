"""How far rounding moves delta, the smallest gap that means anything in the precision of a fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch

from asap_train.training.losses import Residuals, compute
from asap_train.training.residuals import draw_by_draw

if TYPE_CHECKING:
    from torch import Tensor

    from asap_train.backbones import Conditions
    from asap_train.training.config import FitConfig
    from asap_train.training.objectives import LossSettings
    from asap_train.training.residuals import Predict

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""By mixed_precision what networks compute in."""


class OfDraw(Protocol):
    """The residuals of one draw of a batch, with or without the reference's, its networks taken through a function."""

    def __call__(self, draw: int, with_reference: bool, through: Callable[[Predict], Predict]) -> Residuals:
        """Residuals (b, 1, c, h, w)."""
        ...


def noise_of_delta(residuals: OfDraw, delta: Tensor, config: FitConfig, settings: LossSettings, draws: int) -> Tensor:
    """The squared error of each delta by rounding, (b,), from a second computation of it: (delta' - delta)^2 / 2.

    The second one is of noisy latents moved by less than they are rounded by, the same way for policy and reference.
    Both are equally right, and every rounding in the networks falls another way, so that their difference has twice the
    variance of one's error (Monte Carlo arithmetic: Parker et al., Computing in Science & Engineering 2(4), 2000).
    """
    through = partial(dithered, DTYPES[config.mixed_precision])
    again = draw_by_draw(lambda draw, with_reference: residuals(draw, with_reference, through), draws)
    return (compute(config.objective, again, settings).delta - delta).square() / 2


def dithered(dtype: torch.dtype, predict: Predict) -> Predict:
    """The same network on latents moved within the rounding of `dtype`, at every call alike."""
    width = torch.finfo(dtype).eps

    def moved(noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        dice = torch.rand(noisy.shape, generator=torch.Generator().manual_seed(0)).to(noisy.device) - 0.5
        return predict(noisy * (1 + width * dice), timesteps, conditions)

    return moved
