"""Find the tensors that a model's files lack: the libraries load it all the same, and the images are then wrong."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hafbench.errors import HafError

MISSING = re.compile(r"^(\S+) *\| *MISSING", re.MULTILINE)
"""A row of the report that transformers logs of a model it has loaded."""
COLOUR = re.compile(r"\x1b\[[\d;]*m")


@contextmanager
def complete(where: object) -> Iterator[None]:
    """Load models of transformers within; raises HafError if one lacks tensors.

    transformers gives them random values, and says so in its log alone.
    """
    heard = _Heard()
    log = logging.getLogger("transformers.modeling_utils")
    level, propagate = log.level, log.propagate
    log.addHandler(heard)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(heard)
        log.setLevel(level)
        log.propagate = propagate
    for report in heard.reports:
        _refuse(where, report.split()[0], MISSING.findall(report))


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.reports: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = COLOUR.sub("", record.getMessage())
        if MISSING.search(text):
            self.reports.append(text)


def check_complete(where: object, components: Mapping[str, Any]) -> None:
    """Raise HafError if a component lacks tensors: diffusers leaves them without values."""
    for name, part in components.items():
        if hasattr(part, "named_parameters"):
            tensors = (*part.named_parameters(), *part.named_buffers())
            _refuse(where, name, [key for key, value in tensors if value.is_meta])


def _refuse(where: object, part: str, missing: list[str]) -> None:
    """Raise HafError if anything is missing."""
    if missing:
        more = f" and {len(missing) - 1} other tensors" if len(missing) > 1 else ""
        raise HafError(f"{where}: the weights of {part} lack {missing[0]}{more}; copy the model again.")
