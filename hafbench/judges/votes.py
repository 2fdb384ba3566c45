"""From the answers about an image to a score, and from the scores of several judges to one by majority."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hafbench.judges.replies import BOX_UNITS, Fault, Verdict
from hafbench.types import Finding, Region, Score

if TYPE_CHECKING:
    from hafbench.judges.asking import Answer, Asker
    from hafbench.judges.parts import Part
    from hafbench.types import Box

ERROR = "error"
"""The measure `JUDGE: error` is that judge's verdict where several judges vote."""
REGIONS: dict[str, tuple[Region, ...]] = {
    "hands": ("hands",),
    "feet": ("feet",),
    "face": ("face",),
    "person": ("limbs", "torso"),
    "image": ("hands", "limbs", "feet", "face", "torso"),
}
"""In which regions a question can find an error; the first is that of an error whose region is another."""


@dataclass(frozen=True)
class Voting:
    """A judge, by its name, and its score."""

    judge: str
    score: Score


def p_error(answer: Answer[Verdict]) -> float | None:
    """The probability of an error, of yes and no alone; None where the judge decides for neither."""
    if answer.reply is None or answer.reply.error not in ("yes", "no"):
        return None
    yes, no = answer.chances.get("yes", 0.0), answer.chances.get("no", 0.0)
    return yes / (yes + no) if yes + no > 0 else float(answer.reply.error == "yes")


def vote(asker: Asker, questions: Sequence[tuple[str, list[Any]]], parts: Sequence[Part], threshold: float) -> Score:
    """One judge's score of an image: that of its worst part."""
    return score_of(asker.ask_all(questions, Verdict), parts, threshold)


def score_of(answers: Sequence[Answer[Verdict]], parts: Sequence[Part], threshold: float) -> Score:
    """The score of the answers about the parts of an image.

    Its value is the largest p(error). Where no part has an error and a question failed, the image has failed, since the
    error may be there. A refused or unclear part counts as if nothing were seen there, unless no part was answered:
    the image is then unknown. Measures count the questions, the refusals, what the judge could not tell, and by what
    p(error) was found.
    """
    chances = [p_error(answer) for answer in answers]
    judged = [chance for chance in chances if chance is not None]
    said = Counter(answer.reply.error for answer in answers if answer.reply is not None)
    problem = next((answer.problem for answer in answers if answer.problem), None)
    refusal = next((answer.refusal for answer in answers if answer.refusal), None)
    value = max(judged, default=0.0)
    sources = Counter(a.source for a, chance in zip(answers, chances, strict=True) if chance is not None)
    measures = {
        "questions": float(len(answers)),
        **{f"p_by_{source}": float(count) for source, count in sources.items()},
        "refused": float(sum(answer.refusal is not None for answer in answers)),
        "unclear": float(said["unclear"]),
    }
    if problem and value < threshold:
        return Score("failed", reason=problem, measures=measures)
    if not judged:
        if refusal or said["unclear"]:
            reason = f"the judge refused: {refusal}" if refusal else "the judge cannot tell"
            return Score("unknown", reason=reason, cause="unjudgeable", measures=measures)
        return Score("unknown", reason="the judge sees nobody", cause="absent", measures=measures)
    findings = [
        finding
        for answer, part, chance in zip(answers, parts, chances, strict=True)
        if chance is not None and chance >= threshold and answer.reply is not None
        for finding in _findings(answer.reply, part, chance)
    ]
    findings.sort(key=lambda finding: -finding.score)
    return Score("scored", value, value >= threshold, None, tuple(findings), measures)


def _findings(reply: Verdict, part: Part, chance: float) -> list[Finding]:
    regions = REGIONS[part.name]
    found = [
        Finding(
            fault.region if fault.region in regions else regions[0],
            fault.kind,
            " ".join(fault.detail.split())[:80] or "error",
            chance,
            _box(fault, part),
        )
        for fault in reply.faults
    ]
    return found or [Finding(regions[0], "configuration", "not localized", chance, part.box)]


def _box(fault: Fault, part: Part) -> Box | None:
    """The fault's box in pixels of the image; that of the part where it has none."""
    if not fault.box:
        return part.box
    height, width = part.size
    left, top, right, bottom = part.box or (0.0, 0.0, float(width), float(height))
    xs = [left + value / BOX_UNITS * (right - left) for value in fault.box[::2]]
    ys = [top + value / BOX_UNITS * (bottom - top) for value in fault.box[1::2]]
    return xs[0], ys[0], xs[1], ys[1]


def majority(votes: Sequence[Voting]) -> Score:
    """The score of a single judge, or that of several: an error if more judges see one than do not.

    The value is the mean of p(error), which need not lie on the majority's side; a tie is unknown. `measures` hold each
    judge's p(error) and verdict. Findings are of the judges that see an error, each with its judge's name before its
    detail.
    """
    if len(votes) == 1:
        return votes[0].score
    known = [one for one in votes if one.score.value is not None]
    errors = sum(bool(one.score.is_error) for one in known)
    measures: dict[str, float] = {"judges": float(len(votes))}
    for one in known:
        measures |= {
            f"{one.judge}: p": one.score.value or 0.0,
            f"{one.judge}: {ERROR}": float(bool(one.score.is_error)),
        }
    for one in votes:
        for name, value in one.score.measures.items():
            measures[name] = measures.get(name, 0.0) + value
    if not known or 2 * errors == len(known):
        said = "; ".join(f"{one.judge}: {one.score.reason}" for one in votes if one.score.reason)
        failed = any(one.score.status == "failed" for one in votes)
        reason = f"the judges disagree{f' ({said})' if said else ''}" if known else said
        if failed:
            return Score("failed", reason=reason, measures=measures)
        absent = all(one.score.cause == "absent" for one in votes)
        return Score("unknown", reason=reason, measures=measures, cause="absent" if absent else "unjudgeable")
    mean = sum(one.score.value or 0.0 for one in known) / len(known)
    is_error = 2 * errors > len(known)
    findings = tuple(
        replace(finding, detail=f"{one.judge}: {finding.detail}")
        for one in known
        if one.score.is_error and is_error
        for finding in one.score.findings
    )
    return Score("scored", mean, is_error, None, findings, measures)
