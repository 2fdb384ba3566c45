"""The random numbers of a fit: each is a pure function of the seed and of its place.

A fit that was stopped is thus resumed exactly, and neither processes nor accumulation change what is drawn. Pairs are
numbered through the whole fit: the position of a pair is step x pairs a step + its place in the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def hashed(seed: int, *place: str | int) -> int:
    """A seed of its own, from 0 to 2^63 - 1, for every place."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *place: str | int) -> torch.Generator:
    """The numbers of one place, drawn on the CPU so that no device changes them."""
    return torch.Generator("cpu").manual_seed(hashed(seed, *place))


@lru_cache(maxsize=64)
def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The pairs 0 to count - 1 in the order of one epoch."""
    return np.random.default_rng(hashed(seed, "order", epoch)).permutation(count)


def pair_at(seed: int, position: int, count: int) -> int:
    """Which of `count` pairs is at a position: every pair once an epoch, in another order each time."""
    epoch, place = divmod(position, count)
    return int(epoch_order(seed, epoch, count)[place])


def draw_noise(seed: int, positions: Sequence[int], draws: int, shape: Sequence[int]) -> Tensor:
    """Normal noise (b, draws, *shape) of the pairs at b positions: the winner's and the loser's alike."""
    made = [torch.randn(*shape, generator=generator(seed, "noise", n, d)) for n in positions for d in range(draws)]
    return torch.stack(made).unflatten(0, (len(positions), draws))


def draw_uniform(
    seed: int, step: int, places: Sequence[int], size: int, draws: int, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """Uniform numbers (b, draws) in low .. high for b of the `size` pairs of a step.

    Stratified: each of the size x draws equal parts of the range has one number of the step, in random order, so that
    every number is uniform and a step's times are spread evenly.
    """
    own = generator(seed, "times", step)
    strata = torch.randperm(size * draws, generator=own, dtype=torch.float64)
    spread = (strata + torch.rand(size * draws, generator=own, dtype=torch.float64)) / (size * draws)
    # Below 1 in single precision, too, where a discrete schedule would have no such timestep.
    uniform = (low + (high - low) * spread).float().clamp(max=1 - 2**-24)
    return uniform.reshape(size, draws)[list(places)]


def draw_dropped(seed: int, positions: Sequence[int], share: float) -> list[bool]:
    """Which of the pairs at these positions lose their caption."""
    return [bool(torch.rand((), generator=generator(seed, "caption", n)) < share) for n in positions]
