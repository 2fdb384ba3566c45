"""What can be labelled: the images of runs, and the pairs of two runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hafbench.errors import HafError
from hafbench.figures import metrics_of
from hafbench.labelling.store import Picture
from hafbench.stores import origin_of

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.runs import Run


@dataclass(frozen=True)
class Item:
    """An image, or a pair of them (the baseline's first), under its key.

    `group` is the run that it is drawn for, `chances` the probability of an error of each of its images by the scorer;
    None where the scorer could not tell.
    """

    key: str
    group: str
    pictures: tuple[Picture, ...]
    chances: tuple[float | None, ...]


def pictures_of(run: Run) -> list[Picture]:
    """The images of a run that could be read."""
    rows = run.records.drop_duplicates("image").dropna(subset=["sha256"])
    return [
        Picture(
            str(row["sha256"]),
            origin_of(run.folder) or str(run.folder.resolve()),
            run.source.address,
            str(row["image"]),
            run.manifest.name,
            _text(row["prompt_id"]),
            _text(row["prompt"]),
            *(None if row[name] is None or row[name] != row[name] else int(row[name]) for name in NUMBERS),
        )
        for row in rows.astype(dict.fromkeys(NUMBERS, object)).where(rows.notna(), None).to_dict("records")
    ]


NUMBERS = ("seed", "width", "height")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def metric_rows(run: Run, scorer: str | None) -> pd.DataFrame:
    """The verdicts by which a run is ranked, or those of a named anatomy scorer; raises HafError without any."""
    every = {name: one for name, one in metrics_of(run).items() if one.facts.role == "anatomy"}
    if scorer is not None and scorer not in every:
        raise HafError(f"{run.address} has no verdicts of {scorer}; known: {', '.join(every) or '-'}.")
    if not every:
        raise HafError(f"{run.address} was scored by no anatomy scorer, whose doubt could choose what to label.")
    return (every[scorer] if scorer else next(iter(every.values()))).rows


def image_items(runs: Sequence[Run], scorer: str | None, *, doubt: bool) -> list[Item]:
    """The images of all runs; with `doubt` their chances are filled in. Raises HafError for runs without images."""
    items: dict[str, Item] = {}
    for run in runs:
        chances = chances_of(run, scorer) if doubt else {}
        for one in pictures_of(run):
            items.setdefault(one.sha256, Item(one.sha256, str(run.folder), (one,), (chances.get(one.sha256),)))
    if not items:
        raise HafError(f"{runs[0].address} has no image that could be read.")
    return list(items.values())


def chances_of(run: Run, scorer: str | None) -> dict[str, float]:
    """By SHA-256 the scorer's probability of an error, of the images that it judged."""
    rows = metric_rows(run, scorer).dropna(subset=["value", "is_error", "sha256"])
    return {
        str(sha256): min(max(float(value), 0.0), 1.0)
        for sha256, value in zip(rows["sha256"], rows["value"], strict=True)
    }


def pair_items(baseline: Run, candidate: Run, scorer: str | None, *, doubt: bool) -> list[Item]:
    """The pairs of the same prompt (id and text) and seed; raises HafError where the runs share none.

    Images without a prompt are paired by their name, and without seeds the only ones of a prompt, as by `hafbench
    compare`.
    """
    sides = [_by_place(pictures_of(run)) for run in (baseline, candidate)]
    chances = [chances_of(run, scorer) if doubt else {} for run in (baseline, candidate)]
    items = {}
    for place, one in sides[0].items():
        other = sides[1].get(place)
        if other is not None:
            key = f"{one.sha256}-{other.sha256}"
            both = chances[0].get(one.sha256), chances[1].get(other.sha256)
            items[key] = Item(key, "pairs", (one, other), both)
    if not items:
        raise HafError(f"{baseline.address} and {candidate.address} share no pair of prompt and seed.")
    return list(items.values())


def _by_place(pictures: Sequence[Picture]) -> dict[tuple[str, str, int | None], Picture]:
    """Images by what two of a pair have in common; several of a prompt without seeds have nothing of the kind."""
    found = {}
    count = Counter(_place(one) for one in pictures)
    for one in pictures:
        if one.prompt_id is None or one.seed is not None or count[_place(one)] == 1:
            found[_place(one)] = one
    return found


def _place(one: Picture) -> tuple[str, str, int | None]:
    return ("", one.image, None) if one.prompt_id is None else (one.prompt_id, one.prompt or "", one.seed)
