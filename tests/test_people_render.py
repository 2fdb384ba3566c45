"""People: rendered scenes repeat, and what is known of them is where the picture shows it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from hafbench.people.mesh import Mesh
from hafbench.people.render import Picture, render
from hafbench.people.scene import Scene, View
from hafbench.people.scenes import random_scene

pytest.importorskip("embreex")
SIZE = 96


@lru_cache(maxsize=8)
def _drawn(seed: int, view: View, gesture: str | None = None) -> tuple[Scene, Picture]:
    scene = random_scene(seed, view, gesture)
    return scene, render(scene, SIZE)


@pytest.mark.parametrize("view", ["hand", "figure"])
def test_the_same_seed_gives_the_same_pixels(view: View) -> None:
    _, first = _drawn(1, view)
    second = render(random_scene(1, view), SIZE)
    for name in ("image", "parts", "layers", "depth", "coverage", "joints"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert first.image.dtype == np.uint8 and first.image.shape == (SIZE, SIZE, 3)


def test_seeds_differ() -> None:
    assert np.abs(_drawn(1, "hand")[1].image.astype(int) - _drawn(2, "hand")[1].image).mean() > 5


def _digit(scene: Scene, picture: Picture, digit: int) -> np.ndarray:
    bones = [i for i, name in enumerate(scene.person.skeleton.names) if name.startswith(f"finger{digit}-")]
    bones = [i for i in bones if scene.person.skeleton.names[i].endswith(scene.side)]
    return np.isin(picture.parts, bones)


def test_five_digits_are_seen_of_a_spread_hand() -> None:
    seen = []
    for seed in (3, 6):
        scene, picture = _drawn(seed, "hand", "spread")
        seen.append(all(_digit(scene, picture, digit).sum() > 12 for digit in range(1, 6)))
        assert (picture.layers[picture.parts >= 0] >= 0).all()
        assert np.isfinite(picture.depth[picture.parts >= 0]).all()
    assert any(seen)


def test_joints_lie_on_their_digits() -> None:
    inside, total = 0, 0
    for seed in (3, 6):
        scene, picture = _drawn(seed, "hand", "spread")
        names = scene.person.skeleton.names
        for digit in range(1, 6):
            own = _digit(scene, picture, digit)
            joint = picture.joints[names.index(f"finger{digit}-3.{scene.side}"), 0]
            column, row, depth = int(joint[0]), int(joint[1]), joint[2]
            if not (0 <= column < SIZE and 0 <= row < SIZE):
                continue
            # Not behind something else, which is nearer than a finger is thick.
            if picture.depth[row, column] < depth - 0.02:
                continue
            total += 1
            inside += bool(own[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].any())
    assert total >= 5 and inside == total


def test_depth_is_that_of_the_joints() -> None:
    scene, picture = _drawn(3, "hand", "spread")
    wrist = picture.joints[scene.person.skeleton.index(f"wrist.{scene.side}"), 0]
    on_hand = np.any([_digit(scene, picture, digit) for digit in range(1, 6)], axis=0)
    assert np.abs(picture.depth[on_hand] - wrist[2]).max() < 0.3
    assert scene.camera.focus == pytest.approx(wrist[2], abs=0.15)


def test_a_change_of_the_mesh_leaves_the_rest_of_the_picture() -> None:
    scene, picture = _drawn(3, "hand", "spread")
    mesh, names = scene.person.mesh, scene.person.skeleton.names
    gone = [i for i, name in enumerate(names) if name.startswith("finger5") and name.endswith(scene.side)]
    follows = np.isin(mesh.bones[:, 0], gone)
    keep = ~follows[mesh.triangles].any(1)
    fewer = Mesh(mesh.vertices, mesh.triangles[keep], mesh.uv, mesh.uv_triangles[keep], mesh.bones, mesh.weights)
    changed = render(replace(scene, person=replace(scene.person, mesh=fewer)), SIZE)
    difference = np.abs(changed.image.astype(int) - picture.image).max(-1)
    near = np.zeros((SIZE, SIZE), bool)
    rows, columns = np.nonzero(_digit(scene, picture, 5))
    near[max(0, rows.min() - 8) : rows.max() + 9, max(0, columns.min() - 8) : columns.max() + 9] = True
    assert difference[near].max() > 30
    assert np.quantile(difference[~near], 0.95) <= 2


def test_pictures_are_well_exposed() -> None:
    levels = []
    drawn: tuple[tuple[int, View, str | None], ...] = (
        (3, "hand", "spread"),
        (6, "hand", "spread"),
        (1, "hand", None),
        (1, "figure", None),
    )
    for seed, view, gesture in drawn:
        picture = _drawn(seed, view, gesture)[1]
        levels.append(float(np.median(picture.image[picture.layers == 0])))
    assert 50 < np.median(levels) < 220


def test_a_hand_fills_its_picture() -> None:
    for seed in (3, 6):
        scene, picture = _drawn(seed, "hand", "spread")
        names = scene.person.skeleton.names
        own = [i for i, n in enumerate(names) if n.endswith(scene.side) and n.startswith(("finger", "wrist", "meta"))]
        points = picture.joints[own].reshape(-1, 3)[:, :2]
        assert 0.4 * SIZE < np.ptp(points, axis=0).max() < 0.95 * SIZE
        assert (points > -2).all() and (points < SIZE + 2).all()


def test_a_stick_is_seen_on_both_sides_of_the_hand() -> None:
    scene, picture = _drawn(41, "hand", "stick")
    number = [layer.name for layer in scene.person.all_layers()].index("stick")
    # Its ends are far outside, so that its long triangles have all their corners there.
    end = picture.joints[scene.person.skeleton.index(f"wrist.{scene.side}"), 1, 0]
    columns = np.nonzero((picture.layers == number).any(0))[0]
    assert columns.min() < end - 10 and columns.max() > end + 10
