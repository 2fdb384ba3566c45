"""Tables of comparable entries, and the ranks that the data allow: two that cannot be told apart share ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from hafbench.leaderboard.entries import ABSENT, ERROR, UNJUDGED, Entry
from hafbench.statistics import Difference, Unjudged, compare_means, compare_unjudged, holm
from hafbench.statistics.clusters import Floats

LEVEL = 0.05
RESAMPLES = 10_000
FINE = 40
"""Exchanges for each pair of a table: Holm's correction for m pairs could not reach 5 % with fewer than 20 m."""


@dataclass(frozen=True)
class Place:
    """An entry with the ranks it may have: `best` is one more than the entries shown to be better than it."""

    entry: Entry
    best: int
    worst: int

    @property
    def ranks(self) -> str:
        """The range as text, such as 2–4."""
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"


@dataclass(frozen=True)
class Table:
    """Entries of the same prompts and anatomy scorers, by their rates, lowest first."""

    key: str
    places: tuple[Place, ...]

    @property
    def entries(self) -> list[Entry]:
        """The entries in the order of their rates."""
        return [place.entry for place in self.places]


def tables(entries: Sequence[Entry]) -> list[Table]:
    """Entries by what can be compared, the largest table first, each with its rank ranges."""
    by_key: dict[str, list[Entry]] = {}
    for entry in entries:
        by_key.setdefault(entry.table, []).append(entry)
    made = [Table(key, tuple(rank(own))) for key, own in by_key.items()]
    return sorted(made, key=lambda table: (-len(table.places), table.entries[0].suite.name))


def rank(entries: Sequence[Entry]) -> list[Place]:
    """The entries of one table with their ranks.

    An entry's ranks lie between 1 + the number of entries shown to be better, and the number of entries that are not
    shown to be worse. Shown is: p below 5 % in the clustered permutation test of the difference, after Holm's
    correction over all pairs of the table, and not one that images judged of only one of the two might undo.
    """
    order = sorted(entries, key=lambda entry: (_rate(entry), entry.model.name))
    pairs = list(combinations(range(len(order)), 2))
    resamples = max(RESAMPLES, FINE * len(pairs))
    found = [compare_entries(order[i], order[j], resamples) for i, j in pairs]
    better, worse = ([0] * len(order) for _ in range(2))
    corrected = holm([difference.p_value for difference, _ in found])
    for (i, j), (difference, unjudged), p in zip(pairs, found, corrected, strict=True):
        if p is not None and p < LEVEL and difference.estimate and not unjudged.uneven(LEVEL):
            winner, loser = (i, j) if difference.estimate > 0 else (j, i)
            better[loser] += 1
            worse[winner] += 1
    return [Place(entry, 1 + better[i], len(order) - worse[i]) for i, entry in enumerate(order)]


def _rate(entry: Entry) -> float:
    estimate = entry.anatomy[entry.ranked_by].rate.estimate
    return np.inf if estimate is None else estimate


def compare_entries(baseline: Entry, candidate: Entry, resamples: int = RESAMPLES) -> tuple[Difference, Unjudged]:
    """The difference of two entries' rates on the pairs of (prompt, seed) that both could judge, as in `compare`.

    Entries that share no seed are compared by prompt. Ranks need no interval of it. With it, what the images not judged
    might do to the difference.
    """
    entries = (baseline, candidate)
    words = [verdicts_of(entry.anatomy[entry.ranked_by].verdicts) for entry in entries]
    prompts = sorted(words[0])
    shared = sorted(set(baseline.suite.seeds or ()) & set(candidate.suite.seeds or ()))
    if shared:
        places = [[list(entry.suite.seeds or ()).index(seed) for seed in shared] for entry in entries]
        words = [{prompt: own[prompt][place] for prompt in prompts} for own, place in zip(words, places, strict=True)]
    values = [np.concatenate([own[prompt] for prompt in prompts]) for own in words]
    keys = [np.repeat(prompts, [len(own[prompt]) for prompt in prompts]) for own in words]
    unjudged = compare_unjudged(values[0], keys[0], values[1], keys[1], paired=bool(shared))
    if shared:
        both = np.isfinite(values[0]) & np.isfinite(values[1])
        values = [np.where(both, value, np.nan) for value in values]
    found = compare_means(values[0], keys[0], values[1], keys[1], resamples=resamples, interval=False)
    return found, unjudged


def verdicts_of(words: Mapping[str, str]) -> dict[str, Floats]:
    """Words of verdicts as arrays: 1 an error, 0 sound, NaN not judged."""
    letters: dict[str, Any] = {ERROR: 1.0, UNJUDGED: np.nan, ABSENT: np.nan}
    return {prompt: np.array([letters.get(letter, 0.0) for letter in word]) for prompt, word in words.items()}
