"""The store of answers: what a judge was asked once is never asked again, in any run (SQLite, write-ahead log)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hafbench.errors import RunStopped
from hafbench.files import cache_root

FORMAT = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY, judge TEXT NOT NULL, protocol TEXT NOT NULL, question TEXT NOT NULL, text TEXT NOT NULL,
  refusal TEXT, cut INTEGER NOT NULL, chances TEXT NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,
  model TEXT NOT NULL, asked TEXT NOT NULL
) WITHOUT ROWID
"""
_INSERT = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def default_store() -> Path:
    """HAFBENCH_CACHE/judge.sqlite, or that file in the system's cache folder."""
    return cache_root() / "judge.sqlite"


@dataclass(frozen=True)
class Kept:
    """A reply as it is kept: `chances` are the probabilities of the verdict's words, {} where the judge gave none."""

    text: str
    refusal: str | None
    cut: bool
    chances: Mapping[str, float]
    tokens_in: int
    tokens_out: int
    model: str


@dataclass(frozen=True)
class Asked:
    """To whom a question went, by which protocol, and its part there: for people who look into the store."""

    judge: str
    protocol: str
    question: str


class AnswerStore:
    """Answers by the hash of their question. For one thread; several processes may have the same file open.

    Every method raises RunStopped where the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            # With a write-ahead log a killed process loses nothing that was added.
            for words in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL", _TABLE):
                self._base.execute(words)
            found = self._base.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, FORMAT):
                raise RunStopped(f"{path} is a store of answers of format {found}; this version reads format {FORMAT}.")
            self._base.execute(f"PRAGMA user_version={FORMAT}")
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> RunStopped:
        return RunStopped(
            f"The store of judges' answers {self.path} cannot be used ({error}); free some space, or move it away."
        )

    def get(self, key: str) -> Kept | None:
        """The answer to a question, None if it was not asked yet."""
        try:
            row = self._base.execute(
                "SELECT text, refusal, cut, chances, tokens_in, tokens_out, model FROM answers WHERE key = ?", (key,)
            ).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return Kept(row[0], row[1], bool(row[2]), json.loads(row[3]), *row[4:]) if row else None

    def add(self, key: str, asked: Asked, kept: Kept) -> None:
        """Keep an answer; it is on the disk when this returns."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        values = (key, asked.judge, asked.protocol, asked.question, kept.text, kept.refusal, int(kept.cut))
        more = (json.dumps(dict(kept.chances)), kept.tokens_in, kept.tokens_out, kept.model, now)
        try:
            self._base.execute(_INSERT, (*values, *more))
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """Everything, oldest first, as JSON values."""
        names = ("key", *asdict(Asked("", "", "")), "text", "refusal", "cut", "chances", "tokens_in", "tokens_out")
        try:
            for row in self._base.execute("SELECT * FROM answers ORDER BY asked, key"):
                found = dict(zip((*names, "model", "asked"), row, strict=True))
                yield {**found, "cut": bool(found["cut"]), "chances": json.loads(found["chances"])}
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def counts(self) -> list[tuple[str, str, int, int, int]]:
        """(judge, protocol, answers, tokens in, tokens out), by judge and protocol."""
        words = (
            "SELECT judge, protocol, COUNT(*), SUM(tokens_in), SUM(tokens_out) FROM answers GROUP BY judge, protocol"
        )
        try:
            return list(self._base.execute(words))
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Close the file."""
        self._base.close()
