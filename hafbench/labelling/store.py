"""The store of labels: one SQLite file with a write-ahead log, to which answers are only ever added.

Several servers may have it open. An answer is on the disk when the page hears that it is kept; undoing adds a line.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from hafbench import provenance
from hafbench.errors import HafError
from hafbench.labelling.answers import UNDO, Label, Mark, Turn
from hafbench.sources import ImageSource, Place, open_source
from hafbench.sources.unchanged import load_unchanged

if TYPE_CHECKING:
    from PIL.Image import Image

FORMAT = 1
FILE = "labels.sqlite"
"""Beside a run, unless another file is named."""
_MARKS = TypeAdapter(tuple[Mark, ...])
# `labels` has every answer and every undoing; `standing` says which of them hold.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
  sha256 TEXT PRIMARY KEY, folder TEXT NOT NULL, root TEXT NOT NULL, image TEXT NOT NULL, run TEXT NOT NULL,
  prompt_id TEXT, prompt TEXT, seed INTEGER, width INTEGER, height INTEGER);
CREATE TABLE IF NOT EXISTS plans (id TEXT PRIMARY KEY, made TEXT NOT NULL, spec TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
  plan TEXT NOT NULL, item TEXT NOT NULL, place INTEGER NOT NULL, probability REAL NOT NULL, shared INTEGER NOT NULL,
  again INTEGER NOT NULL, PRIMARY KEY (plan, item)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frames (plan TEXT NOT NULL, image TEXT NOT NULL, PRIMARY KEY (plan, image)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labels (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, plan TEXT, item TEXT NOT NULL,
  rater TEXT NOT NULL, turn TEXT NOT NULL, answer TEXT NOT NULL, marks TEXT NOT NULL, seconds REAL,
  blind INTEGER NOT NULL, swapped INTEGER NOT NULL, time TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS claims (
  item TEXT NOT NULL, turn TEXT NOT NULL, rater TEXT NOT NULL, tab TEXT NOT NULL, time REAL NOT NULL,
  PRIMARY KEY (item, turn, rater)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS standing (
  item TEXT NOT NULL, turn TEXT NOT NULL, rater TEXT NOT NULL, number INTEGER NOT NULL,
  PRIMARY KEY (item, turn, rater)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS standing_by ON standing (rater, number);
CREATE TRIGGER IF NOT EXISTS stands AFTER INSERT ON labels BEGIN
  DELETE FROM standing WHERE item = NEW.item AND turn = NEW.turn AND rater = NEW.rater;
  INSERT INTO standing SELECT NEW.item, NEW.turn, NEW.rater, NEW.number WHERE NEW.answer != 'undo';
END;
CREATE VIEW IF NOT EXISTS current AS SELECT l.* FROM standing AS s JOIN labels AS l ON l.number = s.number;
"""
_LABEL = "item, rater, turn, answer, marks, seconds, blind, swapped, plan, time"


@dataclass(frozen=True)
class Picture:
    """An image that can be labelled.

    `image` is its path below `root`, a path or an address; `folder` and `run` are its run's folder and name.
    """

    sha256: str
    folder: str
    root: str
    image: str
    run: str
    prompt_id: str | None
    prompt: str | None
    seed: int | None
    width: int | None
    height: int | None

    @property
    def place(self) -> Place:
        """Where it is; raises HafError where that cannot be looked up."""
        return _source(self.root).place(self.image)

    def load(self) -> Image:
        """Its pixels as every scorer saw them; raises HafError if it is another file now, or cannot be read."""
        return load_unchanged(self.place, self.sha256, self.image)


@lru_cache(maxsize=8)
def _source(root: str) -> ImageSource:
    return open_source(root)


@dataclass(frozen=True)
class Entry:
    """An item of a plan: `probability` is the chance with which it was drawn, `place` the order in which it is shown.

    A shared one is shown to every rater; one to be shown again comes to each of its raters twice.
    """

    item: str
    place: int
    probability: float
    shared: bool = False
    again: bool = False


class LabelStore:
    """Labels, plans and images of one file. For several threads; raises HafError where the file cannot be used."""

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        self.path = path
        self._lock = threading.RLock()
        if must_exist and not path.is_file():
            raise HafError(f"There are no labels yet: {path} does not exist; give them with `hafbench label`.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._base.row_factory = sqlite3.Row
            # FULL: an hour of somebody's work is worth more than the milliseconds of a sync.
            for words in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"):
                self._base.execute(words)
            found = self._base.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, FORMAT):
                raise HafError(f"{path} is a store of labels of format {found}; this version reads format {FORMAT}.")
            self._base.executescript(_SCHEMA)
            self._base.execute(f"PRAGMA user_version={FORMAT}")
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> HafError:
        return HafError(f"The store of labels {self.path} cannot be used ({error}); free some space, or name another.")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, in which no other process writes; for this thread alone."""
        with self._lock:
            self.rows("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.rollback()
                raise
            self._base.commit()

    def rows(self, words: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[sqlite3.Row]:
        """The rows of a statement."""
        with self._lock:
            try:
                return self._base.execute(words, values).fetchall()
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def add_pictures(self, pictures: Iterable[Picture]) -> None:
        """Say where images lie; the latest place counts."""
        with self.writing():
            for one in pictures:
                values = (one.sha256, one.folder, one.root, one.image, one.run)
                more = (one.prompt_id, one.prompt, one.seed, one.width, one.height)
                self.rows("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, *more))

    def pictures(self) -> dict[str, Picture]:
        """All images that were asked about, by SHA-256."""
        found = (dict(row) for row in self.rows("SELECT * FROM images ORDER BY folder, image"))
        return {row["sha256"]: Picture(**row) for row in found}

    def add_plan(self, name: str, spec: str, entries: Iterable[Entry], frame: Iterable[str]) -> None:
        """Keep a plan, unless it is there already; `frame` has the images that it could draw, by SHA-256."""
        with self.writing():
            if self.rows("SELECT 1 FROM plans WHERE id = ?", (name,)):
                return
            self.rows("INSERT INTO plans VALUES (?, ?, ?)", (name, provenance.now(), spec))
            for one in entries:
                values = (name, one.item, one.place, one.probability, int(one.shared), int(one.again))
                self.rows("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", values)
            for image in frame:
                self.rows("INSERT INTO frames VALUES (?, ?)", (name, image))

    def plans(self) -> dict[str, str]:
        """The specification of each plan, as JSON, oldest first."""
        return {row["id"]: row["spec"] for row in self.rows("SELECT id, spec FROM plans ORDER BY made, id")}

    def frame(self, plan: str) -> set[str]:
        """The images that a plan could draw; all that were asked about for a plan of a version that did not say it."""
        found = self.rows("SELECT image FROM frames WHERE plan = ?", (plan,))
        return {row[0] for row in found or self.rows("SELECT sha256 FROM images")}

    def entries(self, plan: str) -> list[Entry]:
        """The items of a plan in their order."""
        found = self.rows(
            "SELECT item, place, probability, shared, again FROM entries WHERE plan = ? ORDER BY place", (plan,)
        )
        return [Entry(row[0], row[1], row[2], bool(row[3]), bool(row[4])) for row in found]

    def add(self, event: str, label: Label) -> bool:
        """Keep an answer, or the undoing of one; False if this event was kept before."""
        marks = _MARKS.dump_json(label.marks).decode()
        values = (event, label.plan, label.item, label.rater, label.turn, label.answer, marks, label.seconds)
        more = (int(label.blind), int(label.swapped), label.time or provenance.now())
        words = (
            "INSERT OR IGNORE INTO labels (id, plan, item, rater, turn, answer, marks, seconds, blind, swapped, time) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number"
        )
        return bool(self.rows(words, (*values, *more)))

    def labels(self) -> list[Label]:
        """What holds now: the latest answer of each rater, image and turn, oldest first, without what was undone."""
        return [_label(row) for row in self.rows(f"SELECT {_LABEL} FROM current ORDER BY number")]  # noqa: S608

    def latest(self, rater: str, plan: str, settled: bool) -> Label | None:
        """The last answer of a rater that holds, among those that settle, or the others."""
        words = (
            f"SELECT {_LABEL} FROM current WHERE rater = ? AND plan = ? AND (turn = 'settled') = ? "  # noqa: S608
            "ORDER BY number DESC LIMIT 1"
        )
        found = self.rows(words, (rater, plan, int(settled)))
        return _label(found[0]) if found else None

    def of_item(self, item: str) -> list[Label]:
        """All answers about an item that hold."""
        found = self.rows(f"SELECT {_LABEL} FROM current WHERE item = ? ORDER BY number", (item,))  # noqa: S608
        return [_label(row) for row in found]

    def event(self, event: str) -> Label | None:
        """What was kept under an event's name, also where it is an undoing."""
        found = self.rows(f"SELECT {_LABEL} FROM labels WHERE id = ?", (event,))  # noqa: S608
        return _label(found[0]) if found else None

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def _label(row: sqlite3.Row) -> Label:
    turn: Turn = row["turn"]
    return Label(
        row["item"],
        row["rater"],
        turn,
        row["answer"],
        tuple(Mark.model_validate(one) for one in json.loads(row["marks"])),
        row["seconds"],
        bool(row["blind"]),
        bool(row["swapped"]),
        row["plan"],
        row["time"],
    )


def undoing(label: Label) -> Label:
    """The line that takes an answer back."""
    return Label(label.item, label.rater, label.turn, UNDO, plan=label.plan)
