"""Tiny random-weight pipelines of the real classes, through the same code as the real models."""

from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from hafbench.errors import HafError, Unavailable
from hafbench.generators import PRESETS, DiffusionRequest, load_generator
from hafbench.generators.arguments import parse_argument
from hafbench.generators.diffusion import NotFinite
from hafbench.generators.lora import parse_lora
from hafbench.generators.sources import find_source
from hafbench.suites import Prompt
from tiny_pipelines import BUILDERS

SMALL = ("num_inference_steps=2", "height=32", "width=32")
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


def pixels(images: list) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).astype(int)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_family_draws_the_same_image_for_the_same_prompt_and_seed(models: dict[str, Path], name: str) -> None:
    generator = load_generator(DiffusionRequest(str(models[name]), arguments=SMALL))
    seeds = [0, 1, 2, 0]
    alone = pixels([generator.generate([p], [s])[0] for p, s in zip(PROMPTS, seeds, strict=True)])
    assert alone.shape == (4, 32, 32, 3)
    assert alone[0].std() > 5

    again = load_generator(DiffusionRequest(str(models[name]), arguments=SMALL))
    assert np.array_equal(pixels([again.generate([p], [s])[0] for p, s in zip(PROMPTS, seeds, strict=True)]), alone)

    # Sums in another order round differently: in a batch a rare pixel may be one level off, never more.
    together = pixels(generator.generate(PROMPTS, seeds))
    assert np.abs(together - alone).max() <= 1
    assert (together != alone).mean() < 0.01
    backwards = pixels(generator.generate(PROMPTS[::-1], seeds[::-1])[::-1])
    assert np.abs(backwards - alone).max() <= 1


@pytest.mark.parametrize("name", BUILDERS)
def test_another_seed_or_prompt_is_another_image(models: dict[str, Path], name: str) -> None:
    generator = load_generator(DiffusionRequest(str(models[name]), arguments=SMALL))
    first, other_seed, other_prompt = pixels(
        [generator.generate([p], [s])[0] for p, s in ((PROMPTS[0], 0), (PROMPTS[0], 1), (PROMPTS[1], 0))]
    )
    assert np.abs(first - other_seed).mean() > 1
    assert not np.array_equal(first, other_prompt)


def test_the_noise_is_that_of_the_diffusers_pipeline_called_by_hand(models: dict[str, Path]) -> None:
    ours = load_generator(DiffusionRequest(str(models["flux"]), arguments=SMALL)).generate([PROMPTS[0]], [7])[0]
    pipeline = diffusers.DiffusionPipeline.from_pretrained(models["flux"])
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPTS[0].text, num_inference_steps=2, height=32, width=32, generator=torch.Generator().manual_seed(7)
    ).images[0]
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_settings_say_what_was_loaded_and_are_json(models: dict[str, Path]) -> None:
    import json

    settings = load_generator(DiffusionRequest(str(models["sdxl"]), arguments=SMALL)).settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings["pipeline"] == "StableDiffusionXLPipeline"
    assert settings["scheduler"]["class"] == "DDIMScheduler"
    assert settings["arguments"] == {"num_inference_steps": 2, "height": 32, "width": 32}
    assert any(name.endswith("unet/diffusion_pytorch_model.safetensors") for name in settings["weights"])
    assert (settings["dtype"], settings["device"]) == ("fp32", "cpu")


def test_steps_set_on_the_command_line_reach_the_pipeline(models: dict[str, Path]) -> None:
    one, two = (
        load_generator(DiffusionRequest(str(models["sd15"]), arguments=(f"num_inference_steps={n}", *SMALL[1:])))
        for n in (1, 2)
    )
    assert not np.array_equal(pixels(one.generate(PROMPTS[:1], [0])), pixels(two.generate(PROMPTS[:1], [0])))


def test_a_negative_prompt_goes_with_every_prompt_of_a_batch(models: dict[str, Path]) -> None:
    words = (*SMALL, "negative_prompt=six fingers")
    generator = load_generator(DiffusionRequest(str(models["sdxl"]), arguments=words))
    together = pixels(generator.generate(PROMPTS, [0, 1, 2, 3]))
    alone = pixels([generator.generate([p], [s])[0] for s, p in enumerate(PROMPTS)])
    assert np.abs(together - alone).max() <= 1


def make_lora(model: Path, part: str, targets: list[str], path: Path) -> Path:
    """A LoRA of random, non-zero weights for one part of a pipeline, saved as diffusers does."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(model)
    network = getattr(pipeline, part)
    network.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False))
    with torch.no_grad():
        torch.manual_seed(0)
        for name, value in network.named_parameters():
            if "lora_" in name:
                value.normal_(std=0.5)
    state = get_peft_model_state_dict(network)
    type(pipeline).save_lora_weights(path.parent, **{f"{part}_lora_layers": state}, weight_name=path.name)
    return path


LORA_TARGETS = {"flux": ("transformer", ["to_q", "to_k"]), "sdxl": ("unet", ["to_q", "to_v"])}


@pytest.mark.parametrize("name", LORA_TARGETS)
def test_a_lora_changes_the_image_and_scale_zero_gives_the_base(
    models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    part, targets = LORA_TARGETS[name]
    path = make_lora(models[name], part, targets, tmp_path / "style.safetensors")

    def draw(*loras: str) -> np.ndarray:
        request = DiffusionRequest(str(models[name]), loras=loras, arguments=SMALL)
        return pixels(load_generator(request).generate(PROMPTS[:1], [0]))

    base, full, half, none = draw(), draw(str(path)), draw(f"{path}:0.5"), draw(f"{path}:0")
    assert not np.array_equal(base, full)
    assert not np.array_equal(half, full)
    assert np.array_equal(base, none)
    assert not np.array_equal(draw(f"{path}:0.5", f"{path}:0.25"), half)


def test_a_lora_is_named_in_the_settings_with_its_scale(models: dict[str, Path], tmp_path: Path) -> None:
    path = make_lora(models["flux"], "transformer", ["to_q"], tmp_path / "style.safetensors")
    generator = load_generator(DiffusionRequest(str(models["flux"]), loras=(f"{path}:0.8",), arguments=SMALL))
    assert generator.name == "flux+style"
    assert [(lora["file"], lora["scale"]) for lora in generator.settings["loras"]] == [("style.safetensors", 0.8)]


def test_a_lora_that_would_do_nothing_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    of_sdxl = make_lora(models["sdxl"], "unet", ["to_q"], tmp_path / "sdxl.safetensors")
    with pytest.raises(HafError, match=r"sdxl\.safetensors"):
        load_generator(DiffusionRequest(str(models["flux"]), loras=(str(of_sdxl),), arguments=SMALL))
    unknown = tmp_path / "unknown.safetensors"
    save_file({"some.other.key": torch.ones(2, 2)}, unknown)
    with pytest.raises(HafError, match=r"unknown\.safetensors"):
        load_generator(DiffusionRequest(str(models["flux"]), loras=(str(unknown),), arguments=SMALL))


def test_a_lora_of_which_a_part_finds_no_place_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    path = make_lora(models["flux"], "transformer", ["to_q"], tmp_path / "part.safetensors")
    state = load_file(path)
    moved = {key.replace("transformer_blocks.0", "transformer_blocks.9"): value.clone() for key, value in state.items()}
    save_file({**state, **moved}, path)
    with pytest.raises(HafError, match=r"part\.safetensors"):
        load_generator(DiffusionRequest(str(models["flux"]), loras=(str(path),), arguments=SMALL))


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.5", "a.safetensors", 0.5),
        ("x:y.safetensors", "x:y.safetensors", 1.0),
    ],
)
def test_lora_scales_are_read_from_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, path: str, scale: float
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(path).touch()
    lora = parse_lora(text)
    assert (str(lora.path), lora.scale) == (path, scale)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n=3", ("n", 3)),
        ("g=3.5", ("g", 3.5)),
        ("t=[1,2]", ("t", [1, 2])),
        ("p=two words", ("p", "two words")),
        ("b=true", ("b", True)),
    ],
)
def test_arguments_are_json_or_text(text: str, expected: tuple) -> None:
    assert parse_argument(text) == expected


def with_nan(models: dict[str, Path], tmp_path: Path) -> Path:
    import shutil

    folder = Path(shutil.copytree(models["sd15"], tmp_path / "nan"))
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["conv_out.bias"][0] = float("nan")
    save_file(state, path, metadata={"format": "pt"})
    return folder


def test_nan_pixels_are_named_and_not_drawn_as_black(models: dict[str, Path], tmp_path: Path) -> None:
    generator = load_generator(DiffusionRequest(str(with_nan(models, tmp_path)), arguments=SMALL))
    with pytest.raises(NotFinite, match="NaN pixels for prompt a, seed 5"):
        generator.generate(PROMPTS[:1], [5])


def request(folder: Path, **options: object) -> DiffusionRequest:
    return DiffusionRequest(str(folder), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arguments": ("num_inference_step=3",)}, "did you mean num_inference_steps"),
        ({"arguments": ("prompt=x",)}, "hafbench sets this itself"),
        ({"arguments": ("nonsense",)}, "write KEY=VALUE"),
        ({"device": "gpu"}, "write auto, cpu, cuda"),
        ({"dtype": "int4"}, "known: auto, fp32"),
        ({"offload": "modl"}, "did you mean model"),
        ({"device": "cpu", "offload": "model"}, "no GPU in use"),
        ({"loras": ("x.bin",)}, r"only \.safetensors"),
        ({"loras": ("missing.safetensors:0.5",)}, r"no file missing\.safetensors"),
    ],
)
def test_bad_settings_are_one_sentence(models: dict[str, Path], options: dict, words: str) -> None:
    with pytest.raises(HafError, match=words):
        load_generator(request(models["sd15"], **options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_one_sentence(models: dict[str, Path]) -> None:
    with pytest.raises(HafError, match="no such device here"):
        load_generator(request(models["sd15"], device="cuda"))


def as_bin(models: dict[str, Path], tmp_path: Path) -> str:
    import shutil

    folder = Path(shutil.copytree(models["sd15"], tmp_path / "pickles"))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    return str(folder)


def as_ckpt(models: dict[str, Path], tmp_path: Path) -> str:
    torch.save({}, tmp_path / "model.ckpt")
    return str(tmp_path / "model.ckpt")


def as_broken(models: dict[str, Path], tmp_path: Path) -> str:
    (tmp_path / "model.safetensors").write_bytes(b"not a model")
    return str(tmp_path / "model.safetensors")


def as_empty(models: dict[str, Path], tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (as_bin, "are a pickle"),
        (as_ckpt, r"only \.safetensors"),
        (as_broken, "cannot be loaded"),
        (as_empty, r"model_index\.json"),
    ],
)
def test_models_that_are_unsafe_or_broken_are_refused(
    models: dict[str, Path], tmp_path: Path, make: Callable[[dict[str, Path], Path], str], words: str
) -> None:
    with pytest.raises(HafError, match=words):
        load_generator(DiffusionRequest(make(models, tmp_path)))


@pytest.mark.parametrize("model", ["flux-dev", "nobody/nothing", "sd35-large"])
def test_a_model_out_of_reach_is_one_sentence_with_the_way_out(model: str) -> None:
    with pytest.raises(Unavailable, match=r"path of a local copy") as caught:
        load_generator(DiffusionRequest(model))
    gated = PRESETS[model].gated if model in PRESETS else False
    assert ("hf auth login" in str(caught.value)) == gated


def test_an_unknown_name_gets_the_nearest_presets() -> None:
    with pytest.raises(HafError, match="did you mean sdxl"):
        find_source("sdxll")


def test_every_preset_names_a_pipeline_of_the_installed_diffusers_and_its_arguments() -> None:
    import inspect

    for preset in PRESETS.values():
        known = inspect.signature(getattr(diffusers, preset.pipeline).__call__).parameters
        assert set(preset.call()) <= set(known), preset.name
        assert preset.dtype in {"fp16", "bf16", "fp32"}
        assert preset.hub_id.count("/") == 1
