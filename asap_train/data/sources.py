"""Where the pairs of a data set come from: a folder of photos, or seeds of a built-in world."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from platform import node
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from asap_train.data.gates import Gates, fingerprint, is_kept, refusal, skipped
from asap_train.data.regions import PARTS, Finder, doubts
from asap_train.data.spec import SynthSpec
from asap_train.data.workers import ItemResult
from asap_train.degrade import load_family
from asap_train.hap import encode_png, make_pair, to_row
from asap_train.types import Photo
from hafbench.errors import HafError, Unavailable

if TYPE_CHECKING:
    from asap_train.data.captions import Captioner
    from asap_train.hap import Rejection
    from asap_train.hap.columns import Row
    from asap_train.types import Candidate, Family, Mask, Part
    from hafbench.types import Score

REGION_WEIGHTS: Mapping[str, float] = {"hands": 4.0, "face": 1.0, "feet": 1.0, "limbs": 1.0, "torso": 0.5}
"""How often a part comes first: hands go wrong most often in pictures that models make."""
SEEDS_AT_ONCE = 1000


@dataclass(frozen=True)
class PhotoSource:
    """Pairs from a folder of photos: at most `per_photo` of each in a round, of `tries` candidates for each part.

    `names` are the photos' paths below the folder, `captions` theirs where given; the others are described by the
    spec's captioner, or by the parts that were found. An item is NAME#ROUND.
    """

    spec: SynthSpec
    folder: Path
    names: tuple[str, ...]
    finder: Finder
    families: tuple[Family, ...]
    gates: Gates
    captions: Mapping[str, str]

    @property
    def weights(self) -> Mapping[str, str]:
        """The SHA-256 of every file that finds parts, by its name."""
        return self.finder.weights

    @property
    def about(self) -> tuple[str, ...]:
        """Sentences for the card."""
        return (
            f"The pairs were made from {len(self.names)} images in the folder {self.folder.name}. Why candidates were "
            "rejected, and why photos or parts of them were not used, is told under the rejections.",
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What also decides the pairs, beside the spec, as JSON values."""
        return {
            "photos": len(self.names),
            "families": {family.name: dict(family.settings) for family in self.families},
            "finder": dict(self.finder.weights),
            "captions": len(self.captions),
            **self.gates.facts,
        }

    def items(self, round_: int) -> Iterable[str]:
        """Every photo."""
        return (f"{name}#{round_}" for name in self.names)

    def process(self, item: str) -> ItemResult:
        """Find the parts of a photo, and make pairs of them; a photo that is of no use gives its reasons, once."""
        from asap_train.data.captions import describe

        name, _, round_ = item.rpartition("#")
        of_photo: list[Rejection] = []
        rows: list[Row] = []
        rejections: list[Rejection] = []
        try:
            photo, mask = self._read(name)
            scores: dict[str, Score] = {}
            reason = doubts(photo.pixels, self.gates.loaded, scores)
            if reason:
                of_photo.append(("positive", reason))
            else:
                # Of one region, where that alone is asked for: the user's mask is then of it, whatever it lies on.
                only = self.spec.regions[0] if len(self.spec.regions) == 1 else None
                found = self.finder.find(photo.pixels, mask, only)
                of_photo += [("part", reason) for reason in found.left_out if _concerns(reason, self.spec.regions)]
                parts = [part for part in found.parts if part.region in self.spec.regions]
                if not parts:
                    of_photo.append(("photo", "it shows no part that an error could be put into"))
                # Of all that it shows, wherever errors are asked for.
                caption = photo.caption or describe(found.parts)
                rows, rejections = self.pairs(photo, parts, caption, int(round_), scores)
        except Unavailable:
            raise
        except HafError as error:
            of_photo.append(("photo", str(error).replace(str(self.folder), "").lstrip("/")))
        # What is true of a photo is not counted again in later rounds.
        return ItemResult(item, tuple(rows), tuple([*of_photo, *rejections] if round_ == "0" else rejections))

    def _read(self, name: str) -> tuple[Photo, Mask | None]:
        from asap_train.data.masks import read_mask
        from hafbench.images import load_image, sha256_of

        path = self.folder / name
        if not path.exists():
            raise Unavailable(
                f"{path} is not there on {node()}: photos must lie where every machine that works on them finds them."
            )
        pixels = np.asarray(load_image(path))
        caption = self.captions.get(name)
        if caption is None and self.spec.captioner:
            caption = _captioner(self.spec.captioner, self.gates.device).caption(pixels)
        return Photo(name, sha256_of(path), pixels, caption), read_mask(path, pixels.shape)

    def pairs(
        self, photo: Photo, parts: Sequence[Part], caption: str, round_: int, scores: dict[str, Score]
    ) -> tuple[list[Row], list[Rejection]]:
        """At most `per_photo` rows, with this caption, and why other candidates are none.

        `scores` are what is known already of what the gates' scorers say of the photo.
        """
        rng = np.random.default_rng([self.spec.seed or 0, round_, *bytes.fromhex(photo.sha256[:16])])
        rows: list[Row] = []
        rejections: list[Rejection] = []
        winner: bytes | None = None
        for part, family in _order(parts, self.families, rng):
            if len(rows) == self.spec.per_photo:
                break
            own = np.random.default_rng(int(rng.integers(2**63)))
            for candidate in islice(family.degrade(photo, part, own), self.spec.tries):
                verdicts, similarity = self.gates.apply(photo, candidate, scores)
                if not is_kept(verdicts):
                    rejections.append(refusal(verdicts))
                    continue
                winner = winner or encode_png(photo.pixels)
                mark = fingerprint(photo.pixels, candidate.pixels, candidate.mask)
                pair = make_pair(photo, candidate, caption, similarity, mark, skipped(verdicts))
                rows.append(to_row(pair, winner))
                break
        return rows, rejections


def photo_source(spec: SynthSpec, device: str) -> PhotoSource:
    """The photos of a resolved spec, with the families loaded; raises HafError for a folder without images."""
    from asap_train.data.captions import given_captions
    from asap_train.data.masks import find_photos

    folder = (spec.photos or Path()).resolve()
    found = find_photos(folder) if folder.is_dir() else []
    if not found:
        raise HafError(f"{spec.photos} is not a folder with images.")
    captions = given_captions(folder, spec.captions)
    return PhotoSource(
        spec=spec,
        folder=folder,
        names=tuple(path.relative_to(folder).as_posix() for path in found),
        finder=Finder(spec.home, spec.segmenter, spec.text_boxes),
        families=tuple(load_family(one.name, one.options, device) for one in spec.families),
        gates=Gates(spec.gates, spec.scorers or (), device),
        captions={path.relative_to(folder).as_posix(): text for path, text in captions.items()},
    )


@lru_cache(maxsize=1)
def _captioner(model: str, device: str) -> Captioner:
    """The captioning model, loaded once a process; raises Unavailable if it is unavailable."""
    from asap_train.data.captions import load_captioner

    return load_captioner(model, device)


def _concerns(reason: str, regions: Sequence[str]) -> bool:
    """Whether a part was left out that was asked for: `left_arm_2: not wholly in view.` is of the limbs."""
    name = reason.partition(":")[0].rstrip("_0123456789")
    region = PARTS[name].region if name in PARTS else "hands" if name.endswith("hand") else None
    return region is None or region in regions


def _order(parts: Sequence[Part], families: Sequence[Family], rng: np.random.Generator) -> list[tuple[Part, Family]]:
    """Every part with every family, drawn without replacement by REGION_WEIGHTS."""
    pairs = [(part, family) for part in parts for family in families]
    waits = [rng.exponential() / REGION_WEIGHTS[part.region] for part, _ in pairs]
    return [pairs[i] for i in sorted(range(len(pairs)), key=waits.__getitem__)]


class Pairs(Protocol):
    """A module of `asap_train.degrade` that makes exact pairs from seeds."""

    PAIR_SEED: int

    def seeds(self, count: int, first: int) -> range:
        """The seeds of `count` pairs of the set that `first` names."""
        ...


@dataclass(frozen=True)
class World:
    """A built-in world: the module and function that make its pairs, and what its pictures show."""

    module: str
    function: str
    about: str

    @property
    def pairs(self) -> Pairs:
        """The module."""
        return cast("Pairs", import_module(self.module))

    def pair(self, seed: int, size: int) -> tuple[Photo, Candidate] | None:
        """The pair of a seed; None if no error that can be seen found a place."""
        made: tuple[Photo, Candidate] | None = getattr(self.pairs, self.function)(seed, size)
        return made


WORLDS: Mapping[str, World] = {
    "mannequin": World("asap_train.degrade.mannequin", "mannequin_pair", "mannequins"),
    "people": World("asap_train.degrade.people", "people_pair", "rendered people"),
}


@dataclass(frozen=True)
class WorldSource:
    """Exact pairs of a built-in world: an item is a seed, and gives one pair or none. `first` names the seeds."""

    world: World
    gates: Gates
    size: int
    first: int

    @property
    def weights(self) -> Mapping[str, str]:
        """None: nothing is looked for in the pictures."""
        return {}

    @property
    def about(self) -> tuple[str, ...]:
        """Sentences for the card."""
        exact = (
            f"The pairs are of the built-in world of {self.world.about}: exact, since both pictures are rendered from "
            "one scene."
        )
        return (exact + ("" if self.gates.scorers else " No scorer was asked, for the renderer knows the error."),)

    @property
    def facts(self) -> dict[str, Any]:
        """What also decides the pairs, beside the spec, as JSON values."""
        return {"first_seed": self.first, **self.gates.facts}

    def items(self, round_: int) -> Iterable[str]:
        """The next seeds."""
        return map(str, self.world.pairs.seeds((round_ + 1) * SEEDS_AT_ONCE, self.first)[round_ * SEEDS_AT_ONCE :])

    def process(self, item: str) -> ItemResult:
        """Render a seed's pair and ask the gates."""
        made = self.world.pair(int(item), self.size)
        if made is None:
            return ItemResult(item, (), (("renderer", "no error that can be seen found a place in the scene"),))
        photo, candidate = made
        verdicts, similarity = self.gates.apply(photo, candidate, {})
        if not is_kept(verdicts):
            return ItemResult(item, (), (refusal(verdicts),))
        mark = fingerprint(photo.pixels, candidate.pixels, candidate.mask)
        pair = make_pair(photo, candidate, photo.caption or "", similarity, mark, skipped(verdicts))
        return ItemResult(item, (to_row(pair),), ())


def world_source(spec: SynthSpec, device: str) -> WorldSource:
    """The seeds of a resolved spec; raises HafError for a seed whose pictures may be in no pair."""
    assert spec.source and spec.size  # noqa: S101 (as resolved)
    world = WORLDS[spec.source]
    first = world.pairs.PAIR_SEED if spec.seed is None else spec.seed
    world.pairs.seeds(1, first)  # refused here, before a data set is begun
    return WorldSource(world, Gates(spec.gates, spec.scorers or (), device), spec.size, first)
