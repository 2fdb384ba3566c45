"""What judges say of an entry's pairs: taken from a comparison, and whether the figures follow from the replies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, StringConstraints, ValidationError

from hafbench.cards import share_of
from hafbench.comparison.pair_figures import figures_of
from hafbench.errors import HafError, first_problem
from hafbench.files import read_whole
from hafbench.judges.pairs import pair_of
from hafbench.leaderboard.correction import same
from hafbench.leaderboard.entries import NO_PAIR, BaselineFacts, Entry, PairFigures


class _Compared(BaseModel):
    """A run of a comparison."""

    name: str
    records_sha256: str


class _Judged(BaseModel):
    """A judge of a candidate's pairs; `replies` are two letters by the candidate's image."""

    judge: str
    protocol: str
    protocol_sha256: str
    replies: Mapping[str, Annotated[str, StringConstraints(pattern=r"^[fstu]{2}$")]]


class _Candidate(_Compared):
    judged: tuple[_Judged, ...]


class _Comparison(BaseModel):
    """What is read of comparison.json."""

    baseline: _Compared
    candidates: tuple[_Candidate, ...]


def read_pairs(page: Path, records_sha256: str, places: Mapping[str, tuple[str, int]]) -> list[PairFigures]:
    """What each judge of a comparison says of the candidate with these records; the majority of several is left out.

    `page` is the comparison's folder; `places` has by image its prompt and its place in the prompt's word. Raises
    HafError for a folder that holds no comparison, or none in which a judge was asked about this run.
    """
    path = page / "comparison.json"
    try:
        compared = _Comparison.model_validate_json(read_whole(path))
    except OSError as error:
        raise HafError(f"{path} cannot be read ({error.strerror}); give a folder of `hafbench compare`.") from error
    except ValidationError as error:
        raise HafError(f"{path} has no judged pairs ({first_problem(error)}); make it anew by `compare`.") from error
    candidates = [one for one in compared.candidates if one.records_sha256 == records_sha256]
    judges = [one for candidate in candidates for one in candidate.judged if one.replies]
    if not judges:
        why = "no judge was asked about its pairs" if candidates else "it is none of the candidates"
        raise HafError(f"{page} has no judged pairs of this run: {why}; use `hafbench compare BASELINE RUN --judge`.")
    return [_figures(one, compared.baseline, _words(one.replies, places, path)) for one in judges]


def _words(replies: Mapping[str, str], places: Mapping[str, tuple[str, int]], path: Path) -> dict[str, str]:
    """The replies as a word for each prompt with a pair."""
    lengths = Counter(prompt for prompt, _ in places.values())
    letters: dict[str, list[str]] = {}
    for image, both in replies.items():
        if image not in places:
            raise HafError(f"{path} has a pair of {image}, which is not an image of this run.")
        prompt, place = places[image]
        letters.setdefault(prompt, [NO_PAIR] * lengths[prompt])[place] = both
    return {prompt: "".join(parts) for prompt, parts in sorted(letters.items())}


def _figures(one: _Judged, baseline: _Compared, words: Mapping[str, str]) -> PairFigures:
    # A judge may be called by the place of a local model, which may name a person.
    judge = Path(one.judge).name if Path(one.judge).is_absolute() else one.judge
    try:
        return PairFigures(
            judge=judge,
            protocol=one.protocol,
            protocol_sha256=one.protocol_sha256,
            baseline=BaselineFacts(name=baseline.name, records_sha256=baseline.records_sha256),
            **computed(words),
            replies=words,
        )
    except ValidationError as error:
        raise HafError(f"What {judge} says of pairs does not fit an entry: {first_problem(error)}.") from error


def computed(words: Mapping[str, str]) -> dict[str, Any]:
    """By name the figures of `PairFigures` that follow from its replies."""
    pairs = [(prompt, word[at : at + 2]) for prompt, word in words.items() for at in range(0, len(word), 2)]
    found = figures_of([pair_of(prompt, letters) for prompt, letters in pairs if letters != NO_PAIR], "", "")
    wins = found.wins
    ratios = {"rsi": wins.rsi, "rsi_low": wins.rsi_low, "rsi_high": wins.rsi_high}
    return {
        "pairs": found.pairs,
        "win": wins.win,
        "tie": wins.tie,
        "lose": wins.lose,
        **{name: "inf" if value == math.inf else value for name, value in ratios.items()},
        "p_value": found.p_value,
        "inconsistent": found.inconsistent and share_of(found.inconsistent).model_dump(),
        "first": found.first and share_of(found.first).model_dump(),
    }


def wrong_pairs(entry: Entry) -> Iterator[str]:
    """What contradicts itself in the pairs of an entry, at most one sentence for each judge and baseline."""
    verdicts = entry.anatomy[entry.ranked_by].verdicts
    seen = set()
    for one in entry.pairs:
        who = f"the pairs against {one.baseline.name} by {one.judge}, {one.protocol}"
        key = (one.judge, one.protocol, one.protocol_sha256, one.baseline.records_sha256)
        strange = [
            prompt for prompt, word in one.replies.items() if len(word) != len(NO_PAIR) * len(verdicts.get(prompt, ""))
        ]
        if key in seen:
            yield f"{who} are there twice."
        elif one.baseline.records_sha256 == entry.made.records_sha256:
            yield f"{who} are of the run against itself."
        elif strange:
            yield f"{who} have replies of the prompt {strange[0]} that are not of as many images as its verdicts."
        elif not set("".join(one.replies.values())) - set(NO_PAIR):
            yield f"{who} have no reply."
        elif wrong := _wrong_figure(one):
            yield f"{who}: {wrong}"
        seen.add(key)


def _wrong_figure(one: PairFigures) -> str | None:
    anew = computed(one.replies)
    own = _numbers(one.model_dump(include=set(anew)))
    for name, value in _numbers(anew).items():
        if not same(own[name], value):
            return f"{name} is {own[name]}, but its replies give {value}."
    return None


def _numbers(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """Figures by name, those of a share as `NAME.low` and so on."""
    found: dict[str, float | None] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{part}": number for part, number in _numbers(value).items()}
        else:
            found[name] = math.inf if value == "inf" else value
    return found
