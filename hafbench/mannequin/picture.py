"""Pictures and exact pairs: a scene rendered with its truth, and the same scene with one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hafbench.mannequin.attributes import Attributes, Framing
from hafbench.mannequin.backgrounds import background
from hafbench.mannequin.errors import TUNING, ErrorSettings, malform
from hafbench.mannequin.scene import Scene, random_scene, shapes
from hafbench.mannequin.taxonomy import Error
from hafbench.mannequin.truth import DigitTruth, HandTruth, Truth, box_of, project, truth_of

if TYPE_CHECKING:
    from hafbench.mannequin.figure import Limb
    from hafbench.mannequin.hand import Hand
    from hafbench.types import Box, Keypoint, Pixels

SIZE = 128
_ATTEMPTS = 40


@dataclass(frozen=True)
class Picture:
    """An RGB image (size, size, 3), uint8, the scene it shows and what is true of it."""

    image: Pixels
    scene: Scene
    truth: Truth


@dataclass(frozen=True)
class Pair:
    """The same scene without and with an error; outside `mask` (size, size) every pixel is the same."""

    correct: Picture
    erroneous: Picture
    mask: NDArray[np.bool_]
    error: Error

    @property
    def box(self) -> Box:
        """The box round the mask."""
        return box_of(self.mask)


def render(scene: Scene, size: int = SIZE, supersample: int = 2, device: str = "cpu") -> Picture:
    """Render a scene at size x size pixels with supersample^2 samples a pixel."""
    import torch

    from hafbench.mannequin.render import bones, rasterise, shade

    samples = size * supersample
    capsules = shapes(scene)
    surface = rasterise(bones(capsules, scene.camera, samples, device), samples)

    def tensor(values: object) -> torch.Tensor:
        return torch.tensor(np.array(values), dtype=torch.float32, device=device)

    axis = np.array(capsules.axis) @ scene.camera[0].T * np.array([1, -1, 1])
    look = scene.look
    behind = tensor(background(scene.attributes.setting, look.setting, look.detail_seed, samples))
    colours = (tensor(capsules.colour), tensor(capsules.back), tensor(axis))
    lit = shade(surface, colours, behind, tensor(look.light), samples / 128)
    image = lit.reshape(size, supersample, size, supersample, 3).mean((1, 3))
    pixels = (image * 255).round().to(torch.uint8).cpu().numpy()
    bone = surface.bone[::supersample, ::supersample].cpu().numpy()
    return Picture(pixels, scene, truth_of(scene, capsules, bone, size))


def _well_shown(picture: Picture) -> bool:
    """Whether a correct picture shows what its prompt is about: raised digits in the frame, arms and legs in view."""
    size = picture.image.shape[0]
    least = 40 * (size / 128) ** 2
    for person in picture.truth.people:
        wanted = ("arm",) if picture.scene.attributes.framing == "upper_body" else ("arm", "leg")
        skirt = picture.scene.attributes.bottom == "skirt"
        for limb in person.limbs:
            share = 0.2 if skirt and limb.name.endswith("leg") else 0.4
            if limb.name.endswith(wanted) and (limb.visible < share or limb.pixels < least):
                return False
    if not picture.truth.people:
        for hand in picture.truth.hands:
            for digit in hand.digits:
                x, y, _ = digit.points[-1]
                if digit.raised and (digit.visible < 0.5 or not (1 < x < size - 1 and 1 < y < size - 1)):
                    return False
    return True


def correct_picture(
    seed: int, framing: Framing | None = None, attributes: Attributes | None = None, size: int = SIZE
) -> Picture:
    """A correct picture in which what matters can be seen; the same arguments give the same picture."""
    for attempt in range(_ATTEMPTS):
        picture = render(random_scene(seed, framing, attributes, attempt), size)
        if _well_shown(picture):
            return picture
    return picture


def _changed(one: Picture, other: Picture) -> tuple[NDArray[np.bool_], float]:
    difference = np.abs(one.image.astype(np.int16) - other.image.astype(np.int16)).max(-1)
    return difference > 0, float((difference > 24).sum() / difference.size)


def _length(points: Sequence[Keypoint]) -> float:
    flat = np.array(points)[:, :2]
    return float(np.linalg.norm(np.diff(flat, axis=0), axis=1).sum())


def _digit_shows(correct: Picture, digit: DigitTruth, hand: Hand) -> bool:
    """Whether a malformed digit is well seen, and its tip is clearly not where a sound one's would be."""
    size = correct.image.shape[0]
    if digit.visible < 0.45 or digit.pixels < 24 * (size / 128) ** 2 or not _inside(digit.points[-1], size):
        return False
    if digit.defect not in ("bent_digit", "long_digit", "short_digit"):
        return True
    number = int(digit.part.split(".")[0].removeprefix("hand"))
    sound = next(one for one in correct.truth.hands[number].digits if one.name == digit.name)
    apart = np.hypot(*(np.array(sound.points[-1][:2]) - np.array(digit.points[-1][:2])))
    return bool(apart >= 0.14 * hand.scale * correct.scene.camera[2] * size)


def _number_shows(correct: HandTruth, erroneous: HandTruth, view: str | None) -> bool:
    """Whether a wrong number of digits can be told from a right one of which some are hidden."""
    if any(digit.defect == "extra_digit" for digit in erroneous.digits):
        return erroneous.countable
    # From the back, a hand without a thumb looks like one that has folded it.
    return view != "back" or correct.digits[0].name == erroneous.digits[0].name


def _limb_shows(correct: Picture, erroneous: Picture, limb: Limb) -> bool:
    """Whether a malformed limb stands out: from the body, from the side, and with a gap if it is detached."""
    size, person = correct.image.shape[0], correct.truth.people[0]
    background = erroneous.truth.parts == 0
    if limb.stump is not None:
        gone = correct.truth.mask(limb.name)
        return bool((gone & background).sum() >= 0.55 * gone.sum())
    made = next(one for one in erroneous.truth.people[0].limbs if one.name == limb.name)
    if made.visible < 0.45 or not _inside(made.points[-1], size):
        return False
    if limb.name.startswith("extra"):
        new = erroneous.truth.mask(limb.name)
        return bool((new & (correct.truth.parts == 0)).sum() >= 0.55 * new.sum())
    if limb.shift is not None:
        gap = project(correct.scene, (limb.points[1] + limb.shift / 2)[None], size)[0]
        return _inside((gap[0], gap[1], 0.0), size) and bool(background[int(gap[1]), int(gap[0])])
    # Seen from its end, a limb of the wrong length looks like any other.
    sound = next(one for one in person.limbs if one.name == limb.name)
    whole = float(np.linalg.norm(np.diff(limb.points, axis=0), axis=1).sum()) * correct.scene.camera[2] * size
    return _length(made.points) >= 0.8 * whole and sound.visible >= 0.45


def _inside(point: Keypoint, size: int) -> bool:
    return bool(1 < point[0] < size - 1 and 1 < point[1] < size - 1)


def _error_shows(correct: Picture, erroneous: Picture) -> bool:
    """Whether somebody who looks at the erroneous picture alone can see what is wrong."""
    size, scene = correct.image.shape[0], erroneous.scene
    for hand, truth, sound in zip(scene.hands, erroneous.truth.hands, correct.truth.hands, strict=False):
        if not _number_shows(sound, truth, scene.attributes.view):
            return False
        if not all(digit.defect is None or _digit_shows(correct, digit, hand) for digit in truth.digits):
            return False
        if hand.defect is not None and sum(_inside(digit.points[-1], size) for digit in truth.digits) < 4:
            return False
    limbs = scene.figure.limbs if scene.figure is not None else ()
    return all(limb.defect is None or _limb_shows(correct, erroneous, limb) for limb in limbs)


def make_pair(
    seed: int,
    settings: ErrorSettings = TUNING,
    detail: str | None = None,
    framing: Framing | None = None,
    size: int = SIZE,
    least: float = 0.004,
) -> Pair | None:
    """A correct picture and the same with one error that changes at least `least` of the picture clearly.

    None when the scene of this seed has no room for an error of this detail.
    """
    from scipy.ndimage import binary_dilation, binary_fill_holes

    correct = correct_picture(seed, framing, size=size)
    rng = np.random.default_rng([seed, 1_000_003])
    for _ in range(_ATTEMPTS):
        scene = malform(correct.scene, rng, settings, detail)
        if scene is None or scene.error is None:
            continue
        erroneous = render(scene, size)
        changed, share = _changed(correct, erroneous)
        if share >= least and _error_shows(correct, erroneous):
            reach = max(1, round(2 * size / 128))
            mask = binary_fill_holes(binary_dilation(changed, iterations=reach))
            return Pair(correct, erroneous, mask, scene.error)
    return None
