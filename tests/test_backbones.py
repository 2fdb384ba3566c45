"""Backbones against diffusers: its training scripts' losses, and what its pipelines hand to their networks."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, FluxPipeline
from scipy.stats import norm
from torch import Tensor
from torch.nn.functional import mse_loss

from asap_train.backbones import Backbone, Conditions, Crop, Loaded, load_backbone, mask_on_grid
from asap_train.backbones.flux import Flux, pack, unpack
from asap_train.backbones.stable_diffusion import StableDiffusion
from asap_train.training.losses import Residuals, compute
from asap_train.training.objectives import LossSettings
from hafbench.errors import HafError
from tiny_inpainting import build_sd15_inpaint
from tiny_pipelines import BUILDERS

CAPTIONS = ["a hand", "two people shaking hands"]
HEIGHT, WIDTH = 32, 48


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


def pictures() -> Tensor:
    return 2 * torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) - 1


def noise_like(latents: Tensor) -> Tensor:
    return torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))


def conditions_of(backbone: Backbone, captions: list[str], size: tuple[int, int] = (HEIGHT, WIDTH)) -> Conditions:
    """Of whole images of that size."""
    return {**backbone.encode_texts(captions), **backbone.encode_crops([Crop.whole(size)] * len(captions))}


def loss_of(backbone: Backbone, times: Tensor) -> float:
    latents = backbone.encode_images(pictures())
    noise = noise_like(latents)
    noisy, target = backbone.noised(latents, noise, times), backbone.target(latents, noise, times)
    with torch.no_grad():
        residual = backbone.predict(noisy, times, conditions_of(backbone, CAPTIONS)) - target
    return float(compute("sft", Residuals(residual, residual, torch.zeros(1)), LossSettings()).total.item())


# What follows are the training scripts' own lines, with the mean of the autoencoder's distribution for a sample of it.


def tokens_of(tokenizer: Any) -> Tensor:
    return tokenizer(CAPTIONS, max_length=77, padding="max_length", truncation=True, return_tensors="pt").input_ids


def sd_script(folder: Path, timesteps: Tensor) -> float:
    """train_text_to_image_lora.py, and train_text_to_image_lora_sdxl.py for a pipeline with two text encoders."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    model_input = pipe.vae.encode(pictures()).latent_dist.mean * pipe.vae.config.scaling_factor
    noise = noise_like(model_input)
    added = None
    if hasattr(pipe, "text_encoder_2"):
        outputs = [
            encoder(tokens_of(tokenizer), output_hidden_states=True)
            for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2))
        ]
        words = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        time_ids = torch.tensor([[HEIGHT, WIDTH, 0, 0, HEIGHT, WIDTH]] * 2).float()
        added = {"time_ids": time_ids, "text_embeds": outputs[1][0]}
    else:
        words = pipe.text_encoder(tokens_of(pipe.tokenizer))[0]
    noisy = scheduler.add_noise(model_input, noise, timesteps)
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(model_input, noise, timesteps) if velocity else noise
    prediction = pipe.unet(noisy, timesteps, words, added_cond_kwargs=added, return_dict=False)[0]
    return float(mse_loss(prediction.float(), target.float(), reduction="mean").item())


def sigmas_of(scheduler: Any, timesteps: Tensor) -> Tensor:
    steps = [(scheduler.timesteps == time).nonzero().item() for time in timesteps]
    return scheduler.sigmas[steps].flatten()[:, None, None, None]


def schedule_of(backbone: Backbone) -> Any:
    """The sampler as it is before any sampling: sampling changes its timesteps."""
    return FlowMatchEulerDiscreteScheduler.from_config(backbone.pipeline.scheduler.config)


def flow_latents(pipe: Any) -> Tensor:
    config = pipe.vae.config
    return (pipe.vae.encode(pictures()).latent_dist.mean - config.shift_factor) * config.scaling_factor


def sd3_script(folder: Path, timesteps: Tensor, precondition: bool = False) -> float:
    """train_dreambooth_lora_sd3.py with --precondition_outputs 0 or 1."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    model_input = flow_latents(pipe)
    noise = noise_like(model_input)
    sigmas = sigmas_of(pipe.scheduler, timesteps)
    noisy = (1.0 - sigmas) * model_input + sigmas * noise
    words, _, pooled, _ = pipe.encode_prompt(CAPTIONS, None, None, do_classifier_free_guidance=False)
    prediction = pipe.transformer(
        hidden_states=noisy,
        timestep=timesteps,
        encoder_hidden_states=words,
        pooled_projections=pooled,
        return_dict=False,
    )[0]
    target = noise - model_input
    if precondition:
        prediction, target = prediction * (-sigmas) + noisy, model_input
    return float(((prediction.float() - target.float()) ** 2).reshape(2, -1).mean(1).mean().item())


def flux_script(folder: Path, timesteps: Tensor, guidance_scale: float = 1.0) -> float:
    """train_dreambooth_lora_flux.py."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    model_input = flow_latents(pipe)
    noise = noise_like(model_input)
    sigmas = sigmas_of(pipe.scheduler, timesteps)
    noisy = (1.0 - sigmas) * model_input + sigmas * noise
    batch, channels, height, width = model_input.shape
    words, pooled, text_ids = pipe.encode_prompt(CAPTIONS, None)
    prediction = pipe.transformer(
        hidden_states=FluxPipeline._pack_latents(noisy, batch, channels, height, width),
        timestep=timesteps / 1000,
        guidance=torch.tensor([guidance_scale]).expand(batch),
        pooled_projections=pooled,
        encoder_hidden_states=words,
        txt_ids=text_ids,
        img_ids=FluxPipeline._prepare_latent_image_ids(batch, height // 2, width // 2, "cpu", torch.float32),
        return_dict=False,
    )[0]
    factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    prediction = FluxPipeline._unpack_latents(prediction, height * factor, width * factor, factor)
    target = noise - model_input
    return float(((prediction.float() - target.float()) ** 2).reshape(2, -1).mean(1).mean().item())


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


CALLS: dict[str, dict[str, Any]] = {
    "sd15": {"guidance_scale": 1.0},
    "sdxl": {"guidance_scale": 1.0},
    "sd3": {"guidance_scale": 1.0},
    "flux": {"guidance_scale": 3.5},
    "mannequin": {"guidance_scale": 1.0, "max_sequence_length": 1},
}


@pytest.mark.parametrize("name", CALLS)
@torch.no_grad()
def test_texts_and_predictions_are_those_inside_the_pipeline(backbones: dict[str, Backbone], name: str) -> None:
    """The first call of the network inside the pipeline's own __call__: the same in, the same out."""
    backbone = backbones[name] if name in backbones else load_backbone(name)
    height, width = (128, 128) if name == "mannequin" else (HEIGHT, WIDTH)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def listen(module: Any, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:
        noisy = named.get("hidden_states", given[0] if given else None)
        seen.append((noisy, named.get("timestep", given[1] if len(given) > 1 else None), made[0]))

    handle = backbone.network.register_forward_hook(listen, with_kwargs=True)
    size = {"height": height, "width": width, "num_inference_steps": 2, "output_type": "latent"}
    backbone.pipeline(CAPTIONS, generator=torch.Generator().manual_seed(0), **size, **CALLS[name])
    handle.remove()
    noisy, times, expected = seen[1]
    times = times.expand(2)
    if isinstance(backbone, Flux):
        times = times * 1000
        area = (height, width, backbone.pipeline.vae_scale_factor)
        noisy, expected = (FluxPipeline._unpack_latents(packed, *area) for packed in (noisy, expected))
    made = backbone.predict(noisy, times, conditions_of(backbone, CAPTIONS, (height, width)))
    assert made.shape == noisy.shape
    assert torch.allclose(made, expected, atol=1e-5)
    other = backbone.predict(noisy, times, conditions_of(backbone, CAPTIONS[::-1], (height, width)))
    assert not torch.allclose(made, other, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shift", "scale"), [("sd15", 0, 0.18215), ("sdxl", 0, 0.18215), ("sd3", 0.06, 1.5), ("flux", 0.06, 1.5)]
)
@torch.no_grad()
def test_images_become_latents_as_the_autoencoder_has_them(
    backbones: dict[str, Backbone], name: str, shift: float, scale: float
) -> None:
    latents = backbones[name].encode_images(pictures())
    distribution = backbones[name].pipeline.vae.encode(pictures()).latent_dist
    assert torch.allclose(latents, (distribution.mean - shift) * scale)
    assert latents.shape[-2:] == (HEIGHT // 2, WIDTH // 2)


@torch.no_grad()
def test_an_autoencoder_that_overflows_in_half_precision_works_in_single(folders: dict[str, Path]) -> None:
    backbone = load_backbone(str(folders["sdxl"]), dtype="fp16")
    latents = backbone.encode_images(pictures())
    vae = backbone.pipeline.vae
    assert vae.dtype == torch.float16
    assert torch.allclose(latents, 0.18215 * vae.float().encode(pictures()).latent_dist.mean)


@torch.no_grad()
def test_a_dropped_caption_is_what_sdxl_takes_guidance_from(backbones: dict[str, Backbone]) -> None:
    pipeline = backbones["sdxl"].pipeline
    _, without, _, pooled = pipeline.encode_prompt("a hand", do_classifier_free_guidance=True)
    made = backbones["sdxl"].encode_texts(["a hand", ""])
    assert torch.equal(made["words"][1], without[0])
    assert torch.equal(made["text_embeds"][1], pooled[0])
    assert made["words"][0].abs().max() > 0


@torch.no_grad()
def test_sdxl_is_told_how_an_image_was_cut(backbones: dict[str, Backbone]) -> None:
    crops = [Crop((1600, 900), (310, 0), (512, 512)), Crop.whole((64, 64))]
    ids = backbones["sdxl"].encode_crops(crops)["time_ids"]
    assert ids.tolist() == [[1600, 900, 310, 0, 512, 512], [64, 64, 0, 0, 64, 64]]
    # As the pipeline itself has them.
    own = backbones["sdxl"].pipeline._get_add_time_ids((1600, 900), (310, 0), (512, 512), torch.float32, 32)
    assert torch.equal(ids[:1], own)
    assert all(backbones[name].encode_crops(crops) == {} for name in ("sd15", "sd3", "flux"))


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


def test_tokens_are_packed_as_in_the_pipeline() -> None:
    latents = torch.randn(2, 3, 4, 6)
    tokens = FluxPipeline._pack_latents(latents, 2, 3, 4, 6)
    assert torch.equal(pack(latents), tokens)
    assert torch.equal(unpack(tokens, 4, 6), latents)


def test_a_mask_covers_its_share_of_each_cell() -> None:
    mask = torch.zeros(1, 1, 4, 8)
    mask[..., :2, :2] = 1
    mask[..., 2:, 3] = 1
    assert mask_on_grid(mask, torch.zeros(1, 16, 2, 4)).tolist() == [[[[1, 0, 0, 0], [0, 0.5, 0, 0]]]]


@pytest.mark.parametrize("name", BUILDERS)
def test_latents_in_single_precision_go_into_a_network_in_half(folders: dict[str, Path], name: str) -> None:
    backbone = load_backbone(str(folders[name]), dtype="bf16")
    latents = backbone.encode_images(pictures())
    times = backbone.draw_timesteps(torch.tensor([0.3, 0.6]))
    noisy = backbone.noised(latents, noise_like(latents), times)
    assert noisy.dtype == torch.float32
    made = backbone.predict(noisy, times, conditions_of(backbone, CAPTIONS))
    assert made.shape == latents.shape
    assert torch.isfinite(made).all()


def test_a_prediction_type_that_is_not_known_is_refused(folders: dict[str, Path]) -> None:
    pipeline = DiffusionPipeline.from_pretrained(folders["sd15"])
    pipeline.scheduler = DDPMScheduler(prediction_type="sample")
    with pytest.raises(HafError, match="prediction_type sample"):
        StableDiffusion(Loaded(pipeline, {}))


def test_an_architecture_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HafError, match=r"InpaintPipeline, which cannot be tuned; known: StableDiffusionPipeline"):
        load_backbone(str(build_sd15_inpaint(tmp_path / "inpaint")))
