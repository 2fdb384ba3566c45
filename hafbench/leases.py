"""A lease: the file `.lease.json` by which one process at a time writes a folder in a store, which has no locks."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hafbench.errors import HafError, RunStopped

FILE = ".lease.json"


class TakenOver(RunStopped):
    """Another process has the lease now."""


class _Held(BaseModel):
    """The file. `owner` is the copy that is uploaded; `seconds` after `renewed` any other may take the lease."""

    model_config = ConfigDict(frozen=True)

    owner: str
    host: str = Field(default_factory=socket.gethostname)
    process: int = Field(default_factory=os.getpid)
    renewed: datetime = Field(default_factory=lambda: datetime.now(UTC))
    seconds: float
    released: bool = False

    @property
    def age(self) -> float:
        """Seconds since it was renewed, by the clocks of two machines."""
        return (datetime.now(UTC) - self.renewed).total_seconds()


class Lease:
    """The lease of a folder, for the copy `owner`. Where two take it at once, one of them finds out when it renews.

    `root` is the folder in the file system of fsspec `system`; `where` is what messages call it, `what` what it holds.
    """

    def __init__(self, system: Any, root: str, where: str, what: str, owner: str, seconds: float) -> None:
        self._system, self._path = system, f"{root}/{FILE}"
        self._where, self._what, self._owner = where, what, owner
        self.seconds = seconds
        self.is_new = False

    def take(self) -> bool:
        """Take it; returns whether this copy had it last. Raises HafError if another process has it."""
        before = self._read()
        if before and before.owner != self._owner and not before.released and before.age < before.seconds:
            raise HafError(
                f"{self._where}: another process ({before.process} on {before.host}) is writing this {self._what}, and "
                f"was heard of {max(before.age, 0):.0f} s ago; wait for it, or choose another --out. If it was lost, "
                f"run this again in {before.seconds - before.age:.0f} s."
            )
        self.is_new = before is None
        with suppress(FileExistsError):
            self._write(mode="create" if before is None else "overwrite")
        self._check()
        return before is not None and before.owner == self._owner

    def renew(self) -> None:
        """Say that the process is still there; raises TakenOver if another one has taken the lease."""
        self._check()
        self._write()

    def release(self) -> None:
        """Let any other take it, who finds in it which copy was the last."""
        self._check()
        self._write(released=True)

    def exists(self) -> bool:
        """Has any process had it?"""
        return self._read() is not None

    def drop(self) -> None:
        """Delete it."""
        self._system.rm_file(self._path)

    def _check(self) -> None:
        found = self._read()
        if found is None or found.owner != self._owner:
            by = f"a process on {found.host}" if found else "somebody who deleted its lease"
            raise TakenOver(
                f"{self._where}: this {self._what} was taken over by {by}; see that only one process writes it, then "
                "run the same command again to resume."
            )

    def _read(self) -> _Held | None:
        try:
            return _Held.model_validate_json(self._system.cat_file(self._path))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise HafError(
                f"{self._where}/{FILE} is damaged; delete it if no process writes this {self._what}."
            ) from error

    def _write(self, mode: str = "overwrite", released: bool = False) -> None:
        held = _Held(owner=self._owner, seconds=self.seconds, released=released)
        self._system.pipe_file(self._path, held.model_dump_json().encode(), mode=mode)
