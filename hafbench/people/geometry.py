"""What a camera sees of a posed person: triangles, rays, and where they meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hafbench.people import assets
from hafbench.people.mesh import Array, Floats, Indices, Layer, normals, posed
from hafbench.people.sampling import sample
from hafbench.people.scene import Scene
from hafbench.people.shade import Tracer

# Where in a pixel its four rays go.
_OFFSETS = ((0.375, 0.125), (0.875, 0.375), (0.125, 0.625), (0.625, 0.875))
_LAYERS_DEEP = 8


@dataclass(frozen=True)
class Surface:
    """The triangles of all layers in the pose: of each, its layer, corners, uv (T, 3, 2) and main bones (T, 3)."""

    vertices: Floats
    normals: Floats
    rest: Floats
    rest_normals: Floats
    triangles: Indices
    layer: Indices
    uv: Floats
    bones: Indices
    transforms: Array


def _in_view(scene: Scene, vertices: Floats, triangles: Indices, margin: float) -> NDArray[np.bool_]:
    """Which triangles' boxes reach into the picture, widened on all sides by `margin` widths."""
    seen = scene.camera.seen(vertices.astype(np.float64))
    corners = [seen[triangles[:, corner]] for corner in range(3)]
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    inside = (low[:, :2] < 0.5 + margin).all(1) & (high[:, :2] > -0.5 - margin).all(1)
    return np.asarray(inside & (high[:, 2] > 0.02))


def surface_of(scene: Scene) -> Surface:
    """The triangles that the camera may see, and those close by."""
    vertices, normal, rest, rest_normal, triangles, layer, uv, bones = [], [], [], [], [], [], [], []
    start = 0
    transforms = np.zeros((0, 4, 4))
    for number, part in enumerate(scene.person.all_layers()):
        mesh = part.mesh
        placed, transforms = posed(mesh, scene.person.skeleton, scene.rotations)
        keep = _in_view(scene, placed, mesh.triangles, 0.35)
        chosen = mesh.triangles[keep]
        if not len(chosen):
            continue
        used, compact = np.unique(chosen, return_inverse=True)
        compact = compact.reshape(-1, 3).astype(np.int32)
        vertices.append(placed[used])
        normal.append(normals(placed[used], compact))
        rest.append(mesh.vertices[used])
        rest_normal.append(normals(mesh.vertices[used], compact))
        triangles.append(compact + start)
        layer.append(np.full(len(compact), number, np.int32))
        uv.append(mesh.uv[mesh.uv_triangles[keep]])
        bones.append(mesh.bones[chosen, 0])
        start += len(used)
    return Surface(
        np.concatenate(vertices), np.concatenate(normal), np.concatenate(rest), np.concatenate(rest_normal),
        np.concatenate(triangles), np.concatenate(layer), np.concatenate(uv), np.concatenate(bones), transforms,
    )  # fmt: skip


@dataclass(frozen=True)
class Hits:
    """Rays that met a surface: their number, triangle, weights of its corners (N, 3) and distance (N,)."""

    ray: Indices
    triangle: Indices
    corners: Floats
    distance: Floats

    def mix(self, values: Floats) -> Floats:
        """Values of the corners (N, 3, k), between them."""
        a, b, c = (self.corners[:, corner, None] * values[:, corner] for corner in range(3))
        return np.asarray(a + b + c, np.float32)


def rays_of(scene: Scene, size: int) -> Floats:
    """Unit directions (size * size * 4, 3), pixel by pixel."""
    step = np.arange(size, dtype=np.float32)
    offsets = np.array(_OFFSETS, np.float32)
    x = ((step[None, :, None] + offsets[:, 0]) / size - 0.5) / np.float32(scene.camera.focal)
    y = (0.5 - (step[:, None, None] + offsets[:, 1]) / size) / np.float32(scene.camera.focal)
    right, up, back = scene.camera.turn.astype(np.float32)
    length = np.sqrt(1 + x * x + y * y)
    rays = ((x / length)[..., None] * right + (y / length)[..., None] * up) - (1 / length)[..., None] * back
    return np.asarray(rays.reshape(-1, 3), np.float32)


def trace(scene: Scene, surface: Surface, layers: tuple[Layer, ...], directions: Floats) -> tuple[Hits, Tracer]:
    """The first surface of each ray that is not cut out by its texture."""
    tracer = Tracer(surface.vertices, surface.triangles)
    count = len(directions)
    ray = np.arange(count, dtype=np.int32)
    begin = np.tile(scene.camera.position.astype(np.float32), (count, 1))
    gone = np.zeros(count, np.float32)
    cut = np.array([layer.cutout for layer in layers])
    found: list[tuple[NDArray[np.int32], ...]] = []
    for deep in range(_LAYERS_DEEP):
        hit = tracer.hits(begin, directions[ray])
        met = hit["primID"] >= 0
        triangle = hit["primID"][met]
        u, v = hit["u"][met], hit["v"][met]
        corners = np.stack([1 - u - v, u, v], -1).astype(np.float32)
        distance = gone[met] + hit["tfar"][met]
        solid = np.ones(len(triangle), bool)
        for number in np.nonzero(cut)[0]:
            some = np.nonzero(surface.layer[triangle] == number)[0]
            if len(some):
                uv = (surface.uv[triangle[some]] * corners[some, :, None]).sum(1)
                solid[some] = sample(assets.texture(layers[number].texture), uv)[:, 3] > 0.35
        found.append((ray[met][solid], triangle[solid], corners[solid], distance[solid]))  # type: ignore[arg-type]
        through = ~solid
        if not through.any() or deep == _LAYERS_DEEP - 1:
            break
        ray, gone = ray[met][through], distance[through] + np.float32(2e-4)
        begin = (scene.camera.position + directions[ray] * gone[:, None]).astype(np.float32)
    columns = [np.concatenate(part) for part in zip(*found, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Hits(*(part[order] for part in columns)), tracer
