"""Make a HAP data set: photos or seeds, one item after another over all cores, through the gates, into the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import count as numbers
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asap_train.data.gates import (
    NearDuplicates,
    Thresholds,
    Verdict,
    fingerprint,
    is_kept,
    judge,
    judge_by_scorer,
    refusal,
)
from asap_train.data.gates import skipped as skipped_gates
from asap_train.data.workers import Made, Maker, processes
from asap_train.hap import make_pair, to_row
from hafbench.errors import HafError, Unavailable

if TYPE_CHECKING:
    import numpy as np

    from asap_train.data.captions import Captioner
    from asap_train.data.regions import Finder
    from asap_train.data.similarity import Lpips
    from asap_train.hap import Rejection, Row
    from asap_train.hap.write import Hap
    from asap_train.types import Candidate, Family, Part, Photo
    from hafbench.types import Region, Score, Scorer

REGION_WEIGHTS: Mapping[str, float] = {"hands": 4.0, "face": 1.0, "feet": 1.0, "limbs": 1.0, "torso": 0.5}
"""How often a part comes first: hands go wrong most often in pictures that models make."""
JUDGES: Mapping[str, tuple[Region, ...]] = {"hands": ("hands",), "digits": ("hands",), "limbs": ("limbs",)}
"""In which regions each scorer of hafbench can see an error."""
SEEDS_AT_ONCE = 1000


@dataclass(frozen=True)
class Judging:
    """What the gates need, by name, so that it can be sent to a worker process.

    `scorers` are names of hafbench's anatomy scorers, `world` says with which detectors (see `hafbench.worlds`).
    """

    thresholds: Thresholds
    scorers: tuple[str, ...] = ()
    world: str = "photographs"
    device: str = "cpu"

    def verdicts(self, photo: Photo, candidate: Candidate, said: dict[str, Score]) -> tuple[list[Verdict], Any]:
        """The verdicts of all gates but that of near-duplicates, cheap ones first, up to the first that fails.

        With them the measures. `said` keeps what the scorers say of the photo, for its further candidates.
        """
        from asap_train.data.similarity import measure

        measures = measure(photo.pixels, candidate.pixels, candidate.mask, lpips(self.device))
        verdicts = judge(measures, self.thresholds)
        if not is_kept(verdicts):
            return verdicts, measures
        able = [one for one in self.judges() if candidate.region in JUDGES.get(one.name, ())]
        if self.scorers and not able:
            verdicts.append(Verdict("scorer", "skipped", f"no scorer that was asked for judges {candidate.region}"))
        for scorer in able:
            if scorer.name not in said:
                said[scorer.name] = scorer.score(photo.pixels, None)
            verdicts.append(judge_by_scorer(scorer.name, said[scorer.name], scorer.score(candidate.pixels, None)))
        return verdicts, measures

    def judges(self) -> tuple[Scorer, ...]:
        """The scorers, loaded once a process; raises HafError if one is not to be had."""
        return _scorers(self.scorers, self.world, self.device)

    def about(self) -> dict[str, Any]:
        """What was asked and what judged, as JSON values."""
        net = lpips(self.device)
        return {
            "thresholds": asdict(self.thresholds),
            "scorers": {one.name: {"version": one.version, **one.settings} for one in self.judges()},
            "lpips": dict(net.settings) if net else None,
        }


@lru_cache(maxsize=1)
def lpips(device: str) -> Lpips | None:
    """LPIPS, loaded once a process; None where its weights are not on this machine."""
    from asap_train.data.similarity import load_lpips

    try:
        return load_lpips(device)
    except Unavailable:
        return None


@lru_cache(maxsize=1)
def captioner(source: str, device: str) -> Captioner:
    """The captioning model, loaded once a process; raises Unavailable if it is not to be had."""
    from asap_train.data.captions import load_captioner

    return load_captioner(source, device)


@lru_cache(maxsize=1)
def _scorers(names: tuple[str, ...], world: str, device: str) -> tuple[Scorer, ...]:
    from hafbench.evaluate import load_scorers
    from hafbench.scorers import SCORERS, ScorerOptions, check_names
    from hafbench.worlds import BUILT_IN, MANNEQUINS, PHOTOGRAPHS

    check_names(list(names))
    quality = [name for name in names if SCORERS[name].role != "anatomy"]
    if quality:
        raise HafError(f"--scorers {quality[0]}: that is a quality score; only anatomy scorers see errors.")
    own = MANNEQUINS if world == BUILT_IN else PHOTOGRAPHS
    loaded = load_scorers(names, ScorerOptions(device=device, pose=own.pose), names)
    return tuple(scorer for scorer in loaded.values() if not isinstance(scorer, HafError))


@dataclass(frozen=True)
class FromPhotos:
    """Pairs from a folder of photos: at most `per_photo` of each in a round, of `tries` candidates for each part.

    `names` are the photos' paths below `folder`, `captions` theirs where given; the others are described by the model
    `captioner`, or by the parts that were found. An item is NAME#ROUND.
    """

    folder: Path
    names: tuple[str, ...]
    finder: Finder
    families: tuple[Family, ...]
    judging: Judging
    captions: Mapping[str, str]
    captioner: str | None
    regions: tuple[str, ...]
    per_photo: int = 4
    tries: int = 6
    seed: int = 0

    def items(self, round_: int) -> Iterable[str]:
        """Every photo."""
        return (f"{name}#{round_}" for name in self.names)

    def make(self, item: str) -> Made:
        """Find the parts of a photo, and make pairs of them; a photo that is of no use gives its reasons, once."""
        from asap_train.data.regions import doubts

        name, _, round_ = item.rpartition("#")
        said: list[Rejection] = []
        rows: list[Row] = []
        rejections: list[Rejection] = []
        try:
            photo, mask = self._read(name)
            reason = doubts(photo.pixels, self.judging.judges())
            if reason:
                said.append(("positive", reason))
            else:
                found = self.finder.find(photo.pixels, mask)
                said += [("part", reason) for reason in found.left_out if _concerns(reason, self.regions)]
                parts = [part for part in found.parts if part.region in self.regions]
                if not parts:
                    said.append(("photo", "it shows no part that an error could be put into"))
                rows, rejections = self.pairs(photo, parts, int(round_))
        except Unavailable:
            raise
        except HafError as error:
            said.append(("photo", str(error).replace(str(self.folder), "").lstrip("/")))
        # What is true of a photo is not counted again in later rounds.
        return Made(item, tuple(rows), tuple([*said, *rejections] if round_ == "0" else rejections))

    def _read(self, name: str) -> tuple[Photo, Any]:
        import numpy as np

        from asap_train.data.masks import read_mask
        from asap_train.types import Photo
        from hafbench.images import load_image, sha256_of

        path = self.folder / name
        pixels = np.asarray(load_image(path))
        caption = self.captions.get(name)
        if caption is None and self.captioner:
            caption = captioner(self.captioner, self.judging.device).caption(pixels)
        return Photo(name, sha256_of(path), pixels, caption), read_mask(path, pixels.shape)

    def pairs(self, photo: Photo, parts: Sequence[Part], round_: int) -> tuple[list[Row], list[Rejection]]:
        """At most `per_photo` rows, and why other candidates are none."""
        import numpy as np

        from asap_train.data.captions import describe
        from asap_train.hap import encode_png

        rng = np.random.default_rng([self.seed, round_, *bytes.fromhex(photo.sha256[:16])])
        rows: list[Row] = []
        rejections: list[Rejection] = []
        winner: bytes | None = None
        said: dict[str, Score] = {}
        for part, family in _order(parts, self.families, rng):
            if len(rows) == self.per_photo:
                break
            own = np.random.default_rng(int(rng.integers(2**63)))
            for candidate in islice(family.degrade(photo, part, own), self.tries):
                verdicts, measures = self.judging.verdicts(photo, candidate, said)
                if not is_kept(verdicts):
                    rejections.append(refusal(verdicts))
                    continue
                winner = winner or encode_png(photo.pixels)
                mark = fingerprint(photo.pixels, candidate.pixels, candidate.mask)
                caption = photo.caption or describe(parts)
                pair = make_pair(photo, candidate, caption, measures, mark, skipped_gates(verdicts))
                rows.append(to_row(pair, winner))
                break
        return rows, rejections


def _concerns(reason: str, regions: Sequence[str]) -> bool:
    """Whether a part was left out that was asked for: `left_arm_2: not wholly in view.` is of the limbs."""
    from asap_train.data.regions import PARTS

    name = reason.partition(":")[0].rstrip("_0123456789")
    region = PARTS[name].region if name in PARTS else "hands" if name.endswith("hand") else None
    return region is None or region in regions


def _order(parts: Sequence[Part], families: Sequence[Family], rng: np.random.Generator) -> list[tuple[Part, Family]]:
    """Every part with every family, drawn without replacement by REGION_WEIGHTS."""
    pairs = [(part, family) for part in parts for family in families]
    waits = [rng.exponential() / REGION_WEIGHTS[part.region] for part, _ in pairs]
    return [pairs[i] for i in sorted(range(len(pairs)), key=waits.__getitem__)]


@dataclass(frozen=True)
class FromMannequins:
    """Exact pairs of the built-in world: an item is a seed, and gives one pair or none."""

    judging: Judging
    size: int
    first: int

    def items(self, round_: int) -> Iterable[str]:
        """The next seeds."""
        from asap_train.degrade.mannequin import seeds

        return map(str, seeds((round_ + 1) * SEEDS_AT_ONCE, self.first)[round_ * SEEDS_AT_ONCE :])

    def make(self, item: str) -> Made:
        """Render a seed's pair and ask the gates."""
        from asap_train.degrade.mannequin import mannequin_pair

        made = mannequin_pair(int(item), self.size)
        if made is None:
            return Made(item, (), (("renderer", "no error that can be seen found a place in the scene"),))
        photo, candidate = made
        verdicts, measures = self.judging.verdicts(photo, candidate, {})
        if not is_kept(verdicts):
            return Made(item, (), (refusal(verdicts),))
        mark = fingerprint(photo.pixels, candidate.pixels, candidate.mask)
        pair = make_pair(photo, candidate, photo.caption or "", measures, mark, skipped_gates(verdicts))
        return Made(item, (to_row(pair),), ())


def synthesize(
    maker: Maker, hap: Hap, count: int, workers: int, distance: int, progress: Callable[[int], None]
) -> None:
    """Add pairs until the data set has `count`, or a whole round gave none.

    What is there already, from a process before this one, is not made again. Pairs whose perceptual hashes are within
    `distance` bits are near-duplicates, of which the first is kept. `progress` is told how many pairs there are.
    """
    near = NearDuplicates(distance, hap.fingerprints())
    with processes(maker, workers) as run:
        for round_ in numbers():
            before, items = hap.pairs, list(maker.items(round_))
            todo = [item for item in items if not hap.done(item)]
            for made in run(todo) if before < count else ():
                rows, rejections = [], list(made.rejections)
                for row in made.rows[: count - hap.pairs]:
                    verdict = near.judge(row["fingerprint"])
                    if verdict.outcome == "failed":
                        rejections.append((verdict.gate, verdict.reason or ""))
                    else:
                        near.add(row["fingerprint"])
                        rows.append(row)
                hap.add(made.item, rows, rejections)
                progress(hap.pairs)
                if hap.pairs >= count:
                    break
            if hap.pairs >= count or (hap.pairs == before and len(todo) == len(items)):
                return
