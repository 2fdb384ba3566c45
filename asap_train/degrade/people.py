"""Exact pairs of people: a rendered picture, and the same scene with one error in the mesh, nothing guessed.

As in `asap_train.degrade.mannequin`, a seed gives the photo, the error, its mask and its name at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asap_train.types import Candidate, Photo
from hafbench.errors import HafError
from hafbench.people.pairs import SIZE, pair
from hafbench.provenance import sha256_of_json

if TYPE_CHECKING:
    from hafbench.people.scene import View

NAME = "people"
PAIR_SEED = 50
"""Pair i has the seed PAIR_SEED * 10_000_000 + i."""
TAKEN = frozenset({0, 40})
"""Of these detectors have been trained (0) or cards made (40)."""


def seeds(count: int, first: int = PAIR_SEED) -> range:
    """The seeds of `count` pairs; `first` names the set. Two sets share none up to 10 million pairs.

    Raises HafError for one of TAKEN: a picture that has trained or measured something belongs into no pair.
    """
    if first in TAKEN:
        raise HafError(
            f"--seed {first}: pictures of this seed have trained or tested a judge; choose another: {PAIR_SEED}."
        )
    return range(first * 10_000_000, first * 10_000_000 + count)


def people_pair(seed: int, size: int = SIZE, view: View | None = None) -> tuple[Photo, Candidate] | None:
    """A correct picture (size, size, 3) and the same with one error inside the candidate's mask.

    view: hand or figure; if None, every second seed has the one and the other. None for a scene in which no error that
    can be seen found a place. The same arguments give the same pair.
    """
    from hafbench.people.captions import caption

    shown: View = view or ("hand", "figure")[seed % 2]
    made = pair(seed, view=shown, size=size)
    if made is None:
        return None
    # The size is left out: a scene in two sizes is one source, and must not be in two splits.
    scene = {"world": NAME, "seed": seed, "view": shown}
    photo = Photo(f"{NAME}/{seed}", sha256_of_json(scene), made.good.image, caption(made.scene))
    settings = {"seed": seed, "size": size, "view": shown, "part": made.side}
    error = made.defect
    return photo, Candidate(made.bad.image, made.mask, error.region, error.kind, error.detail, NAME, settings)
