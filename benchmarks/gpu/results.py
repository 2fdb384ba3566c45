"""What `python -m benchmarks.gpu` keeps: one JSON with the device and, by part, rows, or why there are none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hafbench.files import write_whole

Value = str | float | None
Row = Mapping[str, Value]


@dataclass(frozen=True)
class Setup:
    """How a part is run: at true size or tiny, and where it may write."""

    size: str
    folder: Path

    @property
    def tiny(self) -> bool:
        """Whether only the command is tried."""
        return self.size != "true"


@dataclass(frozen=True)
class Part:
    """A measurement: `minutes` that it takes at most on a large card, its table's `columns`, what makes its rows."""

    name: str
    title: str
    minutes: float
    columns: tuple[str, ...]
    run: Callable[[Setup], Sequence[Row]]


@dataclass(frozen=True)
class Outcome:
    """Of one part: its rows and the seconds it took, or why it was not done."""

    rows: Sequence[Row] = ()
    seconds: float = 0.0
    skipped: str = ""


@dataclass
class Results:
    """All outcomes on one device, by the name of the part."""

    device: str
    torch: str
    size: str
    parts: dict[str, Outcome] = field(default_factory=dict)

    def done(self, name: str) -> bool:
        """Whether a part was measured."""
        return name in self.parts and not self.parts[name].skipped

    def save(self, path: Path) -> None:
        """Write all of it, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")


def load(path: Path, device: str, torch: str, size: str) -> Results:
    """What is there of the same device, release and size, to be continued; else nothing."""
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: Outcome(**one) for name, one in there.pop("parts").items()}
        if there == {"device": device, "torch": torch, "size": size}:
            return Results(device, torch, size, parts)
    return Results(device, torch, size)
