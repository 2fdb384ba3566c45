"""What `asap-train plan` computes, against what PyTorch really keeps and allocates at small sizes; settings by card."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from asap_train.cli import app
from asap_train.planning.architectures import ARCHITECTURES, Architecture
from asap_train.planning.card import suited
from asap_train.planning.memory import GIB, STEP, estimate
from asap_train.planning.passes import Case, build, inputs_of, peak_of, shortened, tune
from asap_train.planning.profiles import default_case, known
from asap_train.planning.settings import make_plan, settings_for
from asap_train.planning.speed import operations_of_step
from asap_train.training.config import FitConfig, LoraSettings, write_config
from asap_train.training.setup import size_of
from hafbench.errors import HafError

FLUX: Mapping[str, Any] = {
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "axes_dims_rope": (8, 12, 12),
    "in_channels": 16,
    "joint_attention_dim": 64,
    "pooled_projection_dim": 32,
    "guidance_embeds": True,
}
UNET: Mapping[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 64,
    "attention_head_dim": 8,
}


def flux(doubles: int = 3, singles: int = 4) -> Architecture:
    sizes = {"num_layers": doubles, "num_single_layers": singles}
    return replace(ARCHITECTURES["flux-dev"], config={**FLUX, **sizes}, channels=4, words=(24, 64), pooled=32)


def unet() -> Architecture:
    return replace(ARCHITECTURES["sd15"], config=UNET, words=(24, 64))


def case(side: int, precision: str = "no") -> Case:
    return Case(side, 24, precision, lora=LoraSettings())


def computed(architecture: Architecture, of: Case, images: int, checkpointing: bool = False) -> int:
    short = shortened(architecture)
    backbone = build(short, of)
    depths = {name: len(getattr(build(architecture, of).network, name)) for name in architecture.blocks}
    tune(backbone, of)
    return peak_of(backbone, short, of, images, depths, checkpointing)


def measured(architecture: Architecture, of: Case, images: int, checkpointing: bool = False) -> int:
    """The most bytes that a real pass allocates on the CPU beside what stays, by PyTorch's profiler."""
    import contextlib

    backbone = build(architecture, of)
    backbone.network.to_empty(device="cpu")
    tune(backbone, of)
    network: Any = backbone.network
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    if checkpointing:
        network.enable_gradient_checkpointing()
    noisy, timesteps, conditions = inputs_of(architecture, of, images)
    given = [torch.rand(one.shape) for one in (noisy, timesteps)]
    texts = {name: torch.rand(one.shape) for name, one in conditions.items()}
    auto = torch.autocast("cpu", torch.bfloat16) if of.precision == "bf16" else contextlib.nullcontext()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        with auto:
            made = backbone.predict(given[0], given[1], texts)
        made.float().square().mean().backward()
    now = most = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda one: one.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("architecture", "of", "images"),
    [
        (flux(), case(256), 2),
        (flux(3, 5), case(384), 1),
        (flux(), case(256, "bf16"), 2),
        (unet(), case(128), 2),
        (unet(), case(256), 2),
    ],
    ids=["flux", "larger flux", "flux, bf16", "unet", "larger unet"],
)
def test_activations_are_what_pytorch_allocates(
    architecture: Architecture, of: Case, images: int, checkpointing: bool
) -> None:
    torch.set_num_threads(1)
    real = measured(architecture, of, images, checkpointing)
    assert computed(architecture, of, images, checkpointing) == pytest.approx(real, rel=0.1)


def test_two_blocks_of_each_list_tell_the_memory_of_any_number() -> None:
    deep = flux(4, 6)
    whole = replace(deep, blocks={})
    for checkpointing in (False, True):
        exact = computed(whole, case(256), 1, checkpointing)
        assert computed(deep, case(256), 1, checkpointing) == pytest.approx(exact, rel=0.02)


def test_the_table_has_what_is_traced() -> None:
    assert set(known()) == set(ARCHITECTURES)
    architecture = ARCHITECTURES["flux2-klein"]
    of, row = default_case("flux2-klein", architecture), known()["flux2-klein"]
    assert computed(architecture, of, 1, checkpointing=True) == row.checkpointed[0]
    network: Any = build(architecture, of).network
    assert sum(one.numel() for one in network.parameters()) == row.weights


def test_the_models_have_the_sizes_that_their_cards_say() -> None:
    billions = {"sd15": 0.86, "sdxl": 2.567, "sd35-medium": 2.47, "sd35-large": 8.15, "flux-dev": 11.9}
    billions |= {"flux2-dev": 32, "flux2-klein": 3.9, "qwen-image": 20.4, "z-image": 6.15}
    for name, size in billions.items():
        assert known()[name].weights / 1e9 == pytest.approx(size, rel=0.02), name


@pytest.mark.parametrize("memory", [16, 24, 48, 80])
@pytest.mark.parametrize("model", ["sd15", "sdxl", "sd35-large", "flux-dev"])
def test_the_settings_for_a_card_have_room_on_it_and_fill_a_step_of_eight_pairs(model: str, memory: int) -> None:
    plan = make_plan(model, memory, {})
    config = plan.config
    assert config.train_batch_size * config.gradient_accumulation_steps == 8
    assert plan.fits == (plan.estimate.worst.bytes <= memory * GIB)
    assert plan.fits or (model, memory) in [("flux-dev", 16), ("sd35-large", 16)]
    assert settings_for(model, memory) == plan.chosen


def test_more_memory_never_gives_leaner_settings() -> None:
    for model in ("sdxl", "flux-dev"):
        passes = [make_plan(model, memory, {}).config for memory in (24, 48, 80, 141)]
        quantized = [one.quantization == "nf4" for one in passes]
        assert quantized == sorted(quantized, reverse=True)
    assert settings_for("flux-dev", 24)["quantization"] == "nf4"
    assert settings_for("flux-dev", 80)["quantization"] == "none"


def test_what_the_user_gave_is_kept_and_the_rest_is_fitted_to_it(tmp_path: Path) -> None:
    given = {"model": "flux-dev", "pairs": "hap", "out": tmp_path, "quantization": "none", "score": {"seeds": 2}}
    settings, said = suited(given, 80.0)
    assert settings["quantization"] == "none" and settings["score"]["seeds"] == 2
    assert "gradient_checkpointing" in settings and "80.0 GiB" in said
    assert suited(given, None) == (given, "")
    own = {"model": "mannequin", "pairs": "hap", "out": "fit"}
    assert suited(own, 24.0) == (own, ""), "its sizes are small"


def test_a_fit_that_is_resumed_on_another_card_keeps_its_settings(tmp_path: Path) -> None:
    given = {"model": "flux-dev", "pairs": "hap", "out": tmp_path / "fit"}
    config = FitConfig.model_validate(FitConfig.with_defaults(suited(given, 24.0)[0]))
    (tmp_path / "fit").mkdir()
    write_config(config, tmp_path / "fit" / "fit.yaml")
    again = FitConfig.model_validate(FitConfig.with_defaults(suited(given, 80.0)[0]))
    assert again == config


def test_a_fit_that_tunes_text_encoders_has_the_plan_of_its_network() -> None:
    given = {"model": "sdxl", "pairs": "hap", "out": "fit"}
    also = {**given, "lora": {"text_encoder": True}}
    assert make_plan("sdxl", 80, also).chosen == make_plan("sdxl", 80, given).chosen
    assert suited(also, 80.0)[0]["lora"] == {"text_encoder": True}


def test_memory_of_the_parts_follows_from_the_numbers_of_weights() -> None:
    config = FitConfig.of("flux-dev", "hap", "fit", quantization="nf4", ema_decay=0.9)
    parts = {part.name: part.bytes for part in estimate("flux-dev", config).step.parts}
    profile = known()["flux-dev"]
    assert parts["LoRA weights, float32"] == parts["gradients"] == 4 * profile.tuned
    assert parts["optimizer's state (adamw)"] == 8 * profile.tuned
    assert 0.5 * profile.weights < parts["frozen weights, nf4"] < 0.6 * profile.weights


def test_a_step_has_the_operations_of_its_passes() -> None:
    one = FitConfig.of("sdxl", "hap", "fit", gradient_checkpointing=False)
    again = FitConfig.of("sdxl", "hap", "fit", gradient_checkpointing=True)
    assert operations_of_step("sdxl", one) == 2 * 8 * 3 * known()["sdxl"].operations
    assert operations_of_step("sdxl", again) == pytest.approx(operations_of_step("sdxl", one) * 4 / 3)
    # The loser goes forward once more, which of several draws it does anyway.
    apart = one.model_copy(update={"two_passes": True})
    assert operations_of_step("sdxl", apart) == pytest.approx(operations_of_step("sdxl", one) * 3.5 / 3)
    draws = (config.model_copy(update={"noise_draws": 2}) for config in (one, apart))
    assert len({operations_of_step("sdxl", config) for config in draws}) == 1


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["plan", *words], catch_exceptions=False)


def test_the_command_prints_settings_memory_and_time() -> None:
    made = run("--model", "flux-dev", "--gpu", "RTX 4090", "--steps", "500")
    assert made.exit_code == 0, made.output
    for said in ("fits in 24 GiB", 'quantization="nf4"', STEP, "computed", "assumed", "not measured", "500 steps"):
        assert said in made.output, said
    told = json.loads(run("--model", "sdxl", "--gpu-memory", "80", "--json").stdout)
    assert told["fits"] and told["settings"]["quantization"] == "none"
    assert told["seconds_a_step"] == {"measured": None, "computed": None}


def test_a_model_that_does_not_fit_is_one_sentence_with_the_part_and_the_card() -> None:
    with pytest.raises(
        HafError, match=r"does not fit in 8 GiB: .* needs .* most of it for .*smallest card .* has \d+ GiB"
    ):
        run("--model", "flux-dev", "--gpu-memory", "8")
    with pytest.raises(HafError, match="sizes of mannequin are not known"):
        run("--model", "mannequin", "--gpu-memory", "8")
    with pytest.raises(HafError, match="Give the card's memory"):
        run("--model", "sdxl")
    with pytest.raises(HafError, match="There is no card 'H1O0': did you mean"):
        run("--model", "sdxl", "--gpu", "H1O0")


def test_a_fit_is_planned_at_the_size_at_which_it_is_made() -> None:
    for name, architecture in ARCHITECTURES.items():
        assert size_of(name) == architecture.side, name
