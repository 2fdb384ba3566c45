"""Errors that are addressed to the user: one sentence saying what is wrong, where, and what to do."""

from collections.abc import Iterator
from typing import Any


class HafError(Exception):
    """A mistake in the input or the surroundings; the command line prints it and exits with 2."""


class Unavailable(HafError):
    """Something optional is unavailable: weights that are not on this machine, a package not installed.

    A scorer that raises it is recorded as `unscored` with the message, and the run goes on.
    """


class Locked(HafError):
    """Another process is writing the same folder."""


class RunStopped(HafError):
    """Nothing more can be done now, such as where a judge's endpoint is down: the run stops, and can be resumed."""


class BadImage(HafError):
    """A file that cannot be read as an image; recorded as `failed`, and the run goes on."""


def nearest(name: str, known: list[str]) -> str:
    """The tail of an "unknown name" sentence: close matches if there are any, else every known name."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known)}." if known else "there are none."


def one_line(error: BaseException, most: int = 200) -> str:
    """An error's message on one line, cut after `most` characters: libraries write pages, and not always in UTF-8."""
    return " ".join(str(error).split())[:most].encode(errors="replace").decode()


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it: libraries wrap what the network or the disk said in errors of their own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def first_problem(error: Any) -> str:
    """The first complaint of a pydantic ValidationError, as `field: reason`."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        reason = "it is not given"
    elif first["type"] == "string_pattern_mismatch":
        reason = "use letters, digits, '.', '-' and '_' only, starting with a letter or digit"
    return f"{field}: {reason}" if field else str(reason)
