"""The folder of a fit: one process at a time writes it, and always with the same settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asap_train.training.config import ELSEWHERE, FitConfig, as_dict, read_config, write_config
from hafbench.errors import HafError
from hafbench.files import disk_errors, locked
from hafbench.runs import differences


@contextmanager
def opened(config: FitConfig) -> Iterator[None]:
    """Hold the folder's lock, with the settings in fit.yaml; raises HafError if it is a fit with other ones."""
    with locked(config.out, "fit"):
        path = config.out / "fit.yaml"
        if path.exists():
            old, new = (
                {key: value for key, value in as_dict(one).items() if key not in ELSEWHERE}
                for one in (read_config(path), config)
            )
            if changes := differences(old, new):
                raise HafError(
                    f"{config.out} was started with other settings ({'; '.join(changes)}); choose another --out."
                )
        with disk_errors(config.out):
            write_config(config, path)
        yield
