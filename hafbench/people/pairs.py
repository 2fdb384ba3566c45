"""Exact pairs: a person rendered as it should be, and the same scene with one error; nothing else differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hafbench.mannequin.truth import Truth, box_of
from hafbench.people.defects import DEFECTS, Defect, of_view
from hafbench.people.hand_defects import Place
from hafbench.people.hand_frame import DIGITS, hand_of
from hafbench.people.mesh import bone_transforms
from hafbench.people.render import Picture, render
from hafbench.people.shaping import EXTRA, Subject, moved, unit
from hafbench.people.truth import DIGIT_NAMES, SIDES, part_of, truth_of

if TYPE_CHECKING:
    from hafbench.people.hand_frame import Hand, Side
    from hafbench.people.mesh import Array, Rotations
    from hafbench.people.scene import Scene, View
    from hafbench.types import Box, Region

SIZE = 256
TRIES = 4
"""Errors that are tried in a scene before it is given up."""
DEPTH, COLOUR = 0.004, 6
"""What counts as changed: metres of depth, steps of 255."""
WELL_SEEN = 0.0035
"""The share of the picture that a digit fills, at least, if an error may be in it."""
SEEN: dict[str, tuple[tuple[str, float], ...]] = {
    "arm": (("{side}_arm", 0.003), ("{side}_arm.hand", 0.0006)),
    "leg": (("{side}_leg", 0.008), ("{side}_leg.foot", 0.001)),
    "head": (("head", 0.002),),
}
"""The same for the parts that have to be seen where an error is to be in a limb or a head."""
STRAIGHT, BENT = 0.9, 45.0
"""A digit counts as stretched from this straightness on, bent at the knuckle by fewer degrees."""
KEPT = 0.6
"""The share of a hand's pixels that are still seen where a hand has an error."""
MOST = 0.7
"""Of the picture, more than which no mask covers."""


@dataclass(frozen=True)
class Pair:
    """The same scene without and with an error; outside `mask` (size, size) every pixel is the same."""

    scene: Scene
    good: Picture
    bad: Picture
    mask: NDArray[np.bool_]
    defect: Defect
    side: Side
    truth_good: Truth
    truth_bad: Truth

    @property
    def box(self) -> Box:
        """The box round the mask."""
        return box_of(self.mask)


def pair(
    seed: int,
    detail: str | None = None,
    view: View = "hand",
    size: int = SIZE,
    regions: Sequence[Region] = (),
) -> Pair | None:
    """The pair of a seed: a correct picture, and the same with an error (of this detail, or drawn by the weights).

    The error is in one of these regions, if any are given.
    None if no error that can be seen found a place. The same arguments give the same pair.
    """
    from hafbench.people.scenes import random_scene

    if detail is not None:
        view = DEFECTS[detail].view
    rows = (DEFECTS[detail],) if detail is not None else of_view(view)
    rows = tuple(row for row in rows if not regions or row.region in regions)
    if not rows:
        return None
    scene = random_scene(seed, view)
    good = render(scene, size)
    rng = np.random.default_rng([seed, 1_000_003])
    weights = np.array([row.weight for row in rows])
    for _ in range(TRIES):
        defect = rows[int(rng.choice(len(rows), p=weights / weights.sum()))]
        place = _place(scene, good, defect, rng)
        if place is None:
            continue
        subject = defect.change(Subject(scene.person, scene.rotations), place, rng)
        if subject is None:
            continue
        made = _compared(scene, good, subject, defect, place.side)
        if made is not None:
            return made
    return None


def _share(scene: Scene, picture: Picture, part: str) -> float:
    """The share of the picture in which a part, or what belongs to it, is seen."""
    names = [part_of(name) for name in scene.person.skeleton.names]
    own = [number for number, name in enumerate(names) if name == part or name.startswith(part + ".")]
    return float(np.isin(picture.parts, own).mean())


def _place(scene: Scene, good: Picture, defect: Defect, rng: np.random.Generator) -> Place | None:
    """Where the error may be: in the hand that is shown, or at a side where the limb is well seen."""
    if defect.place == "hand":
        shares = {digit: _share(scene, good, f"{SIDES[scene.side]}_arm.hand.{DIGIT_NAMES[digit]}") for digit in DIGITS}
        digits = tuple(digit for digit, share in shares.items() if share >= WELL_SEEN)
        hand = hand_of(scene.person.skeleton, scene.side)
        raised = tuple(digit for digit in digits if _raised(hand, digit, scene.rotations))
        transforms = bone_transforms(hand.skeleton, scene.rotations)
        to_viewer = unit(scene.camera.position - moved(hand.head(hand.wrist)[None], transforms[hand.wrist])[0])
        facing = abs(float(transforms[hand.wrist, :3, :3] @ hand.dorsal @ to_viewer))
        return Place(scene.side, digits, raised, facing)
    sides: list[Side] = [
        side
        for side, word in SIDES.items()
        if all(_share(scene, good, part.format(side=word)) >= least for part, least in SEEN[defect.place])
    ]
    return Place(sides[int(rng.integers(len(sides)))]) if sides else None


def _raised(hand: Hand, digit: int, rotations: Rotations) -> bool:
    return hand.straight(digit, rotations) > STRAIGHT and (digit == 1 or hand.bent(digit, rotations) < BENT)


def _inside(point: Array, size: int) -> bool:
    return bool((point[:2] >= 0).all() and (point[:2] < size).all())


def _compared(scene: Scene, good: Picture, subject: Subject, defect: Defect, side: Side) -> Pair | None:
    """The pair, if the error is to be seen."""
    from scipy.ndimage import binary_closing, binary_dilation, binary_fill_holes, binary_opening, gaussian_filter

    wrong = replace(scene, person=subject.person, rotations=subject.rotations)
    size = good.image.shape[0]
    bad = render(wrong, size)
    with np.errstate(invalid="ignore"):
        depth = np.abs(good.depth - bad.depth) > DEPTH
    covered = np.isfinite(good.depth) != np.isfinite(bad.depth)
    names, part = subject.skeleton.names, f"{SIDES[side]}_arm.hand"
    own = np.array([*(name in subject.touched for name in names), False])
    concerned = own[good.parts] | own[bad.parts]
    shape = covered | (concerned & (depth | (good.parts != bad.parts)))
    if defect.place == "hand" and _share(wrong, bad, part) < KEPT * _share(scene, good, part):
        return None
    colour = np.abs(good.image.astype(np.int16) - bad.image.astype(np.int16)).max(-1)
    clear = (colour > 3 * COLOUR) & (shape | depth)
    if min(shape.mean(), 2 * clear.mean()) < defect.share:
        return None
    extra = [number for number, name in enumerate(names) if name.startswith(EXTRA)]
    if extra and not (
        np.isin(bad.parts, extra).mean() >= 0.7 * defect.share and _inside(bad.joints[extra[-1], 1], size)
    ):
        return None
    reach = max(1, round(size / 100))
    # Single pixels that differ by a little grain of light are no part of the error; its shadow is.
    changed = shape | depth | binary_opening(colour > COLOUR, iterations=1)
    core = binary_fill_holes(binary_closing(binary_dilation(changed, iterations=reach), iterations=reach))
    alpha = np.clip(gaussian_filter(binary_dilation(core, iterations=2 * reach).astype(np.float32), reach), 0, 1)
    alpha = np.where(core, 1.0, np.clip(2 * alpha - 0.1, 0, 1))
    mask = alpha > 0
    if mask.mean() > MOST:
        return None
    mixed = good.image + alpha[..., None] * (bad.image.astype(np.float32) - good.image)
    composed = replace(bad, image=np.where(mask[..., None], np.round(mixed), good.image).astype(np.uint8))
    truths = truth_of(scene, good), truth_of(wrong, composed, defect.detail, subject.touched, subject.gone)
    return Pair(scene, good, composed, mask, defect, side, *truths)
