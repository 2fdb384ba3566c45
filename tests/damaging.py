"""What hostile tests damage, how, and what they ask of it."""

import copy
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hafbench.errors import Unavailable
from hafbench.suites import Prompt
from hafbench.types import Score, Scorer
from small import Blueness, Painted

VERDICTS = {"a": "ees", "b": "ssu", "c": "sss"}
"""Of the run that is damaged; for `coloured_run`, with `SCORERS`."""
BRACKETS = "[" * 100_000
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
