"""Backbones against diffusers' training scripts: their losses, and the times that they draw."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift
from scipy.stats import norm
from torch import Tensor

from asap_train.backbones import Backbone, load_backbone
from asap_train.backbones.flow import flow_timesteps
from asap_train.backbones.flux import Flux
from asap_train.training.losses import Residuals, compute
from asap_train.training.objectives import LossSettings
from diffusers_scripts import (
    CAPTIONS,
    conditions_of,
    flux2_script,
    flux_script,
    noise_like,
    pictures,
    qwen_image_script,
    sd3_script,
    sd_script,
    z_image_script,
)
from tiny_pipelines import BUILDERS


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models; `-v` is one that predicts v, and flux-shift one whose sampler shifts by the image's size."""
    base = tmp_path_factory.mktemp("models")
    made = {name: build(base / name) for name, build in BUILDERS.items()}
    schedulers = {
        "sd15-v": ("sd15", DDPMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")),
        "sdxl-v": ("sdxl", DDPMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")),
        "sd3-shift": ("sd3", FlowMatchEulerDiscreteScheduler(shift=3.0)),
        "flux-shift": ("flux", FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)),
    }
    for name, (family, scheduler) in schedulers.items():
        made[name] = BUILDERS[family](base / name)
        scheduler.save_pretrained(made[name] / "scheduler")
    return made


@pytest.fixture(scope="module")
def backbones(folders: dict[str, Path]) -> dict[str, Backbone]:
    return {name: load_backbone(str(folder)) for name, folder in folders.items()}


def loss_of(backbone: Backbone, times: Tensor) -> float:
    latents = backbone.encode_images(pictures())
    noise = noise_like(latents)
    noisy, target = backbone.noised(latents, noise, times), backbone.target(latents, noise, times)
    with torch.no_grad():
        residual = backbone.predict(noisy, times, conditions_of(backbone, CAPTIONS)) - target
    return float(compute("sft", Residuals(residual, residual, torch.zeros(1)), LossSettings()).total.item())


def schedule_of(backbone: Backbone) -> Any:
    """The sampler as it is before any sampling: sampling changes its timesteps."""
    return FlowMatchEulerDiscreteScheduler.from_config(backbone.pipeline.scheduler.config)


@pytest.mark.parametrize("name", ["sd15", "sd15-v", "sdxl", "sdxl-v"])
@torch.no_grad()
def test_a_loss_is_that_of_diffusers_script_for_stable_diffusion(
    folders: dict[str, Path], backbones: dict[str, Backbone], name: str
) -> None:
    times = torch.tensor([17, 803])
    assert loss_of(backbones[name], times) == pytest.approx(sd_script(folders[name], times), rel=1e-5)


def test_v_and_noise_are_different_targets(backbones: dict[str, Backbone]) -> None:
    latents, noise, times = torch.full((1, 4, 2, 2), 3.0), torch.ones(1, 4, 2, 2), torch.tensor([999])
    a = DDPMScheduler(beta_schedule="scaled_linear").alphas_cumprod[999].item()
    assert torch.equal(backbones["sd15"].target(latents, noise, times), noise)
    v = backbones["sd15-v"].target(latents, noise, times)
    assert torch.allclose(v, torch.full_like(v, math.sqrt(a) - 3 * math.sqrt(1 - a)))


@pytest.mark.parametrize("name", ["sd3", "sd3-shift"])
@torch.no_grad()
def test_a_loss_is_that_of_diffusers_script_for_sd3(
    folders: dict[str, Path], backbones: dict[str, Backbone], name: str
) -> None:
    times = schedule_of(backbones[name]).timesteps[[200, 700]]
    assert loss_of(backbones[name], times) == pytest.approx(sd3_script(folders[name], times), rel=1e-5)
    # The script's preconditioned form is the same error, times s^2.
    times = schedule_of(backbones[name]).timesteps[[400, 400]]
    s = times[0].item() / 1000
    preconditioned = sd3_script(folders[name], times, precondition=True)
    assert s**2 * loss_of(backbones[name], times) == pytest.approx(preconditioned, rel=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 3.5])
@torch.no_grad()
def test_a_loss_is_that_of_diffusers_script_for_flux(folders: dict[str, Path], guidance: float) -> None:
    backbone = load_backbone(str(folders["flux"]))
    assert isinstance(backbone, Flux)
    assert backbone.guidance == 3.5
    backbone.guidance = guidance
    times = schedule_of(backbone).timesteps[[200, 700]]
    assert loss_of(backbone, times) == pytest.approx(flux_script(folders["flux"], times, guidance), rel=1e-5)


@pytest.mark.parametrize(("name", "guidance"), [("flux2", 4.0), ("flux2", 3.5), ("flux2-klein", None)])
@torch.no_grad()
def test_a_loss_is_that_of_diffusers_script_for_flux2(
    folders: dict[str, Path], name: str, guidance: float | None
) -> None:
    backbone = load_backbone(str(folders[name]))
    assert backbone.guidance == (4.0 if name == "flux2" else None)
    backbone.guidance = guidance
    times = schedule_of(backbone).timesteps[[200, 700]]
    assert loss_of(backbone, times) == pytest.approx(flux2_script(folders[name], times, guidance), rel=1e-5)


@pytest.mark.parametrize(("name", "script"), [("qwen-image", qwen_image_script), ("z-image", z_image_script)])
@torch.no_grad()
def test_a_loss_is_that_of_diffusers_script_for_qwen_image_and_z_image(
    folders: dict[str, Path], backbones: dict[str, Backbone], name: str, script: Any
) -> None:
    times = schedule_of(backbones[name]).timesteps[[200, 700]]
    assert loss_of(backbones[name], times) == pytest.approx(script(folders[name], times), rel=1e-5)


def test_stable_diffusion_draws_every_timestep_equally_often(backbones: dict[str, Backbone]) -> None:
    assert backbones["sd15"].draw_timesteps((torch.arange(1000) + 0.5) / 1000).tolist() == list(range(1000))
    assert backbones["sdxl"].draw_timesteps(torch.tensor([0.0, 1.0])).tolist() == [0, 999]


@pytest.mark.parametrize("name", ["sd3", "sd3-shift"])
def test_sd3_draws_times_as_its_script_does(backbones: dict[str, Backbone], name: str) -> None:
    """The script indexes the sampler's shifted timesteps, from noise to image, by a logit-normal number."""
    uniform = torch.linspace(0.01, 0.99, 99)
    scheduler = schedule_of(backbones[name])
    logit_normal = 1 / (1 + torch.exp(torch.from_numpy(norm.ppf(uniform.numpy()))))
    script = scheduler.timesteps[(logit_normal * 1000).long()]
    made = backbones[name].draw_timesteps(uniform)
    assert torch.all(made.diff() > 0)
    # The script's grid has 1000 steps, of up to `shift`.
    assert (made - script).abs().max() <= scheduler.config.shift


def test_flux_shifts_times_by_the_size_of_the_image(backbones: dict[str, Backbone]) -> None:
    draw = backbones["flux-shift"].draw_timesteps
    half = torch.tensor([0.5])
    for grid, mu in (((32, 32), 0.5), ((128, 128), 1.15), ((64, 256), 1.15)):
        assert draw(half, grid).item() == pytest.approx(1000 * math.exp(mu) / (math.exp(mu) + 1), rel=1e-5)
    assert draw(half).item() == draw(half, (128, 128)).item()
    # As the pipeline asks its sampler to.
    uniform = torch.linspace(0.99, 0.01, 9)
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=1 / (1 + torch.exp(-torch.from_numpy(norm.ppf(uniform.numpy())))).numpy(), mu=1.15)
    assert torch.allclose(draw(uniform, (128, 128)), scheduler.timesteps, rtol=1e-4)
    assert backbones["flux"].draw_timesteps(half).item() == 500


def test_times_are_shifted_as_a_sampler_of_another_kind_asks() -> None:
    uniform = torch.linspace(0.01, 0.99, 9)
    usual = flow_timesteps(uniform, FlowMatchEulerDiscreteScheduler(shift=3.0), 16)
    heun = FlowMatchHeunDiscreteScheduler(shift=3.0)
    solvers = [
        kind(use_flow_sigmas=True, flow_shift=3.0) for kind in (UniPCMultistepScheduler, DPMSolverMultistepScheduler)
    ]
    for scheduler in (heun, *solvers):
        assert torch.equal(flow_timesteps(uniform, scheduler, 16), usual)


def test_times_of_flux2_qwen_image_and_z_image_are_shifted_as_their_samplers_do(backbones: dict[str, Backbone]) -> None:
    half = torch.tensor([0.5])

    def mu(name: str, grid: tuple[int, int] | None) -> float:
        s = backbones[name].draw_timesteps(half, grid).item() / 1000
        return math.log(s / (1 - s))

    # With as many steps as FLUX.2's formula knows.
    for grid in ((16, 16), (64, 64), (32, 96)):
        expected = compute_empirical_mu(grid[0] * grid[1], 200)
        assert mu("flux2", grid) == pytest.approx(expected, abs=2e-3)
        assert mu("flux2-klein", grid) == pytest.approx(expected, abs=2e-3)
    config = backbones["qwen-image"].pipeline.scheduler.config
    for height, width in ((32, 32), (128, 192)):
        shift = calculate_shift(height * width // 4, 256, config.max_image_seq_len, 0.5, config.max_shift)
        assert mu("qwen-image", (height, width)) == pytest.approx(shift, abs=1e-4)
    assert mu("z-image", (8, 8)) == pytest.approx(math.log(3), abs=1e-4)
    for name, own in (("flux2", (64, 64)), ("qwen-image", (128, 128)), ("z-image", (512, 512))):
        assert mu(name, None) == mu(name, own)
