"""One batch through policy and reference: the residuals of winner and loser, at the same noise and timesteps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from asap_train.backbones import Backbone, Conditions
from asap_train.training.lora import reference
from asap_train.training.losses import Residuals, wide
from asap_train.training.widening import widen
from hafbench.generators.quantize import blocks

if TYPE_CHECKING:
    from torch import Tensor

    from asap_train.training.cache import Batch
    from asap_train.training.texts import TunedTexts

    Predict = Callable[[Tensor, Tensor, Conditions], Tensor]

Branch = Literal["winner", "loser"]


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
    compiled: bool = False,
    texts: TunedTexts | None = None,
) -> Predict:
    """The reference's prediction: of network (and text encoders) without adapters, or of a copy of it as it is now."""
    if not lora:
        backbone = copy(backbone)
        backbone.network = deepcopy(backbone.network).eval().requires_grad_(False)
        if widened:
            widen(backbone.network)
        if compiled:
            compile_blocks(backbone.network)

    def predict(noisy: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        with reference(backbone) if lora else torch.no_grad(), autocast():
            return (texts or backbone).predict(noisy, timesteps, conditions)

    return predict


def compile_blocks(network: Any) -> None:
    """Have the repeated blocks of a network compiled when they are first called, each kind of block once.

    As compile_repeated_blocks of diffusers, also for classes that do not list such blocks, as SD 3's. Raises HafError
    for a network that does not say which its blocks are.
    """
    for block in blocks(network):
        block.compile()


@dataclass(frozen=True)
class Inputs:
    """What goes into a network for one batch, winners first, and what should come out: each (2 b k, ...)."""

    noisy: Tensor
    timesteps: Tensor
    conditions: Conditions
    target: Tensor
    shape: tuple[int, int]

    def residual(self, predict: Predict, branch: Branch | None = None) -> Tensor:
        """Prediction minus target, (2, b, k, c, h, w); of one `branch` alone (1, b, k, c, h, w)."""
        half = len(self.target) // 2
        part = {None: slice(None), "winner": slice(half), "loser": slice(half, None)}[branch]
        own = {name: value[part] for name, value in self.conditions.items()}
        made = predict(self.noisy[part], self.timesteps[part], own)
        return (wide(made) - self.target[part]).unflatten(0, (-1, *self.shape))

    def both(self, predict: Predict, apart: bool) -> tuple[Tensor, Tensor]:
        """Those of winner and loser, in one pass or, `apart`, in two."""
        if apart:
            return self.residual(predict, "winner")[0], self.residual(predict, "loser")[0]
        winner, loser = self.residual(predict)
        return winner, loser


def inputs_of(backbone: Backbone, batch: Batch, noise: Tensor, timesteps: Tensor) -> Inputs:
    """The noised latents of b pairs with k noises (b, k, c, h, w) and timesteps (b, k) each."""
    pairs, draws = timesteps.shape
    latents = torch.cat([batch.winner, batch.loser]).repeat_interleave(draws, dim=0)
    noises, flat = noise.flatten(0, 1).repeat(2, 1, 1, 1), timesteps.flatten().repeat(2)
    conditions = {
        name: torch.cat([value, value]).repeat_interleave(draws, dim=0) for name, value in batch.conditions.items()
    }
    target = backbone.target(latents, noises, flat).float()
    return Inputs(backbone.noised(latents, noises, flat), flat, conditions, target, (pairs, draws))


def residuals_of(
    backbone: Backbone,
    policy: Predict,
    refer: Predict | None,
    batch: Batch,
    noise: Tensor,
    timesteps: Tensor,
    learn_loser: bool = True,
    seed: int | None = None,
    apart: bool = False,
) -> Residuals:
    """Predictions minus targets (b, k, c, h, w) of b pairs, each with k noises (b, k, c, h, w) and timesteps (b, k).

    Objectives average a pair's errors over all but the first axis, so over its k draws, too. Winners and losers go
    through a network in one pass of 2 b k, or `apart` in two, policy and reference alike: rounding depends on it.
    Without `learn_loser` the policy's losers have no gradient, and go alone. `seed` is that of the policy's dropout.
    """
    inputs = inputs_of(backbone, batch, noise, timesteps)
    # The reference first: its activations are gone when the policy's are kept for the gradient.
    ref_winner, ref_loser = inputs.both(refer, apart) if refer else (None, None)
    if learn_loser and not apart:
        seeded(seed)
        winner, loser = inputs.both(policy, apart)
    else:
        with torch.set_grad_enabled(learn_loser and torch.is_grad_enabled()):
            seeded(seed)
            (loser,) = inputs.residual(policy, "loser")
        seeded(seed)
        (winner,) = inputs.residual(policy, "winner")
    return Residuals(winner, loser, batch.mask[:, None], ref_winner, ref_loser)


def seeded(seed: int | None) -> None:
    """Have dropout drawn from this seed in the next pass."""
    if seed is not None:
        torch.manual_seed(seed)


def draw_by_draw(make: Callable[[int, bool], Residuals], draws: int) -> Residuals:
    """Residuals (b, k, c, h, w) of k draws, one draw after the other and without a graph; leaves, to be derived by.

    `make(k, True)` gives those of one draw with the reference's. The gradient of a loss of all draws by the network's
    weights is that of sum(residuals of a draw x gradient of the loss by them), summed over the draws: `pulled_back`. So
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


def pulled_back(residual: Tensor, slope: Tensor) -> Tensor:
    """A scalar whose gradient by the weights is that of a loss with this `slope` by the residual."""
    return (residual * slope).sum()
