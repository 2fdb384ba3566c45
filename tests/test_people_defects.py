"""Errors of people in the mesh: what they add and take away, and that nothing is torn."""

from __future__ import annotations

from functools import lru_cache
from typing import get_args

import numpy as np
import pytest

from hafbench.mannequin.taxonomy import DETAILS
from hafbench.people.body import make_person
from hafbench.people.defects import DEFECTS, of_view
from hafbench.people.hand_defects import Place
from hafbench.people.hand_frame import hand_of
from hafbench.people.mesh import Mesh, normals, posed, rotation
from hafbench.people.shaping import Subject, stump
from hafbench.people.unions import joined
from hafbench.types import Kind, Region


@lru_cache(maxsize=1)
def subject() -> Subject:
    return Subject(make_person(np.random.default_rng(4)), {"finger3-1.L": rotation(np.array([1.0, 0, 0]), 8)})


def changed(detail: str, seed: int = 0) -> Subject:
    made = DEFECTS[detail].change(subject(), Place("L"), np.random.default_rng(seed))
    assert made is not None
    return made


def borders(mesh: Mesh) -> int:
    """How many edges of some length have a triangle on one side only."""
    _, place = np.unique(mesh.vertices.round(6), axis=0, return_inverse=True)
    edges = np.sort(place.ravel()[mesh.triangles][:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges = edges[edges[:, 0] != edges[:, 1]]
    _, counts = np.unique(edges, axis=0, return_counts=True)
    return int((counts == 1).sum())


@pytest.mark.parametrize("detail", list(DEFECTS))
def test_a_changed_person_is_whole(detail: str) -> None:
    made = changed(detail)
    assert made.touched <= set(made.skeleton.names) and made.gone <= made.touched
    for layer in made.person.all_layers():
        mesh = layer.mesh
        placed, _ = posed(mesh, made.skeleton, made.rotations)
        assert np.isfinite(placed).all()
        assert mesh.triangles.max(initial=0) < len(mesh.vertices)
        assert mesh.uv_triangles.max(initial=0) < len(mesh.uv)
        assert mesh.triangles.shape == mesh.uv_triangles.shape
        assert mesh.bones.max() < len(made.skeleton.names)
        used = np.unique(mesh.triangles)
        assert mesh.weights[used].sum(1) == pytest.approx(1, abs=1e-3)
        # No vertex flies away: a triangle's edges stay short.
        corners = placed[mesh.triangles]
        assert np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max(initial=0) < 0.16


@pytest.mark.parametrize("detail", ["extra_digit", "missing_digit", "fused_digits", "melted_digits", "extra_arm"])
def test_the_same_random_numbers_make_the_same_error(detail: str) -> None:
    one, two = changed(detail, 5), changed(detail, 5)
    assert np.array_equal(one.mesh.vertices, two.mesh.vertices)
    assert np.array_equal(one.mesh.triangles, two.mesh.triangles)
    assert one.touched == two.touched


@pytest.mark.parametrize("detail", ["missing_digit", "missing_hand", "missing_forearm"])
def test_a_stump_is_closed(detail: str) -> None:
    assert borders(changed(detail).mesh) <= borders(subject().mesh)


@pytest.mark.parametrize("detail", ["missing_arm", "missing_forearm", "missing_leg", "missing_lower_leg"])
def test_what_is_missing_is_gone_from_all_layers(detail: str) -> None:
    made = changed(detail)
    gone = [made.skeleton.names.index(name) for name in made.gone]
    for layer in made.person.all_layers():
        assert not np.isin(layer.mesh.bones[np.unique(layer.mesh.triangles), 0], gone).any()


def test_an_extra_finger_has_bones_of_its_own() -> None:
    made = changed("extra_digit")
    new = made.skeleton.names[len(subject().skeleton.names) :]
    assert len(new) == 3 and all(name.startswith("extra_finger") for name in new)
    parents = [made.skeleton.names[made.skeleton.parents[made.skeleton.names.index(name)]] for name in new]
    assert parents[0].startswith("metacarpal") and parents[1:] == list(new[:2])
    assert (made.skeleton.parents < np.arange(len(made.skeleton.names))).all()
    # It bends alone.
    before, _ = posed(made.mesh, made.skeleton, made.rotations)
    bent = made.turned({len(made.skeleton.names) - 2: rotation(np.array([1.0, 0, 0]), 60)})
    after, _ = posed(bent.mesh, bent.skeleton, bent.rotations)
    moving = np.linalg.norm(after - before, axis=1) > 1e-4
    assert moving.any() and moving[: len(subject().mesh.vertices)].mean() < 0.001


def test_a_second_thumb_stands_at_the_other_side() -> None:
    made = changed("two_thumbs")
    hand = hand_of(subject().skeleton, "L")
    tips = [
        made.skeleton.tails[made.skeleton.names.index(name)] @ hand.across
        for name in ("finger1-3.L", "extra_finger1-3.L")
    ]
    middle = hand.knuckle(3) @ hand.across
    assert (tips[0] - middle) * (tips[1] - middle) < 0


@pytest.mark.parametrize(("detail", "low", "high"), [("long_digit", 1.3, 2.0), ("short_digit", 0.35, 0.75)])
def test_a_digit_has_another_length(detail: str, low: float, high: float) -> None:
    made = changed(detail)
    tip = next(name for name in made.touched if name.split(".")[0].endswith("-3"))
    digit = int(tip[len("finger")])
    sound, wrong = hand_of(subject().skeleton, "L"), hand_of(made.skeleton, "L")
    first = 1 if digit == 1 else 0
    assert low < wrong.length(digit, first) / sound.length(digit, first) < high


def test_fused_fingers_bend_alike() -> None:
    made = changed("fused_digits")
    digits = {name[len("finger")] for name in made.touched}
    assert len(digits) >= 2
    turns = [made.rotations.get(f"finger{digit}-1.L", np.eye(3)) for digit in digits]
    assert all(np.allclose(turn, turns[0]) for turn in turns)


def test_the_details_are_of_the_taxonomy_and_mean_what_they_mean_for_mannequins() -> None:
    for detail, row in DEFECTS.items():
        assert row.kind in get_args(Kind) and row.region in get_args(Region)
        assert detail not in DETAILS or DETAILS[detail] == (row.kind, row.region)
    assert {*of_view("hand"), *of_view("figure")} == set(DEFECTS.values())
    assert {row.region for row in of_view("hand")} == {"hands"}


def test_an_error_without_a_place_is_refused() -> None:
    rng = np.random.default_rng(0)
    hidden = Place("L", (), (), 1.0)
    edge = Place("L", facing=0.1)
    for detail in ("extra_digit", "two_thumbs", "missing_digit", "fused_digits", "long_digit", "bent_back_digit"):
        assert DEFECTS[detail].change(subject(), hidden, rng) is None
    for detail in ("extra_digit", "missing_digit", "fused_digits", "melted_digits", "bent_digit"):
        assert DEFECTS[detail].change(subject(), edge, rng) is None


def _tube(length: float = 0.2, radius: float = 0.02, rings: int = 41, around: int = 16) -> Mesh:
    """A closed tube along y on one bone."""
    angle = np.arange(around) / around * 2 * np.pi
    height = np.linspace(0, length, rings)
    ring = np.stack([np.cos(angle), np.zeros(around), -np.sin(angle)], 1) * radius
    points = np.concatenate([*(ring + np.array([0, h, 0]) for h in height), [[0, 0, 0]], [[0, length, 0]]])
    a = np.arange(rings - 1)[:, None] * around + np.arange(around)
    b = np.arange(rings - 1)[:, None] * around + (np.arange(around) + 1) % around
    quads = np.stack([a, b, b + around, a + around], -1).reshape(-1, 4)
    first, last = rings * around, rings * around + 1
    step = np.arange(around)
    caps = [[first, (i + 1) % around, i] for i in step]
    caps += [[last, (rings - 1) * around + i, (rings - 1) * around + (i + 1) % around] for i in step]
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]], np.array(caps)]).astype(np.int32)
    count = len(points)
    bones, weights = np.zeros((count, 4), np.int32), np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1))
    uv = np.zeros((1, 2), np.float32)
    return Mesh(points.astype(np.float32), triangles, uv, np.zeros_like(triangles), bones, weights)


def test_a_tube_is_cut_to_a_dome() -> None:
    mesh = _tube()
    cut = stump(mesh, mesh.vertices[:, 1] > 0.1, np.array([0, 0.1, 0]), np.array([0, 1.0, 0]), 0.03)
    used = cut.vertices[np.unique(cut.triangles)]
    assert borders(cut) == borders(mesh) == 0
    assert 0.105 < used[:, 1].max() < 0.13
    assert np.hypot(used[:, 0], used[:, 2]).max() < 0.0205
    top = used[:, 1].argmax()
    assert np.hypot(*used[top, [0, 2]]) < 0.006


def test_two_tubes_are_joined_without_a_crease() -> None:
    one = _tube()
    count = len(one.vertices)
    both = Mesh(
        np.concatenate([one.vertices, one.vertices + np.array([0.035, 0, 0], np.float32)]),
        np.concatenate([one.triangles, one.triangles + count]),
        one.uv,
        np.concatenate([one.uv_triangles, one.uv_triangles]),
        np.concatenate([one.bones, one.bones]),
        np.concatenate([one.weights, one.weights]),
    )
    first = np.arange(2 * count) < count
    made = joined(both, [first, ~first], 0.01)
    step = np.linalg.norm(made.vertices - both.vertices, axis=1)
    crease = np.abs(both.vertices[:, 0] - 0.0175) < 0.003
    far = np.abs(both.vertices[:, 0] - 0.0175) > 0.02
    side = np.abs(both.vertices[:, 1] - 0.1) < 0.05
    assert step[crease & side].mean() > 0.0008
    assert step[far & side].max() < 1e-6
    assert np.isfinite(normals(made.vertices, made.triangles)).all()
