"""SDXL, our step beside Diffusion-DPO's as published, and the memory of each beside what the planner computes."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch

from benchmarks.fit import CONTESTANTS, Setting, Timed, computed, plain_step, run_round
from benchmarks.gpu.results import Part, Row, Setup
from benchmarks.random_models import SIZES

COLUMNS = ("step", "pairs/s", "peak memory, GiB", "computed, GiB", "speed over plain", "memory over plain")


def run(setup: Setup) -> Sequence[Row]:
    """Two rounds of each, which alternate."""
    precision = "no" if setup.tiny else "bf16"
    setting = Setting(SIZES["small" if setup.tiny else "true"], 2 if setup.tiny else 4, precision, True, setup.folder)
    results = {one: Timed([]) for one in CONTESTANTS if one.kind == "sdxl" and (one.lora or not setup.tiny)}
    for one, timed in results.items():
        timed.computed = computed(one, setting)
    for _ in range(1 if setup.tiny else 2):
        run_round(results, setting, steps=1 if setup.tiny else 5)
    rows: list[Row] = []
    plain: Timed | None = None
    for one, timed in results.items():
        row: dict[str, str | float | None] = {"step": one.name, "computed, GiB": timed.computed / 2**30}
        if timed.failed:
            row["pairs/s"] = timed.failed
        else:
            row["pairs/s"] = setting.batch / median(second for steps in timed.rounds for second in steps)
            row["peak memory, GiB"] = timed.peak / 2**30 if torch.cuda.is_available() else None
            if plain and one.make is not plain_step:
                row["speed over plain"] = plain.seconds / timed.seconds
                row["memory over plain"] = timed.peak / plain.peak if plain.peak else None
        if one.make is plain_step:
            plain = None if timed.failed else timed
        rows.append(row)
    return rows


PART = Part("sdxl", "SDXL beside Diffusion-DPO's step", 6, COLUMNS, run)
