"""The gradient of one batch, with the activations of all of it in memory, or of one draw or branch at a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from asap_train.training import noise
from asap_train.training.losses import Loss, Residuals, compute
from asap_train.training.objectives import OBJECTIVES, LossSettings
from asap_train.training.residuals import (
    Branch,
    draw_by_draw,
    inputs_of,
    pulled_back,
    residuals_of,
    seeded,
)

if TYPE_CHECKING:
    from torch import Tensor

    from asap_train.training.cache import Batch
    from asap_train.training.residuals import Predict
    from asap_train.training.setup import Training

    Through = Callable[[Predict], Predict]


def unchanged(predict: Predict) -> Predict:
    """The network as it is."""
    return predict


@dataclass(frozen=True)
class Microbatch:
    """One of the batches that a process has in a step: b pairs, each with k noises and timesteps."""

    training: Training
    batch: Batch
    noises: Tensor
    timesteps: Tensor
    uniform: Tensor
    """What the timesteps were drawn from, (b, k) in 0 .. 1."""
    seeds: tuple[int, ...]
    """Of dropout, by draw."""

    @property
    def draws(self) -> int:
        """k."""
        return len(self.seeds)

    @cached_property
    def learns_loser(self) -> bool:
        """Whether the objective has a gradient by the losers."""
        return OBJECTIVES.get(self.training.config.objective).loser

    @property
    def apart(self) -> bool:
        """Whether winners and losers go through the networks one after the other."""
        return self.training.config.two_passes and self.learns_loser

    def residuals(self, draw: int, with_reference: bool, through: Through = unchanged) -> Residuals:
        """Those of one draw, (b, 1, c, h, w), in one pass, or in two of which only the winner's has a gradient."""
        training, one = self.training, slice(draw, draw + 1)
        refer = training.refer if with_reference else None
        return residuals_of(
            training.backbone,
            through(training.policy),
            refer and through(refer),
            self.batch,
            self.noises[:, one],
            self.timesteps[:, one],
            self.learns_loser and not self.apart,
            self.seeds[draw],
            self.apart,
        )

    def branch(self, draw: int, name: Branch) -> Tensor:
        """The policy's residuals of one branch of one draw, as in `residuals`."""
        one = slice(draw, draw + 1)
        inputs = inputs_of(self.training.backbone, self.batch, self.noises[:, one], self.timesteps[:, one])
        seeded(self.seeds[draw])
        return inputs.residual(self.training.policy, name)[0]


def microbatch(training: Training, settings: LossSettings, step: int, part: int) -> Microbatch:
    """The part-th batch of this process in a step: what is drawn depends on the seed and the place alone."""
    config, accelerator = training.config, training.accelerator
    size, process, draws = config.train_batch_size, accelerator.process_index, config.noise_draws
    first = (part * accelerator.num_processes + process) * size
    places = range(first, first + size)
    positions = [step * training.pairs_a_step + place for place in places]
    dropped = noise.draw_dropped(config.seed, positions, config.caption_dropout)
    pairs = training.order.batch(positions[0] // size)
    batch = training.cache.batch(pairs, dropped).dilated(settings.mask_dilation).to(accelerator.device)
    shape = batch.winner.shape[1:]
    noises = noise.draw_noise(config.seed, positions, draws, shape).to(accelerator.device)
    uniform = noise.draw_uniform(config.seed, step, places, training.pairs_a_step, draws, *config.time_range)
    timesteps = training.backbone.draw_timesteps(uniform.flatten(), tuple(shape[1:])).reshape(size, draws)
    seeds = tuple(noise.hashed(config.seed, "dropout", step, part, process, draw) for draw in range(draws))
    return Microbatch(training, batch, noises, timesteps.to(accelerator.device), uniform, seeds)


def add_gradient(micro: Microbatch, settings: LossSettings, last: bool) -> tuple[Loss, Residuals]:
    """Add the gradient of a batch to the others' of its step; the loss, and the residuals that it was computed from.

    Of several processes the gradients are joined with the `last` batch.
    """
    config, accelerator = micro.training.config, micro.training.accelerator
    share = 1 / config.gradient_accumulation_steps

    def joined(now: bool) -> AbstractContextManager[None]:
        # The gradients of several processes are added up once a step.
        return nullcontext() if last and now else accelerator.no_sync(micro.training.policy)

    if micro.draws == 1:
        with joined(not micro.apart):
            whole = micro.residuals(0, True)
            whole.loser.requires_grad_(micro.learns_loser)
            loss = compute(config.objective, whole, settings)
            accelerator.backward(share * loss.total)
        if micro.apart:
            with joined(True):
                torch.autograd.backward(micro.branch(0, "loser"), whole.loser.grad)
        return loss, whole
    whole = draw_by_draw(micro.residuals, micro.draws)
    loss = compute(config.objective, whole, settings)
    loss.total.backward()
    for draw in range(micro.draws):
        one = slice(draw, draw + 1)
        slopes = {name: slope[:, one] for name, slope in _slopes(whole).items()}
        end = draw == micro.draws - 1
        if micro.apart or len(slopes) == 1:
            for name, slope in slopes.items():
                with joined(end and name == list(slopes)[-1]):
                    accelerator.backward(share * pulled_back(micro.branch(draw, name), slope))
        else:
            with joined(end):
                made = micro.residuals(draw, False)
                parts = [pulled_back(getattr(made, name), slope) for name, slope in slopes.items()]
                accelerator.backward(share * torch.stack(parts).sum())
    return loss, whole


def _slopes(whole: Residuals) -> dict[Branch, Tensor]:
    """The gradients of a loss by the branches that it depends on, in the order in which they go through the network."""
    found: dict[Branch, Tensor | None] = {"winner": whole.winner.grad, "loser": whole.loser.grad}
    return {name: slope for name, slope in found.items() if slope is not None}
