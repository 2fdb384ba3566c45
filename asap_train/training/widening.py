"""Networks in half precision whose predictions are rounded less: in float32 what the whole of them depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

NORMS = (torch.nn.GroupNorm, torch.nn.LayerNorm)
ENTRIES = (
    *("conv_in", "pos_embed", "x_embedder", "context_embedder"),
    *("img_in", "txt_in"),
    *("all_x_embedder.2-1", "cap_embedder"),
)
EXITS = ("conv_norm_out", "conv_out", "norm_out", "proj_out", "all_final_layer.2-1")
"""Modules of diffusers' denoisers at which the residual stream begins, and those that make a prediction of it."""
TIMES = ("time_guidance_embed",)
"""FLUX.2's embeddings of time and guidance, from which one modulation is made for all blocks."""
INNER_ENTRIES, INNER_EXITS = (".proj_in",), (".conv_shortcut",)
"""In a U-Net the stream also goes into transformers, and through 1 x 1 convolutions where its width changes."""


def widen(network: torch.nn.Module) -> None:
    """Keep a network's residual stream, a time embedding that all blocks share, and its last layers in float32.

    All blocks add to the stream, so that its rounding is that of every block; the last layers' goes into the prediction
    as it is. Under autocast all matrix products within the blocks stay in half precision, and so do the convolutions by
    which a U-Net changes its resolution. Works on a network that has its adapter already; a copy of it must be widened
    itself.
    """
    state = network.widening = Widening()
    for name, module in list(network.named_modules()):
        if isinstance(module, NORMS):
            module.float()  # they take the stream, and on a CPU only with weights of its precision
        if name in ENTRIES or name.endswith(INNER_ENTRIES):
            module.register_forward_hook(partial(_in_float32, state))
        if name in (*TIMES, *EXITS) or name.endswith(INNER_EXITS):
            module.float()
            module.forward = partial(as_widened, state, module.forward)


@contextmanager
def narrowed(network: torch.nn.Module) -> Iterator[None]:
    """Within it a network computes as if it had not been widened; its weights stay as they are."""
    state = getattr(network, "widening", None) or Widening()
    state.active = False
    try:
        yield
    finally:
        state.active = True


@dataclass
class Widening:
    """Whether what `widen` has done to a network has an effect."""

    active: bool = True


def _in_float32(state: Widening, module: torch.nn.Module, given: Any, made: Any) -> Any:
    return made.float() if state.active and isinstance(made, torch.Tensor) else made


def as_widened(state: Widening, forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a module gives that `widen` has taken out of autocast; `state` says whether it is."""
    return without_autocast(forward, *given, **named) if state.active else forward(*given, **named)


def without_autocast(forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a function gives for its arguments in float32, at least one of which is a tensor, outside of autocast."""
    tensors = [value for value in (*given, *named.values()) if isinstance(value, torch.Tensor)]
    device = tensors[0].device.type
    # The meta device, on which memory is planned, has none.
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        return forward(*map(_wide, given), **{name: _wide(value) for name, value in named.items()})


def _wide(value: Any) -> Any:
    floats = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.float() if floats else value
