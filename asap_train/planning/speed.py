"""Operations of a step, and what time they take on a card: computed from its peak, never measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asap_train.planning.architectures import ARCHITECTURES
from asap_train.planning.memory import case_of
from asap_train.planning.profiles import profile_of

if TYPE_CHECKING:
    from asap_train.training.config import FitConfig

UTILISATION = (0.2, 0.5)
"""The shares of a card's peak between which training of large networks usually is; assumed."""


@dataclass(frozen=True)
class Card:
    """A GPU by its maker's data sheet: GiB of memory, dense bf16 operations a second."""

    memory: int
    peak: float


CARDS: Mapping[str, Card] = {
    "A10": Card(24, 125e12),
    "L4": Card(24, 121e12),
    "RTX 3090": Card(24, 71e12),
    "RTX 4090": Card(24, 165e12),
    "RTX 5090": Card(32, 210e12),
    "L40S": Card(48, 362e12),
    "A100 40GB": Card(40, 312e12),
    "A100": Card(80, 312e12),
    "H100 PCIe": Card(80, 756e12),
    "H100": Card(80, 989e12),
    "H200": Card(141, 989e12),
}


def peak_of_device(name: str) -> float | None:
    """The peak of a card by the name that its driver gives it; None for an unknown one."""
    known = sorted(CARDS, key=len, reverse=True)
    return next((CARDS[card].peak for card in known if card in name), None)


def passes(config: FitConfig) -> float:
    """Forward passes that a step's work on one image is worth.

    The policy's and the reference's; back through activations is as much as forward, and back to all weights as much
    again; gradient checkpointing computes the policy's once more, and so do several draws. Two passes of one draw do so
    for the loser, one of the two images.
    """
    back = 1 if config.lora else 2
    draws = 1.0 if config.noise_draws > 1 else 0.5 * config.two_passes
    return 2 + back + config.gradient_checkpointing + draws


def operations_of_step(name: str, config: FitConfig) -> float:
    """Of one step of the optimizer on one GPU."""
    profile = profile_of(name, case_of(config, ARCHITECTURES[name]))
    pairs = config.train_batch_size * config.gradient_accumulation_steps
    return 2 * pairs * config.noise_draws * passes(config) * profile.operations


def seconds_of_step(name: str, config: FitConfig, peak: float) -> tuple[float, float]:
    """The least and the most seconds of a step, at the larger and at the smaller share of a card's peak."""
    operations = operations_of_step(name, config)
    return operations / peak / UTILISATION[1], operations / peak / UTILISATION[0]
