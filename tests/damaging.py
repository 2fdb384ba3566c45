"""What hostile tests damage, how, and what they ask of it."""

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from asap_train.hap import to_row
from asap_train.hap.manifest import HapManifest, SplitRule
from asap_train.hap.write import open_hap
from hafbench.errors import HafError, Unavailable
from hafbench.suites import Prompt
from hafbench.types import Score, Scorer
from hap_pairs import painted
from small import Blueness, Painted

VERDICTS = {"a": "ees", "b": "ssu", "c": "sss"}
"""Of the run that is damaged; for `coloured_run`, with `SCORERS`."""
BRACKETS = "[" * 100_000
OBJECTS = '{"a":' * 100_000
RETYPED: tuple[Any, ...] = (None, True, -1, 2.5, "text", [], {}, [[]], {"a": {"b": None}}, 10**30)
BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
"""Of tests by hypothesis."""


class Limbs(Painted):
    """A second anatomy scorer, which suspects nothing that it can see."""

    name = "limbs"

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        score = super().score(image, prompt)
        return score if score.status != "scored" else Score("scored", 0.1, False)


SCORERS: dict[str, Scorer | Unavailable] = {"hands": Painted(), "limbs": Limbs(), "iqa": Blueness()}
SHAPES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.just([1, None]), st.just({"a": {"b": 1}}), st.just("x" * 5000), st.just(10**400),
)  # fmt: skip
"""What may stand in JSON, wherever."""


def places(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value in nested JSON."""
    inside = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return [path] * bool(path) + [place for key, value in inside for place in places(value, (*path, key))]


def changed_at(values: Any, place: tuple[Any, ...], to: Any) -> Any:
    """A copy with another value at a place, or without it where `to` is Ellipsis."""
    values = copy.deepcopy(values)
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    if to is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = to
    return values


def mutations(plain: Any) -> Iterator[Any]:
    """The values with every place dropped, and every place retyped."""
    for place in places(plain):
        for new in (..., *RETYPED):
            yield changed_at(plain, place, new)


def some(values: Iterator[Any], most: int, seed: int = 20) -> list[Any]:
    found = list(values)
    return random.Random(seed).sample(found, min(most, len(found)))


def made(folder: Path, count: int = 4, first: int = 0) -> HapManifest:
    """A data set of so many pairs; where there is one, those that it lacks are added."""
    with open_hap(folder, {"source": "tests"}, split=SplitRule(shares={"train": 1.0})) as hap:
        for number in range(first, first + count):
            if not hap.done(str(number)):
                hap.add(str(number), [to_row(painted(number))], [("area", "M covers 0.10 % of the picture")])
        return hap.finish()


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder but its lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def sentence(work: Callable[[], object]) -> str:
    """What a HafError says, which must be one line; empty if there was none."""
    try:
        work()
    except HafError as error:
        assert "\n" not in str(error), "more than a sentence"
        return str(error)
    return ""
