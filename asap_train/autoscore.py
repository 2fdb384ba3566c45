"""The checkpoints of a fit through hafbench, against the base model: runs, scores.json, the best one kept, the page.

    FIT/scores/base, FIT/scores/000100, ...   run folders of hafbench
    FIT/scores.json                           `Scores`
    FIT/index.html, README.md                 the page of the fit and the card of its model
    FIT/pytorch_lora_weights.safetensors      of the best checkpoint (FIT/pipeline after full fine-tuning)
    FIT/kohya_lora_weights.safetensors        the same for ComfyUI and kohya's tools
    FIT/published.json                        their step

The base's run lies in a folder beside the fits, FITS/.base, and is shared by all fits of one model and suite.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic_core import from_json

import hafbench
from asap_train.backbones.parts import free_memory
from asap_train.choose import Scores, Split, judge
from asap_train.drawn import Drawn
from asap_train.files import make_room
from asap_train.scoring_process import ScoringProcess
from asap_train.training import checkpoints
from asap_train.training.checkpoints import PIPELINE
from asap_train.training.lora import KOHYA, export_kohya
from asap_train.training.sampling import tuned_generator
from hafbench.errors import HafError, Locked
from hafbench.evaluate import spread
from hafbench.files import disk_errors, slug, wait_unlocked, write_whole
from hafbench.generators import PRESETS
from hafbench.generators.lora import FOLDER_FILE
from hafbench.progress import SILENT, Progress
from hafbench.runs import Run, differences, is_finished, read_run
from hafbench.suites import load_suite

if TYPE_CHECKING:
    from asap_train.training.config import FitConfig, ScoreSettings
    from asap_train.training.setup import Training
    from hafbench.manifest import Manifest
    from hafbench.specs import RunSpec
    from hafbench.suites import Suite
    from hafbench.types import Generator


PUBLISHED = "published.json"


class Autoscore:
    """What a fit calls with each checkpoint: scores it when its turn has come, and says whether to stop.

    With the engine `local` training waits for the scores. Other engines have machines of their own: training goes on,
    and scores are taken in when they have come, at the latest before the next checkpoint is handed over, or at the end.

    Every process of a fit has one; `scores` are the latest, in the first.
    """

    def __init__(self, config: FitConfig, settings: ScoreSettings, progress: Progress = SILENT) -> None:
        self.config, self.settings, self.progress = config, settings, progress
        self.spec = settings.run_spec()
        self.scores: Scores | None = None
        self._taken_in: set[int] = set()
        self._drawn: dict[int, Drawn] = {}  # by step: older checkpoints may have their turn before it
        self._away = ScoringProcess() if self.spec.engine.engine != "local" else None

    def prepare(self) -> None:
        """Score the base: what cannot be scored is said before hours of training.

        Raises HafError for a suite of which a part has too few prompts.
        """
        prompts = spread(load_suite(self.spec.suite or "").prompts, self.spec.limit)
        Split(self.settings.selection).check([prompt.id for prompt in prompts])
        run_base(self.spec, self.config.out, self.progress)

    def _due(self, last: int) -> list[int]:
        """The steps, up to `last`, of checkpoints whose turn has come: the last, and each `every` steps after another.

        Of a fit that was killed they may be several: one that was not scored, and a newer one.
        """
        scored = scored_runs(self.config.out).keys() | self._pending
        due = []
        for step in (int(path.name) for path in checkpoints.steps(self._checkpoints)):
            since = step - max((one for one in scored if one < step), default=0)
            is_next = step >= self.config.max_train_steps or since >= self.settings.every
            if step <= last and step not in scored and is_next:
                due.append(step)
                scored.add(step)
        return due

    def due(self, step: int) -> bool:
        """Whether the network in memory is to draw this checkpoint's images."""
        return self.config.drawn_in_memory and step in self._due(step)

    def in_use(self) -> list[Path]:
        """The checkpoint that is being scored while training goes on: it must not be deleted."""
        return [self._checkpoints / f"{step:06d}" for step in self._pending]

    def draw(self, training: Training, checkpoint: Path, step: int) -> None:
        """Draw this process's share of a checkpoint's images; a single process draws them when they are scored."""
        accelerator, folder = training.accelerator, self.folder(step)
        spec = tuned(self.spec, checkpoint)
        staged = folder.with_name(f".{folder.name}.drawn")
        drawn = Drawn(staged, tuned_generator(training, spec.model))
        self._drawn = {step: drawn}
        if accelerator.num_processes > 1:
            with undisturbed():
                drawn.draw(spec, folder / "images", (int(accelerator.process_index), int(accelerator.num_processes)))

    def __call__(self, checkpoint: Path, step: int) -> bool:
        """Score the checkpoint if its turn has come, or have it scored; True is to stop.

        One that was scored before the fit was interrupted is not scored again.
        """
        for due in self._due(step):
            weights = self._checkpoints / f"{due:06d}"
            if self._away is None:
                self.score(weights, due)
                continue
            self._away.wait(self.progress)
            if self._is_to_stop():
                return True
            self._away.start(due, tuned(self.spec, weights), self.folder(due))
        if self._away is not None and (self._away.done or step >= self.config.max_train_steps):
            self._away.wait(self.progress)
        return self._is_to_stop()

    def _is_to_stop(self) -> bool:
        """What the scores that are there say, which are taken in."""
        scored = scored_runs(self.config.out).keys() - self._pending
        if scored != self._taken_in:
            self.scores = settle(self.config, self.settings)
            self._taken_in = scored
        return self.scores is not None and 0 < self.settings.early_stop <= self.scores.stale

    @property
    def _pending(self) -> set[int]:
        """The step whose checkpoint is being scored while training goes on."""
        return {self._away.step} if self._away is not None and self._away.step is not None else set()

    @property
    def _checkpoints(self) -> Path:
        return self.config.out / "checkpoints"

    def folder(self, step: int) -> Path:
        """The run of a checkpoint."""
        return self.config.out / "scores" / f"{step:06d}"

    def score(self, checkpoint: Path, step: int) -> None:
        """Make the run of one checkpoint, with its images of `draw`, or else with a pipeline loaded from it."""
        drawn = self._drawn.pop(step, None)
        run(tuned(self.spec, checkpoint), self.folder(step), self.progress, drawn)
        if drawn:
            drawn.clear()

    def close(self) -> None:
        """End what is still being scored, as where training failed; it is resumed with the fit."""
        if self._away is not None:
            self._away.close()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave random numbers and memory as they were: training goes on as it would have without what is done within."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        yield
    free_memory()


def run(spec: RunSpec, out: Path, progress: Progress = SILENT, generator: Generator | None = None) -> Run:
    """The finished run in the folder `out`, resumed if it is there; random numbers and memory are left as before."""
    with undisturbed():
        return hafbench.run(spec, out=out, generator=generator, progress=progress)


def run_base(spec: RunSpec, fit: Path, progress: Progress = SILENT) -> Run:
    """The base's run, made by the first fit that asks for it; FIT/scores/base leads to it.

    One that another fit is making is waited for. Raises HafError, before anything is drawn, where FIT/scores/base is a
    run with other settings.
    """
    suite, link = load_suite(spec.suite or ""), fit / "scores" / "base"
    if is_finished(link):
        if changes := _changes(read_run(link).manifest, spec, suite):
            raise HafError(
                f"{fit} was scored with other settings ({'; '.join(changes)}): score it with the same, or move "
                f"{link.parent} away, and all of its checkpoints are scored anew."
            )
        shared = link.resolve()
    else:
        shared = _shared(spec, suite, fit)
    _when_free(spec, shared, progress)
    with disk_errors(fit):
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(shared.resolve(), link.parent.resolve()), target_is_directory=True)
    return read_run(link)


def _shared(spec: RunSpec, suite: Suite, fit: Path) -> Path:
    """The folder of the base's run, for all fits beside this one."""
    asked = json.dumps([spec.compared(), suite.sha256, hafbench.__version__], sort_keys=True)
    name = slug(f"{spec.model.model}_{spec.suite}")[:60]
    return fit.parent / ".base" / f"{name}_{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


def _when_free(spec: RunSpec, folder: Path, progress: Progress) -> None:
    """Make a run, or resume it, when no other process is making it."""
    told = False
    while True:
        try:
            run(spec, folder, progress)
        except Locked:
            if not told:
                logging.getLogger(__name__).warning("Another fit is scoring the base (%s): waiting for it.", folder)
            told = True
            wait_unlocked(folder)
        else:
            return


def _changes(before: Manifest, spec: RunSpec, suite: Suite) -> list[str]:
    """What a run was asked for that `spec` does not ask for; nothing of a run that no longer says it."""
    if before.request is None or before.suite is None:
        return []
    asked = {"suite": {"name": suite.name, "sha256": suite.sha256}, **spec.compared()}
    found = {"suite": before.suite.model_dump(include={"name", "sha256"}), **before.request.compared()}
    return differences(found, asked)


def tuned(spec: RunSpec, checkpoint: Path) -> RunSpec:
    """The spec with a checkpoint: the base with its LoRA, or a tuned pipeline sampled as its base is.

    `checkpoint` is a checkpoint's folder, a LoRA file, or a folder in diffusers' layout; HafError for anything else.
    """
    weights, model = weights_of(checkpoint), spec.model
    if weights.suffix == ".safetensors":
        sampled = model.model_copy(update={"lora": (str(weights),)})
    else:
        preset = model.model.partition("=")[0]
        sampled = model.model_copy(update={"model": f"{preset}={weights}" if preset in PRESETS else str(weights)})
    return spec.model_copy(update={"model": sampled})


def weights_of(checkpoint: Path) -> Path:
    """The LoRA file or the pipeline's folder that a checkpoint is; raises HafError if it is neither."""
    if checkpoint.is_file() and checkpoint.suffix == ".safetensors":
        return checkpoint
    for path in (checkpoint / FOLDER_FILE, checkpoint / PIPELINE):
        if path.exists():
            return path
    if (checkpoint / "model_index.json").is_file():
        return checkpoint
    raise HafError(f"{checkpoint} is not a checkpoint: it has neither a {FOLDER_FILE} nor a pipeline of diffusers.")


def scored_runs(fit: Path) -> dict[int, Path]:
    """The finished runs of checkpoints, by step."""
    return {int(path.name): path for path in checkpoints.steps(fit / "scores") if is_finished(path)}


def settle(config: FitConfig, settings: ScoreSettings) -> Scores:
    """From all runs that are there: scores.json, the best checkpoint's weights, the card and the page."""
    from asap_train.reporting.fit_page import build_page
    from asap_train.reporting.model_card import write_card

    fit = config.out
    base = read_run(fit / "scores" / "base")
    runs = {step: read_run(folder) for step, folder in scored_runs(fit).items()}
    if not runs:
        raise HafError(f"{fit}: no checkpoint has been scored yet.")
    scores, versus = judge(config.model, fit, base, runs, Split(settings.selection))
    with disk_errors(fit):
        publish(fit, scores.choice.step)
        write_whole(fit / "scores.json", json.dumps(asdict(scores), indent=1, allow_nan=False) + "\n")
        write_card(config, scores, base)
        build_page(config, scores, base, runs, versus)
    return scores


def settle_unscored(config: FitConfig) -> None:
    """Of a fit without scores: the newest checkpoint's weights, and page and card, which say that it is not scored.

    A fit whose last checkpoint was scored since, by `score_fit`, keeps the weights that were chosen, page and card.
    """
    from asap_train.reporting.fit_page import build_plain_page
    from asap_train.reporting.model_card import write_card

    if (config.out / "scores.json").exists() and config.max_train_steps in scored_runs(config.out):
        return
    with disk_errors(config.out):
        publish(config.out, config.max_train_steps)
        write_card(config, None)
        build_plain_page(config)


def publish(fit: Path, step: int) -> None:
    """Copy the weights of a checkpoint into the fit's own folder, whole or not at all.

    Old checkpoints are deleted as new ones come. One that is gone was the best when it was scored, and is there
    already (see `choose`), unless it is now chosen otherwise: HafError says so. Raises it, too, if FIT/pipeline holds
    other files than the model's.
    """
    checkpoint, told = fit / "checkpoints" / f"{step:06d}", fit / PUBLISHED
    if not checkpoint.is_dir():
        there = from_json(told.read_bytes())["step"] if told.exists() else step
        if there != step:
            raise HafError(
                f"{fit}: step {step} would be chosen now, whose checkpoint was deleted; the weights that are kept are "
                f"of step {there}. Choose as before, with the same `selection`."
            )
        return
    told.unlink(missing_ok=True)
    _copy_weights(fit, weights_of(checkpoint))
    write_whole(told, json.dumps({"step": step}) + "\n")


def _copy_weights(fit: Path, weights: Path) -> None:
    if weights.is_file():
        write_whole(fit / weights.name, lambda partial: shutil.copyfile(weights, partial))
        try:
            export_kohya(weights, fit / KOHYA)
        except HafError as error:
            logging.getLogger(__name__).warning("%s is not written: %s", KOHYA, error)
            (fit / KOHYA).unlink(missing_ok=True)
        return
    partial = fit / f".{PIPELINE}.partial"
    names = {path.relative_to(weights).as_posix() for path in weights.rglob("*")}
    make_room(partial, names.__contains__)
    shutil.copytree(weights, partial)
    make_room(fit / PIPELINE, names.__contains__)
    partial.rename(fit / PIPELINE)
