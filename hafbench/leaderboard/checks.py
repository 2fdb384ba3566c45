"""Whether an entry's figures follow from its verdicts and replies, and whether a folder holds a run twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hafbench.errors import HafError
from hafbench.figures import ANATOMY
from hafbench.leaderboard.correction import same, wrong_correction
from hafbench.leaderboard.entries import (
    ABSENT,
    ERROR,
    SOUND,
    UNJUDGED,
    Anatomy,
    Entry,
    RateFigure,
    SuiteFacts,
    read_entry,
    sha256_of_prompts,
)
from hafbench.leaderboard.pairs import wrong_pairs
from hafbench.leaderboard.people import wrong_people
from hafbench.leaderboard.ranking import verdicts_of
from hafbench.statistics import Rate, error_rate
from hafbench.suites import CATEGORIES, load_suite, suite_names


def validate(folder: Path) -> tuple[dict[Path, Entry], list[str]]:
    """The sound entries of a folder, and a sentence for every problem; a folder without files has one, too."""
    paths = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    entries: dict[Path, Entry] = {}
    problems = [] if paths else [f"{folder} holds no entry."]
    for path in paths:
        try:
            entry = read_entry(path)
        except HafError as error:
            problems.append(str(error))
            continue
        # What contradicts itself is not compared with others.
        found = [f"{path}: {problem}" for problem in problems_of(entry) or clashes(entry, entries)]
        problems += found
        if not found:
            entries[path] = entry
    return entries, problems


def problems_of(entry: Entry) -> list[str]:
    """What contradicts itself in an entry, one sentence each."""
    named = [*_ranking(entry), *_shapes(entry)]
    if named:  # figures of such verdicts mean nothing
        return named
    said = [*_suite(entry.suite, entry.anatomy[entry.ranked_by].verdicts), *_together(entry)]
    for name, one in entry.anatomy.items():
        said += [f"{name}{problem}" for problem in _rates(one, entry.suite)]
        said += [f"{name}: {problem}" for problem in wrong_correction(one, _rate_of(one.verdicts))]
    for name, scorer in entry.quality.items():
        if scorer.mean.n > entry.suite.images:
            said.append(f"{name} has a mean of {scorer.mean.n} images, but the suite's are {entry.suite.images}.")
    return [*said, *wrong_pairs(entry), *wrong_people(entry)]


def clashes(entry: Entry, others: Mapping[Path, Entry]) -> Iterator[str]:
    """What an entry cannot be beside others: the same run again, or other prompts under their hash."""
    for path, other in others.items():
        if entry.made.records_sha256 == other.made.records_sha256:
            yield f"this is the run of {path.name} a second time."
        elif _same_findings(entry, other):
            yield f"every verdict and mean is that of {path.name}: it is the same run under another hash."
        if entry.suite.sha256 == other.suite.sha256 and _prompts(entry) != _prompts(other):
            yield f"its suite has the hash of that of {path.name}, but other prompts or categories."


def _prompts(entry: Entry) -> tuple[set[str], dict[Any, set[str]]]:
    categories = {name: set(prompts) for name, prompts in entry.suite.categories.items()}
    return set(entry.anatomy[entry.ranked_by].verdicts), categories


def _same_findings(one: Entry, other: Entry) -> bool:
    """Whether two entries share all verdicts and means, and those are not just all alike."""
    found = [
        (
            entry.suite.sha256,
            entry.suite.seeds,
            {name: dict(own.verdicts) for name, own in entry.anatomy.items()},
            {name: own.mean for name, own in entry.quality.items()},
        )
        for entry in (one, other)
    ]
    letters = {letter for word in one.anatomy[one.ranked_by].verdicts.values() for letter in word}
    return found[0] == found[1] and (len(letters) > 1 or bool(one.quality))


def _ranking(entry: Entry) -> Iterator[str]:
    names = _counting(entry)
    if not names:
        yield "it has no anatomy scorer that counts."
    elif ANATOMY in entry.anatomy and len(names) < 2:
        yield f"it has verdicts of {ANATOMY}, all anatomy scorers together, but not of several scorers that count."
    elif ANATOMY not in entry.anatomy and len(names) > 1:
        yield f"it has the scorers {', '.join(names)}, but no verdicts of {ANATOMY}, all of them together."
    elif entry.ranked_by != (right := ANATOMY if ANATOMY in entry.anatomy else names[0]):
        yield f"it is ranked by {entry.ranked_by}, but entries of these scorers are ranked by {right}."
    both = sorted(set(entry.anatomy) & set(entry.quality))
    if both:
        yield f"{both[0]} is both an anatomy and a quality scorer."


def _counting(entry: Entry) -> list[str]:
    """The anatomy scorers that are not left out."""
    return [name for name, one in entry.anatomy.items() if name != ANATOMY and one.left_out is None]


def _shapes(entry: Entry) -> Iterator[str]:
    """Whether the words are as many and as long as the suite says, and the same for all scorers."""
    suite = entry.suite
    if suite.seeds is not None and len(set(suite.seeds)) != len(suite.seeds):
        yield "its suite has a seed twice."
    shapes = []
    for name, one in entry.anatomy.items():
        lengths = {prompt: len(word) for prompt, word in one.verdicts.items()}
        shapes.append(lengths)
        images = sum(lengths.values())
        if len(lengths) != suite.prompts or images != suite.images:
            yield (
                f"{name} has verdicts of {images} images of {len(lengths)} prompts, "
                f"but the suite's are {suite.images} of {suite.prompts}."
            )
        elif suite.seeds is not None and set(lengths.values()) != {len(suite.seeds)}:
            yield f"{name} has words of other lengths than the number of seeds, {len(suite.seeds)}."
        elif lengths != shapes[0]:
            yield f"{name} has verdicts of other prompts or numbers of images than {next(iter(entry.anatomy))}."


def _suite(suite: SuiteFacts, words: Mapping[str, str]) -> Iterator[str]:
    """What a suite says against its prompts; the texts of a packaged one are known, those of another are claimed."""
    listed = [prompt for prompts in suite.categories.values() for prompt in prompts]
    if len(listed) != len(set(listed)):
        yield "its suite has a prompt in two categories, or twice in one."
    if strangers := sorted(set(listed) - set(words)):
        yield f"its suite has the prompt {strangers[0]} in a category, but no verdicts of it."
    if unknown := sorted(set(suite.categories) - set(CATEGORIES)):
        yield f"there is no category {unknown[0]}."
    if empty := [name for name, prompts in suite.categories.items() if not prompts]:
        yield f"its suite has no prompt in the category {empty[0]}."
    if suite.name not in suite_names():
        return
    packaged = {prompt.id: prompt for prompt in load_suite(suite.name).prompts}
    if strangers := sorted(set(words) - set(packaged)):
        yield f"the suite {suite.name} has no prompt {strangers[0]}; give a suite of your own another name."
        return
    if suite.sha256 != sha256_of_prompts({prompt: packaged[prompt].text for prompt in words}):
        yield f"the hash of its suite is not that of these prompts of {suite.name}."
    own = {prompt: name for name, prompts in suite.categories.items() for prompt in prompts}
    if wrong := sorted(prompt for prompt in words if own.get(prompt, "uncategorized") != packaged[prompt].category):
        yield f"the prompt {wrong[0]} is of the category {packaged[wrong[0]].category}."


def _together(entry: Entry) -> Iterator[str]:
    """Whether the verdicts of all anatomy scorers together are those of each."""
    if ANATOMY not in entry.anatomy:
        return
    parts = [entry.anatomy[name].verdicts for name in _counting(entry)]
    for prompt, word in entry.anatomy[ANATOMY].verdicts.items():
        anew = "".join(map(_whole, zip(*(part[prompt] for part in parts), strict=True)))
        if word != anew:
            yield f"{ANATOMY} is {word} for the prompt {prompt}, but the verdicts of its scorers give {anew}."
            return


def _whole(letters: Iterable[str]) -> str:
    """The letter of all scorers together, as in `hafbench.figures.whole_pictures`."""
    there = set(letters)
    return next(letter for letter in (ERROR, UNJUDGED, SOUND, ABSENT) if letter in there)


def _rates(one: Anatomy, suite: SuiteFacts) -> Iterator[str]:
    yield from _wrong_rate(one.rate, one.verdicts, "")
    # A single category is that of all, and has no rates of its own.
    wanted = suite.categories if len(suite.categories) > 1 else {}
    if set(one.by_category) != set(wanted):
        names = [", ".join(sorted(names)) or "none" for names in (one.by_category, wanted)]
        yield f" has rates of the categories {names[0]}, but its suite gives {names[1]}."
        return
    for category, rate in one.by_category.items():
        words = {prompt: one.verdicts[prompt] for prompt in wanted[category] if prompt in one.verdicts}
        yield from _wrong_rate(rate, words, f" in {category}")


def _rate_of(words: Mapping[str, str]) -> Rate:
    arrays = verdicts_of(words)
    values = np.concatenate([np.zeros(0), *arrays.values()])
    return error_rate(values, np.repeat(list(arrays), [len(array) for array in arrays.values()]))


def _wrong_rate(rate: RateFigure, words: Mapping[str, str], where: str) -> Iterator[str]:
    anew = asdict(_rate_of(words))
    for name, value in rate.model_dump().items():
        if not same(value, anew[name]):
            yield f"{where}: {name} is {value}, but its verdicts give {anew[name]}."
            return
