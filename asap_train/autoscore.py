"""The checkpoints of a fit through hafbench, against the base model: runs, scores.json, the best one kept, the page.

    FIT/scores/base, FIT/scores/000100, ...   run folders of hafbench
    FIT/scores.json                           `Scores`
    FIT/index.html, README.md                 the page of the fit and the card of its model
    FIT/pytorch_lora_weights.safetensors      of the best checkpoint (FIT/pipeline after full fine-tuning)

The base's run lies in a folder beside the fits, FITS/.base, and is shared by all fits of one model and suite.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hafbench
from asap_train.choose import Scores, Split, choose, figures_of, held_out, points_of
from asap_train.training.checkpoints import PIPELINE
from asap_train.training.config import ScoreSettings
from hafbench.bench import Begin, BenchOptions, run_model
from hafbench.errors import HafError
from hafbench.evaluate import spread
from hafbench.files import disk_errors, slug, write_whole
from hafbench.generators import PRESETS, DiffusionRequest
from hafbench.generators.lora import FOLDER_FILE
from hafbench.runs import Run, read_run
from hafbench.scorers import ScorerOptions
from hafbench.suites import load_suite
from hafbench.worlds import world_of

if TYPE_CHECKING:
    from asap_train.training.config import FitConfig
    from hafbench.comparison import Versus


def no_progress(total: int, done: int) -> Any:
    """A `Begin` that shows nothing."""
    return lambda rows: None


@dataclass(frozen=True)
class Bench:
    """How one model and what became of it are scored: everything but which checkpoint. `device` as hafbench has it.

    `first_seed`: of the images of a prompt.
    """

    model: str
    settings: ScoreSettings
    device: str = "auto"
    first_seed: int = 0

    @property
    def suite(self) -> str:
        """The suite asked for, or the one that suits the model."""
        return self.settings.suite or world_of(self.model).suite

    @property
    def split(self) -> Split:
        """How the prompts are divided."""
        return Split(self.settings.selection)

    def check(self) -> None:
        """Raise HafError for a suite that is none, or of which a part has too few prompts: before hours of training."""
        prompts = spread(load_suite(self.suite).prompts, self.settings.limit)
        self.split.check([prompt.id for prompt in prompts])

    def run(self, checkpoint: Path | None, out: Path, begin: Begin = no_progress) -> Run:
        """The finished run of a checkpoint, or of the base for None, in the folder `out`; it goes on where it ended."""
        import torch

        request = replace(subject(self.model, checkpoint), device=self.device)
        # A scorer seeds torch: training must go on with the random numbers that it would have had without scores.
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            run = run_model(
                request,
                self.suite,
                self.settings.seeds,
                self.settings.limit,
                self._options(out),
                begin,
                self.first_seed,
            )
        gc.collect()  # a pipeline's parts refer to each other, and the training needs the memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return run

    def base(self, fit: Path, begin: Begin = no_progress) -> Run:
        """The base's run, made by the first fit that asks for it; FIT/scores/base leads to it."""
        shared = fit.parent / ".base" / f"{slug(f'{self.model}_{self.suite}')[:60]}_{self._key()}"
        self.run(None, shared, begin)
        link = fit / "scores" / "base"
        with disk_errors(fit):
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.unlink(missing_ok=True)
                link.symlink_to(os.path.relpath(shared.resolve(), link.parent.resolve()), target_is_directory=True)
        return read_run(link, findings=False)

    def _options(self, out: Path) -> BenchOptions:
        world = world_of(self.model)
        return BenchOptions(
            scorers=tuple(self.settings.scorers or world.scorers),
            scorer_options=ScorerOptions(self.device, clip=world.clip, pose=world.pose),
            out=out,
            batch_size=world.batch_size,
        )

    def _key(self) -> str:
        """Of all that is asked for; whether the files are still the same is checked when the run is opened."""
        asked = [
            *(self.model, load_suite(self.suite).sha256, self.settings.seeds, self.settings.limit),
            self.first_seed,
            *(asdict(replace(self._options(Path()), out=None)), hafbench.__version__),
        ]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]


def subject(model: str, checkpoint: Path | None) -> DiffusionRequest:
    """What hafbench is to run: the base, the base with a LoRA, or a tuned pipeline sampled as its base is.

    `checkpoint` is a checkpoint's folder, a LoRA file, or a folder in diffusers' layout; HafError for anything else.
    """
    if checkpoint is None:
        return DiffusionRequest(model)
    weights = weights_of(checkpoint)
    if weights.suffix == ".safetensors":
        return DiffusionRequest(model, loras=(str(weights),))
    preset = model.partition("=")[0]
    return DiffusionRequest(f"{preset}={weights}" if preset in PRESETS else str(weights))


def weights_of(checkpoint: Path) -> Path:
    """The LoRA file or the pipeline's folder that a checkpoint is; raises HafError if it is neither."""
    if checkpoint.is_file() and checkpoint.suffix == ".safetensors":
        return checkpoint
    for path in (checkpoint / FOLDER_FILE, checkpoint / PIPELINE):
        if path.exists():
            return path
    if (checkpoint / "model_index.json").is_file():
        return checkpoint
    raise HafError(f"{checkpoint} is no checkpoint: it has neither a {FOLDER_FILE} nor a pipeline of diffusers.")


class Autoscore:
    """What a fit calls with each checkpoint: scores it when its turn has come, and says whether to stop.

    `scores` are the latest.
    """

    def __init__(self, config: FitConfig, begin: Begin = no_progress, device: str = "auto") -> None:
        self.config, self.settings = config, config.score or ScoreSettings()
        self.bench = Bench(config.model, self.settings, device)
        self.scores: Scores | None = None
        self._begin = begin

    def prepare(self) -> None:
        """Score the base, so that what cannot be scored is told before the training."""
        self.bench.check()
        self.bench.base(self.config.out, self._begin)

    def __call__(self, checkpoint: Path, step: int) -> bool:
        """Score the checkpoint if it is the last, or `every` steps after the last scored one; True is to stop.

        One that was scored before the fit was interrupted is not scored again.
        """
        scored = scored_runs(self.config.out)
        if step not in scored:
            since = step - max((one for one in scored if one < step), default=0)
            if step < self.config.steps and since < self.settings.every:
                return False
            self.score(checkpoint, step)
        stale, patience = self.settle().stale, self.settings.early_stop
        return bool(patience) and stale >= patience

    def score(self, checkpoint: Path, step: int) -> Run:
        """The run of one checkpoint, in FIT/scores/STEP."""
        return self.bench.run(checkpoint, self.config.out / "scores" / f"{step:06d}", self._begin)

    def settle(self) -> Scores:
        """What follows from all runs that are there; see `settle`."""
        base = read_run(self.config.out / "scores" / "base", findings=False)
        self.scores = settle(self.config, base)
        return self.scores


def scored_runs(fit: Path) -> dict[int, Path]:
    """The finished runs of checkpoints, by step."""
    found = sorted(path.parent for path in (fit / "scores").glob("[0-9]*/records.parquet"))
    return {int(folder.name): folder for folder in found if folder.name.isdigit()}


def settle(config: FitConfig, base: Run) -> Scores:
    """From all runs that are there: scores.json, the best checkpoint's weights, the card and the page."""
    from asap_train.reporting.fit_page import build_page
    from asap_train.reporting.model_card import write_card

    fit = config.out
    runs = {step: read_run(folder, findings=False) for step, folder in scored_runs(fit).items()}
    if not runs:
        raise HafError(f"{fit}: no checkpoint has been scored yet.")
    split = Bench(config.model, config.score or ScoreSettings()).split
    scores, versus = judge(config.model, fit, base, runs, split)
    with disk_errors(fit):
        text = json.dumps(asdict(scores), indent=1, allow_nan=False)
        write_whole(fit / "scores.json", text + "\n")
        publish(fit, scores.choice.step)
        write_card(config, scores, base)
    build_page(config, scores, base, runs, versus)
    return scores


def judge(model: str, fit: Path, base: Run, runs: Mapping[int, Run], split: Split) -> tuple[Scores, Versus]:
    """Choose on the selection prompts and compare on the others."""
    choice = choose(base, runs, split)
    versus = held_out(base, runs[choice.step], split)
    request = base.manifest["request"]
    points = [point for step, run in {0: base, **runs}.items() for point in points_of(step, run, split)]
    scores = Scores(
        model=model,
        suite=request["suite"]["name"],
        seeds=request["seeds"],
        split=split,
        base=os.path.relpath(base.folder.resolve(), fit.resolve()),
        points=tuple(points),
        choice=choice,
        pairs=versus.shared.pairs,
        prompts=versus.shared.prompts,
        reported=tuple(figures_of(versus)),
    )
    return scores, versus


def settle_unscored(config: FitConfig) -> None:
    """Of a fit without scores: the newest checkpoint's weights and the card, which says that nothing was measured."""
    from asap_train.reporting.model_card import write_card
    from asap_train.training import checkpoints

    with disk_errors(config.out):
        publish(config.out, int(checkpoints.steps(config.out / "checkpoints")[-1].name))
        write_card(config, None)


def publish(fit: Path, step: int) -> None:
    """Copy the weights of a checkpoint into the fit's own folder, whole or not at all.

    Old checkpoints are deleted as new ones come. One that is gone was the best when it was scored, and is there
    already: see `choose`.
    """
    checkpoint = fit / "checkpoints" / f"{step:06d}"
    if not checkpoint.is_dir():
        return
    weights = weights_of(checkpoint)
    partial = fit / f".{weights.name}.partial"
    if weights.is_file():
        shutil.copyfile(weights, partial)
        partial.replace(fit / weights.name)
        return
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(weights, partial)
    shutil.rmtree(fit / PIPELINE, ignore_errors=True)
    partial.rename(fit / PIPELINE)
