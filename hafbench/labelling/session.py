"""Who is shown what next: the answers of a plan's raters, what each has left, undoing, and settling."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from hafbench.errors import HafError
from hafbench.labelling.answers import SIDES, UNDO, Given, Label, Mark, Turn
from hafbench.labelling.consensus import disputed
from hafbench.labelling.frame import Item
from hafbench.labelling.store import LabelStore, Picture, undoing

CLAIM = 300.0
"""Seconds for which an image that somebody looks at is not given to others."""
GAP = 25
"""Answers that a rater gives before an image is shown again, where there are so many left."""
AHEAD = 3
"""Images that a page may load before they are needed."""


class Shown(BaseModel):
    """An image on the page, by the SHA-256 under which it is served."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    width: int | None
    height: int | None


class Other(BaseModel):
    """What another rater said, for settling."""

    model_config = ConfigDict(frozen=True)

    rater: str
    answer: str
    marks: tuple[Mark, ...]


class Task(BaseModel):
    """An item to be labelled; the image on the left comes first. `answer` and `marks` are those taken back."""

    model_config = ConfigDict(frozen=True)

    item: str
    turn: Turn
    images: tuple[Shown, ...]
    prompt: str | None
    answer: str | None = None
    marks: tuple[Mark, ...] = ()
    others: tuple[Other, ...] = ()


class Progress(BaseModel):
    """How far a rater is: `done` answers of this plan, `left` to come, and the median of their seconds."""

    model_config = ConfigDict(frozen=True)

    done: int
    left: int
    seconds: float | None


class State(BaseModel):
    """What a page shows next: nothing where all is done. `ahead` are images that may come then."""

    model_config = ConfigDict(frozen=True)

    task: Task | None
    progress: Progress
    ahead: tuple[str, ...] = ()


class Refused(HafError):
    """A request that does not fit the plan."""


# What a rater has not answered, and nobody else whose answer is enough; then, what nobody is looking at.
_OPEN = """
FROM entries AS e WHERE e.plan = :plan
AND NOT EXISTS (SELECT 1 FROM standing AS c WHERE c.item = e.item AND c.turn = 'first'
                AND (c.rater = :rater OR NOT e.shared))
"""
_FREE = """
AND NOT EXISTS (SELECT 1 FROM claims AS k WHERE k.item = e.item AND k.turn = 'first' AND k.time > :since
                AND NOT (k.rater = :rater AND k.tab = :tab) AND (k.rater = :rater OR NOT e.shared))
"""
# What is to be shown to its rater again.
_AGAIN = """
FROM entries AS e JOIN standing AS c ON c.item = e.item AND c.turn = 'first' AND c.rater = :rater
WHERE e.plan = :plan AND e.again
AND NOT EXISTS (SELECT 1 FROM standing AS d WHERE d.item = e.item AND d.turn = 'again' AND d.rater = :rater)
"""
# The one that was answered first, and how many answers its rater has given since.
_SINCE = "SELECT e.item, (SELECT COUNT(*) FROM standing AS d WHERE d.rater = :rater AND d.number > c.number) AS since"
_NEXT_AGAIN = _SINCE + _AGAIN + " ORDER BY c.number LIMIT 1"
_MINE = """
AND EXISTS (SELECT 1 FROM claims AS k WHERE k.item = e.item AND k.turn = 'first' AND k.rater = :rater)
"""
_ITEMS, _ORDER = "SELECT e.item ", " ORDER BY e.place LIMIT 4"
_GIVEN = """
SELECT seconds FROM current WHERE rater = :rater AND turn != 'settled'
AND item IN (SELECT item FROM entries WHERE plan = :plan)
"""


@dataclass(frozen=True)
class Session:
    """One plan and its raters. `settling` shows what they disagree on, in place of what is open.

    `items` are all that the plan may name. A method raises Refused for a rater or an item that is none of its.
    """

    store: LabelStore
    plan: str
    items: Mapping[str, Item]
    raters: tuple[str, ...]
    prompts: bool = True
    settling: bool = False

    @property
    def pictures(self) -> dict[str, Picture]:
        """Every image that may be shown, by SHA-256."""
        return {one.sha256: one for item in self.items.values() for one in item.pictures}

    def check(self, rater: str) -> None:
        """Raises Refused for a name that was not given at the start."""
        if rater not in self.raters:
            raise Refused(f"there is no rater {rater!r} here; start with --rater NAME for each.")

    def next(self, rater: str, tab: str) -> State:
        """What this rater labels next in this tab, which is kept from other raters and tabs for a while."""
        self.check(rater)
        if self.settling:
            open_items = [item for item in disputed(self.store.labels()) if item in self.items]
            return self._state(rater, (open_items[0], "settled") if open_items else None, open_items[1:])
        values = {"plan": self.plan, "rater": rater, "tab": tab, "since": time.time() - CLAIM}
        with self.store.writing():
            waiting = self.store.rows(_NEXT_AGAIN, values)
            free = [row["item"] for row in self.store.rows(_ITEMS + _OPEN + _FREE + _ORDER, values)]
            due = [row["item"] for row in waiting if row["since"] >= GAP or not free]
            # At the end comes what another tab of this rater left open.
            if not due and not free:
                free = [row["item"] for row in self.store.rows(_ITEMS + _OPEN + _MINE + _ORDER, values)]
            chosen: tuple[str, Turn] | None
            chosen = (due[0], "again") if due else (free[0], "first") if free else None
            if chosen:
                words = "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?)"
                self.store.rows(words, (*chosen, rater, tab, time.time()))
        return self._state(rater, chosen, free if due else free[1:])

    def give(self, given: Given) -> bool:
        """Keep an answer; False if it is kept already. Raises Refused for an item that is not of the plan."""
        self.check(given.rater)
        if given.item not in self.items or (given.turn == "settled") != self.settling:
            raise Refused("this image is not one of those to be labelled here.")
        swapped = self._swapped(given.item, given.rater, given.turn)
        answer: str = given.answer
        if answer in ("left", "right"):
            answer = SIDES[(answer == "right") != swapped]
        label = Label(
            given.item,
            given.rater,
            given.turn,
            answer,
            given.marks,
            given.seconds,
            given.blind,
            swapped,
            self.plan,
        )
        return self.store.add(given.id, label)

    def undo(self, event: str, rater: str) -> State:
        """Take back the last answer that holds, and show its item with it; the same event again shows it again."""
        self.check(rater)
        with self.store.writing():
            kept = self.store.event(event)
            last = self.store.latest(rater, self.plan, self.settling) if kept is None else None
            if last is not None:
                self.store.add(event, undoing(last))
        found = last or kept
        if found is None or found.item not in self.items:
            return State(task=None, progress=self.progress(rater))
        state = self._state(rater, (found.item, found.turn), [])
        if state.task is None or found.answer == UNDO:
            return state
        answer = found.answer
        if answer in SIDES[:2]:
            answer = ("left", "right")[(answer == "candidate") != found.swapped]
        return state.model_copy(update={"task": state.task.model_copy(update={"answer": answer, "marks": found.marks})})

    def progress(self, rater: str) -> Progress:
        """How far a rater is."""
        if self.settling:
            mine = [one for one in self.store.labels() if one.turn == "settled" and one.item in self.items]
            open_items = [item for item in disputed(self.store.labels()) if item in self.items]
            return Progress(done=len(mine), left=len(open_items), seconds=None)
        values = {"plan": self.plan, "rater": rater}
        given = self.store.rows(_GIVEN, values)
        times = sorted(row["seconds"] for row in given if row["seconds"] is not None)
        left = sum(self.store.rows(f"SELECT COUNT(*) {part}", values)[0][0] for part in (_OPEN, _AGAIN))
        return Progress(done=len(given), left=left, seconds=times[len(times) // 2] if times else None)

    def _state(self, rater: str, chosen: tuple[str, Turn] | None, later: list[str]) -> State:
        progress = self.progress(rater)
        if chosen is None:
            return State(task=None, progress=progress)
        key, turn = chosen
        item = self.items[key]
        order = item.pictures[::-1] if self._swapped(key, rater, turn) else item.pictures
        images = tuple(Shown(sha256=one.sha256, width=one.width, height=one.height) for one in order)
        prompt = item.pictures[0].prompt if self.prompts else None
        ahead = tuple(one.sha256 for after in later[:AHEAD] for one in self.items[after].pictures)
        task = Task(item=key, turn=turn, images=images, prompt=prompt, others=self._others(key, rater, turn))
        return State(task=task, progress=progress, ahead=ahead)

    def _others(self, item: str, rater: str, turn: Turn) -> tuple[Other, ...]:
        """What raters said of an item that is to be settled; of a pair, by the sides on which it is shown now."""
        if turn != "settled":
            return ()
        swapped = self._swapped(item, rater, turn)
        sides = {SIDES[swapped]: "left", SIDES[not swapped]: "right"}
        return tuple(
            Other(rater=one.rater, answer=sides.get(one.answer, one.answer), marks=one.marks)
            for one in self.store.of_item(item)
            if one.turn == "first"
        )

    def _swapped(self, item: str, rater: str, turn: Turn) -> bool:
        """Whether the candidate's image of a pair stands on the left: by chance, and the same after a reload."""
        text = f"{self.plan}/{item}/{rater}/{turn}"
        return "-" in item and bool(hashlib.sha256(text.encode()).digest()[0] & 1)
