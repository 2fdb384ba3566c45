"""Errors of figures, made in the mesh, the clothes and the pose of a person: each function changes one limb or part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hafbench.people.hand_defects import Error, Place
from hafbench.people.mesh import rotation
from hafbench.people.shaping import (
    EXTRA,
    Floats,
    Mask,
    Subject,
    about,
    descendants,
    influence,
    moved,
    neighbourhood,
    new_bones,
    shift,
    smoothstep,
    stump,
    tucked,
    unit,
    with_copy,
    with_ends,
    without_parts,
)

if TYPE_CHECKING:
    from hafbench.people.mesh import Mesh

Generator = np.random.Generator
Range = tuple[float, float]


@dataclass(frozen=True)
class Limb:
    """A limb's bones by name, without the side: its first, the one below its middle joint, and its last."""

    name: str
    first: str
    lower: str
    end: str


ARM = Limb("arm", "upperarm01", "lowerarm01", "wrist")
LEG = Limb("leg", "upperleg01", "lowerleg01", "foot")


def _bones(subject: Subject, name: str) -> list[int]:
    return descendants(subject.skeleton, subject.skeleton.names.index(name))


def _head(subject: Subject, name: str) -> Floats:
    head: Floats = np.asarray(subject.skeleton.heads[subject.skeleton.names.index(name)], dtype=np.float64)
    return head


def extra_limb(limb: Limb) -> Error:
    """An error: a second limb beside one, with its clothes, held otherwise."""

    def change(subject: Subject, at: Place, rng: Generator) -> Subject | None:
        bones = _bones(subject, f"{limb.first}.{at.side}")
        outward = 1.0 if at.side == "L" else -1.0
        root = _head(subject, f"{limb.first}.{at.side}")
        if limb is ARM:
            place = shift(np.array([-0.02 * outward, -float(rng.uniform(0.05, 0.11)), 0.0]))
            degrees, tilt = float(rng.choice([-1, 1])) * float(rng.uniform(28, 50)), float(rng.uniform(-25, 40))
        else:
            place = shift(np.array([-float(rng.uniform(0.04, 0.08)) * outward, 0.01, float(rng.uniform(-0.02, 0.03))]))
            degrees, tilt = float(rng.uniform(18, 32)) * float(rng.choice([-1, 1])), float(rng.uniform(-30, 30))
        place = place @ about(root, np.eye(3) * float(rng.uniform(0.92, 1.0)))
        changed, table = new_bones(subject, bones, place, EXTRA)
        swing = rotation(np.array([1.0, 0, 0]), -tilt) @ rotation(np.array([0, 0, 1.0]), degrees)
        first = changed.skeleton.names[table[bones[0]]]
        changed = replace(changed, rotations={**changed.rotations, first: swing @ changed.rotation(table[bones[0]])})

        def copy(mesh: Mesh) -> Mesh:
            share = influence(mesh, bones)
            region = neighbourhood(mesh, share > 0.3, 2) & (share > 0.05)
            if not region[mesh.triangles].all(1).any():
                return mesh
            doubled, new = with_copy(mesh, region, table, place)
            own = influence(doubled, list(table.values()))
            return tucked(doubled, new, smoothstep(own, 0.15, 0.8), 0.03)

        return changed.with_layers(copy)

    return change


def missing(limb: Limb, bone: str, left: Range) -> Error:
    """An error: a limb that ends in a stump after a share of a bone drawn from `left`."""

    def change(subject: Subject, at: Place, rng: Generator) -> Subject | None:
        skeleton = subject.skeleton
        name = f"{bone}.{at.side}"
        bones = _bones(subject, name)
        head = _head(subject, name)
        joints = [limb.first, limb.lower, limb.end]
        last = joints[joints.index(bone) + 1] if bone != limb.end else None
        tail = _head(subject, f"{last}.{at.side}") if last else skeleton.tails[skeleton.names.index(name)]
        length = float(np.linalg.norm(tail - head))
        before = _head(subject, f"{limb.lower}.{at.side}")
        direction = unit(tail - head) if last else unit(head - before)
        origin = head + direction * float(rng.uniform(*left)) * length

        def region(mesh: Mesh) -> Mask:
            found: Mask = (influence(mesh, bones) > 0.4) & ((mesh.vertices - origin) @ direction > 0)
            return found

        def cut(mesh: Mesh, share: float = 0.5) -> Mesh:
            return stump(without_parts(mesh, region(mesh), share), region(mesh), origin, direction, 0.05)

        def cut_skin(mesh: Mesh) -> Mesh:
            # Clothes hide some of the skin: a forearm below a sleeve is a part of its own, which may go on as a stump.
            return cut(mesh, 0.995)

        # Of the bone that is cut, and of its second half in this rig, a part is left.
        beyond = _bones(subject, f"{last}.{at.side}") if last else bones
        return subject.with_layers(cut, cut_skin).marked(bones).marked(beyond, gone=True)

    return change


def stretched(limb: Limb, factor: Range) -> Error:
    """An error: a limb longer or shorter by a factor drawn from this range; its hand or foot keeps its size."""

    def change(subject: Subject, at: Place, rng: Generator) -> Subject | None:
        bones = _bones(subject, f"{limb.first}.{at.side}")
        root, end = _head(subject, f"{limb.first}.{at.side}"), _head(subject, f"{limb.end}.{at.side}")
        length, direction = float(np.linalg.norm(end - root)), unit(end - root)
        more = float(rng.uniform(*factor)) - 1

        def moved_along(points: Floats) -> Floats:
            far = np.clip((points - root) @ direction, 0, length)
            result: Floats = points + np.outer(far * more, direction)
            return result

        def stretch(mesh: Mesh) -> Mesh:
            share = influence(mesh, bones)[:, None]
            vertices = mesh.vertices + share * (moved_along(mesh.vertices) - mesh.vertices)
            return replace(mesh, vertices=vertices.astype(mesh.vertices.dtype))

        skeleton = subject.skeleton
        heads, tails = np.array(skeleton.heads), np.array(skeleton.tails)
        heads[bones], tails[bones] = moved_along(heads[bones]), moved_along(tails[bones])
        changed = subject.with_layers(stretch)
        return changed.with_skeleton(replace(skeleton, heads=heads, tails=tails)).marked(bones)

    return change


def scaled(names: Sequence[str], factor: Range) -> Error:
    """An error: parts (bones with all on them, of the side or of both) scaled by one factor about where they begin."""

    def change(subject: Subject, at: Place, rng: Generator) -> Subject | None:
        size = float(rng.uniform(*factor))
        changed = subject
        for name in names:
            known = name.format(side=at.side)
            bones, pivot = _bones(changed, known), _head(changed, known)
            matrix = about(pivot, np.eye(3) * size)

            def scale(mesh: Mesh, bones: list[int] = bones, matrix: Floats = matrix) -> Mesh:
                share = influence(mesh, bones)[:, None]
                vertices = mesh.vertices + share * (moved(mesh.vertices, matrix) - mesh.vertices)
                return replace(mesh, vertices=vertices.astype(mesh.vertices.dtype))

            changed = changed.with_layers(scale)
            changed = changed.with_skeleton(with_ends(changed.skeleton, [(bones, matrix)])).marked(bones)
        return changed

    return change


def broken(limb: Limb) -> Error:
    """An error: a limb bent in the middle of a bone, where it has no joint."""

    def change(subject: Subject, at: Place, rng: Generator) -> Subject | None:
        # The rig has two bones from each joint to the next; their meeting is no joint of a human.
        first = limb.lower if rng.random() < 0.65 else limb.first
        name = f"{first.removesuffix('1')}2.{at.side}"
        bone = subject.skeleton.names.index(name)
        along = unit(subject.skeleton.tails[bone] - subject.skeleton.heads[bone])
        axis = unit(np.cross(along, rng.normal(size=3)))
        degrees = float(rng.uniform(50, 85))
        return subject.turned({bone: rotation(axis, degrees)}).marked(descendants(subject.skeleton, bone))

    return change


def bent_knee(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A lower leg bent to the front or to the side at the knee."""
    bone = subject.skeleton.names.index(f"lowerleg01.{at.side}")
    outward = 1.0 if at.side == "L" else -1.0
    turns = (
        rotation(np.array([1.0, 0, 0]), -float(rng.uniform(50, 85))),
        rotation(np.array([0, 0, 1.0]), outward * float(rng.uniform(45, 75))),
    )
    changed = subject.turned({bone: turns[int(rng.random() < 0.5)]}, instead=True)
    return changed.marked(descendants(subject.skeleton, bone))


def turned_head(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A head that looks backwards."""
    total = float(rng.uniform(140, 180)) * (1 if at.side == "L" else -1)
    names = subject.skeleton.names
    shares = {"neck01": 0.25, "neck02": 0.25, "neck03": 0.25, "head": 0.25}
    up = np.array([0.0, 1.0, 0.0])
    turns = {names.index(name): rotation(up, total * share) for name, share in shares.items()}
    return subject.turned(turns, instead=True).marked(_bones(subject, "head"))


def turned_foot(subject: Subject, at: Place, rng: Generator) -> Subject | None:
    """A foot that points backwards."""
    names = subject.skeleton.names
    axis = unit(_head(subject, f"lowerleg01.{at.side}") - _head(subject, f"foot.{at.side}"))
    total = float(rng.uniform(130, 180)) * float(rng.choice([-1, 1]))
    shares = {"lowerleg01": 0.25, "lowerleg02": 0.4, "foot": 0.35}
    turns = {names.index(f"{name}.{at.side}"): rotation(axis, total * share) for name, share in shares.items()}
    return subject.turned(turns).marked(_bones(subject, f"foot.{at.side}"))
