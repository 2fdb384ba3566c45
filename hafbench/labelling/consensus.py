"""From the answers of several raters to one label an image or pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hafbench.labelling.answers import Label, Mark


@dataclass(frozen=True)
class Consensus:
    """What raters say of an item together. `answer` is None where as many say one thing as another (`disputed`).

    It is what they settled on, else the answer of most; those who were not sure count where nobody was. `marks` are of
    the first rater who gave it. `blind` is whether none of them had seen what the scorers say.
    """

    item: str
    answer: str | None
    raters: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    settled: bool = False
    blind: bool = True

    @property
    def bad(self) -> bool | None:
        """True for an error, False for good, None where it is not clear."""
        return {"error": True, "good": False}.get(self.answer or "")

    @property
    def gain(self) -> int | None:
        """Of a pair: 1 where the candidate's image is the sounder one, -1 where the baseline's is, 0 for a tie."""
        return {"candidate": 1, "baseline": -1, "tie": 0}.get(self.answer or "")

    @property
    def disputed(self) -> bool:
        """Whether raters have to settle it."""
        return self.answer is None


def by_item(labels: Iterable[Label]) -> dict[str, list[Label]]:
    """The answers of each item, in their order."""
    found: dict[str, list[Label]] = {}
    for label in labels:
        found.setdefault(label.item, []).append(label)
    return found


def consensus(labels: Iterable[Label]) -> dict[str, Consensus]:
    """One label an item. What a rater says of an image shown again is for agreement only."""
    counted = (one for one in labels if one.turn != "again")
    return {item: _agreed(item, own) for item, own in by_item(counted).items()}


def _agreed(item: str, labels: list[Label]) -> Consensus:
    first = [one for one in labels if one.turn == "first"]
    settled = [one for one in labels if one.turn == "settled"]
    raters = tuple(dict.fromkeys(one.rater for one in (*first, *settled)))
    counted = settled[-1:] or [one for one in first if one.answer != "unsure"] or first
    votes: Mapping[str, int] = {
        answer: sum(one.answer == answer for one in counted) for answer in dict.fromkeys(one.answer for one in counted)
    }
    most = [answer for answer, count in votes.items() if count == max(votes.values())]
    answer = most[0] if len(most) == 1 else None
    marks = next((one.marks for one in counted if one.answer == answer), ())
    return Consensus(item, answer, raters, marks, bool(settled), all(one.blind for one in counted))


def disputed(labels: Iterable[Label]) -> list[str]:
    """The items whose raters gave different clear answers, and that nobody has settled yet."""
    found = []
    for item, own in by_item(labels).items():
        answers = {one.answer for one in own if one.turn == "first" and one.answer != "unsure"}
        if len(answers) > 1 and not any(one.turn == "settled" for one in own):
            found.append(item)
    return found
