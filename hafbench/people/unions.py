"""Surfaces united: parts of a mesh drawn together, or melted into one, by signed distances. Lengths in metres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hafbench.people.mesh import normals
from hafbench.people.shaping import Floats, Mask, influence, relaxed, smoothstep, weighted

if TYPE_CHECKING:
    from hafbench.people.mesh import Mesh

Distance = Callable[[Floats], tuple[Floats, Floats]]


CLOSE, SPREAD = 0.006, 0.0022
"""Up to what distance from a surface it is taken as smooth, and over what distance."""


def distance_to(points: Floats, directions: Floats, closed: bool) -> Distance:
    """The signed distance (n,) of any points to a surface given by its vertices and normals, and its gradient (n, 3).

    An open surface has no inside: points that are not close to it are outside.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points)

    def distance(queries: Floats) -> tuple[Floats, Floats]:
        apart, near = tree.query(queries, k=1)
        behind = ((queries - points[near]) * directions[near]).sum(-1)
        signed = np.copysign(apart, behind) if closed else apart.copy()
        gradient = np.array(directions[near], dtype=np.float64)
        close = np.nonzero(apart < CLOSE)[0]
        far, several = tree.query(queries[close], k=min(10, len(points)))
        weights = np.exp(-(far**2 - far[:, :1] ** 2) / (2 * SPREAD**2))
        weights /= weights.sum(1, keepdims=True)
        slope = (weights[..., None] * directions[several]).sum(1)
        gradient[close] = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-9)
        planes = ((queries[close, None] - points[several]) * directions[several]).sum(-1)
        smooth = (weights * planes).sum(1)
        # Beyond an open end the planes say nothing: there the distance to the nearest vertex counts.
        signed[close] = np.where(far[:, 0] > 2 * np.abs(smooth) + 0.004, far[:, 0], smooth)
        return signed, gradient

    return distance


def joined(mesh: Mesh, parts: Sequence[Mask], reach: float) -> Mesh:
    """The mesh with the vertices of each part (V,) near another part on the smooth union of both.

    `reach` is from what distance on surfaces draw towards each other (the k of a polynomial smooth minimum).
    """
    directions = normals(mesh.vertices, mesh.triangles)
    fields = [distance_to(mesh.vertices[part], directions[part], closed=False) for part in parts]
    result = np.array(mesh.vertices, dtype=np.float64)
    for number, part in enumerate(parts):
        own = np.nonzero(part)[0]
        start = result[own].copy()
        points = start.copy()
        for turn_ in range(5):
            value, gradient = fields[number](points)
            if not turn_:
                # The smoothed surface passes a little beside its own vertices.
                offset = value
            value = value - offset
            for other, field in enumerate(fields):
                if other == number:
                    continue
                beside, slope = field(points)
                h = np.clip(0.5 + 0.5 * (beside - value) / reach, 0, 1)
                gradient = h[:, None] * gradient + (1 - h)[:, None] * slope
                value = h * value + (1 - h) * beside - reach * h * (1 - h)
            gradient /= np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)
            points = points - 0.7 * np.clip(value, -reach, 0)[:, None] * gradient
        step = points - start
        length = np.linalg.norm(step, axis=1, keepdims=True)
        result[own] = start + step * np.minimum(1, 0.8 * reach / np.maximum(length, 1e-9))
    drawn = np.linalg.norm(result - mesh.vertices, axis=1)
    result = relaxed(result, mesh.triangles, 0.5 * smoothstep(drawn, 0.0, 0.0005), 4)
    return replace(mesh, vertices=result.astype(mesh.vertices.dtype))


def _smooth_minimum(a: Floats, b: Floats, reach: Floats) -> Floats:
    h = np.clip(0.5 + 0.5 * (b - a) / reach, 0, 1)
    result: Floats = h * a + (1 - h) * b - reach * h * (1 - h)
    return result


BAND = 0.013
"""Points farther than this from a surface are outside of it: no digit is thicker than twice this."""
Change = Callable[[Floats, Floats], Floats]
"""From points (n, 3) and the signed distances (n,) of a surface there to changed distances."""


def melted(
    mesh: Mesh,
    parts: Sequence[Mask],
    changes: Sequence[Change],
    reach: Callable[[Floats], Floats],
    left: Mask,
    spacing: float = 0.0017,
) -> Mesh:
    """The mesh with parts (V,) replaced by one closed surface round them all: their smooth union.

    `reach` (n,) is at points (n, 3) from what distance on surfaces draw towards each other. `changes` shape the parts
    before they are united, such as by an end inside of what they sit on. Triangles `left` (T,) are left out. Texture
    and skin weights are those of the nearest places.
    """
    from scipy.spatial import cKDTree
    from skimage.measure import marching_cubes

    own = np.any(parts, axis=0)
    points = mesh.vertices[own].astype(np.float64)
    low, high = points.min(0) - 0.008, points.max(0) + 0.008
    counts = np.ceil((high - low) / spacing).astype(int) + 1
    grid = low + np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(-1, 3) * spacing
    near = np.isfinite(cKDTree(points).query(grid, distance_upper_bound=BAND)[0])
    directions = normals(mesh.vertices, mesh.triangles)
    places = grid[near]
    reaches = np.maximum(reach(places), 1e-4)
    value = np.full(len(places), np.inf)
    for number, (part, change) in enumerate(zip(parts, changes, strict=True)):
        one = distance_to(mesh.vertices[part].astype(np.float64), directions[part], closed=True)(places)[0]
        one = change(places, one)
        value = _smooth_minimum(value, one, reaches) if number else one
    field = np.full(len(grid), BAND)
    field[near] = value
    cells = field.reshape(counts)
    for axis in range(3):
        np.moveaxis(cells, axis, 0)[[0, -1]] = BAND
    vertices, faces, _, _ = marching_cubes(cells, 0.0, spacing=(spacing,) * 3)
    vertices += low
    faces = faces[:, [0, 2, 1]] if _volume(vertices, faces) < 0 else faces
    return _textured(mesh, own, vertices, faces, left)


def _volume(vertices: Floats, triangles: NDArray[np.integer]) -> float:
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def _textured(mesh: Mesh, own: Mask, vertices: Floats, faces: NDArray[np.integer], left: Mask) -> Mesh:
    """The mesh without the triangles `left` and with new ones, textured and weighted as the nearest of `own` (V,)."""
    from scipy.spatial import cKDTree

    source = np.nonzero(own[mesh.triangles].all(1))[0]
    corners = mesh.vertices[mesh.triangles[source]].astype(np.float64)
    marks = mesh.uv[mesh.uv_triangles[source]].astype(np.float64)
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
    middle = vertices[faces].mean(1)
    outward = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-12)
    apart, candidates = cKDTree(corners.mean(1)).query(middle, k=8)
    # The nearest that looks the same way: a fold between two digits takes the texture of its own side.
    cost = apart + 0.004 * (1 - (facing[candidates] * outward[:, None]).sum(-1))
    best = candidates[np.arange(len(faces)), cost.argmin(1)]
    one, two = corners[best, 1] - corners[best, 0], corners[best, 2] - corners[best, 0]
    basis = np.stack([one, two, facing[best]], -1)
    local = np.linalg.solve(basis + 1e-9 * np.eye(3), (vertices[faces] - corners[best, 0][:, None]).transpose(0, 2, 1))
    share = np.clip(local[:, :2].transpose(0, 2, 1), -1.0, 2.0)
    uv = marks[best, 0][:, None] + share @ (marks[best, 1:] - marks[best, :1])
    kept = ~left
    count = len(mesh.vertices)
    changed = replace(
        mesh,
        vertices=np.vstack([mesh.vertices, vertices]).astype(mesh.vertices.dtype),
        triangles=np.vstack([mesh.triangles[kept], faces + count]).astype(mesh.triangles.dtype),
        uv=np.vstack([mesh.uv, uv.reshape(-1, 2)]).astype(mesh.uv.dtype),
        uv_triangles=np.vstack(
            [mesh.uv_triangles[kept], len(mesh.uv) + np.arange(3 * len(faces)).reshape(-1, 3)]
        ).astype(mesh.uv_triangles.dtype),
        bones=np.vstack([mesh.bones, np.zeros((len(vertices), mesh.bones.shape[1]), mesh.bones.dtype)]),
        weights=np.vstack([mesh.weights, np.zeros((len(vertices), mesh.weights.shape[1]), mesh.weights.dtype)]),
    )
    numbers = np.nonzero(own)[0]
    apart, near = cKDTree(mesh.vertices[numbers]).query(vertices, k=4)
    close = 1 / (apart**2 + 1e-7)
    close /= close.sum(1, keepdims=True)
    used = np.unique(mesh.bones[numbers][mesh.weights[numbers] > 0])
    dense = np.stack([(close * influence(mesh, [bone])[numbers][near]).sum(1) for bone in used], 1)
    return weighted(changed, count + np.arange(len(vertices)), used, dense)
