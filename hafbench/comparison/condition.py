"""Conditions for a build that must fail: `--fail-if "aer > baseline + 0.02"`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from hafbench.comparison.metrics import Comparison, MetricComparison, rsi_of
from hafbench.errors import HafError

COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
PATTERN = re.compile(
    r"\s*(?P<what>[A-Za-z_]+)(?:\.(?P<scorer>[A-Za-z0-9_-]+))?(?:\.(?P<bound>low|high))?\s*(?P<sign>[<>]=?)\s*"
    r"(?:(?P<baseline>baseline)\s*(?:(?P<plus>[+-])\s*(?P<offset>\d*\.?\d+))?|(?P<number>[+-]?\d*\.?\d+))\s*"
)
WHAT = ("aer", "mean", "judged", "difference", "rsi")
HELP = (
    "aer, mean, judged, difference or rsi, of a scorer as in aer.digits (default: the first metric) and of an "
    "interval's end as in difference.low; <, <=, > or >=; a number, or baseline, or baseline + or - a number"
)


@dataclass(frozen=True)
class Condition:
    """`what` of `scorer` (None: the first metric of that role) by `sign` against a number, or baseline + number."""

    text: str
    what: str
    scorer: str | None
    bound: str | None
    sign: str
    number: float
    from_baseline: bool


def parse_condition(text: str) -> Condition:
    """Read a condition; raises HafError with the grammar for what is not one."""
    match = PATTERN.fullmatch(text)
    if match is None or match["what"] not in WHAT:
        raise HafError(f"--fail-if '{text}' is not understood; it takes {HELP}.")
    scorer, bound = match["scorer"], match["bound"]
    if scorer in ("low", "high") and bound is None:
        scorer, bound = None, scorer
    if match["baseline"] and match["what"] not in ("aer", "mean", "judged"):
        raise HafError(f"--fail-if '{text}': {match['what']} has no baseline value; compare it with a number.")
    number = float(match["number"] or match["offset"] or 0) * (-1 if match["plus"] == "-" else 1)
    return Condition(text, match["what"], scorer, bound, match["sign"], number, bool(match["baseline"]))


def failures(condition: Condition, comparison: Comparison) -> list[str]:
    """A sentence for each candidate that the condition holds for; raises HafError where it cannot be told."""
    said = []
    for versus in comparison.versus:
        one = _metric(condition, versus.metrics, versus.label)
        value, reference = _value(condition, one), condition.number
        if condition.from_baseline:
            shares = one.unjudged.judged if one.unjudged and condition.what == "judged" else one.difference
            base = shares.baseline
            reference += base if base is not None else float("nan")
        if value is None or value != value or reference != reference:
            raise HafError(
                f"--fail-if '{condition.text}' cannot be checked for {versus.label}: {one.name} has no value there."
            )
        if COMPARE[condition.sign](value, reference):
            said.append(f"{versus.label}: {condition.text} holds ({one.name} {value:.4g} against {reference:.4g}).")
    return said


def _metric(condition: Condition, metrics: tuple[MetricComparison, ...], label: str) -> MetricComparison:
    role = {"aer": "anatomy", "judged": "anatomy", "mean": "quality"}.get(condition.what)
    fitting = [one for one in metrics if role in (None, one.role)]
    if condition.scorer:
        fitting = [one for one in fitting if one.name == condition.scorer]
    if not fitting:
        raise HafError(
            f"--fail-if '{condition.text}': {label} and the baseline do not share that metric; "
            f"shared: {', '.join(one.name for one in metrics)}."
        )
    return fitting[0]


def _value(condition: Condition, one: MetricComparison) -> float | None:
    own = one.candidate
    values: dict[str, tuple[float | None, float | None, float | None]] = {
        # The value itself is of what both runs could judge, as the baseline's is.
        "aer": (one.difference.candidate, own.low, own.high),
        "mean": (one.difference.candidate, own.low, own.high),
        "judged": (one.unjudged.judged.candidate if one.unjudged else None, None, None),
        "difference": (one.difference.estimate, one.difference.low, one.difference.high),
        "rsi": rsi_of(one),
    }
    return values[condition.what][{None: 0, "low": 1, "high": 2}[condition.bound]]
