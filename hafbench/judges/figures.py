"""What each judge of a run says: its own rate, how its p(error) was found, and how far two judges agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from hafbench.judges.votes import ERROR
from hafbench.record_tables import read_measures
from hafbench.statistics import Kappa, Rate, cohen_kappa, error_rate

if TYPE_CHECKING:
    from hafbench.runs import Run

SCORER = "judge"
COUNTED = {
    "p_by_logprobs": "by log-probabilities",
    "p_by_samples": "by the share of several replies",
    "p_by_verdict": "by the word alone",
    "refused": "refused",
    "unclear": "unclear",
}
"""Measures that count questions, and what is said of them."""


@dataclass(frozen=True)
class JudgeFigures:
    """The judges of a run by their names and protocol; `rates` are of each, `agreements` of each two.

    `counts` are of questions: how p(error) was found, refusals, and what judges could not tell.
    """

    protocol: str
    rates: tuple[tuple[str, Rate], ...]
    agreements: tuple[tuple[str, str, Kappa], ...]
    questions: int
    counts: tuple[tuple[str, int], ...]


def judge_figures(run: Run) -> JudgeFigures | None:
    """The figures, None for a run without judges."""
    facts = run.manifest.scorers.get(SCORER)
    named = facts.settings.get("judges") if facts else None
    if facts is None or not isinstance(named, Sequence):
        return None
    names = [str(one["name"]) for one in named if isinstance(one, Mapping) and "name" in one]
    rows = run.records[run.records["scorer"] == SCORER]
    columns = [*(f"{name}: {ERROR}" for name in names), "questions", *COUNTED]
    measures = read_measures(run.table, columns)[(run.records["scorer"] == SCORER).to_numpy()]
    verdicts: dict[str, Any] = {name: measures[f"{name}: {ERROR}"] for name in names}
    if len(names) == 1:
        verdicts = {names[0]: rows["is_error"]}
    prompts = rows["prompt_id"]
    rates = tuple((name, error_rate(own, prompts)) for name, own in verdicts.items())
    agreements = tuple(
        (one, other, cohen_kappa(verdicts[one], verdicts[other], prompts)) for one, other in combinations(names, 2)
    )
    totals = {name: int(measures[name].sum()) for name in ("questions", *COUNTED)}
    counts = tuple((said, totals[name]) for name, said in COUNTED.items() if totals[name])
    return JudgeFigures(str(facts.settings.get("protocol", "")), rates, agreements, totals["questions"], counts)
