"""Whether an entry's figures follow from its verdicts, and whether a folder of entries holds a run twice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hafbench.errors import HafError
from hafbench.leaderboard.entries import Entry, RateFigure, read_entry
from hafbench.leaderboard.ranking import verdicts_of
from hafbench.statistics import error_rate

NEAR = 1e-6
"""How far a figure may lie from the same one computed anew: rounding differs between machines."""


def validate(folder: Path) -> tuple[dict[Path, Entry], list[str]]:
    """The sound entries of a folder, and a sentence for every problem; a folder without files has one, too."""
    paths = sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))
    entries, problems = {}, [] if paths else [f"{folder} holds no entry."]
    owners: dict[str, Path] = {}
    for path in paths:
        try:
            entry = read_entry(path)
        except HafError as error:
            problems.append(str(error))
            continue
        found = [f"{path}: {problem}" for problem in problems_of(entry)]
        owner = owners.setdefault(entry.made.records_sha256, path)
        if owner != path:
            found.append(f"{path}: this is the run of {owner.name} a second time.")
        problems += found
        if not found:
            entries[path] = entry
    return entries, problems


def problems_of(entry: Entry) -> list[str]:
    """What contradicts itself in an entry, one sentence each."""
    if entry.ranked_by not in entry.anatomy:
        return [f"it is ranked by {entry.ranked_by}, of which it has no verdicts."]
    suite, said = entry.suite, []
    for name, one in entry.anatomy.items():
        lengths = [len(word) for word in one.verdicts.values()]
        if len(lengths) != suite.prompts or sum(lengths) != suite.images:
            said.append(
                f"{name} has verdicts of {sum(lengths)} images of {len(lengths)} prompts, "
                f"but the suite's are {suite.images} of {suite.prompts}."
            )
        elif suite.seeds is not None and set(lengths) != {len(suite.seeds)}:
            said.append(f"{name} has words of other lengths than the number of seeds, {len(suite.seeds)}.")
        else:
            said += [f"{name}{problem}" for problem in _wrong_rates(one.rate, one.verdicts, "")]
            for category, rate in one.by_category.items():
                prompts = suite.categories.get(category, ())
                words = {prompt: one.verdicts[prompt] for prompt in prompts if prompt in one.verdicts}
                said += [f"{name}{problem}" for problem in _wrong_rates(rate, words, f" in {category}")]
    return said


def _wrong_rates(rate: RateFigure, words: Mapping[str, str], where: str) -> list[str]:
    arrays = verdicts_of(words)
    values = np.concatenate([np.zeros(0), *arrays.values()])
    clusters = np.repeat(list(arrays), [len(array) for array in arrays.values()])
    anew = asdict(error_rate(values, clusters))
    wrong = [name for name, value in rate.model_dump().items() if not _same(value, anew[name])]
    if not wrong:
        return []
    name = wrong[0]
    return [f"{where}: {name} is {getattr(rate, name)}, but its verdicts give {anew[name]}."]


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, abs_tol=NEAR)
