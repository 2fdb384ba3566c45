"""What one asks of asap_train, as functions; the commands call them. Imported lazily by `asap_train` itself."""

from __future__ import annotations

import os
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hafbench
from asap_train.training.config import FitConfig, ScoreSettings
from hafbench.errors import HafError
from hafbench.files import slug
from hafbench.progress import SILENT, Progress
from hafbench.stores import reading_copy

if TYPE_CHECKING:
    from asap_train.choose import Scores
    from hafbench.comparison import Comparison


@dataclass(frozen=True)
class Fit:
    """A finished fit; `scores` is None where scoring was not asked for."""

    config: FitConfig
    scores: Scores | None

    @property
    def folder(self) -> Path:
        """Where weights, card, checkpoints and log are."""
        return self.config.out

    @property
    def page(self) -> Path:
        """How training went and, of a fit that was scored, what came of it."""
        return self.folder / "index.html"


def fit(config: FitConfig, *, progress: Progress = SILENT) -> Fit:
    """Tune a model on preference pairs, score its checkpoints against the base, write the page and the card.

    All of it is in the folder `config.out`; a fit that was stopped is resumed there. Of the processes of `accelerate
    launch` each draws a part of a scoring's images, and the first scores and writes. Raises HafError for what cannot be
    asked, Unavailable for a model or a package that is unavailable.
    """
    from asap_train.autoscore import Autoscore, settle_unscored
    from asap_train.hap.manifest import LAYOUT
    from asap_train.hap.read import read_hap
    from asap_train.training.fit_folder import held
    from asap_train.training.launch import check_launch
    from asap_train.training.setup import open_model
    from asap_train.training.trainer import train

    check_launch(config)
    # What training would refuse is better refused before the base is scored; training reads the copy made here.
    read_hap(reading_copy(config.pairs, LAYOUT))
    scoring = Autoscore(config, config.score, progress) if config.score else None
    with closing(scoring) if scoring else nullcontext():
        if scoring and is_main_process():
            with held(config):
                open_model(config)
                scoring.prepare()
        train(config, on_checkpoint=scoring, scoring=scoring, progress=progress)
    if config.score is None and is_main_process():
        settle_unscored(config)
    return Fit(config, scoring.scores if scoring else None)


def is_main_process() -> bool:
    """Whether this is the first of the processes of `accelerate launch`, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def score_fit(config: FitConfig, *, progress: Progress = SILENT) -> Fit:
    """Score the checkpoints of a fit that are not scored yet, and the base, and write page and card.

    A fit whose `score` is None is scored with the defaults.
    """
    from asap_train.autoscore import Autoscore, scored_runs, settle
    from asap_train.training import checkpoints

    there = checkpoints.steps(config.out / "checkpoints")
    if not there:
        raise HafError(f"{config.out} has no checkpoint.")
    if config.score is None:
        # By way of the fit's settings, which say how its model is sampled.
        given, every = config.model_dump(exclude_unset=True), config.checkpointing_steps
        config = FitConfig.model_validate({**given, "score": {"every": every}})
    settings = config.score or ScoreSettings()
    scoring = Autoscore(config, settings, progress)
    scoring.prepare()
    for folder in there:
        if int(folder.name) not in scored_runs(config.out):
            scoring.score(folder, int(folder.name))
    return Fit(config, settle(config, settings))


def export_lora(checkpoint: str | Path, out: str | Path | None = None) -> Path:
    """Write the LoRA of a fit, a checkpoint or a file in the format of kohya's sd-scripts and ComfyUI; returns `out`.

    The model is not needed. Raises HafError for what is not a LoRA of asap-train, and for layers without a name there.
    """
    from asap_train.autoscore import weights_of
    from asap_train.training.lora import KOHYA, export_kohya

    weights = weights_of(Path(checkpoint))
    if weights.suffix != ".safetensors":
        raise HafError(f"{checkpoint} is a whole model, not a LoRA: load its folder {weights.name} instead.")
    made = Path(out or weights.with_name(KOHYA))
    export_kohya(weights, made)
    return made


def score_checkpoint(
    checkpoint: str | Path, settings: ScoreSettings, *, out: str | Path | None = None, progress: Progress = SILENT
) -> Comparison:
    """Score one checkpoint, wherever it is from, and its base, and compare them; the page is `out`/index.html.

    `checkpoint` is a checkpoint's folder, a LoRA file, or a pipeline's folder; the base is `settings.model`. `out` is
    by default below runs/.
    """
    from asap_train.autoscore import run, run_base, tuned

    checkpoint, spec = Path(checkpoint), settings.run_spec()
    of_checkpoint = tuned(spec, checkpoint)
    folder = (
        Path(out) if out else Path("runs") / slug(f"score_{'_'.join(checkpoint.resolve().with_suffix('').parts[-3:])}")
    )
    base = run_base(spec, folder, progress)
    return hafbench.compare([base, run(of_checkpoint, folder / "scores" / "checkpoint", progress)], out=folder)
