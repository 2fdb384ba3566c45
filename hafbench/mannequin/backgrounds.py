"""What lies behind: plain, gradient, noise, a room, a landscape. Each a few flat shapes, the same at any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hafbench.mannequin.attributes import Colour, Setting

Array = NDArray[np.float64]

RGB: dict[Colour, tuple[float, float, float]] = {
    "white": (0.93, 0.93, 0.92), "grey": (0.55, 0.56, 0.58), "black": (0.13, 0.13, 0.15), "red": (0.78, 0.20, 0.20),
    "orange": (0.92, 0.56, 0.22), "yellow": (0.94, 0.82, 0.32), "green": (0.32, 0.62, 0.36), "blue": (0.26, 0.45, 0.76),
    "purple": (0.52, 0.34, 0.66), "pink": (0.93, 0.62, 0.70), "brown": (0.48, 0.33, 0.23),
}  # fmt: skip


def _grid(size: int) -> tuple[Array, Array]:
    line = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(line, line)
    return x, y


def _paint(canvas: Array, where: NDArray[np.bool_], colour: Array) -> None:
    canvas[where] = colour


def _plain(x: Array, y: Array, colour: Array, rng: np.random.Generator) -> Array:
    return np.broadcast_to(colour, (*x.shape, 3)).copy()


def _gradient(x: Array, y: Array, colour: Array, rng: np.random.Generator) -> Array:
    angle = rng.uniform(0, 2 * np.pi)
    share = ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + 0.7) / 1.4
    light, dark = colour + (1 - colour) * rng.uniform(0.3, 0.6), colour * rng.uniform(0.5, 0.8)
    blended: Array = light + (dark - light) * share[..., None]
    return blended


def _noise(x: Array, y: Array, colour: Array, rng: np.random.Generator) -> Array:
    field = np.zeros_like(x)
    for _ in range(10):
        u, v, phase = rng.normal(0, 14, 1)[0], rng.normal(0, 14, 1)[0], rng.uniform(0, 2 * np.pi)
        field += np.sin(u * x + v * y + phase)
    mottled: Array = colour * (1 + 0.055 * field[..., None])
    return mottled


def _indoor(x: Array, y: Array, colour: Array, rng: np.random.Generator) -> Array:
    canvas = _plain(x, y, colour * 0.6 + 0.36, rng)
    horizon = rng.uniform(0.70, 0.84)
    floor = np.array([0.55, 0.43, 0.33]) * rng.uniform(0.75, 1.15)
    _paint(canvas, y > horizon, floor)
    _paint(canvas, (y > horizon - 0.02) & (y < horizon), np.array([0.93, 0.92, 0.90]))
    left, width = rng.choice([rng.uniform(-0.05, 0.12), rng.uniform(0.62, 0.8)]), rng.uniform(0.2, 0.3)
    if rng.random() < 0.5:
        top, height = rng.uniform(0.08, 0.2), rng.uniform(0.25, 0.38)
        inside = (x > left) & (x < left + width) & (y > top) & (y < top + height)
        pane = (x > left + 0.02) & (x < left + width - 0.02) & (y > top + 0.02) & (y < top + height - 0.02)
        bar = (abs(x - left - width / 2) < 0.008) | (abs(y - top - height / 2) < 0.008)
        _paint(canvas, inside, np.array([0.95, 0.95, 0.93]))
        _paint(canvas, pane & ~bar, np.array([0.68, 0.83, 0.93]))
    else:
        top = rng.uniform(0.18, 0.3)
        _paint(canvas, (x > left) & (x < left + width) & (y > top) & (y < horizon), np.array([0.50, 0.36, 0.26]))
        knob = (x - left - width * 0.85) ** 2 + (y - (top + horizon) / 2) ** 2 < 0.0002
        _paint(canvas, knob, np.array([0.88, 0.78, 0.42]))
    return canvas


def _outdoor(x: Array, y: Array, colour: Array, rng: np.random.Generator) -> Array:
    sky: Array = (
        np.array([0.55, 0.76, 0.93]) + (np.array([0.86, 0.92, 0.96]) - np.array([0.55, 0.76, 0.93])) * y[..., None]
    )
    horizon = rng.uniform(0.58, 0.76)
    if rng.random() < 0.5:
        sun = (x - rng.uniform(0.1, 0.9)) ** 2 + (y - rng.uniform(0.08, 0.2)) ** 2
        _paint(sky, sun < 0.0035, np.array([0.99, 0.91, 0.55]))
    hill = horizon - 0.07 * (1 + np.sin(x * rng.uniform(4, 8) + rng.uniform(0, 6)))
    _paint(sky, y > hill, np.array([0.45, 0.60, 0.55]) * rng.uniform(0.9, 1.1))
    ground = np.array([[0.47, 0.66, 0.35], [0.83, 0.75, 0.55], [0.88, 0.91, 0.94]])[rng.choice(3, p=[0.6, 0.25, 0.15])]
    _paint(sky, y > horizon, ground)
    for _ in range(int(rng.integers(0, 3))):
        place, tall = rng.choice([rng.uniform(0.03, 0.22), rng.uniform(0.78, 0.97)]), rng.uniform(0.12, 0.22)
        trunk = (abs(x - place) < 0.014) & (y > horizon - tall) & (y < horizon + 0.02)
        _paint(sky, trunk, np.array([0.40, 0.28, 0.19]))
        crown = (x - place) ** 2 + ((y - horizon + tall) * 0.85) ** 2 < (tall * 0.5) ** 2
        _paint(sky, crown, np.array([0.25, 0.47, 0.27]))
    return sky


_PAINTERS = {"plain": _plain, "gradient": _gradient, "noise": _noise, "indoor": _indoor, "outdoor": _outdoor}


def background(setting: Setting, colour: Array, seed: int, size: int) -> Array:
    """RGB (size, size, 3) in 0..1 of a setting in a colour; `seed` draws its details, which do not depend on size."""
    x, y = _grid(size)
    painted: Array = np.clip(_PAINTERS[setting](x, y, colour, np.random.default_rng(seed)), 0, 1)
    return painted
