"""Small fits whose checkpoints are scored by one engine or another."""

from pathlib import Path
from typing import Any

from asap_train.autoscore import scored_runs
from asap_train.training.config import FitConfig
from fits import painted_pairs, settings, tiny_model


def make_parts(folder: Path) -> Path:
    """A tiny model, pairs and a suite in a folder."""
    tiny_model(folder / "sd3")
    painted_pairs(folder / "hap")
    lines = [f'{{"id": "p{number}", "text": "an open hand, number {number}"}}\n' for number in range(12)]
    (folder / "suite.jsonl").write_text("".join(lines))
    return folder


def fit_config(made: Path, out: Path, engine: str | dict[str, Any], **score: Any) -> FitConfig:
    """Four steps, a checkpoint each, of which one is kept; every second one is scored."""
    asked = {"suite": str(made / "suite.jsonl"), "seeds": 1, "every": 2, "device": "cpu", "scorers": ["digits"]}
    model = {"arguments": {"num_inference_steps": 2, "height": 64, "width": 64}}
    every = {"checkpointing_steps": 1, "checkpoints_total_limit": 1, "max_train_steps": 4}
    return settings(
        made / "sd3", made / "hap", out, **every, score={**asked, "model": model, "engine": engine, **score}
    )


class Seen:
    """A Progress that notes which checkpoints are scored when a step is done, and may be interrupted at one."""

    def __init__(self, fit: Path, stop: int = 0) -> None:
        self.fit, self.stop, self.scored, self.tasks = fit, stop, dict[int, set[int]](), list[str]()

    def start(self, task: str, total: int, done: int = 0) -> None:
        self.tasks.append(task)

    def update(self, task: str, done: int, note: str = "") -> None:
        if task == "steps":
            self.scored[done] = set(scored_runs(self.fit))
            if done == self.stop:
                raise KeyboardInterrupt
