"""People: assets, skinning, poses within human limits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from hafbench.people import assets, body, gestures, postures
from hafbench.people.hand_frame import Side, hand_of
from hafbench.people.mesh import Array, align, bone_transforms, moved_points, normals, posed, rotation
from hafbench.people.poses import FINGER_LIMITS, THUMB_LIMITS, WRIST_LIMITS, Fingers, hand_rotations
from hafbench.people.subdivision import catmull_clark

PERSON = body.make_person(np.random.default_rng(4))


def test_assets_are_the_packed_ones() -> None:
    rows = [line.split("  ") for line in (assets.FOLDER / "checksums.txt").read_text().splitlines()]
    assert len(rows) > 90
    for digest, name in rows:
        assert hashlib.sha256((assets.FOLDER / name).read_bytes()).hexdigest() == digest, name
    packed = {path.name for path in assets.FOLDER.iterdir() if path.suffix in (".npz", ".webp")}
    assert packed <= {name for _, name in rows}
    assert sum(path.stat().st_size for path in assets.FOLDER.iterdir()) < 15e6


def test_the_rest_pose_moves_nothing() -> None:
    for layer in PERSON.all_layers():
        vertices, transforms = posed(layer.mesh, PERSON.skeleton, {})
        assert np.abs(vertices - layer.mesh.vertices).max() < 1e-6
        assert np.array_equal(transforms, np.tile(np.eye(4), (len(transforms), 1, 1)))


def test_meshes_are_well_formed() -> None:
    for layer in PERSON.all_layers():
        mesh = layer.mesh
        assert mesh.triangles.max() < len(mesh.vertices) and mesh.uv_triangles.max() < len(mesh.uv)
        assert mesh.triangles.shape == mesh.uv_triangles.shape
        assert np.allclose(mesh.weights.sum(1), 1, atol=1e-5) and (mesh.weights >= 0).all()
        assert mesh.bones.max() < len(PERSON.skeleton.names)
    assert (PERSON.skeleton.parents < np.arange(len(PERSON.skeleton.names))).all()


def test_normals_look_outwards() -> None:
    mesh = PERSON.mesh
    # The volume under the triangles is positive when they face outwards.
    a, b, c = (mesh.vertices[mesh.triangles[:, i]].astype(float) for i in range(3))
    assert (a * np.cross(b, c)).sum() / 6 > 0.005
    length = np.linalg.norm(normals(mesh.vertices, mesh.triangles), axis=1)
    used = np.unique(mesh.triangles)
    assert np.allclose(length[used], 1, atol=1e-3)


def test_a_turned_bone_carries_its_children() -> None:
    skeleton = PERSON.skeleton
    turn = rotation(np.array([0.0, 0, 1]), 90)
    transforms = bone_transforms(skeleton, {"lowerarm01.L": turn})
    elbow, wrist = skeleton.index("lowerarm01.L"), skeleton.index("wrist.L")
    moved = moved_points(skeleton.heads[[wrist]], transforms[[wrist]])[0]
    expected = skeleton.heads[elbow] + turn @ (skeleton.heads[wrist] - skeleton.heads[elbow])
    assert np.allclose(moved, expected)
    assert np.array_equal(transforms[skeleton.index("wrist.R")], np.eye(4))
    with pytest.raises(KeyError, match="no bone third"):
        bone_transforms(skeleton, {"third.L": turn})


def test_align_is_the_shortest_turn() -> None:
    rng = np.random.default_rng(1)
    for a, b in rng.normal(size=(20, 2, 3)):
        turn = align(a, b)
        assert np.allclose(turn @ a / np.linalg.norm(a), b / np.linalg.norm(b))
        assert np.allclose(turn @ turn.T, np.eye(3)) and np.isclose(np.linalg.det(turn), 1)


def test_catmull_clark_of_a_cube() -> None:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    fine = catmull_clark(quads, 8)
    points = fine.matrix @ corners
    assert points.shape == (26, 3) and fine.quads.shape == (24, 4)
    # Published values for a cube with half-side 1: corners go to 5/9, edges to 3/4, faces stay.
    assert np.allclose(np.abs(points[:8]), 5 / 9)
    assert np.allclose(np.sort(np.abs(points[8:20]), axis=1), [0, 0.75, 0.75])
    assert np.allclose(np.sort(np.abs(points[20:]), axis=1), [0, 0, 1])


def test_persons_differ_and_repeat() -> None:
    drawn = [body.make_person(np.random.default_rng(seed)).mesh.vertices for seed in (8, 8, 9)]
    assert np.array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 0.01
    heights = [float(np.ptp(vertices[:, 1])) for vertices in drawn]
    assert all(1.3 < height < 2.2 for height in heights)


def _bend(before: Array, after: Array, axis: Array) -> float:
    return float(np.degrees(np.arctan2(np.cross(before, after) @ axis, before @ after)))


@pytest.mark.parametrize("side", ["L", "R"])
def test_gestures_are_within_joint_limits(side: Side) -> None:
    hand, rng = hand_of(PERSON.skeleton, side), np.random.default_rng(2)
    fingers = Fingers(hand)
    limits = [np.array(list(one.values())) for one in (FINGER_LIMITS, THUMB_LIMITS, WRIST_LIMITS)]
    for name in gestures.GESTURES:
        rotations, pose = hand_rotations(hand, name, rng)
        for values, (low, high) in zip((pose.fingers, pose.thumb, pose.wrist), (one.T for one in limits), strict=True):
            assert (values >= low - 1e-9).all() and (values <= high + 1e-9).all(), name
        # And measured on the posed bones: middle and end joints bend to the palm, not back.
        transforms = bone_transforms(PERSON.skeleton, rotations)
        for digit, own in hand.digits.items():
            if digit == 1:
                continue
            turned = [transforms[bone, :3, :3] @ hand.direction(digit, place) for place, bone in enumerate(own)]
            axis = transforms[own[0], :3, :3] @ fingers.flexion_axis(digit)
            for before, after, (low, high) in zip(turned, turned[1:], limits[0][2:], strict=False):
                assert low - 4 <= _bend(before, after, axis) <= high + 4, (name, digit)


@pytest.mark.parametrize("side", ["L", "R"])
def test_flexed_fingers_come_before_the_palm(side: Side) -> None:
    hand = hand_of(PERSON.skeleton, side)
    rotations, _ = hand_rotations(hand, "fist", np.random.default_rng(0))
    fingers = Fingers(hand)
    for digit in (2, 3, 4, 5):
        tip, _ = fingers.tip(rotations, digit)
        assert (tip - hand.knuckle(digit)) @ hand.dorsal < -0.004
        assert (tip - hand.knuckle(digit)) @ hand.along < 0.03


def test_pads_touch_in_a_pinch() -> None:
    hand = hand_of(PERSON.skeleton, "L")
    fingers = Fingers(hand)
    for seed in range(3):
        rotations, _ = hand_rotations(hand, "ok", np.random.default_rng(seed))
        thumb, index = (fingers.tip(rotations, digit, 0.008)[0] for digit in (1, 2))
        assert np.linalg.norm(thumb - index) < 0.3 * hand.width


def test_left_and_right_mirror_each_other() -> None:
    left, right = (hand_of(PERSON.skeleton, side) for side in postures.SIDES)
    flip = np.array([-1.0, 1, 1])
    tips = [
        Fingers(hand).tip(hand_rotations(hand, "call", np.random.default_rng(3))[0], 5)[0] for hand in (left, right)
    ]
    assert np.linalg.norm(tips[0] - tips[1] * flip) < 0.02


def test_arms_point_where_they_are_told() -> None:
    poser, rng = postures.Poser(PERSON.skeleton), np.random.default_rng(0)
    hand = hand_of(PERSON.skeleton, "L")
    _, pose = hand_rotations(hand, "open", rng)
    postures.set_arm(poser, "up", "L", pose, rng, noise=0.0)
    rotations = poser.rotations()
    transforms = bone_transforms(PERSON.skeleton, rotations)
    shoulder, elbow, wrist = (PERSON.skeleton.index(f"{n}.L") for n in ("upperarm01", "lowerarm01", "wrist"))
    places = moved_points(PERSON.skeleton.heads[[shoulder, elbow, wrist]], transforms[[shoulder, elbow, wrist]])
    for (start, end), wanted in zip(((0, 1), (1, 2)), ((0.42, 1, 0.05), (0.15, 1, 0.1)), strict=True):
        way = places[end] - places[start]
        assert way @ np.array(wanted) / np.linalg.norm(way) / np.linalg.norm(wanted) > 0.99
    for matrix in rotations.values():
        assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
