"""Deep transformers from short ones: blocks of a list are alike, so that two of each tell the memory of any number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asap_train.planning.tracing import LiveBytes

SHORT = 2
"""Blocks of each list in a short network."""


@dataclass
class Watch:
    """Notes of a pass through a network with SHORT blocks in each of `lists`, names in the order of the forward pass.

    after: live bytes behind each block forward. windows: where the pass was, a list's name or nothing before and
    between them, and the most bytes that were live there.
    """

    lists: Mapping[str, int]
    live: LiveBytes
    after: dict[str, list[int]] = field(default_factory=dict)
    windows: list[tuple[str, int]] = field(default_factory=list)
    _where: str = ""
    _forward: bool = True

    def hook(self, network: Any) -> list[Any]:
        """Watch a network's blocks; what is returned is removed afterwards."""
        return [
            block.register_forward_hook(partial(self._behind, name))
            for name in self.lists
            for block in getattr(network, name)
        ]

    def _behind(self, name: str, block: Any, given: Any, made: Any) -> None:
        if not self._forward:
            return  # computed again
        self.after.setdefault(name, []).append(self.live.now)
        for one in made if isinstance(made, tuple) else (made,):
            if one.requires_grad:
                one.register_hook(partial(self._arrived, name, len(self.after[name])))

    def _arrived(self, name: str, number: int, slope: Any) -> None:
        """The gradient by a block's output is there: the pass is back at that block."""
        self._forward = False
        if self._where != f"{name} {number}":
            self.close()
            self._where = f"{name} {number}"

    def close(self) -> None:
        """The end of a window; the next one begins with what is live now."""
        self.windows.append((self._where.partition(" ")[0], self.live.peak))
        self.live.peak = self.live.now

    def peak(self, depths: Mapping[str, int]) -> int:
        """The most live bytes of a network with so many blocks in each list.

        While the gradient is at the blocks of one list, what is kept of those before it is there, too, and that of
        later ones is gone. What a block keeps is the difference behind two blocks of its list.
        """
        extra, before = {}, 0
        for name in self.lists:
            first, second = self.after[name][:SHORT]
            before += (depths[name] - SHORT) * (second - first)
            extra[name] = before
        extra[""] = before
        return max(peak + extra[name] for name, peak in self.windows)
