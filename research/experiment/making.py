"""The fits and runs that are not there yet, several at once; and what the tuning chose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from plan import ANATOMY, BASE, GRID, TUNING_SEED, Plan

from asap_train.autoscore import run, tuned
from asap_train.choose import Split, choose
from asap_train.data.workers import begin_worker
from asap_train.training.config import FitConfig
from hafbench.errors import HafError
from hafbench.files import write_whole
from hafbench.runs import Run, read_run
from hafbench.specs import RunSpec

Job = tuple[str, FitConfig | None, RunSpec, Path]
"""A name, the fit (None: the base itself), how it is scored, and the run's folder."""


def do(job: Job) -> str:
    """Fit and run; either is resumed where it was stopped."""
    from asap_train.training.trainer import train

    name, config, spec, out = job
    if config:
        spec = tuned(spec, train(config) / "checkpoints" / f"{config.max_train_steps:06d}")
    run(spec, out)
    return name


def do_all(jobs: Sequence[Job], workers: int) -> None:
    """All jobs of which the run is not finished."""
    waiting = [job for job in jobs if not (job[3] / "records.parquet").exists()]
    if workers == 1:
        for job in waiting:
            print(f"{do(job)}: done", flush=True)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), begin_worker) as pool:
        for ended in as_completed([pool.submit(do, job) for job in waiting]):
            print(f"{ended.result()}: done", flush=True)


def tune(plan: Plan, methods: Iterable[str], workers: int) -> None:
    """Try the settings of GRID, and write OUT/tuning.json: the chosen ones, and the figures of all."""
    runs, spec = plan.out / "tuning" / "runs", plan.tuning_spec()
    tried = {f"{method}-{place}": settings for method in methods for place, settings in enumerate(GRID[method])}
    configs = {name: plan.config("tuning", name, TUNING_SEED, settings) for name, settings in tried.items()}
    jobs: list[Job] = [(BASE, None, spec, runs / BASE)]
    jobs += [(name, config, spec, runs / name) for name, config in configs.items()]
    do_all(jobs, workers)
    base, made = read_run(runs / BASE), {name: read_run(runs / name) for name in tried}
    rows = [
        {"name": name, "settings": list(settings), **figures(judged(base), judged(made[name]), plan, name)}
        for name, settings in tried.items()
    ]
    chosen = {method: tried[f"{method}-{best(base, made, method)}"] for method in methods}
    write_whole(plan.out / "tuning.json", json.dumps({"chosen": chosen, "tried": rows}, indent=1) + "\n")


def best(base: Run, made: Mapping[str, Run], method: str) -> int:
    """The place in GRID of the best setting, by the rule by which a fit's best checkpoint is chosen."""
    return choose(base, {place: made[f"{method}-{place}"] for place in range(len(GRID[method]))}, Split()).step


def judged(run: Run) -> pd.DataFrame:
    """By image whether any anatomy scorer saw an error, and the highest chance that one gave it."""
    records = run.records
    kept = records[records["scorer"].isin(ANATOMY) & (records["status"] == "scored")]
    return kept.groupby("image").agg(error=("is_error", "max"), chance=("value", "max")).astype(float)


def figures(base: pd.DataFrame, own: pd.DataFrame, plan: Plan, name: str) -> dict[str, float]:
    """What a setting that was tried did: against the base on the selection prompts, and in its own log."""
    both = own.index.intersection(base.index)
    last = plan.last_steps("tuning", name).mean()
    return {
        "images": len(both),
        "aer": float(own["error"][both].mean()),
        "aer_base": float(base["error"][both].mean()),
        "chance": float(own["chance"][both].mean() - base["chance"][both].mean()),
        **{
            key: float(last[key])
            for key in ("delta", "winner", "ref_winner", "loser", "ref_loser")
            if last.notna()[key]
        },
    }


def make(plan: Plan, methods: Iterable[str], workers: int, given: Path | None = None) -> None:
    """The fits that are reported, with what the tuning chose or a file gives, and the runs of the base and of them."""
    path = given or plan.out / "tuning.json"
    if not path.exists():
        raise HafError(f"There is no {path}: give `tune` first, or settings with --chosen.")
    chosen = json.loads(path.read_text())["chosen"]
    runs = plan.out / "runs"
    jobs: list[Job] = [(BASE, None, plan.spec(None), runs / BASE)]
    for seed in range(plan.seeds):
        for method in methods:
            name = f"{method}-{seed}"
            jobs.append((name, plan.config("", name, seed, chosen[method]), plan.spec(seed), runs / name))
    do_all(jobs, workers)
