"""The times of rectified flows: logit-normal, then shifted as the model's own sampler shifts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

if TYPE_CHECKING:
    from torch import Tensor


def flow_times(uniform: Tensor, scheduler: Any, tokens: int) -> Tensor:
    """1000 s, (b,), from uniform numbers (b,); it grows with them, and so does the noise.

    s = sigmoid(z), z normal (Esser et al., arXiv 2403.03206, section 3.1), is led on to shift s / (1 + (shift - 1) s)
    (eq. 23). The shift is the scheduler's own, or e^mu with mu linear in the number of `tokens` of the image where the
    scheduler shifts by it, as FLUX's does.
    """
    s = torch.sigmoid(torch.special.ndtri(uniform.double().clamp(1e-6, 1 - 1e-6)))
    config = scheduler.config
    if config.use_dynamic_shifting:
        ends = (config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
        s = scheduler.time_shift(calculate_shift(tokens, *ends), 1.0, s)
    else:
        s = config.shift * s / (1 + (config.shift - 1) * s)
    return (1000 * s).float()
