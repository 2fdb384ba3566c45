"""LoRA files made by peft on tiny pipelines: they change the image, or they are refused."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from hafbench.errors import HafError
from hafbench.generators import load_generator
from hafbench.generators.lora import parse_lora
from hafbench.specs import GeneratorSpec
from hafbench.suites import Prompt
from tiny_pipelines import BUILDERS

SMALL = {"num_inference_steps": 2, "height": 32, "width": 32}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: BUILDERS[name](folder / name) for name in ("flux", "sdxl", "sd15")}


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
        request = GeneratorSpec(model=str(models[name]), lora=loras, arguments=SMALL)
        return np.asarray(load_generator(request).generate([Prompt(id="a", text="a hand")], [0])[0])

    base, full, half, none = draw(), draw(str(path)), draw(f"{path}:0.5"), draw(f"{path}:0")
    assert not np.array_equal(base, full)
    assert not np.array_equal(half, full)
    assert np.array_equal(base, none)
    assert not np.array_equal(draw(f"{path}:0.5", f"{path}:0.25"), half)


def test_a_lora_in_the_format_of_kohya_loads_too(models: dict[str, Path], tmp_path: Path) -> None:
    layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    generator = torch.Generator().manual_seed(0)
    save_file(
        {
            f"{layer}.lora_down.weight": torch.randn(4, 64, generator=generator),
            f"{layer}.lora_up.weight": torch.randn(64, 4, generator=generator),
            f"{layer}.alpha": torch.tensor(4.0),
        },
        tmp_path / "kohya.safetensors",
    )
    prompt = Prompt(id="a", text="a hand")
    base, styled = (
        load_generator(GeneratorSpec(model=str(models["sd15"]), lora=loras, arguments=SMALL)).generate([prompt], [0])[0]
        for loras in ((), (str(tmp_path / "kohya.safetensors"),))
    )
    assert not np.array_equal(np.asarray(base), np.asarray(styled))


def test_a_lora_is_named_in_the_settings_with_its_scale(models: dict[str, Path], tmp_path: Path) -> None:
    path = make_lora(models["flux"], "transformer", ["to_q"], tmp_path / "style.safetensors")
    generator = load_generator(GeneratorSpec(model=str(models["flux"]), lora=(f"{path}:0.8",), arguments=SMALL))
    assert generator.name == "flux+style@0.8"
    assert [(lora["file"], lora["scale"]) for lora in generator.settings["loras"]] == [("style.safetensors", 0.8)]


def test_a_lora_that_would_do_nothing_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    of_sdxl = make_lora(models["sdxl"], "unet", ["to_q"], tmp_path / "sdxl.safetensors")
    with pytest.raises(HafError, match=r"sdxl\.safetensors"):
        load_generator(GeneratorSpec(model=str(models["flux"]), lora=(str(of_sdxl),), arguments=SMALL))
    unknown = tmp_path / "unknown.safetensors"
    save_file({"some.other.key": torch.ones(2, 2)}, unknown)
    with pytest.raises(HafError, match=r"unknown\.safetensors"):
        load_generator(GeneratorSpec(model=str(models["flux"]), lora=(str(unknown),), arguments=SMALL))


def test_a_lora_of_which_a_part_finds_no_place_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    path = make_lora(models["flux"], "transformer", ["to_q"], tmp_path / "part.safetensors")
    state = load_file(path)
    moved = {key.replace("transformer_blocks.0", "transformer_blocks.9"): value.clone() for key, value in state.items()}
    save_file({**state, **moved}, path)
    with pytest.raises(HafError, match=r"part\.safetensors"):
        load_generator(GeneratorSpec(model=str(models["flux"]), lora=(str(path),), arguments=SMALL))


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.5", "a.safetensors", 0.5),
        ("a.safetensors:-1e-1", "a.safetensors", -0.1),
        ("x:y.safetensors", "x:y.safetensors", 1.0),
        (r"C:\styles\a.safetensors:2", r"C:\styles\a.safetensors", 2.0),
        ("12:5.safetensors:.5", "12:5.safetensors", 0.5),
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
    ("path", "name"),
    [
        ("styles/ink.safetensors", "ink"),
        ("asap/pytorch_lora_weights.safetensors", "asap"),
        ("asap/checkpoints/000300/pytorch_lora_weights.safetensors", "asap-000300"),
        ("models--me--hands/snapshots/0a1b/pytorch_lora_weights.safetensors", "hands"),
    ],
)
def test_a_run_is_called_after_the_fit_and_not_after_a_file_that_all_fits_have(
    tmp_path: Path, path: str, name: str
) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    assert parse_lora(str(tmp_path / path)).name == name


def test_a_lora_may_be_given_as_its_folder(tmp_path: Path) -> None:
    name = "pytorch_lora_weights.safetensors"
    for folder in ("fit/checkpoints/000100", "fit/checkpoints/000200"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).touch()
    first = tmp_path / "fit/checkpoints/000100"
    assert parse_lora(str(first)).path == first / name
    assert parse_lora(f"{first}:0.5").scale == 0.5
    with pytest.raises(HafError, match=r"2 files .*000100"):
        parse_lora(str(tmp_path / "fit"))
    (tmp_path / "fit/checkpoints/000200" / name).unlink()
    assert parse_lora(str(tmp_path / "fit")).path == first / name
    (tmp_path / "fit" / name).touch()
    (tmp_path / "fit/checkpoints/000200" / name).touch()
    assert parse_lora(str(tmp_path / "fit")).path == tmp_path / "fit" / name
    (tmp_path / "empty").mkdir()
    with pytest.raises(HafError, match="holds no pytorch_lora_weights"):
        parse_lora(str(tmp_path / "empty"))
