"""The line along a digit or limb: pixels placed by how far along it and how far beside it they lie."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

Box = tuple[int, int, int, int]

SAMPLES = 40
BLOCK = 4
"""Places along a line change so evenly that one is computed for a block of pixels of this side."""


@dataclass(frozen=True)
class Line:
    """A smooth line of SAMPLES points, evenly spaced from root to end, each with its unit tangent, in pixels."""

    points: Floats
    tangents: Floats

    @property
    def length(self) -> float:
        """From the first to the last point."""
        return float(np.hypot(*np.diff(self.points, axis=0).T).sum())

    def place(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """(along, beside) of pixels, by the tangent at the nearest sample; before the root `along` is negative."""
        flat = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
        points, tangents = self.points.astype(np.float32), self.tangents.astype(np.float32)
        # |p - q|^2 without the |p|^2 that is the same for all q
        nearest = np.argmin((points**2).sum(1) - 2 * flat @ points.T, axis=1)
        away, tangent = flat - points[nearest], tangents[nearest]
        along = nearest * np.float32(self.length / (SAMPLES - 1)) + (away * tangent).sum(1)
        beside = away[:, 1] * tangent[:, 0] - away[:, 0] * tangent[:, 1]
        return along.reshape(x.shape), beside.reshape(x.shape)

    def place_box(self, box: Box) -> tuple[Floats, Floats]:
        """`place` for every pixel of a box (height, width), interpolated between the middles of blocks."""
        along, beside = self.place(*blocks(box))
        return unfold(along, box), unfold(beside, box)

    def locate(self, along: Floats, beside: Floats) -> tuple[Floats, Floats]:
        """The pixels (x, y) at these places: the inverse of `place`; beyond either end the line goes on straight."""
        position = np.asarray(along) * ((SAMPLES - 1) / self.length)
        held = np.clip(position, 0, SAMPLES - 1)
        low = np.minimum(held.astype(np.intp), SAMPLES - 2)
        share = (held - low)[..., None]
        points = self.points[low] * (1 - share) + self.points[low + 1] * share
        tangents = self.tangents[low] * (1 - share) + self.tangents[low + 1] * share
        over = (position - held) * (self.length / (SAMPLES - 1))
        x = points[..., 0] + over * tangents[..., 0] - beside * tangents[..., 1]
        y = points[..., 1] + over * tangents[..., 1] + beside * tangents[..., 0]
        return x.astype(np.float32), y.astype(np.float32)

    def turned(self, pivot: Floats, degrees: float) -> Line:
        """Rotated about `pivot`, clockwise on the screen."""
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = np.array([[cos, sin], [-sin, cos]])
        return Line((self.points - pivot) @ turn + pivot, self.tangents @ turn)

    def scaled(self, times: float) -> Line:
        """As if its length were changed by the factor: cut off, or gone on straight."""
        return line_through(np.stack(self.locate(np.linspace(0, times * self.length, SAMPLES), np.zeros(SAMPLES)), 1))

    def bent(self, share: float, degrees: float) -> Line:
        """Turned by `degrees` from `share` of its length on, within a bend about a tenth of its length."""
        steps = np.linspace(0, 1, SAMPLES)
        bend = np.radians(degrees) * np.clip((steps - share) / 0.12 + 0.5, 0, 1)
        angles = np.unwrap(np.arctan2(self.tangents[:, 1], self.tangents[:, 0])) + bend
        tangents = np.stack([np.cos(angles), np.sin(angles)], 1)
        moves = (tangents[1:] + tangents[:-1]) / 2 * (self.length / (SAMPLES - 1))
        return Line(np.concatenate([self.points[:1], self.points[0] + np.cumsum(moves, 0)]), tangents)


def blocks(box: Box) -> tuple[Floats, Floats]:
    """The x and y of the middles of blocks of BLOCK x BLOCK pixels that cover a box."""
    x1, y1, x2, y2 = box
    middle = (BLOCK - 1) / 2
    x, y = np.meshgrid(np.arange(x1, x2, BLOCK) + middle, np.arange(y1, y2, BLOCK) + middle)
    return x, y


def unfold(values: Floats, box: Box) -> NDArray[np.float32]:
    """A value for every pixel of a box (height, width), from one for each block."""
    x1, y1, x2, y2 = box
    size = (values.shape[1] * BLOCK, values.shape[0] * BLOCK)
    large = cv2.resize(np.asarray(values, np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[: y2 - y1, : x2 - x1])


def line_through(joints: Floats, before: float = 0.0, after: float = 0.0) -> Line:
    """A smooth line through joints (n, 2), n >= 2, gone on straight by some pixels before the first, after the last.

    Monotone cubic interpolation by chord length (Fritsch and Butland's), which does not overshoot at sharp bends.
    """
    from scipy.interpolate import PchipInterpolator

    joints = np.asarray(joints, dtype=np.float64)
    first, last = joints[0] - joints[1], joints[-1] - joints[-2]
    ends = [joints[0] + before * first / max(1e-6, np.hypot(*first))] if before > 0 else []
    tail = [joints[-1] + after * last / max(1e-6, np.hypot(*last))] if after > 0 else []
    joints = np.array([*ends, *joints, *tail])
    chords = np.concatenate([[0.0], np.cumsum(np.maximum(1e-3, np.hypot(*np.diff(joints, axis=0).T)))])
    fine = PchipInterpolator(chords, joints)(np.linspace(0, chords[-1], 4 * SAMPLES))
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(fine, axis=0).T))])
    even = np.linspace(0, lengths[-1], SAMPLES)
    points = np.stack([np.interp(even, lengths, fine[:, axis]) for axis in (0, 1)], 1)
    tangents = np.gradient(points, axis=0)
    return Line(points, tangents / np.maximum(1e-9, np.hypot(*tangents.T))[:, None])
