"""The optimizer, its learning rate at each step, and an average of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from hafbench.errors import Unavailable

if TYPE_CHECKING:
    from torch.nn import Parameter

    from asap_train.training.config import FitConfig


def make_optimizer(parameters: Sequence[Parameter], config: FitConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101); `adamw8bit` keeps its state in 8 bits, by bitsandbytes.

    Raises Unavailable where bitsandbytes is not installed.
    """
    rates = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **rates, fused=parameters[0].is_cuda)
    try:
        from bitsandbytes import optim
    except ImportError as error:
        raise Unavailable("optimizer adamw8bit needs `pip install bitsandbytes`; or use adamw.") from error
    made: torch.optim.Optimizer = optim.AdamW8bit(parameters, **rates)
    return made


def rate_factor(config: FitConfig) -> Callable[[int], float]:
    """The factor of the learning rate by step, from 0: diffusers' schedules, as a function."""
    from diffusers.optimization import get_scheduler

    unused = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = get_scheduler(
        config.lr_scheduler,
        unused,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
    )
    factor: Callable[[int], float] = schedule.lr_lambdas[0]
    return factor


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@contextmanager
def averaged(ema: Any, parameters: Sequence[Parameter]) -> Iterator[None]:
    """Within it the parameters are those of diffusers' EMAModel `ema`, if there is one."""
    if ema is None:
        yield
        return
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)
