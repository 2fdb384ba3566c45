"""The trained part of a critic: from a net's activations to whether, how and where the part that it sees is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Head(nn.Module):
    """Two ways to one answer: a perceptron on pooled activations, and a small convolution that looks place by place.

    `channels` of the activations; `kinds`: how many kinds of errors it tells apart.
    """

    def __init__(self, channels: Sequence[int], kinds: int, width: int, local: int) -> None:
        super().__init__()
        count = 2 * sum(channels)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        self.register_buffer("scale", torch.ones(len(channels)))
        self.whole = nn.Sequential(nn.Dropout(0.4), nn.Linear(count, width), nn.GELU())
        self.project = nn.ModuleList([nn.Conv2d(each, local, 1) for each in channels])
        self.places = nn.Sequential(nn.GELU(), nn.Dropout2d(0.15), nn.Conv2d(local, local, 3, padding=1), nn.GELU())
        self.heat, self.attention = nn.Conv2d(local, 1, 1), nn.Conv2d(local, 1, 1)
        self.dropout = nn.Dropout(0.4)
        self.answer = nn.Linear(width + local + 2, 2 + kinds)

    def forward(self, taps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits of an error (n,), of there being such a part at all (n,), of the kinds (n, k), and of an error at
        each place (n, height, width) of the first activations; `taps` are (n, channels, height, width).
        """
        pooled = pool(taps)
        whole = self.whole(((pooled - self.mean) / self.std).clamp(-6, 6))
        size = taps[0].shape[-2:]
        maps = [project(tap / scale) for project, tap, scale in zip(self.project, taps, self.scale, strict=True)]
        summed = torch.stack([self._resized(each, size) for each in maps]).sum(0)
        places = self.places(summed)
        heat = self.heat(places)[:, 0]
        share = functional.softmax(self.attention(places).flatten(2), 2)
        looked_at = (places.flatten(2) * share).sum(2)
        flat = heat.flatten(1)
        extremes = torch.stack([torch.logsumexp(flat * 2, 1) / 2, flat.mean(1)], 1)
        answer = self.answer(torch.cat([self.dropout(whole), self.dropout(looked_at), extremes], 1))
        return answer[:, 0], answer[:, 1], answer[:, 2:], heat

    @staticmethod
    def _resized(tap: Tensor, size: torch.Size) -> Tensor:
        if tap.shape[-2:] == size:
            return tap
        return functional.interpolate(tap, size=size, mode="bilinear", align_corners=False)


def pool(taps: Sequence[Tensor]) -> Tensor:
    """The means and maxima over all places of each activation, side by side (n, 2 x channels)."""
    return torch.cat([part for tap in taps for part in (tap.mean((2, 3)), tap.amax((2, 3)))], 1)
