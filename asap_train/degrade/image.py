"""The image-space family: errors made from the photo's own pixels, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from asap_train.degrade import digits, faces, limbs, warps, wholes
from asap_train.degrade.cutout import VISIBLE, put_back
from asap_train.types import Candidate, Part, Photo
from hafbench import registry
from hafbench.errors import HafError, nearest
from hafbench.types import Kind, Region

if TYPE_CHECKING:
    from numpy.random import Generator

    from asap_train.types import Mask
    from hafbench.types import Pixels


@dataclass(frozen=True)
class Cut:
    """How a part is cut out for a detail: from its keypoints (so many of them), or from its mask (0)."""

    function: Callable[[Any, Any], Any]
    points: int

    def __call__(self, photo: Pixels, part: Part) -> Any:
        """What the detail works on, which has a `cutout`; None where the part cannot be cut out this way."""
        if self.points == 0:
            return self.function(photo, part.mask)
        if part.points is None or len(part.points) != self.points:
            return None
        return self.function(photo, part.points[:, :2])


@dataclass(frozen=True)
class Detail:
    """One way to be wrong: its kind in the taxonomy, where it is put, how it is made, and how often it comes first."""

    kind: Kind
    regions: tuple[Region, ...]
    cut: Cut
    make: Callable[[Any, Generator], Any]
    weight: float = 1.0


HAND, LIMB = Cut(digits.cut_hand, 21), Cut(limbs.cut_limb, 3)
WHOLE, FOOT = Cut(wholes.cut_whole_hand, 21), Cut(wholes.cut_foot, 3)
FACE, MASK = Cut(faces.cut_face, 5), Cut(warps.cut_patch, 0)

DETAILS: Mapping[str, Detail] = {
    "extra_digit": Detail("extra", ("hands",), HAND, digits.extra, 3.0),
    "missing_digit": Detail("missing", ("hands",), HAND, digits.missing, 2.0),
    "fused_digits": Detail("configuration", ("hands",), HAND, digits.fused, 2.0),
    "bent_digit": Detail("configuration", ("hands",), HAND, digits.bent, 1.5),
    "long_digit": Detail("proportion", ("hands",), HAND, digits.long),
    "short_digit": Detail("proportion", ("hands",), HAND, digits.short),
    "mirrored_hand": Detail("orientation", ("hands",), WHOLE, wholes.mirrored),
    "turned_hand": Detail("orientation", ("hands",), WHOLE, wholes.turned),
    "large_hand": Detail("proportion", ("hands",), WHOLE, wholes.large, 0.5),
    "small_hand": Detail("proportion", ("hands",), WHOLE, wholes.small, 0.5),
    "extra_hand": Detail("extra", ("hands",), WHOLE, wholes.doubled),
    "missing_hand": Detail("missing", ("hands",), WHOLE, wholes.missing, 0.5),
    "mirrored_foot": Detail("orientation", ("feet",), FOOT, wholes.mirrored),
    "turned_foot": Detail("orientation", ("feet",), FOOT, wholes.turned),
    "large_foot": Detail("proportion", ("feet",), FOOT, wholes.large),
    "extra_foot": Detail("extra", ("feet",), FOOT, wholes.doubled),
    "missing_foot": Detail("missing", ("feet",), FOOT, wholes.missing),
    "extra_limb": Detail("extra", ("limbs",), LIMB, limbs.extra, 2.0),
    "missing_limb": Detail("missing", ("limbs",), LIMB, limbs.missing, 0.5),
    "short_limb": Detail("proportion", ("limbs",), LIMB, limbs.short),
    "bent_limb": Detail("configuration", ("limbs",), LIMB, limbs.bent, 2.0),
    "extra_eye": Detail("extra", ("face",), FACE, faces.extra_eye),
    "missing_eye": Detail("missing", ("face",), FACE, faces.missing_eye),
    "large_eye": Detail("proportion", ("face",), FACE, faces.large_eye),
    "turned_feature": Detail("orientation", ("face",), FACE, faces.turned_feature),
    "swirled": Detail("configuration", ("hands", "feet", "face"), MASK, warps.swirled, 0.5),
    "melted": Detail("configuration", ("hands", "feet", "face"), MASK, warps.melted),
    "pinched": Detail("proportion", ("torso", "face"), MASK, warps.pinched),
}


@dataclass(frozen=True)
class ImageFamily:
    """Candidates over the details that suit a part, in an order drawn by weights.

    A user's own mask is kept to: what would change pixels outside of it is not offered.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {name: one.weight for name, one in DETAILS.items()})
    """How often each detail comes first; those left out, or 0, are not made."""

    name = "image"

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if name not in DETAILS:
                raise HafError(f"There is no detail '{name}' of image-space errors: {nearest(name, list(DETAILS))}")
            if not 0 <= weight < float("inf"):
                raise HafError(f"The weight of {name} is {weight}; give a number of 0 or more.")

    @property
    def settings(self) -> Mapping[str, Any]:
        """The weights, and the release of OpenCV that did the pixel work."""
        return {"weights": dict(self.weights), "opencv": cv2.__version__}

    def degrade(self, photo: Photo, part: Part, rng: Generator) -> Iterator[Candidate]:
        """Candidates for one part; each detail draws from a generator of its own, seeded by its name."""
        seed = int(rng.integers(2**63))
        suited = [name for name, weight in self.weights.items() if weight and part.region in DETAILS[name].regions]
        cuts: dict[Cut, Any] = {}
        for name in _ordered(suited, self.weights, seed):
            detail = DETAILS[name]
            if detail.cut not in cuts:
                cuts[detail.cut] = detail.cut(photo.pixels, part)
            made = degraded(photo.pixels, cuts[detail.cut], name, seed)
            if made is not None and part.origin == "given":
                made = _kept_to(photo.pixels, *made, part.mask)
            if made is not None:
                yield Candidate(*made, part.region, detail.kind, name, self.name, {"part": part.name, "seed": seed})


def degraded(photo: Pixels, subject: Any, name: str, seed: int) -> tuple[Pixels, Mask] | None:
    """A photo with one detail made on what was cut out of it; None where the detail does not suit that."""
    if subject is None:
        return None
    crop = DETAILS[name].make(subject, _own(seed, name))
    return None if crop is None else put_back(photo, subject.cutout, crop)


def _kept_to(photo: Pixels, pixels: Pixels, mask: Mask, given: Mask) -> tuple[Pixels, Mask] | None:
    """The same within the user's mask; None where the change outside of it could be seen."""
    outside = mask & ~given
    if (cv2.absdiff(pixels, photo)[outside] >= VISIBLE).any():
        return None
    pixels[outside] = photo[outside]
    return pixels, mask & given


def _own(seed: int, name: str) -> Generator:
    return np.random.default_rng([seed, *name.encode()])


def _ordered(names: list[str], weights: Mapping[str, float], seed: int) -> list[str]:
    """Drawn without replacement by weight: by exponential waiting times of these rates."""
    waits = {name: _own(seed, f"order {name}").exponential() / weights[name] for name in names}
    return sorted(names, key=lambda name: waits[name])


class Options(registry.Options):
    """How often each detail comes first, by its name; those left out, or 0, are not made. None: as in DETAILS."""

    weights: Mapping[str, float] | None = None


def load(options: Options, device: str) -> ImageFamily:
    """The family with these weights; raises HafError for an unknown detail or a weight below 0."""
    return ImageFamily() if options.weights is None else ImageFamily(options.weights)
