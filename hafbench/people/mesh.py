"""Meshes on a skeleton: a person at rest, and the person in a pose.

Lengths are metres, y is up, z is the front, x is the person's left. Bones have the names of MakeHuman's default rig:
`upperarm01.L`, `wrist.R`, `finger1-1.L` (the thumb's first) to `finger5-3.R` (the little finger's last).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
"""float32, unless said otherwise."""
Indices = NDArray[np.integer[Any]]
"""int32, unless said otherwise."""
Rotations = Mapping[str, Array]
"""Rotation matrices (3, 3) by the bone's name, about the bone's head, in the axes of the rest pose. Parents carry their
children along; a bone that is not named does not turn of its own."""

Kind = Literal["skin", "cloth", "hair", "eye", "object"]


@dataclass(frozen=True)
class Skeleton:
    """Bones at rest: parents (B,) come before their children (-1: none), heads and tails (B, 3)."""

    names: tuple[str, ...]
    parents: Indices
    heads: Array
    tails: Array

    def index(self, name: str) -> int:
        """The number of a bone."""
        return self.names.index(name)


@dataclass(frozen=True)
class Mesh:
    """Triangles on bones: each vertex follows four bones by weights that sum to one.

    vertices (V, 3), triangles (T, 3), uv (U, 2) with v upwards, uv_triangles (T, 3), bones (V, 4), weights (V, 4).
    """

    vertices: Floats
    triangles: Indices
    uv: Floats
    uv_triangles: Indices
    bones: Indices
    weights: Floats


@dataclass(frozen=True)
class Layer:
    """A mesh with what it is made of.

    texture: the name of an asset, "" for plain. tint: RGB factors of the texture's linear colours.
    cutout: whether the texture's alpha cuts holes.
    """

    name: str
    kind: Kind
    mesh: Mesh
    texture: str
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    cutout: bool = False


@dataclass(frozen=True)
class Person:
    """A person at rest. `mesh` is the skin; clothes, hair and eyes are layers over it on the same skeleton.

    skin: the name of the skin's texture. skin_tint: RGB factors of its linear colours. nails: the linear RGB colour of
    painted nails.
    """

    mesh: Mesh
    skeleton: Skeleton
    skin: str
    skin_tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    layers: tuple[Layer, ...] = ()
    nails: tuple[float, float, float] | None = None

    def all_layers(self) -> tuple[Layer, ...]:
        """The skin as a layer, and the others."""
        return (Layer("skin", "skin", self.mesh, self.skin, self.skin_tint), *self.layers)


def rotation(axis: Array, degrees: float) -> Array:
    """The matrix (3, 3) of a right-handed turn about an axis (3,)."""
    x, y, z = np.asarray(axis, float) / max(1e-12, float(np.linalg.norm(axis)))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    matrix: Array = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix


def align(source: Array, target: Array) -> Array:
    """The shortest turn (3, 3) that brings one direction (3,) to another."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    axis = np.cross(a, b)
    if np.linalg.norm(axis) < 1e-9:
        return np.eye(3) if a @ b > 0 else rotation(np.cross(a, [1.0, 0.3, 0.2]), 180)
    return rotation(axis, float(np.degrees(np.arctan2(np.linalg.norm(axis), a @ b))))


def bone_transforms(skeleton: Skeleton, rotations: Rotations) -> Array:
    """The motion (B, 4, 4) of each bone from the rest pose to the pose."""
    unknown = set(rotations) - set(skeleton.names)
    if unknown:
        raise KeyError(f"the skeleton has no bone {sorted(unknown)[0]}")
    transforms = np.tile(np.eye(4), (len(skeleton.names), 1, 1))
    for number, name in enumerate(skeleton.names):
        own = np.eye(4)
        if name in rotations:
            own[:3, :3] = rotations[name]
            own[:3, 3] = skeleton.heads[number] - rotations[name] @ skeleton.heads[number]
        parent = skeleton.parents[number]
        transforms[number] = transforms[parent] @ own if parent >= 0 else own
    return transforms


def skinned(mesh: Mesh, transforms: Array) -> Floats:
    """The mesh's vertices (V, 3) moved by its bones: linear blend skinning."""
    rows = transforms[:, :3].reshape(-1, 12).astype(np.float32)
    blend = mesh.weights[:, :1] * rows[mesh.bones[:, 0]]
    for slot in range(1, mesh.bones.shape[1]):
        some = np.nonzero(mesh.weights[:, slot])[0]
        blend[some] += mesh.weights[some, slot, None] * rows[mesh.bones[some, slot]]
    x, y, z = (mesh.vertices[:, axis, None] for axis in range(3))
    matrix = blend.reshape(-1, 3, 4)
    return np.asarray(matrix[:, :, 0] * x + matrix[:, :, 1] * y + matrix[:, :, 2] * z + matrix[:, :, 3], np.float32)


def posed(mesh: Mesh, skeleton: Skeleton, rotations: Rotations) -> tuple[Floats, Array]:
    """Vertices (V, 3) in a pose, and the bones' transforms (B, 4, 4)."""
    transforms = bone_transforms(skeleton, rotations)
    return skinned(mesh, transforms), transforms


def moved_points(points: Array, transforms: Array) -> Array:
    """Points (N, 3) of the rest pose, each carried by its own transform (N, 4, 4)."""
    moved: Array = (transforms[:, :3, :3] @ points[:, :, None])[:, :, 0] + transforms[:, :3, 3]
    return moved


def normals(vertices: Floats, triangles: Indices) -> Floats:
    """Unit normals (V, 3) of the vertices, weighted by the triangles' areas."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    faces = np.cross(b - a, c - a)
    total = np.empty((len(vertices), 3), np.float32)
    flat = triangles.ravel()
    for axis in range(3):
        total[:, axis] = np.bincount(flat, np.repeat(faces[:, axis], 3), len(vertices))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    unit: Floats = total / np.maximum(length, 1e-20)
    return unit
