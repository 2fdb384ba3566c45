"""Render a scene: rays find the surfaces, a panorama lights them, and a lens and a sensor make the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hafbench.people import assets, shade
from hafbench.people import light as lights
from hafbench.people.backgrounds import behind
from hafbench.people.geometry import Hits, Surface, rays_of, surface_of, trace
from hafbench.people.mesh import Array, Floats, Indices, moved_points
from hafbench.people.sampling import sample
from hafbench.people.scene import Scene
from hafbench.people.skin import SkinPoints, skin_colours

if TYPE_CHECKING:
    from hafbench.types import Pixels

# Metres behind what is in focus from which things are blurred.
_DEEP = 0.13


@dataclass(frozen=True)
class Picture:
    """A rendered scene, size x size.

    image: RGB, uint8. parts: the bone that each pixel's surface follows most, -1 for the background. layers: the
    number of the layer in `person.all_layers()`, -1 for the background. depth: metres along the axis, inf for the
    background. coverage: the share of a pixel that a surface covers. joints (B, 2, 3): each bone's head and tail as
    column, row and depth.
    """

    image: Pixels
    parts: NDArray[np.int16]
    layers: NDArray[np.int16]
    depth: Floats
    coverage: Floats
    joints: Array


def _lit_vertices(scene: Scene, surface: Surface, hits: Hits, tracer: shade.Tracer) -> tuple[Floats, Floats]:
    """Irradiance / pi (V, 3) and visibility (V,) of the vertices that are seen, spread through skin."""
    count = len(surface.vertices)
    known = np.zeros(count, bool)
    known[surface.triangles[np.unique(hits.triangle)]] = True
    for _ in range(2):  # their neighbours too, so that light spreads over the edge of what is seen
        touched = known[surface.triangles].any(1)
        known[surface.triangles[touched]] = True
    some = np.nonzero(known)[0]
    light, share = np.zeros((count, 3), np.float32), np.zeros(count, np.float32)
    light[some], share[some] = shade.irradiance(
        tracer, surface.vertices[some], surface.normals[some], scene.light, 0.0008
    )
    skin = surface.triangles[surface.layer == 0]
    return shade.diffused(light, known, surface.vertices, skin), share


def _unit(values: Floats) -> Floats:
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-9), np.float32)


def _colours(scene: Scene, surface: Surface, hits: Hits, tracer: shade.Tracer, directions: Floats) -> Floats:
    """Radiance (N, 3) of the surfaces that rays met."""
    light, share = _lit_vertices(scene, surface, hits, tracer)
    corners = surface.triangles[hits.triangle]
    irradiance, open_ = hits.mix(light[corners]), hits.mix(share[corners][:, :, None])
    normal = _unit(hits.mix(surface.normals[corners]))
    to_eye = -directions[hits.ray]
    flip = (normal * to_eye).sum(1) < 0
    layer = surface.layer[hits.triangle]
    uv = hits.mix(surface.uv[hits.triangle])
    out = np.zeros((len(uv), 3), np.float32)
    for number, part in enumerate(scene.person.all_layers()):
        some = np.nonzero(layer == number)[0]
        if not len(some):
            continue
        if part.kind == "skin":
            bones = surface.bones[hits.triangle[some], np.argmax(hits.corners[some], axis=1)]
            rest_normal = hits.mix(surface.rest_normals[corners])[some]
            points = SkinPoints(
                uv[some], hits.mix(surface.rest[corners])[some], rest_normal, normal[some], to_eye[some],
                irradiance[some], open_[some], bones, surface.transforms[bones, :3, :3].astype(np.float32),
            )  # fmt: skip
            out[some] = skin_colours(scene, part, points)
            continue
        base: Floats = np.broadcast_to(np.array(part.tint, np.float32), (len(some), 3))
        if part.texture:
            base = base * sample(assets.texture(part.texture), uv[some])[:, :3]
        facing = np.where(flip[some, None], -normal[some], normal[some])
        f0, gloss = {"eye": (0.035, 1.0), "hair": (0.02, 0.2), "cloth": (0.008, 0.0)}.get(part.kind, (0.04, 0.5))
        rim = 0.05 if part.kind in ("cloth", "hair") else 0.35
        mirror = shade.reflected(scene.light, facing, to_eye[some], f0, gloss, rim)
        out[some] = np.minimum(base, 0.9) * irradiance[some] + mirror * open_[some]
    return out


def _developed(light: Floats, exposure: Floats) -> Floats:
    """Linear light as sRGB values in 0..1: a film's curve."""
    x = light * exposure
    grey = x @ np.array([0.3, 0.59, 0.11], np.float32)
    x = np.maximum(x + 0.1 * (grey[..., None] - x), 0)
    curve = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1)
    low = curve <= 0.0031308
    return np.asarray(np.where(low, curve * 12.92, 1.055 * curve ** (1 / 2.4) - 0.055), np.float32)


def usual_exposure(scene: Scene) -> Floats:
    """Factors (3,) that make a surface facing the camera well lit and nearly white; the person has no part in it."""
    facing = scene.camera.turn[2].astype(np.float32)
    around = np.stack([facing, _unit(facing + np.array([0, 0.8, 0], np.float32))])
    diffuse = lights.blurred(scene.light.name, 1.0)
    mean = lights.look_up(diffuse, around, scene.light.degrees).mean(0)
    level = float(mean.mean())
    cast = np.maximum((mean + 0.3 * diffuse.mean((0, 1))) / (level + 0.3 * float(diffuse.mean())), 0.05)
    # A photographer opens up for dark skin, and closes for light skin.
    skin = float(assets.texture(scene.person.skin)[::16, ::16, :3].mean()) * float(np.mean(scene.person.skin_tint))
    stops = scene.light.exposure + 0.35 * np.log2(0.3 / max(skin, 0.03))
    return np.asarray(0.5 / max(level, 1e-4) * 2.0**stops * cast**-0.75, np.float32)


def _flattened(colours: Floats, pixel: Indices, count: int) -> tuple[Floats, Floats]:
    """Sums (count, 3) of the samples' colours in each pixel, over four samples, and the share (count,) of them."""
    sums = [np.bincount(pixel, colours[:, channel], count) for channel in range(3)]
    share = np.bincount(pixel, minlength=count).astype(np.float32) / 4
    return np.stack(sums, -1).astype(np.float32) / 4, share


def _defocused(colours: Floats, share: Floats, size: int, width: float) -> Floats:
    """Colours (N, 3) that cover `share` (N,) of their pixels, blurred by a lens: what is before them does not bleed."""
    import cv2

    both = np.concatenate([colours, share[:, None]], 1).reshape(size, size, 4)
    soft = cv2.GaussianBlur(both, (0, 0), max(0.6, width * size)).reshape(-1, 4)
    return np.asarray(soft[:, :3] / np.maximum(soft[:, 3:], 1e-3) * share[:, None], np.float32)


def _ground(scene: Scene, transforms: Array) -> float:
    """The height of the floor under the lowest bone of the feet."""
    skeleton = scene.person.skeleton
    feet = [i for i, name in enumerate(skeleton.names) if name.startswith(("foot", "toe"))]
    if not feet:
        return 0.0
    placed = moved_points(skeleton.tails[feet], transforms[feet])
    return float((placed[:, 1] - skeleton.tails[feet][:, 1]).min()) - 0.015


def render(scene: Scene, size: int = 256) -> Picture:
    """The picture of a scene; the same scene gives the same pixels."""
    directions = rays_of(scene, size)
    layers = scene.person.all_layers()
    surface = surface_of(scene)
    hits, tracer = trace(scene, surface, layers, directions)
    colours = _colours(scene, surface, hits, tracer, directions)
    count = size * size
    pixel = hits.ray // 4
    exposure = usual_exposure(scene)
    axis = -(directions[hits.ray] @ scene.camera.turn[2].astype(np.float32))
    distance = hits.distance * axis
    # Averaged as seen, so that a bright sample does not outweigh the pixel's others.
    seen = _developed(colours, exposure)
    back = behind(
        scene, directions.reshape(size, size, 4, 3)[:, :, 0], exposure, tracer, _ground(scene, surface.transforms)
    )
    far = distance > scene.camera.focus + _DEEP if scene.aperture > 0 else np.zeros(len(distance), bool)
    front, share = _flattened(seen[~far], pixel[~far], count)
    beyond, beyond_share = _flattened(seen[far], pixel[far], count)
    rest = np.maximum(1 - share - beyond_share, 0)
    beyond += rest[:, None] * _developed(back.reshape(-1, 3), exposure)
    if far.any():
        beyond = _defocused(beyond, 1 - share, size, scene.aperture)
    values = (front + beyond).reshape(size, size, 3)
    covered = np.bincount(pixel, minlength=count).astype(np.float32)
    rng = np.random.default_rng([scene.seed, 77])
    grain = rng.normal(0, 1, (size, size, 3)).astype(np.float32) * np.float32(scene.noise)
    image = np.round(np.clip(values + grain * np.sqrt(values + 0.05), 0, 1) * 255).astype(np.uint8)

    parts, numbers = np.full(count, -1, np.int16), np.full(count, -1, np.int16)
    depth = np.full(count, np.inf, np.float32)
    main = np.argmax(hits.corners, axis=1)
    whole = covered[pixel] >= 2
    parts[pixel[whole]] = surface.bones[hits.triangle, main][whole]
    numbers[pixel[whole]] = surface.layer[hits.triangle][whole]
    depth[pixel[whole]] = distance[whole]
    skeleton = scene.person.skeleton
    ends = np.stack([skeleton.heads, skeleton.tails], 1)
    placed = np.einsum("bij,bkj->bki", surface.transforms[:, :3, :3], ends) + surface.transforms[:, None, :3, 3]
    joints = scene.camera.pixels(placed.reshape(-1, 3), size).reshape(-1, 2, 3)
    square = (size, size)
    return Picture(
        image,
        parts.reshape(square),
        numbers.reshape(square),
        depth.reshape(square),
        (covered / 4).reshape(square),
        joints,
    )
