"""The fits and runs that are not there yet, several at once; and what the tuning chose."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from plan import ABLATIONS, ANATOMY, BASE, FRONT, LAST, METHODS, PARENTS, TUNING_SEED, Plan, Point, at

from asap_train.autoscore import run
from asap_train.choose import Split, choose
from asap_train.data.workers import begin_worker
from asap_train.training.config import FitConfig
from hafbench.errors import HafError
from hafbench.files import write_whole
from hafbench.processes import WorkerProcesses
from hafbench.runs import Run, is_finished, read_run
from hafbench.specs import RunSpec


@dataclass(frozen=True)
class Job:
    """A run in the folder `out`, scored by `spec`: of the base, or of a point of the fit `config`, at its `step`."""

    out: Path
    spec: RunSpec
    config: FitConfig | None = None
    step: int = 0
    scale: float = 1.0


def do(job: Job) -> str:
    """Fit and run; either is resumed where it was stopped."""
    from asap_train.training.trainer import train

    spec = job.spec
    if job.config:
        last = job.config.out / "checkpoints" / f"{job.config.max_train_steps:06d}"
        if not last.is_dir():
            train(job.config)
        spec = at(spec, last.with_name(f"{job.step:06d}"), job.scale)
    run(spec, job.out)
    return job.out.name


def tried(job: Job) -> str:
    """What became of a job, for the screen: a fit that diverges is no reason to leave out the others."""
    try:
        return f"{do(job)}: done"
    except HafError as error:
        return f"{job.out.name}: {error}"


def do_all(jobs: Iterable[Job], workers: int) -> None:
    """All jobs of which the run is not finished."""
    waiting = [job for job in jobs if not is_finished(job.out)]
    if workers == 1:
        for job in waiting:
            print(tried(job), flush=True)
        return
    pool = WorkerProcesses(workers, begin_worker)
    try:
        for ended in as_completed([pool.submit(tried, job) for job in waiting]):
            print(ended.result(), flush=True)
    except BaseException:
        pool.stop()  # fits and runs are resumed
        raise
    finally:
        pool.close()


def tuning_jobs(plan: Plan, methods: Sequence[str]) -> Iterator[Job]:
    """The base, then every method's first setting, and so on: what is there at any time is as much of each."""
    runs, spec = plan.out / "tuning" / "runs", plan.tuning_spec()
    yield Job(runs / BASE, spec)
    for place in range(max(len(METHODS[method].tried) for method in methods)):
        for method in methods:
            name = f"{method}-{place}"
            config = plan.config("tuning", method, TUNING_SEED, METHODS[method].tried[place], name)
            yield Job(runs / name, spec, config, plan.step(LAST))


def tune(plan: Plan, methods: Sequence[str], workers: int) -> None:
    """Try all settings of METHODS, and write OUT/tuning.json: the chosen ones, and the figures of all.

    What the file says of other methods stays.
    """
    runs = plan.out / "tuning" / "runs"
    do_all(tuning_jobs(plan, methods), workers)
    if not is_finished(runs / BASE):
        raise HafError(f"{runs / BASE} is not finished: see above why, and give `tune` again.")
    base = read_run(runs / BASE)
    path = plan.out / "tuning.json"
    before = json.loads(path.read_text()) if path.exists() else {"chosen": {}, "tried": []}
    chosen = {name: settings for name, settings in before["chosen"].items() if name not in methods}
    rows = [row for row in before["tried"] if row["name"].rpartition("-")[0] not in methods]
    for method in methods:
        grid = METHODS[method].tried
        folders = {place: runs / f"{method}-{place}" for place in range(len(grid))}
        made = {place: read_run(folder) for place, folder in folders.items() if is_finished(folder)}
        if not made:
            continue
        chosen[method] = grid[best(base, made)]
        rows += [
            {"name": f"{method}-{place}", "settings": list(grid[place])}
            | figures(judged(base), judged(own), plan, f"{method}-{place}")
            for place, own in made.items()
        ]
    write_whole(path, json.dumps({"chosen": chosen, "tried": rows}, indent=1) + "\n")


def best(base: Run, made: Mapping[int, Run]) -> int:
    """The best setting's place, by the rule for a fit's checkpoints: here all prompts are for selection."""
    return choose(base, made, Split(share=1.0)).step


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


def chosen_settings(plan: Plan, given: Path | None) -> Mapping[str, Sequence[str]]:
    """What the tuning chose for each method, or a file says; of ablations what their parents have."""
    path = given or plan.out / "tuning.json"
    if not path.exists():
        raise HafError(f"There is no {path}: give `tune` first, or settings with --chosen.")
    found: dict[str, Sequence[str]] = json.loads(path.read_text())["chosen"]
    return found | {name: found[parent] for name, parent in PARENTS.items() if parent in found}


def run_folder(plan: Plan, method: str, seed: int, point: Point) -> Path:
    """The run of a point of a fit: OUT/runs/METHOD-SEED of the last, OUT/front/METHOD-SEED-POINT of others."""
    if point == LAST:
        return plan.out / "runs" / f"{method}-{seed}"
    return plan.out / "front" / f"{method}-{seed}-{point.name}"


def reported_jobs(plan: Plan, methods: Iterable[str], chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
    """The base, and the last checkpoints of the fits, seed by seed."""
    yield Job(plan.out / "runs" / BASE, plan.spec(None))
    for seed in range(plan.sizes.seeds):
        for method in methods:
            yield _of_fit(plan, method, seed, chosen, LAST, plan.spec(seed))


def front_jobs(plan: Plan, methods: Iterable[str], chosen: Mapping[str, Sequence[str]]) -> Iterator[Job]:
    """The other points of the methods' fronts; ablations have none."""
    for seed in range(plan.sizes.seeds):
        for method in (name for name in methods if name not in ABLATIONS):
            for point in FRONT:
                yield _of_fit(plan, method, seed, chosen, point, plan.front_spec(seed))


def _of_fit(
    plan: Plan, method: str, seed: int, chosen: Mapping[str, Sequence[str]], point: Point, spec: RunSpec
) -> Job:
    if method not in chosen:
        raise HafError(f"No settings were chosen for {method}: give `tune` with it first.")
    config = plan.config("", method, seed, chosen[method], f"{method}-{seed}")
    return Job(run_folder(plan, method, seed, point), spec, config, plan.step(point), point.scale)


def make(plan: Plan, methods: Sequence[str], workers: int, given: Path | None = None) -> None:
    """The fits that are reported, with what the tuning chose or a file gives, their runs, and those of their fronts."""
    chosen = chosen_settings(plan, given)
    do_all(reported_jobs(plan, methods, chosen), workers)
    do_all(front_jobs(plan, methods, chosen), workers)
