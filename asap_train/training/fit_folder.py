"""The folder of a fit: one process at a time writes it, and always with the same settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asap_train.training.config import FitConfig, write_config
from hafbench.errors import HafError
from hafbench.files import disk_errors, locked
from hafbench.runs import differences
from hafbench.settings import read_settings
from hafbench.stores import check_local

SETTINGS = "fit.yaml"
WRITTEN = (
    *("cache", "checkpoints", "log.jsonl", "plots", "pipeline", "trackers", "validation"),
    *("pytorch_lora_weights.safetensors", "kohya_lora_weights.safetensors"),
    *("README.md", "index.html", "scores.json", "published.json"),
)
"""What a fit replaces in its folder: when it starts, nothing may be called so."""


@contextmanager
def held(config: FitConfig) -> Iterator[None]:
    """Hold the folder's lock, and write nothing.

    Raises HafError for a fit with other settings, and for a folder without a fit whose files this one would replace.
    """
    check_local(config.out, "fit")
    with locked(config.out, "fit"):
        path = config.out / SETTINGS
        if path.exists():
            before = read_settings(FitConfig, path)
            if changes := differences(before.compared(), config.compared()):
                raise HafError(
                    f"{config.out} was started with other settings ({'; '.join(changes)}); choose another --out."
                )
        elif there := next((name for name in WRITTEN if os.path.lexists(config.out / name)), None):
            raise HafError(f"{config.out} holds other files ({there}), not a fit; choose another --out.")
        yield


@contextmanager
def opened(config: FitConfig) -> Iterator[None]:
    """Hold the folder's lock, with the settings in fit.yaml; raises as `held` does."""
    with held(config):
        with disk_errors(config.out):
            write_config(config, config.out / SETTINGS)
        yield


def fit_of(path: Path) -> Path | None:
    """The folder of the fit that a path is, or lies in as a checkpoint does; None if there is none."""
    where = path.resolve()
    return next((folder for folder in (where, *where.parents[:3]) if (folder / SETTINGS).is_file()), None)


def read_fit(folder: Path, overrides: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> FitConfig:
    """The settings of a fit, with those of its scores and what is given over them; see `read_settings`."""
    before = read_settings(FitConfig, folder / SETTINGS)
    # A fit that was not scored has no `score`; any part of it makes one of the defaults.
    begun = [] if before.score else [f"score.every={before.checkpointing_steps}"]
    return read_settings(FitConfig, folder / SETTINGS, [*begun, *overrides], {"out": folder, **(options or {})})
