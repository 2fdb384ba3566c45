"""A scene: person, pose, camera, light and background as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hafbench.people.mesh import Array, Person, Rotations

View = Literal["hand", "figure"]
Setting = Literal["panorama", "plain", "gradient", "wall"]


@dataclass(frozen=True)
class Camera:
    """A pinhole at `position` (3,). Rows of `turn` (3, 3): to the right, up, and back towards the viewer.

    focal: the focal length in widths of the picture. focus: the distance in metres that is sharp.
    """

    position: Array
    turn: Array
    focal: float
    focus: float

    def seen(self, points: Array) -> Array:
        """Points (N, 3) in pictures' widths from the centre, x right, y down, and their distance along the axis."""
        local = (points - self.position) @ self.turn.T
        depth = np.maximum(-local[:, 2], 1e-6)
        return np.stack([self.focal * local[:, 0] / depth, -self.focal * local[:, 1] / depth, -local[:, 2]], -1)

    def pixels(self, points: Array, size: int) -> Array:
        """Points (N, 3) as column, row and distance in a picture size x size."""
        seen = self.seen(points)
        seen[:, :2] = (seen[:, :2] + 0.5) * size
        return seen


def look_at(position: Array, target: Array, up: Array, focal: float) -> Camera:
    """A camera that looks at a target, which is in focus."""
    back = position - target
    distance = float(np.linalg.norm(back))
    back = back / distance
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    return Camera(position, np.array([right, np.cross(back, right), back]), focal, distance)


@dataclass(frozen=True)
class Light:
    """A panorama turned by `degrees` about y; `exposure` in stops from the usual one."""

    name: str
    degrees: float
    exposure: float


@dataclass(frozen=True)
class Background:
    """What is behind: colours are linear RGB. blur: in pictures' widths. seed: of a wall's structure."""

    setting: Setting
    colour: tuple[float, float, float]
    other: tuple[float, float, float]
    blur: float
    seed: int


@dataclass(frozen=True)
class Scene:
    """Everything a picture shows. side: which hand a "hand" view is of. noise: of the sensor, 0..1."""

    seed: int
    view: View
    side: Literal["L", "R"]
    gesture: str
    pose: str
    person: Person
    rotations: Rotations
    camera: Camera
    light: Light
    background: Background
    aperture: float
    noise: float
