"""Tiny random-weight pipelines of the real classes, through the same code as the real models."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hafbench.errors import HafError
from hafbench.generators import PRESETS, load_generator
from hafbench.generators.arguments import resolve_arguments
from hafbench.generators.diffusion import OFFLOADS, NotFinite, noise_seed, place
from hafbench.specs import GeneratorSpec
from hafbench.suites import Prompt
from tiny_pipelines import BUILDERS

SMALL = {"num_inference_steps": 2, "height": 32, "width": 32}
PROMPTS = [
    Prompt(id="a", text="a hand"),
    Prompt(id="b", text="two bare feet on wet sand, seen from above, soft light"),
    Prompt(id="c", text="x"),
    Prompt(id="d", text="an old man waves with both arms"),
]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: build(folder / name) for name, build in BUILDERS.items()}


def pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).astype(int)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_family_draws_the_same_image_for_the_same_prompt_and_seed(models: dict[str, Path], name: str) -> None:
    generator = load_generator(GeneratorSpec(model=str(models[name]), arguments=SMALL))
    seeds = [0, 1, 2, 0]
    alone = pixels([generator.generate([p], [s])[0] for p, s in zip(PROMPTS, seeds, strict=True)])
    assert alone.shape == (4, 32, 32, 3)
    assert alone[0].std() > 5

    again = load_generator(GeneratorSpec(model=str(models[name]), arguments=SMALL))
    assert np.array_equal(pixels([again.generate([p], [s])[0] for p, s in zip(PROMPTS, seeds, strict=True)]), alone)

    # Sums in another order round differently: in a batch a rare pixel may be one level off, never more.
    together = pixels(generator.generate(PROMPTS, seeds))
    assert np.abs(together - alone).max() <= 1
    assert (together != alone).mean() < 0.01
    backwards = pixels(generator.generate(PROMPTS[::-1], seeds[::-1])[::-1])
    assert np.abs(backwards - alone).max() <= 1


@pytest.mark.parametrize("name", BUILDERS)
def test_another_seed_or_prompt_is_another_image(models: dict[str, Path], name: str) -> None:
    generator = load_generator(GeneratorSpec(model=str(models[name]), arguments=SMALL))
    first, other_seed, other_prompt = pixels(
        [generator.generate([p], [s])[0] for p, s in ((PROMPTS[0], 0), (PROMPTS[0], 1), (PROMPTS[1], 0))]
    )
    assert np.abs(first - other_seed).mean() > 1
    assert not np.array_equal(first, other_prompt)


def test_the_noise_is_that_of_the_diffusers_pipeline_called_by_hand(models: dict[str, Path]) -> None:
    ours = load_generator(GeneratorSpec(model=str(models["flux"]), arguments=SMALL)).generate([PROMPTS[0]], [7])[0]
    pipeline = diffusers.DiffusionPipeline.from_pretrained(models["flux"])
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPTS[0].text,
        num_inference_steps=2,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(noise_seed(PROMPTS[0].text, 7)),
    ).images[0]
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_prompts_of_one_seed_begin_with_independent_noise() -> None:
    seeds = [noise_seed(text, seed) for text in ("a hand", "a foot", "1\na hand", "") for seed in (0, 1, -1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    noise = torch.stack([torch.randn(4096, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    assert (torch.corrcoef(noise) - torch.eye(len(seeds))).abs().max() < 0.1


def test_settings_say_what_was_loaded_and_are_json(models: dict[str, Path]) -> None:
    settings = load_generator(GeneratorSpec(model=str(models["sdxl"]), arguments=SMALL)).settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["pipeline"] == "StableDiffusionXLPipeline"
    assert settings["scheduler"]["class"] == "DDIMScheduler"
    assert settings["arguments"] == {"num_inference_steps": 2, "height": 32, "width": 32}
    assert settings["defaults"]["guidance_scale"] == 5.0
    assert "height" not in settings["defaults"]
    assert any(name.endswith("unet/diffusion_pytorch_model.safetensors") for name in settings["weights"])
    assert (settings["dtype"], settings["device"]) == ("fp32", "cpu")


def test_steps_set_on_the_command_line_reach_the_pipeline(models: dict[str, Path]) -> None:
    one, two = (
        load_generator(GeneratorSpec(model=str(models["sd15"]), arguments={**SMALL, "num_inference_steps": n}))
        for n in (1, 2)
    )
    assert not np.array_equal(pixels(one.generate(PROMPTS[:1], [0])), pixels(two.generate(PROMPTS[:1], [0])))


def test_a_negative_prompt_goes_with_every_prompt_of_a_batch(models: dict[str, Path]) -> None:
    arguments = {**SMALL, "negative_prompt": "six fingers"}
    generator = load_generator(GeneratorSpec(model=str(models["sdxl"]), arguments=arguments))
    together = pixels(generator.generate(PROMPTS, [0, 1, 2, 3]))
    alone = pixels([generator.generate([p], [s])[0] for s, p in enumerate(PROMPTS)])
    assert np.abs(together - alone).max() <= 1


def with_safety_checker(model: Path, folder: Path) -> Path:
    """A pipeline whose safety checker blackens every image."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    text = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision = {**text, "image_size": 32, "patch_size": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    torch.nn.init.constant_(checker.concept_embeds_weights, -2.0)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        model,
        safety_checker=checker,
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    )
    pipeline.save_pretrained(folder)
    return folder


def test_a_safety_checker_does_not_blacken_images(models: dict[str, Path], tmp_path: Path) -> None:
    folder = with_safety_checker(models["sd15"], tmp_path / "checked")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    assert np.asarray(pipeline("a hand", num_inference_steps=2, height=32, width=32).images[0]).max() == 0

    checked, plain = (
        load_generator(GeneratorSpec(model=str(model), arguments=SMALL)).generate(PROMPTS[:1], [0])[0]
        for model in (folder, models["sd15"])
    )
    assert np.array_equal(np.asarray(checked), np.asarray(plain))


def test_an_invisible_watermark_is_not_drawn(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl as module

    class Watermarker:  # stands in for the one of an optional package
        def apply_watermark(self, images: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(images)

    def draw() -> np.ndarray:
        return pixels(
            load_generator(GeneratorSpec(model=str(models["sdxl"]), arguments=SMALL)).generate(PROMPTS, [0] * 4)
        )

    plain = draw()
    monkeypatch.setattr(module, "is_invisible_watermark_available", lambda: True)
    monkeypatch.setattr(module, "StableDiffusionXLWatermarker", Watermarker, raising=False)
    assert isinstance(diffusers.DiffusionPipeline.from_pretrained(models["sdxl"]).watermark, Watermarker)
    assert np.array_equal(draw(), plain)


def test_a_model_that_does_not_fit_the_device_is_one_sentence() -> None:
    class Large:
        def to(self, device: str) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(HafError, match="Large does not fit into the memory of cuda; try --offload model"):
        place(Large(), "cuda", "none")


def test_noise_that_a_scheduler_draws_at_each_step_is_the_same_in_every_batch(
    models: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(models["sd15"], tmp_path / "ancestral"))
    diffusers.EulerAncestralDiscreteScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "EulerAncestralDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    generator = load_generator(GeneratorSpec(model=str(folder), arguments={**SMALL, "num_inference_steps": 4}))
    alone = pixels([generator.generate([p], [s])[0] for s, p in enumerate(PROMPTS)])
    torch.manual_seed(99)
    assert np.array_equal(pixels([generator.generate([p], [s])[0] for s, p in enumerate(PROMPTS)]), alone)
    assert np.abs(pixels(generator.generate(PROMPTS, [0, 1, 2, 3])) - alone).max() <= 1


def test_half_precision_draws_nearly_the_same_image(models: dict[str, Path]) -> None:
    full, half = (
        pixels(
            load_generator(GeneratorSpec(model=str(models["sd3"]), arguments=SMALL, dtype=dtype)).generate(
                PROMPTS, [0] * 4
            )
        )
        for dtype in ("fp32", "bf16")
    )
    assert 0 < np.abs(full - half).mean() < 3


def test_a_pipeline_that_needs_more_than_prompts_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    base = diffusers.DiffusionPipeline.from_pretrained(models["sd15"])
    diffusers.DDIMPipeline(unet=base.unet, scheduler=base.scheduler).save_pretrained(tmp_path / "unconditional")
    with pytest.raises(HafError, match="DDIMPipeline does not make images from prompts alone: it takes no prompt"):
        load_generator(GeneratorSpec(model=str(tmp_path / "unconditional")))


def test_prompts_are_not_rewritten_unless_asked_for() -> None:
    class Rewriting:
        def __call__(
            self, prompt: str, generator: Any = None, output_type: str = "pil", enable_prompt_rewrite: bool = True
        ) -> None: ...

    assert resolve_arguments(Rewriting(), {}, {}) == {"enable_prompt_rewrite": False}
    assert resolve_arguments(Rewriting(), {}, {"enable_prompt_rewrite": True}) == {"enable_prompt_rewrite": True}
    installed = inspect.signature(diffusers.LongCatImagePipeline.__call__).parameters
    assert installed["enable_prompt_rewrite"].default is True


def with_nan(models: dict[str, Path], tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(models["sd15"], tmp_path / "nan"))
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["conv_out.bias"][0] = float("nan")
    save_file(state, path, metadata={"format": "pt"})
    return folder


def test_nan_pixels_are_named_and_not_drawn_as_black(models: dict[str, Path], tmp_path: Path) -> None:
    generator = load_generator(GeneratorSpec(model=str(with_nan(models, tmp_path)), arguments=SMALL))
    with pytest.raises(NotFinite, match="NaN pixels for prompt a, seed 5"):
        generator.generate(PROMPTS[:1], [5])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arguments": {"num_inference_step": 3}}, "did you mean num_inference_steps"),
        ({"arguments": {"prompt": "x"}}, "hafbench sets this itself"),
        ({"arguments": {"num_inference_steps": "many"}}, "this is a whole number"),
        ({"arguments": {"num_inference_steps": 2.5}}, "this is a whole number"),
        ({"arguments": {"num_inference_steps": 0}}, "at least 1"),
        ({"arguments": {"height": -8}}, "at least 1"),
        ({"arguments": {"guidance_scale": "high"}}, "this is a number"),
        ({"arguments": {"guidance_scale": float("nan")}}, "this is a number"),
        ({"arguments": {"negative_prompt": False}}, "negative_prompt=False: this is a text; give it quotes"),
        ({"device": "gpu"}, "write auto, cpu, cuda"),
        ({"device": "cpu", "offload": "model"}, "no GPU in use"),
        ({"lora": ("x.bin",)}, r"name a \.safetensors file"),
        ({"lora": ("org/name",)}, r"name a \.safetensors file"),
        ({"lora": ("org/name/style.safetensors:0.5",)}, "cannot be fetched from the hub"),
        ({"lora": ("missing.safetensors:0.5",)}, r"no file missing\.safetensors"),
    ],
)
def test_bad_settings_are_one_sentence(models: dict[str, Path], options: dict[str, Any], words: str) -> None:
    device = options.pop("device", "auto")
    with pytest.raises(HafError, match=words):
        load_generator(GeneratorSpec(model=str(models["sd15"]), **options), device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_one_sentence(models: dict[str, Path]) -> None:
    with pytest.raises(HafError, match="no such device here"):
        load_generator(GeneratorSpec(model=str(models["sd15"])), "cuda")


def test_every_preset_names_a_pipeline_of_the_installed_diffusers_and_its_arguments() -> None:
    for preset in PRESETS.values():
        known = inspect.signature(getattr(diffusers, preset.pipeline).__call__).parameters
        assert set(preset.call()) <= set(known), preset.name
        assert preset.dtype in {"fp16", "bf16", "fp32"}
        assert (preset.hub_id or "").count("/") == (0 if preset.built_in else 1)
        assert all(method in dir(getattr(diffusers, preset.pipeline)) for method in OFFLOADS.values())
