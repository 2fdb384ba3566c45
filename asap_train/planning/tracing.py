"""A step on the meta device: the real network runs on tensors without memory, and what lives at once is counted.

Shapes, dtypes and lifetimes are those of the step on a GPU, so that the count is exact up to what kernels take within
themselves. Two things must be put in the place of a GPU's: autocast, which the meta device lacks, and attention, which
there saves what flash attention saves (Dao et al., arXiv 2205.14135) instead of the whole matrix.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from asap_train.training.widening import as_widened

if TYPE_CHECKING:
    from torch import Tensor

HALF = frozenset({"linear", "conv2d", "conv3d", "matmul", "__matmul__", "bmm", "baddbmm", "addmm"})
SINGLE = frozenset({"layer_norm", "group_norm", "softmax", "mse_loss"})
"""Functions whose tensors autocast casts down and up on CUDA, of those that denoisers call."""


class LiveBytes(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of the tensors that are made within it and not yet gone: `now`, and at most `peak`.

    `known` tensors, such as weights, do not count, nor do views of them.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._kept = [tensor.untyped_storage() for tensor in known]
        self._bytes = {id(storage): 0 for storage in self._kept}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self._count(one.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        key = id(storage)
        if key not in self._bytes:
            self._bytes[key] = storage.nbytes()
            self.now += self._bytes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._bytes.pop(key)


class AsOnGpu(TorchFunctionMode):  # type: ignore[misc]
    """Autocast to `dtype` (None: off), and attention that saves queries, keys, values, output and a number a row."""

    def __init__(self, dtype: torch.dtype | None, attention: bool = True) -> None:
        super().__init__()
        self.dtype, self._attention = dtype, attention

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            given = args or tuple(kwargs[name] for name in ("query", "key", "value"))
            own = tuple(self._cast(one, self.dtype) for one in given[:3])
            return Attention.apply(*own) if self._attention else func(*own)
        name = getattr(func, "__name__", "")
        if self.dtype is not None and name in HALF | SINGLE:
            wanted = self.dtype if name in HALF else torch.float32
            args, kwargs = tree_map(lambda one: self._cast(one, wanted), (args, kwargs))
        return func(*args, **kwargs)

    @staticmethod
    def _cast(value: Any, dtype: torch.dtype | None) -> Any:
        floats = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(dtype) if floats and dtype is not None else value

    def off(self, forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What a function gives outside of autocast."""
        dtype, self.dtype = self.dtype, None
        try:
            return forward(*given, **named)
        finally:
            self.dtype = dtype

    @contextmanager
    def of(self, network: torch.nn.Module) -> Iterator[None]:
        """Within it a network runs so; what it has in single precision (see widening.py) is outside of autocast."""
        own = [one for one in network.modules() if getattr(one.forward, "func", None) is as_widened]
        before = [module.forward for module in own]
        for module, forward in zip(own, before, strict=True):
            module.forward = partial(self.off, forward)
        try:
            with self:
                yield
        finally:
            for module, forward in zip(own, before, strict=True):
                module.forward = forward


class Attention(torch.autograd.Function):  # type: ignore[misc]
    """Attention without its arithmetic: shapes, dtypes and saved tensors only."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The output, (..., queries, value width)."""
        made = query.new_empty((*query.shape[:-1], value.shape[-1]))
        ctx.save_for_backward(query, key, value, made, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return made

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by query, key and value."""
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
