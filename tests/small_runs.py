"""Runs of the small painter by the real machinery, which may be stopped on the way."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hafbench.evaluate import evaluate, plan
from hafbench.runs import Run, open_run
from hafbench.suites import Prompt
from small import Brightness, Painter, manifest_of

PROMPTS = [Prompt(id=f"p{i}", text=f"a hand, number {i}", category="basic_anatomy") for i in range(5)]


class StopAfter:
    """Ends the run like Ctrl-C after so many images."""

    def __init__(self, images: int | None) -> None:
        self.left = images

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def update(self, task: str, done: int, note: str = "") -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def bench(
    folder: Path,
    painter: Painter,
    scorers: dict[str, Any] | None = None,
    *,
    seeds: int = 2,
    batch_size: int = 1,
    stop_after: int | None = None,
    prompts: Sequence[Prompt] = PROMPTS,
) -> Run:
    """A run of the real machinery; `stop_after` ends it like Ctrl-C after so many images."""
    scorers = scorers or {"hands": Brightness()}
    with open_run(folder, manifest_of(scorers, painter.settings, seeds=seeds)) as run:
        return evaluate(
            run,
            plan(prompts, range(seeds)),
            scorers,
            generator=painter,
            batch_size=batch_size,
            progress=StopAfter(stop_after),
        )
