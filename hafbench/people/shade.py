"""Surface colours under a panorama: traced visibility, diffusion in skin, and reflections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.errors import Unavailable
from hafbench.people import light as lights
from hafbench.people.mesh import Floats, Indices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hafbench.people.scene import Light

SAMPLES = 96
# How far light of each colour (RGB) spreads in skin, in metres.
SPREAD = (0.0037, 0.0015, 0.0009)
BOUNCE = np.array([0.34, 0.24, 0.20], np.float32)


class Tracer:
    """Triangles (T, 3) over vertices (V, 3), for rays."""

    def __init__(self, vertices: Floats, triangles: Indices) -> None:
        try:
            from embreex import rtcore_scene
            from embreex.mesh_construction import TriangleMesh
        except ImportError as error:
            raise Unavailable("Rendering people needs a package: pip install embreex.") from error

        self._scene: Any = rtcore_scene.EmbreeScene()
        self._mesh: Any = TriangleMesh(self._scene, vertices, triangles)

    def hits(self, origins: Floats, directions: Floats) -> dict[str, NDArray[Any]]:
        """What rays (N, 3) meet first: primID (-1: nothing), u, v, tfar; each (N,)."""
        found: dict[str, NDArray[Any]] = self._scene.run(origins, directions, output=True)
        return found

    def blocked(self, origins: Floats, directions: Floats) -> NDArray[np.bool_]:
        """Whether rays (N, 3) meet anything."""
        found: NDArray[np.bool_] = self._scene.run(origins, directions, query="OCCLUDED") != -1
        return found


def irradiance(tracer: Tracer, points: Floats, normals: Floats, light: Light, lift: float) -> tuple[Floats, Floats]:
    """Irradiance / pi (N, 3) at points with normals (N, 3), and the share (N,) of the light that reaches them.

    Rays start `lift` metres over the surface. What they hit sends back some of the light, coloured like skin.
    """
    found = lights.samples(light.name, SAMPLES)
    directions = lights.turned(found.directions, light.degrees)
    cosine = np.maximum(normals @ directions.T, 0)
    which, ray = np.nonzero(cosine > 0.01)
    start = (points + normals * np.float32(lift))[which]
    blocked = tracer.blocked(np.ascontiguousarray(start), np.ascontiguousarray(directions[ray]))
    open_ = cosine.copy()
    open_[which, ray] *= ~blocked
    direct = open_ @ found.weights / np.float32(np.pi)
    whole = cosine @ found.weights / np.float32(np.pi)
    share = direct.mean(1) / np.maximum(whole.mean(1), 1e-6)
    back = found.weights.mean(0) * SAMPLES / np.float32(4 * np.pi)
    gone = (cosine - open_).sum(1) / np.maximum(cosine.sum(1), 1e-6)
    return direct + gone[:, None] * BOUNCE * (0.35 * back + 0.65 * whole), share


def diffused(values: Floats, known: NDArray[np.bool_], points: Floats, triangles: Indices, steps: int = 6) -> Floats:
    """Irradiance (V, 3) after it spread through skin along the edges between known vertices (V,)."""
    edges = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edges = edges[known[edges].all(1)]
    a, b = edges[:, 0], edges[:, 1]
    square = np.maximum(((points[a] - points[b]) ** 2).sum(1), 1e-10)
    count = len(values)
    out = values.copy()
    degree = np.maximum(np.bincount(a, minlength=count) + np.bincount(b, minlength=count), 1)
    for channel, spread in enumerate(SPREAD):
        rate = np.minimum(0.8, spread**2 / square / steps)
        for _ in range(steps if channel == 0 else 2):
            flow = rate * (out[b, channel] - out[a, channel])
            change = np.bincount(a, flow, count) - np.bincount(b, flow, count)
            out[:, channel] += change / degree
    return out


def reflected(
    light: Light, normals: Floats, to_eye: Floats, base: float | Floats, gloss: float | Floats, rim: float = 0.35
) -> Floats:
    """Light (N, 3) that surfaces mirror to the eye: Fresnel's reflection at two roughnesses, mixed by gloss (0..1)."""
    facing = np.clip((normals * to_eye).sum(1, keepdims=True), 0.02, 1)
    mirror = 2 * facing * normals - to_eye
    mirror /= np.maximum(np.linalg.norm(mirror, axis=1, keepdims=True), 1e-6)
    fresnel = base + (1 - base) * (1 - facing) ** 5 * rim
    sharp, soft = (
        lights.look_up(lights.blurred(light.name, roughness), mirror, light.degrees) for roughness in lights.ROUGHNESS
    )
    return np.asarray(fresnel * (gloss * sharp + (1 - gloss) * soft), np.float32)
