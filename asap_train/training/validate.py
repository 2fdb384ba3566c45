"""Draws the validation images of a fit after a step, with the network that is tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from asap_train.training.sampling import plain_generator
from asap_train.training.validation import FOLDER, arguments_of, is_due, prompts_of, write_drawn
from hafbench.files import disk_errors
from hafbench.suites import Prompt

if TYPE_CHECKING:
    from asap_train.training.setup import Training


def validate(training: Training, step: int) -> None:
    """Draw the images after a step, by the main process, if they are due; random numbers are left as before."""
    accelerator, config = training.accelerator, training.config
    wanted = config.validation
    if wanted is None or not accelerator.is_main_process or not is_due(wanted, step, config.max_train_steps):
        return
    texts = prompts_of(config, wanted)
    generator = plain_generator(training, arguments_of(config, training.backbone.pipeline))
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        images = [generator.generate([Prompt(id="validation", text=text)], [wanted.seed])[0] for text in texts]
    folder = config.out / FOLDER / f"{step:06d}"
    with disk_errors(config.out):
        folder.mkdir(parents=True, exist_ok=True)
        write_drawn(folder, wanted.model_copy(update={"prompts": texts}))
        for number, image in enumerate(images):
            image.save(folder / f"{number:02d}.png")
    for tracker in accelerator.trackers:
        if hasattr(tracker, "log_images"):
            own = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            named = {text: np.asarray(image)[None] for text, image in zip(texts, images, strict=True)}
            tracker.log_images(named, step=step, **own)
