"""The rasteriser: tapered capsules by a depth maximum, in torch, on the CPU or a GPU.

The camera is orthographic. Over a pixel, the surface of a sphere swept from c0 to c1 with its radius going linearly
from r0 to r1 is highest at max over t of z(t) + sqrt(r(t)^2 - |p - c(t)|^2). Under the root is a quadratic
A t^2 + B t + C, so the maximum has a closed form, which is exact for A < 0 (the bone is longer, seen from the camera,
than its taper).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from hafbench.mannequin.shapes import Capsules
    from hafbench.mannequin.skeleton import Array

_FAR = -1e9


@dataclass(frozen=True)
class Bones:
    """N capsules in pixels of the sampling grid: start and end (N, 3) with z towards the viewer, radii (N, 2)."""

    start: torch.Tensor
    end: torch.Tensor
    radii: torch.Tensor


@dataclass(frozen=True)
class Surface:
    """What each sample sees: `bone` (S, S) is -1 for the background, `normal` (S, S, 3), `depth` (S, S) in pixels."""

    bone: torch.Tensor
    normal: torch.Tensor
    depth: torch.Tensor


def bones(capsules: Capsules, camera: tuple[Array, Array, float], samples: int, device: str = "cpu") -> Bones:
    """Bring capsules into the sampling grid by a camera: turn (3, 3), centre (3,), pictures' widths a unit."""
    import numpy as np
    import torch

    turn, centre, zoom = camera

    def project(points: list[Array]) -> torch.Tensor:
        seen = (np.array(points).reshape(-1, 3) - centre) @ turn.T * zoom * samples
        seen[:, 1] *= -1
        seen[:, :2] += samples / 2
        return torch.tensor(seen, dtype=torch.float32, device=device)

    radii = torch.tensor(np.array(capsules.radii).reshape(-1, 2) * zoom * samples, dtype=torch.float32, device=device)
    return Bones(project(capsules.start), project(capsules.end), radii)


def _under(b: Bones, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Place along the bone, and the square of the height over it or less than 0 beside it: (N, samples) each."""
    import torch

    d = b.end - b.start
    r0, dr = b.radii[:, 0:1], (b.radii[:, 1] - b.radii[:, 0])[:, None]
    dx, dy, dz = d[:, 0:1], d[:, 1:2], d[:, 2:3]
    a = torch.clamp(dr**2 - dx**2 - dy**2, max=-1e-4)
    px, py = x - b.start[:, 0:1], y - b.start[:, 1:2]
    half_b = px * dx + py * dy + r0 * dr
    c = r0**2 - px**2 - py**2
    root = torch.sqrt(torch.relu(half_b * half_b - a * c) / (dz**2 - a))
    t = torch.clamp((-half_b - dz * root) / a, 0, 1)
    return t, (a * t + 2 * half_b) * t + c


def _heights(b: Bones, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Depth, place along the bone and height over it, each (N, samples), of bones over points x, y (samples,)."""
    import torch

    t, under = _under(b, x, y)
    over = torch.sqrt(torch.relu(under))
    z, dz = b.start[:, 2:3], (b.end - b.start)[:, 2:3]
    return torch.where(under > 0, z + dz * t + over, _FAR), t, over


def _overlapping(b: Bones, x0: float, y0: float, x1: float, y1: float) -> torch.Tensor:
    import torch

    reach = b.radii.amax(1)
    low, high = torch.minimum(b.start, b.end), torch.maximum(b.start, b.end)
    inside = (low[:, 0] - reach < x1) & (high[:, 0] + reach > x0) & (low[:, 1] - reach < y1)
    return torch.nonzero(inside & (high[:, 1] + reach > y0))[:, 0]


def rasterise(b: Bones, samples: int, tile: int | None = None) -> Surface:
    """See the bones on a samples x samples grid, tile by tile with the bones that can touch it."""
    import torch

    # The quickest by measurement: small tiles drop more bones, large ones are fewer.
    tile = tile or (32 if samples <= 128 else 64)
    device = b.start.device
    bone = torch.full((samples, samples), -1, dtype=torch.long, device=device)
    normal = torch.zeros(samples, samples, 3, device=device)
    depth = torch.full((samples, samples), _FAR, device=device)
    for top in range(0, samples, tile):
        for left in range(0, samples, tile):
            bottom, right = min(top + tile, samples), min(left + tile, samples)
            near = _overlapping(b, left, top, right, bottom)
            if not len(near):
                continue
            some = Bones(b.start[near], b.end[near], b.radii[near])
            rows = torch.arange(top, bottom, device=device) + 0.5
            columns = torch.arange(left, right, device=device) + 0.5
            y, x = (grid.reshape(-1) for grid in torch.meshgrid(rows, columns, indexing="ij"))
            heights, t, over = _heights(some, x, y)
            best, winner = heights.max(0)
            take = winner[None]
            t_best, over_best = t.gather(0, take)[0], over.gather(0, take)[0]
            centre = some.start[winner] + t_best[:, None] * (some.end - some.start)[winner]
            outward = torch.stack([x - centre[:, 0], y - centre[:, 1], over_best], -1)
            hit = best > _FAR
            shape = (bottom - top, right - left)
            bone[top:bottom, left:right] = torch.where(hit, near[winner], -1).reshape(shape)
            normal[top:bottom, left:right] = torch.nn.functional.normalize(outward, dim=-1).reshape(*shape, 3)
            depth[top:bottom, left:right] = best.reshape(shape)
    return Surface(bone, normal, depth)


def silhouettes(b: Bones, samples: int) -> torch.Tensor:
    """What each bone covers when nothing is before it: (N, samples, samples), bool."""
    import torch

    grid = torch.arange(samples, device=b.start.device) + 0.5
    y, x = (axis.reshape(-1) for axis in torch.meshgrid(grid, grid, indexing="ij"))
    return (_under(b, x, y)[1] > 0).reshape(-1, samples, samples)


def shade(
    surface: Surface,
    colours: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    background: torch.Tensor,
    light: torch.Tensor,
    softness: float,
) -> torch.Tensor:
    """RGB (S, S, 3) in 0..1: wrapped Lambert light, darker rims, and darker creases beside nearer surfaces.

    `colours` are the front and back colours and the axis between them (N, 3 each), in the viewer's frame (y down).
    `softness` is the reach of the crease in samples.
    """
    import torch
    from torch.nn.functional import max_pool2d

    front, back, axis = colours
    index = surface.bone.clamp(min=0)
    side = (surface.normal * axis[index]).sum(-1, keepdim=True)
    blend = torch.sigmoid(8 * side)
    base = front[index] * blend + back[index] * (1 - blend)
    lambert = (surface.normal * light).sum(-1)
    wrapped = torch.relu((lambert + 0.35) / 1.35)
    rim = surface.normal[..., 2].clamp(0, 1)
    reach = max(1, round(softness))
    near = max_pool2d(surface.depth[None, None], 2 * reach + 1, 1, reach)[0, 0]
    step = ((near - surface.depth) / (5 * reach)).clamp(0, 1)
    bright = (0.42 + 0.66 * wrapped) * (0.72 + 0.28 * rim) * (1 - 0.38 * step)
    lit = base * bright[..., None] + 0.10 * torch.relu(lambert)[..., None] ** 12
    seen = (surface.bone >= 0)[..., None]
    return torch.where(seen, lit, background).clamp(0, 1)
