"""The loop of `asap-train fit`, from a config to a folder of checkpoints, on one process or many.

    fit.yaml                          the settings, resolved
    log.jsonl, plots/                 the numbers of each step (see fit_log.py)
    cache/, checkpoints/              see cache.py and checkpoints.py

A fit that was stopped, at any moment, is resumed by the same call and ends with the same weights (see noise.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from accelerate.utils import broadcast_object_list

from asap_train.training import checkpoints
from asap_train.training.adaptive import settings_at
from asap_train.training.config import FitConfig
from asap_train.training.fit_folder import opened
from asap_train.training.fit_log import FitLog, Row, as_row, note_of, step_metrics
from asap_train.training.fit_plots import draw_plots
from asap_train.training.gradient import add_gradient, microbatch
from asap_train.training.objectives import LossSettings
from asap_train.training.optimizers import averaged, set_rate
from asap_train.training.precision import noise_of_delta
from asap_train.training.setup import Training, make_accelerator, prepare
from asap_train.training.state import gather_state, restore_state, write_weights
from asap_train.training.validate import validate
from hafbench.errors import HafError
from hafbench.files import disk_errors
from hafbench.progress import SILENT, Progress

if TYPE_CHECKING:
    from accelerate import Accelerator


OnCheckpoint = Callable[[Path, int], bool]


class Scoring(Protocol):
    """What scores checkpoints, as far as training has a part in it."""

    def due(self, step: int) -> bool:
        """Whether the images of this step's checkpoint are to be drawn; the main process is asked."""
        ...

    def draw(self, training: Training, checkpoint: Path, step: int) -> None:
        """Draw this process's share, by the network that is tuned."""
        ...

    def in_use(self) -> Collection[Path]:
        """Checkpoints that must not be deleted yet; the main process asks."""
        ...


PLOTS_EVERY = 30.0
"""Seconds: checkpoints that come faster do not draw the plots again, which takes half a second."""


def train(
    config: FitConfig,
    *,
    on_checkpoint: OnCheckpoint | None = None,
    scoring: Scoring | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Tune a model as `config` says, in the folder config.out, and return it; an unfinished fit there is resumed.

    `on_checkpoint(checkpoint, step)` is called when a checkpoint is whole, and for the newest one when a fit is
    resumed; if it returns True the fit ends. Only the main process calls it, and reports the task `steps`. `scoring` is
    asked before it, in all processes, and before checkpoints are deleted. Of pairs in a store the copy on this machine
    is read, where there is one: `asap_train.fit` has brought it up to date.

    Raises HafError for a folder with a fit of other settings or that another process is writing, and for numbers that
    are not finite or explode; Unavailable for a model or a package that is unavailable.
    """
    accelerator = make_accelerator(config)
    progress = progress if accelerator.is_main_process else SILENT
    with opened(config) if accelerator.is_main_process else nullcontext():
        folder = config.out / "checkpoints"
        last = checkpoints.newest(folder, logging.getLogger(__name__).warning)
        training = prepare(config, accelerator, checkpoints.read_plain(last) if last else None)
        step = restore_state(training, checkpoints.load(last)) if last else 0
        log = FitLog(config.out / "log.jsonl", writes=accelerator.is_main_process)
        log.read(step)
        accelerator.wait_for_everyone()
        log.cut()
        ended = False
        drawn = time.monotonic()
        if last is not None:
            drawn = draw(training, log)
            ended = looked_at(training, on_checkpoint, scoring, last, step)
        progress.start("steps", config.max_train_steps, step)
        if step == 0:
            validate(training, 0)
        while step < config.max_train_steps and not ended:
            row = take_step(training, step, log, last)
            step += 1
            log.append(row)
            accelerator.log({name: value for name, value in row.items() if value is not None}, step=step)
            progress.update("steps", step, note_of(row))
            validate(training, step)
            if _is_checkpoint(config, step):
                last = save(training, step, log)
                if step == config.max_train_steps or time.monotonic() - drawn > PLOTS_EVERY:
                    drawn = draw(training, log)
                ended = looked_at(training, on_checkpoint, scoring, last, step)
                if accelerator.is_main_process:
                    in_use = scoring.in_use() if scoring else ()
                    checkpoints.prune(folder, config.checkpoints_total_limit, in_use)
        if step < config.max_train_steps:
            draw(training, log)
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return config.out


def take_step(training: Training, step: int, log: FitLog, last: Path | None) -> Row:
    """One step of the optimizer, the step-th from 0, and its line of the log; raises HafError where it fails."""
    began = time.perf_counter()
    config, accelerator = training.config, training.accelerator
    settings = settings_at(config.loss, log.rows)
    last_part = config.gradient_accumulation_steps - 1
    parts = [_backward(training, settings, step, part, part == last_part) for part in range(last_part + 1)]
    norm = accelerator.clip_grad_norm_(training.values, config.max_grad_norm)
    rate = config.learning_rate * training.factor(step)
    numbers = _mean(accelerator, parts) | {"norm": float(norm), "rate": rate}
    numbers |= {"clipped": float(norm > config.max_grad_norm), "tau": settings.tau, "beta": settings.beta}
    scaler = accelerator.scaler
    # fp16 begins with a scale that is too large, and finds the right one by steps that it leaves out.
    skipped = scaler is not None and scaler.get_scale() >= 1 and not torch.isfinite(norm)
    trouble = log.trouble(as_row(step + 1, numbers | ({"norm": 0.0} if skipped else {})), config.max_error_ratio)
    if trouble:
        batch = ", ".join(one[:12] for one in training.ids(step))
        raise HafError(
            f"{config.out}: {trouble} at step {step + 1}, pairs {batch}; the last good checkpoint is {last or 'none'}; "
            "try a smaller learning_rate in another --out."
        )
    set_rate(training.optimizer, rate)
    training.optimizer.step()
    training.optimizer.zero_grad()
    if training.ema:
        training.ema.step(training.values)
    speed = training.pairs_a_step / (time.perf_counter() - began)
    return as_row(step + 1, numbers | {"pairs_per_second": speed, "memory": _peak_memory()})


def _backward(training: Training, settings: LossSettings, step: int, part: int, last: bool) -> dict[str, torch.Tensor]:
    """Add the gradient of one of the batches that this process has in a step; its step metrics."""
    micro = microbatch(training, settings, step, part)
    loss, whole = add_gradient(micro, settings, last)
    metrics = step_metrics(loss, whole, micro.uniform)
    metrics["delta_noise"] = torch.full_like(loss.delta, torch.nan)
    if training.refer is not None and _is_checkpoint(training.config, step + 1):
        metrics["delta_noise"] = noise_of_delta(
            micro.residuals, loss.delta, training.config, settings, training.config.noise_draws
        )
    return metrics


def _is_checkpoint(config: FitConfig, step: int) -> bool:
    return step % config.checkpointing_steps == 0 or step == config.max_train_steps


def _mean(accelerator: Accelerator, parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Step metrics (b,) of this process's batches as means over the pairs of all processes, NaN left out."""
    table = torch.stack([torch.cat([part[name].double() for part in parts]) for name in parts[0]], 1)
    found = accelerator.gather(table)
    means = found.nanmean(0).tolist()
    # A loss that is NaN in one process is NaN: only metrics that some pairs do not have are averaged without them.
    numbers = dict(zip(parts[0], means, strict=True))
    loss = float(found[:, list(parts[0]).index("loss")].mean())
    return numbers | {"loss": loss, "delta_noise": numbers["delta_noise"] ** 0.5}


def _peak_memory() -> float:
    """In GiB: of the GPU that is in use, or else of this process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def save(training: Training, step: int, log: FitLog) -> Path:
    """Write a checkpoint by the main process; returns its folder."""
    config = training.config

    def write(folder: Path) -> None:
        with averaged(training.ema, training.values):
            write_weights(training.backbone, config, folder)

    if training.accelerator.is_main_process:
        log.sync()
        checkpoints.save(config.out / "checkpoints", gather_state(training, step), write)
    return config.out / "checkpoints" / f"{step:06d}"


def draw(training: Training, log: FitLog) -> float:
    """The plots, by the main process; returns when, as time.monotonic has it."""
    if training.accelerator.is_main_process:
        with disk_errors(training.config.out):
            draw_plots(log.rows, training.config, training.config.out / "plots")
    return time.monotonic()


def looked_at(
    training: Training, on_checkpoint: OnCheckpoint | None, scoring: Scoring | None, checkpoint: Path, step: int
) -> bool:
    """Whether the main process's `on_checkpoint` ends the fit, for all processes."""
    main = training.accelerator.is_main_process
    if scoring is not None and _told(main and scoring.due(step)):
        scoring.draw(training, checkpoint, step)
        training.accelerator.wait_for_everyone()
    return _told(on_checkpoint(checkpoint, step) if on_checkpoint and main else False)


def _told(said: bool) -> bool:
    """What the main process says."""
    heard = [said]
    broadcast_object_list(heard)
    return heard[0]
