"""One optimizer for all trainings: Muon for hidden matrices and filters, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist

MOMENTUM = 0.95


def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """About U V^T of each U S V^T in a stack (n, a, b), by Newton-Schulz iterations with Muon's factors."""
    turned = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if turned else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.mT if turned else x


class MuonAdamW(torch.optim.AdamW):  # type: ignore[misc]
    """Muon (Jordan et al. 2024) in 32 bits, each process computing a part of the matrices' updates.

    torch.optim.Muon computes in bfloat16, which is slow on CPUs, all updates in every process, and takes no filters:
    here a filter (out, in, height, width) is a matrix of its rows. Updates are scaled to AdamW's size, as by torch's
    adjust_lr_fn="match_rms_adamw", so that both share a learning rate.
    """

    def __init__(
        self,
        matrices: Iterable[torch.nn.Parameter],
        others: Iterable[torch.nn.Parameter],
        lr: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        groups = [{"params": list(others)}, {"params": list(matrices), "muon": True}]
        super().__init__(groups, lr, betas=betas, weight_decay=weight_decay)

    def step(self, closure: Any = None) -> None:
        """One update; gradients must be the same in all processes."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group.get("muon")]
        super().step()
        self.param_groups = groups
        for group in groups:
            if group.get("muon"):
                self._turn(group)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _turn(self, group: dict[str, Any]) -> None:
        weights = [p for p in group["params"] if p.grad is not None]
        ahead = []
        for p in weights:
            state = self.state[p]
            if not state:
                # AdamW looks for a step in every state that it loads.
                state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(p)
            state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
            ahead.append(p.grad.lerp(state["momentum"], MOMENTUM).flatten(1))
        for p, update in zip(weights, _orthogonal(ahead), strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update.view_as(p), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)


def _orthogonal(matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    rank, workers = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    ends = [0]
    for matrix in matrices:
        ends.append(ends[-1] + matrix.numel())
    flat = torch.zeros(ends[-1])
    places = [flat[start:end] for start, end in pairwise(ends)]
    for shape in sorted({tuple(matrix.shape) for matrix in matrices}):
        mine = [i for i, matrix in enumerate(matrices) if tuple(matrix.shape) == shape][rank::workers]
        if mine:
            for i, made in zip(mine, orthogonal(torch.stack([matrices[i] for i in mine])), strict=True):
                places[i].copy_(made.reshape(-1))
    if workers > 1:
        dist.all_reduce(flat)
    return [place.view_as(matrix) for place, matrix in zip(places, matrices, strict=True)]
