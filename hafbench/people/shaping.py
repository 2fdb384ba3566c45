"""Surgery on a person's mesh: copying parts with their bones, closing cuts, local warps.

Everything is done to the mesh at rest, so that the same pose moves what was changed. Lengths in metres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hafbench.people.mesh import normals

if TYPE_CHECKING:
    from hafbench.people.mesh import Mesh, Person, Rotations, Skeleton

Floats = NDArray[Any]
Mask = NDArray[np.bool_]
EXTRA = "extra_"
"""What the names of bones begin with that no person has."""


@dataclass(frozen=True)
class Subject:
    """A person at rest, the turns (3, 3) of its bones about their heads that pose it, and what is wrong with it.

    touched: bones of what an error is in. gone: bones that have no surface any more. Both by name.
    """

    person: Person
    rotations: Rotations
    touched: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()

    @property
    def mesh(self) -> Mesh:
        """The skin at rest."""
        return self.person.mesh

    @property
    def skeleton(self) -> Skeleton:
        """The bones at rest."""
        return self.person.skeleton

    def rotation(self, bone: int) -> Floats:
        """The turn (3, 3) of a bone."""
        return self.rotations.get(self.skeleton.names[bone], np.eye(3))

    def with_mesh(self, mesh: Mesh, skeleton: Skeleton | None = None) -> Subject:
        """The same with another skin, and other bones where given."""
        return replace(self, person=replace(self.person, mesh=mesh, skeleton=skeleton or self.skeleton))

    def with_layers(self, change: Callable[[Mesh], Mesh], skin: Callable[[Mesh], Mesh] | None = None) -> Subject:
        """The same with the skin, and whatever lies over it, changed alike, or the skin by a change of its own."""
        layers = tuple(replace(layer, mesh=change(layer.mesh)) for layer in self.person.layers)
        return replace(self, person=replace(self.person, mesh=(skin or change)(self.person.mesh), layers=layers))

    def with_skeleton(self, skeleton: Skeleton) -> Subject:
        """The same on other bones."""
        return replace(self, person=replace(self.person, skeleton=skeleton))

    def turned(self, turns: Mapping[int, Floats], instead: bool = False) -> Subject:
        """With bones turned further about their heads, after the turns they have or instead of them."""
        new = {
            self.skeleton.names[bone]: matrix if instead else self.rotation(bone) @ matrix
            for bone, matrix in turns.items()
        }
        return replace(self, rotations={**self.rotations, **new})

    def marked(self, bones: Iterable[int], gone: bool = False) -> Subject:
        """With these bones as those that an error is in, or that it took away."""
        names = frozenset(self.skeleton.names[bone] for bone in bones)
        return replace(self, touched=self.touched | names, gone=self.gone | (names if gone else frozenset()))


def unit(vector: Floats) -> Floats:
    """The vector, of length 1."""
    length: Floats = vector / max(1e-12, float(np.linalg.norm(vector)))
    return length


def about(pivot: Floats, linear: Floats) -> Floats:
    """The affine matrix (4, 4) that applies a linear map (3, 3) about a point (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, pivot - linear @ pivot
    return matrix


def shift(vector: Floats) -> Floats:
    """The affine matrix (4, 4) that moves by a vector (3,)."""
    matrix = np.eye(4)
    matrix[:3, 3] = vector
    return matrix


def moved(points: Floats, matrix: Floats) -> Floats:
    """Points (n, 3) by an affine matrix (4, 4)."""
    result: Floats = points @ matrix[:3, :3].T + matrix[:3, 3]
    return result


def smoothstep(values: Floats, low: float, high: float) -> Floats:
    """0 up to `low`, 1 from `high` on, smooth between them."""
    t = np.clip((values - low) / (high - low), 0, 1)
    result: Floats = t * t * (3 - 2 * t)
    return result


def descendants(skeleton: Skeleton, bone: int) -> list[int]:
    """A bone and all that hang on it, parents before children."""
    found = [bone]
    for number in range(len(skeleton.names)):
        if skeleton.parents[number] in found and number not in found:
            found.append(number)
    return found


def influence(mesh: Mesh, bones: Sequence[int]) -> Floats:
    """How far (V,), 0 to 1, each vertex follows these bones."""
    total: Floats = (mesh.weights * np.isin(mesh.bones, bones)).sum(1)
    return total


def _laplacian(count: int, triangles: NDArray[np.integer]):  # type: ignore[no-untyped-def]
    """The uniform Laplacian (V, V), sparse: the mean of the neighbours less the vertex."""
    from scipy.sparse import coo_array, diags_array

    a, b = triangles[:, [0, 1, 2]].ravel(), triangles[:, [1, 2, 0]].ravel()
    rows, columns = np.concatenate([a, b]), np.concatenate([b, a])
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count)).tocsr()
    links.data[:] = 1.0
    degrees = np.maximum(links.sum(1), 1)
    return diags_array(1 / degrees) @ links - diags_array(np.ones(count))


def neighbourhood(mesh: Mesh, region: Mask, rings: int) -> Mask:
    """The region (V,) and what is within so many edges of it."""
    grown = region.copy()
    for _ in range(rings):
        touched = grown[mesh.triangles].any(1)
        grown[mesh.triangles[touched].ravel()] = True
    return grown


def without_parts(mesh: Mesh, region: Mask, share: float) -> Mesh:
    """Without the connected parts of which more than a share lies in the region (V,), such as the shoe of a leg."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = mesh.triangles[:, [0, 1]].ravel(), mesh.triangles[:, [1, 2]].ravel()
    count = len(mesh.vertices)
    _, part = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(count, count)), directed=False)
    gone = np.bincount(part, region) > share * np.bincount(part)
    kept = ~gone[part[mesh.triangles[:, 0]]]
    return replace(mesh, triangles=mesh.triangles[kept], uv_triangles=mesh.uv_triangles[kept])


def stump(mesh: Mesh, region: Mask, origin: Floats, direction: Floats, round_: float) -> Mesh:
    """The region (V,) drawn in to a dome, without a hole: what a digit or limb leaves behind when it is cut off.

    The dome begins in the plane through `origin` across `direction` (3,), and takes the first `round_` of what lies
    beyond it; its triangles after that are left out. It has the skin weights of its surroundings, and so follows what
    it sits on.
    """
    from scipy.sparse.linalg import splu

    corners = region[mesh.triangles]
    edge = corners.any(1) & ~corners.all(1)
    if not edge.any():
        return mesh
    vertices = np.array(mesh.vertices, dtype=np.float64)
    near = np.nonzero(neighbourhood(mesh, region, 3))[0]
    free = region[near]
    held = ~free
    place = np.full(len(mesh.vertices), -1)
    place[near] = np.arange(len(near))
    local = place[mesh.triangles]
    rim = np.unique(mesh.triangles[edge])
    rim = rim[~region[rim]]
    far = (vertices - origin) @ direction
    centre = vertices[rim].mean(0)
    radius = float(
        np.linalg.norm(
            vertices[rim] - centre - np.outer((vertices[rim] - centre) @ direction, direction), axis=1
        ).mean()
    )
    angle = np.clip(far[region] / round_, 0, 1) * np.pi / 2
    apart = vertices[region] - centre
    apart -= np.outer(apart @ direction, direction)
    # The middle of the tube may leave the axis beyond the cut: each slice is centred on it.
    reach = np.linalg.norm(apart, axis=1, keepdims=True)
    apart *= np.minimum(1, 1.05 * radius / np.maximum(reach, 1e-9))
    heights = np.minimum(far[region], 0) + 0.75 * radius * np.sin(angle)
    base = origin + direction * 0
    middle = centre - direction * float((centre - base) @ direction)
    vertices[region] = middle + np.outer(heights, direction) + apart * np.cos(angle)[:, None]
    gone = np.zeros(len(vertices), dtype=bool)
    gone[np.nonzero(region)[0][angle >= np.pi / 2]] = True
    bones = np.unique(mesh.bones[near[held]][mesh.weights[near[held]] > 0])
    dense = np.stack([influence(mesh, [bone])[near] for bone in bones], 1)
    flat = _laplacian(len(near), local[(local >= 0).all(1)]).tocsr()[free]
    dense[free] = splu(flat[:, free].tocsc()).solve(-(flat[:, held] @ dense[held]))
    share = np.zeros(len(vertices))
    share[neighbourhood(mesh, region, 1)] = 0.5
    share[np.nonzero(region)[0][angle > np.pi / 5]] = 0
    kept = ~gone[mesh.triangles].all(1)
    vertices = relaxed(vertices, mesh.triangles[kept], share, 3)
    changed = replace(
        mesh,
        vertices=vertices.astype(mesh.vertices.dtype),
        triangles=mesh.triangles[kept],
        uv_triangles=mesh.uv_triangles[kept],
    )
    return weighted(changed, near[free], bones, dense[free])


def weighted(mesh: Mesh, vertices: NDArray[np.integer], bones: NDArray[np.integer], dense: Floats) -> Mesh:
    """With weights (n, len(bones)) of some vertices, of which the four largest are kept."""
    order = np.argsort(-dense, 1)[:, : mesh.bones.shape[1]]
    weights = np.maximum(np.take_along_axis(dense, order, 1), 0)
    new_bones, new_weights = np.array(mesh.bones), np.array(mesh.weights)
    new_bones[vertices], new_weights[vertices] = 0, 0
    new_bones[vertices, : order.shape[1]] = bones[order]
    new_weights[vertices, : order.shape[1]] = weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)
    return replace(mesh, bones=new_bones, weights=new_weights)


def new_bones(subject: Subject, bones: Sequence[int], place: Floats, name: str) -> tuple[Subject, dict[int, int]]:
    """With copies of bones, put where the affine matrix `place` (4, 4) says; and their numbers by their models'.

    They have the turns of their models, seen from where they are put, and are called `name` + the model's name.
    """
    skeleton = subject.skeleton
    new = {int(bone): len(skeleton.names) + number for number, bone in enumerate(bones)}
    linear = place[:3, :3] / abs(np.linalg.det(place[:3, :3])) ** (1 / 3)
    parents = [new.get(int(skeleton.parents[bone]), int(skeleton.parents[bone])) for bone in new]
    names = {bone: name + skeleton.names[bone] for bone in new}
    changed = replace(
        skeleton,
        names=(*skeleton.names, *names.values()),
        parents=np.append(skeleton.parents, parents).astype(skeleton.parents.dtype),
        heads=np.vstack([skeleton.heads, moved(skeleton.heads[list(new)], place)]),
        tails=np.vstack([skeleton.tails, moved(skeleton.tails[list(new)], place)]),
    )
    turns = {names[bone]: linear @ subject.rotation(bone) @ linear.T for bone in new}
    extra = replace(subject.with_skeleton(changed), rotations={**subject.rotations, **turns})
    return extra.marked(new.values()), new


def with_copy(mesh: Mesh, region: Mask, bones: Mapping[int, int], place: Floats) -> tuple[Mesh, Mask]:
    """With a second copy of a region (V,) at `place` (4, 4) on copied bones; and which vertices are new.

    A `place` that mirrors gives a mirrored copy. Where vertices follow other bones as well, so do the copies.
    """
    old = np.nonzero(region)[0]
    table = np.arange(max([*bones.values(), int(mesh.bones.max())]) + 1)
    table[list(bones)] = list(bones.values())
    index = np.full(len(mesh.vertices), -1)
    index[old] = len(mesh.vertices) + np.arange(len(old))
    inside = region[mesh.triangles].all(1)
    order = [0, 2, 1] if np.linalg.det(place[:3, :3]) < 0 else [0, 1, 2]
    changed = replace(
        mesh,
        vertices=np.vstack([mesh.vertices, moved(mesh.vertices[old], place)]).astype(mesh.vertices.dtype),
        triangles=np.vstack([mesh.triangles, index[mesh.triangles[inside]][:, order]]).astype(mesh.triangles.dtype),
        uv_triangles=np.vstack([mesh.uv_triangles, mesh.uv_triangles[inside][:, order]]),
        bones=np.vstack([mesh.bones, table[mesh.bones[old]]]).astype(mesh.bones.dtype),
        weights=np.vstack([mesh.weights, mesh.weights[old]]),
    )
    new = np.zeros(len(changed.vertices), dtype=bool)
    new[index[old]] = True
    return changed, new


def copied(subject: Subject, region: Mask, bones: Sequence[int], place: Floats) -> tuple[Subject, Mask, dict[int, int]]:
    """With a second copy of a region (V,) of the skin and of its bones; which vertices are new, and the new bones."""
    changed, table = new_bones(subject, bones, place, EXTRA)
    mesh, new = with_copy(subject.mesh, region, table, place)
    return changed.with_mesh(mesh), new, table


def carried(
    subject: Subject, parts: Sequence[tuple[Floats, Floats]], bones: Sequence[tuple[Sequence[int], Floats]]
) -> Subject:
    """With vertices of the skin moved by affine matrices (4, 4), each by its share (V,), and bones' ends by theirs."""
    vertices = np.array(subject.mesh.vertices, dtype=np.float64)
    change = np.zeros_like(vertices)
    for share, matrix in parts:
        change += share[:, None] * (moved(vertices, matrix) - vertices)
    mesh = replace(subject.mesh, vertices=(vertices + change).astype(subject.mesh.vertices.dtype))
    return subject.with_mesh(mesh, with_ends(subject.skeleton, bones))


def with_ends(skeleton: Skeleton, bones: Sequence[tuple[Sequence[int], Floats]]) -> Skeleton:
    """With the ends of bones moved by affine matrices (4, 4)."""
    heads, tails = np.array(skeleton.heads), np.array(skeleton.tails)
    for numbers, matrix in bones:
        own = list(numbers)
        heads[own], tails[own] = moved(skeleton.heads[own], matrix), moved(skeleton.tails[own], matrix)
    return replace(skeleton, heads=heads, tails=tails)


def tucked(mesh: Mesh, part: Mask, share: Floats, depth: float) -> Mesh:
    """The mesh with a copied part (V,) sunk at its rim: by `depth` along its normals where `share` (V,) is 0."""
    inward = -normals(mesh.vertices, mesh.triangles)
    vertices = mesh.vertices + np.where(part, (1 - share) * depth, 0)[:, None] * inward
    return replace(mesh, vertices=vertices.astype(mesh.vertices.dtype))


def relaxed(vertices: Floats, triangles: NDArray[np.integer], share: Floats, rounds: int) -> Floats:
    """Vertices (V, 3) drawn `rounds` times by a share (V,) towards the mean of their neighbours."""
    matrix = _laplacian(len(vertices), triangles)
    result = np.array(vertices, dtype=np.float64)
    for _ in range(rounds):
        result += share[:, None] * (matrix @ result)
    return result


def noise(rng: np.random.Generator, wavelength: float) -> Callable[[Floats], Floats]:
    """A function that gives points (n, 3) smooth random values (n,), about -1 to 1, that change over a `wavelength`."""
    waves = rng.normal(size=(12, 3)) * (2 * np.pi / wavelength / 1.7)
    phases = rng.uniform(0, 2 * np.pi, 12)

    def values(points: Floats) -> Floats:
        result: Floats = np.sin(points @ waves.T + phases).sum(1) / np.sqrt(6)
        return result

    return values
