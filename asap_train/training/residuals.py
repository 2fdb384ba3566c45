"""One batch through policy and reference: the residuals of winner and loser, at the same noise and timesteps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy, deepcopy
from typing import TYPE_CHECKING

import torch

from asap_train.backbones import Backbone, Conditions
from asap_train.training.lora import reference
from asap_train.training.losses import Residuals
from asap_train.training.widening import widen

if TYPE_CHECKING:
    from torch import Tensor

    from asap_train.training.cache import Batch
    from asap_train.training.texts import TunedTexts

    Predict = Callable[[Tensor, Tensor, Conditions], Tensor]


class Policy(torch.nn.Module):  # type: ignore[misc]
    """What is tuned, as one module that accelerate can wrap: its forward is the backbone's `predict`.

    With `texts` it encodes captions, too, by the text encoders that are tuned with the network.
    """

    def __init__(self, backbone: Backbone, texts: TunedTexts | None = None) -> None:
        super().__init__()
        self.network = backbone.network
        encoders = backbone.text_encoders if texts else ()
        self.text_encoders = torch.nn.ModuleList(getattr(backbone.pipeline, name) for name in encoders)
        self._predict = texts.predict if texts else backbone.predict

    def forward(self, noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """The network's prediction, in the latents' shape."""
        return self._predict(noisy, timesteps, conditions)


def frozen(
    backbone: Backbone,
    lora: bool,
    autocast: Callable[[], AbstractContextManager[None]],
    widened: bool = False,
    texts: TunedTexts | None = None,
) -> Predict:
    """The reference's prediction: of network (and text encoders) without adapters, or of a copy of it as it is now."""
    if not lora:
        backbone = copy(backbone)
        backbone.network = deepcopy(backbone.network).eval().requires_grad_(False)
        if widened:
            widen(backbone.network)

    def predict(noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        with reference(backbone) if lora else torch.no_grad(), autocast():
            return (texts or backbone).predict(noisy, timesteps, conditions)

    return predict


def residuals_of(
    backbone: Backbone,
    policy: Predict,
    refer: Predict | None,
    batch: Batch,
    noise: Tensor,
    timesteps: Tensor,
    learn_loser: bool = True,
    seed: int | None = None,
) -> Residuals:
    """Predictions minus targets (b, k, c, h, w) of b pairs, each with k noises (b, k, c, h, w) and timesteps (b, k).

    Objectives average a pair's errors over all but the first axis, so over its k draws, too. Winners and losers go
    through a network in one pass of 2 b k; without `learn_loser` the policy's losers have no gradient, and go alone.
    `seed` is that of the policy's dropout.
    """
    pairs, draws = timesteps.shape
    latents = torch.cat([batch.winner, batch.loser]).repeat_interleave(draws, dim=0)
    noises, flat = noise.flatten(0, 1).repeat(2, 1, 1, 1), timesteps.flatten().repeat(2)
    conditions = {
        name: torch.cat([value, value]).repeat_interleave(draws, dim=0) for name, value in batch.conditions.items()
    }
    noisy = backbone.noised(latents, noises, flat)
    target = backbone.target(latents, noises, flat).float()

    def residual(predict: Predict, part: slice = slice(None)) -> Tensor:
        own = {name: value[part] for name, value in conditions.items()}
        return (predict(noisy[part], flat[part], own).float() - target[part]).unflatten(0, (-1, pairs, draws))

    # The reference first: its activations are gone when the policy's are kept for the gradient.
    ref_winner, ref_loser = residual(refer) if refer else (None, None)
    if seed is not None:
        torch.manual_seed(seed)
    if learn_loser:
        winner, loser = residual(policy)
    else:
        with torch.no_grad():
            (loser,) = residual(policy, slice(pairs * draws, None))
        (winner,) = residual(policy, slice(pairs * draws))
    return Residuals(winner, loser, batch.mask[:, None], ref_winner, ref_loser)


def draw_by_draw(make: Callable[[int, bool], Residuals], draws: int) -> Residuals:
    """Residuals (b, k, c, h, w) of k draws, one draw after the other and without a graph; leaves, to be derived by.

    `make(k, True)` gives those of one draw with the reference's. The gradient of a loss of all draws by the network's
    weights is that of sum(residuals of a draw x gradient of the loss by them), summed over the draws: `pull_back`. So
    many draws need the activations of one, for one more forward pass (Gao et al., arXiv 2101.06983).
    """
    with torch.no_grad():
        made = [make(k, True) for k in range(draws)]
    winner, loser = (torch.cat([getattr(one, name) for one in made], 1) for name in ("winner", "loser"))
    refs = [
        None if getattr(made[0], name) is None else torch.cat([getattr(one, name) for one in made], 1)
        for name in ("ref_winner", "ref_loser")
    ]
    return Residuals(winner.requires_grad_(), loser.requires_grad_(), made[0].mask, *refs)


def pull_back(residuals: Residuals, whole: Residuals, draw: int) -> Tensor:
    """A scalar whose gradient by the weights is this draw's part of that of the loss that `whole` was derived by."""
    total = residuals.winner.new_zeros(())
    for name in ("winner", "loser"):
        slope = getattr(whole, name).grad
        if slope is not None and getattr(residuals, name).requires_grad:
            total = total + (getattr(residuals, name) * slope[:, draw : draw + 1]).sum()
    return total
