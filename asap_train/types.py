"""The values that pass between the rooms of asap_train.

    photo -> parts -> degrade -> gates -> HAP pairs -> latent cache -> objective -> checkpoints -> hafbench

Images are RGB arrays of shape (height, width, 3), uint8; masks are boolean arrays (height, width), True inside M;
points are (x, y, confidence) in pixels of the image, x to the right, y down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from hafbench.types import Kind, Region

if TYPE_CHECKING:
    from hafbench.types import Pixels

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Photo:
    """A picture that may become the preferred side of pairs.

    `sha256` is of its source (the file's bytes, or the renderer's settings and seed): splits go by it. `name` is what a
    user would look for: a path below the folder of photos, or `mannequin/SEED`.
    """

    name: str
    sha256: str
    pixels: Pixels
    caption: str | None = None


@dataclass(frozen=True)
class Part:
    """A place in a photo where an error can be put: a hand, a foot, a face, an arm, a leg, a torso.

    `region` is the taxonomy's, `name` says which one (`left_hand`, `right_arm`); `points` are its keypoints, if known:
    21 of a hand in MediaPipe's order, 3 of a limb (shoulder, elbow, wrist or hip, knee, ankle). `origin` says who found
    it: `given` (the user's mask), `keypoints`, `segmentation`.
    """

    region: Region
    name: str
    mask: Mask
    points: Points | None = None
    origin: str = "keypoints"


@dataclass(frozen=True)
class Candidate:
    """A photo with one local error put in: what a family of degradations offers, and the gates accept or reject.

    `pixels` has the photo's shape and differs from it within `mask` only. `detail` names the error more closely than
    kind x region (`extra_digit`, `short_digit`); `settings` is what would make it again, as JSON values.
    """

    pixels: Pixels
    mask: Mask
    region: Region
    kind: Kind
    detail: str
    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)


class Family(Protocol):
    """A family of localized degradations: one file in `degrade/` each."""

    @property
    def name(self) -> str:
        """What `--families` calls it."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What shapes its results, as JSON values: weights' checksums, prompts, strengths."""
        ...

    def degrade(self, photo: Photo, part: Part, rng: np.random.Generator) -> Iterator[Candidate]:
        """Candidates for one part, the likeliest to pass the gates first; none where the part does not suit it.

        The same photo, part and state of `rng` give the same candidates.
        """
        ...
