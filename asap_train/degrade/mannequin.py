"""Exact pairs from the built-in world: a rendered picture, and the same scene with one error, nothing guessed.

This is not a family of the registry, which changes photos: a seed gives the photo, the error, its mask and its name at
once, all of them true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asap_train.types import Candidate, Photo
from hafbench.errors import HafError
from hafbench.mannequin.errors import TUNING
from hafbench.mannequin.picture import SIZE, make_pair
from hafbench.mannequin.taxonomy import DETAILS
from hafbench.provenance import sha256_of_json

if TYPE_CHECKING:
    from hafbench.mannequin.attributes import Framing
    from hafbench.mannequin.errors import ErrorSettings

NAME = "mannequin"
PAIR_SEED = 50
"""Pair i has the seed PAIR_SEED * 10_000_000 + i, as the built-in world's data sets have theirs."""
TAKEN = frozenset({*range(1, 9), 23, 24, 40, 97, 99})
"""Of these the built-in world's data sets, cards, benchmarks and gallery were made (docs/studies/mannequin.md)."""


def seeds(count: int, first: int = PAIR_SEED) -> range:
    """The seeds of `count` pairs; `first` in 0 .. 2^31 names the set. Two sets share none up to 10 million pairs.

    Raises HafError for one of TAKEN: a picture that has trained or measured something belongs into no pair.
    """
    if first in TAKEN:
        raise HafError(
            f"--seed {first}: pictures of this seed have trained or tested the built-in model or its judges; "
            f"choose another, such as {PAIR_SEED}."
        )
    return range(first * 10_000_000, first * 10_000_000 + count)


def mannequin_pair(
    seed: int, size: int = SIZE, framing: Framing | None = None, errors: ErrorSettings = TUNING
) -> tuple[Photo, Candidate] | None:
    """A correct picture (size, size, 3) and the same with one error inside the candidate's mask.

    None for a scene in which no error that can be seen found a place. The errors are never those that the detector
    which judges has learnt from (docs/studies/mannequin.md). The same arguments give the same pair.
    """
    import random

    from hafbench.mannequin.captions import caption

    pair = make_pair(seed, errors, framing=framing, size=size)
    if pair is None:
        return None
    # The size is left out: a scene in two sizes is one source, and must not be in two splits.
    scene = {"world": NAME, "seed": seed, "framing": framing}
    photo = Photo(
        name=f"{NAME}/{seed}",
        sha256=sha256_of_json(scene),
        pixels=pair.correct.image,
        caption=caption(pair.correct.scene.attributes, random.Random(seed)),  # noqa: S311 (as in hafbench's data sets)
    )
    kind, region = DETAILS[pair.error.detail]
    settings = {"seed": seed, "size": size, "framing": framing, "errors": errors.name, "part": pair.error.part}
    return photo, Candidate(pair.erroneous.image, pair.mask, region, kind, pair.error.detail, NAME, settings)
