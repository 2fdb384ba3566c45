"""Draws the validation images of a fit after a step, with the network that is tuned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import send_to_device

from asap_train.training.optimizers import averaged
from asap_train.training.validation import FOLDER, Validation
from hafbench.files import disk_errors
from hafbench.generators.diffusion import noise_seed

if TYPE_CHECKING:
    from asap_train.training.setup import Training


def validate(training: Training, step: int) -> None:
    """Draw the images after a step, by the main process, if they are due; random numbers are left as before."""
    wanted, accelerator, config = training.validation, training.accelerator, training.config
    if wanted is None or not accelerator.is_main_process or not wanted.due(step, config.max_train_steps):
        return
    with torch.random.fork_rng(range(torch.cuda.device_count())), averaged(training.ema, training.values):
        images = _draw(training, wanted)
    folder = config.out / FOLDER / f"{step:06d}"
    with disk_errors(config.out):
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            _save(image, folder / f"{number:02d}.png")
    for tracker in accelerator.trackers:
        if hasattr(tracker, "log_images"):
            own = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            named = {prompt: image[None] for prompt, image in zip(wanted.prompts, images, strict=True)}
            tracker.log_images(named, step=step, **own)


def _draw(training: Training, wanted: Validation) -> list[np.ndarray[Any, Any]]:
    """One image (H, W, 3), 0 to 255, of each prompt."""
    pipeline, device = training.backbone.pipeline, training.accelerator.device
    network = training.backbone.network
    network.eval()
    pipeline.vae.to(device)
    images = []
    try:
        for prompt, embeddings in zip(wanted.prompts, wanted.embeddings, strict=True):
            dice = torch.Generator("cpu").manual_seed(noise_seed(prompt, wanted.settings.seed))
            own = send_to_device(embeddings, device)
            with torch.no_grad(), training.accelerator.autocast():
                made = pipeline(generator=dice, output_type="np", **own, **wanted.arguments).images[0]
            images.append(np.rint(255 * np.nan_to_num(np.clip(made, 0, 1))).astype(np.uint8))
    finally:
        pipeline.vae.to("cpu")
        network.train()
    return images


def _save(image: np.ndarray[Any, Any], path: Path) -> None:
    from PIL import Image

    Image.fromarray(image).save(path)
