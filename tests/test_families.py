"""Whole fits of the newer families, tiny: validation images, a checkpoint, and the same images from hafbench."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from asap_train.autoscore import publish
from asap_train.training.trainer import train
from asap_train.training.validation import drawn_steps
from fits import painted_pairs, settings
from hafbench.generators.diffusion import load as load_generator
from hafbench.specs import GeneratorSpec
from hafbench.suites import Prompt
from tiny_pipelines import BUILDERS

ARGUMENTS: dict[str, dict[str, Any]] = {
    "flux2": {"guidance_scale": 2.0},
    "flux2-klein": {"guidance_scale": 2.0},
    "qwen-image": {"true_cfg_scale": 2.0, "negative_prompt": "six fingers"},
    "z-image": {"guidance_scale": 2.0, "negative_prompt": "six fingers"},
}
"""Of a call: all but FLUX.2 dev, which has it as an input, sample with guidance."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_fit_draws_with_the_network_that_it_tunes_and_hafbench_draws_the_same(tmp_path: Path, name: str) -> None:
    model = BUILDERS[name](tmp_path / "model")
    pairs = painted_pairs(tmp_path / "hap", 4)
    given = {"num_inference_steps": 2, **ARGUMENTS[name]}
    config = settings(
        model,
        pairs,
        tmp_path / "fit",
        max_train_steps=2,
        learning_rate=0.05,
        mixed_precision="no",
        max_sequence_length=48,
        validation={"prompts": ["a hand"], "every": 2},
        score={"every": 2, "model": {"arguments": given}},
        caption_dropout=0.5,
        gradient_checkpointing=True,
        lora={"rank": 4, "layers": ["attention", "feed_forward"]},
    )
    fit = train(config)
    publish(fit, 2)
    assert (fit / "kohya_lora_weights.safetensors").is_file()
    images = [np.asarray(Image.open(folder / "00.png")).astype(int) for folder in drawn_steps(fit)]
    assert len(images) == 2
    assert not np.array_equal(images[0], images[1])
    sides = {"height": 16, "width": 16, "max_sequence_length": 48}
    spec = GeneratorSpec(model=str(model), arguments={**given, **sides})
    for lora, drawn in ((None, images[0]), (fit / "pytorch_lora_weights.safetensors", images[1])):
        own = spec.model_copy(update={"lora": (str(lora),)}) if lora else spec
        (made,) = load_generator(own, "cpu").generate([Prompt(id="p", text="a hand")], [0])
        assert np.abs(np.asarray(made).astype(int) - drawn).max() <= 1
