"""Backbones against diffusers: its training scripts' losses, and what its pipelines hand to their networks."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    Flux2Pipeline,
    FluxPipeline,
    QwenImagePipeline,
)
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from diffusers.pipelines.qwenimage.pipeline_qwenimage import calculate_shift
from scipy.stats import norm
from torch import Tensor
from torch.nn.functional import mse_loss

from asap_train.backbones import Backbone, Conditions, Crop, Loaded, joined, load_backbone, mask_on_grid, trimmed
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


def mean_loss(prediction: Tensor, target: Tensor) -> float:
    return float(((prediction.float() - target.float()) ** 2).reshape(2, -1).mean(1).mean().item())


def flux2_script(folder: Path, timesteps: Tensor, guidance_scale: float | None) -> float:
    """train_dreambooth_lora_flux2.py, and train_dreambooth_lora_flux2_klein.py without guidance."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    latents_bn_mean = pipe.vae.bn.running_mean.view(1, -1, 1, 1)
    latents_bn_std = torch.sqrt(pipe.vae.bn.running_var.view(1, -1, 1, 1) + pipe.vae.config.batch_norm_eps)
    model_input = Flux2Pipeline._patchify_latents(pipe.vae.encode(pictures()).latent_dist.mode())
    model_input = (model_input - latents_bn_mean) / latents_bn_std
    model_input_ids = Flux2Pipeline._prepare_latent_ids(model_input)
    noise = noise_like(model_input)
    sigmas = sigmas_of(pipe.scheduler, timesteps)
    noisy = (1.0 - sigmas) * model_input + sigmas * noise
    words, text_ids = pipe.encode_prompt(prompt=CAPTIONS, max_sequence_length=512)
    prediction = pipe.transformer(
        hidden_states=Flux2Pipeline._pack_latents(noisy),
        timestep=timesteps / 1000,
        guidance=None if guidance_scale is None else torch.full([1], guidance_scale).expand(2),
        encoder_hidden_states=words,
        txt_ids=text_ids,
        img_ids=model_input_ids,
        return_dict=False,
    )[0]
    return mean_loss(Flux2Pipeline._unpack_latents_with_ids(prediction, model_input_ids), noise - model_input)


def qwen_image_script(folder: Path, timesteps: Tensor) -> float:
    """train_dreambooth_lora_qwen_image.py."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    config = pipe.vae.config
    latents_mean = torch.tensor(config.latents_mean).view(1, config.z_dim, 1, 1, 1)
    latents_std = 1.0 / torch.tensor(config.latents_std).view(1, config.z_dim, 1, 1, 1)
    model_input = pipe.vae.encode(pictures().unsqueeze(2)).latent_dist.mean
    model_input = (model_input - latents_mean) * latents_std
    noise = noise_like(model_input[:, :, 0])[:, :, None]
    sigmas = sigmas_of(pipe.scheduler, timesteps)[..., None]
    noisy = (1.0 - sigmas) * model_input + sigmas * noise
    words, mask = pipe.encode_prompt(prompt=CAPTIONS, max_sequence_length=512)
    batch, channels, _, height, width = model_input.shape
    prediction = pipe.transformer(
        hidden_states=QwenImagePipeline._pack_latents(noisy.permute(0, 2, 1, 3, 4), batch, channels, height, width),
        encoder_hidden_states=words,
        encoder_hidden_states_mask=mask,
        timestep=timesteps / 1000,
        img_shapes=[(1, height // 2, width // 2)] * batch,
        return_dict=False,
    )[0]
    factor = pipe.vae_scale_factor
    prediction = QwenImagePipeline._unpack_latents(prediction, height * factor, width * factor, factor)
    return mean_loss(prediction, noise - model_input)


def z_image_script(folder: Path, timesteps: Tensor) -> float:
    """train_dreambooth_lora_z_image.py."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    model_input = flow_latents(pipe)
    noise = noise_like(model_input)
    sigmas = sigmas_of(pipe.scheduler, timesteps)
    noisy = (1.0 - sigmas) * model_input + sigmas * noise
    words, _ = pipe.encode_prompt(prompt=list(CAPTIONS), do_classifier_free_guidance=False, max_sequence_length=512)
    made = pipe.transformer(list(noisy.unsqueeze(2).unbind(0)), (1000 - timesteps) / 1000, words, return_dict=False)[0]
    return mean_loss(-torch.stack(made, dim=0).squeeze(2), noise - model_input)


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


CALLS: dict[str, dict[str, Any]] = {
    "sd15": {"guidance_scale": 1.0},
    "sdxl": {"guidance_scale": 1.0},
    "sd3": {"guidance_scale": 1.0},
    "flux": {"guidance_scale": 3.5},
    "flux2": {"guidance_scale": 4.0},
    "flux2-klein": {"guidance_scale": 1.0},
    "qwen-image": {},
    "z-image": {"guidance_scale": 0.0},
    "mannequin": {"guidance_scale": 1.0, "max_sequence_length": 1},
}


def as_latents(name: str, given: Any, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """What goes through a pipeline's loop and its network, in the latents' shape."""
    area = (height, width, 2)
    if name == "flux":
        return FluxPipeline._unpack_latents(given, *area)
    if name.startswith("flux2"):
        ids = Flux2Pipeline._prepare_latent_ids(torch.zeros(len(given), 1, height // 4, width // 4))
        return Flux2Pipeline._unpack_latents_with_ids(given, ids)
    if name == "qwen-image":
        return QwenImagePipeline._unpack_latents(given, *area)[:, :, 0]
    return torch.stack(given)[:, :, 0] if isinstance(given, list) else given


def own_time(name: str, given: Tensor) -> Tensor:
    """A timestep inside the pipeline as a backbone has it."""
    if name == "z-image":
        return 1000 * (1 - given)
    return 1000 * given if name in ("flux", "flux2", "flux2-klein", "qwen-image") else given


@pytest.mark.parametrize("name", CALLS)
@torch.no_grad()
def test_texts_and_predictions_are_those_inside_the_pipeline(backbones: dict[str, Backbone], name: str) -> None:
    """The second call of the network inside the pipeline's own __call__: the same in, the same out."""
    backbone = backbones[name] if name in backbones else load_backbone(name)
    height, width = (128, 128) if name == "mannequin" else (HEIGHT, WIDTH)
    seen: list[tuple[Any, Tensor, Any]] = []

    def listen(module: Any, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:
        noisy = named.get("hidden_states", given[0] if given else None)
        seen.append((noisy, named.get("timestep", given[1] if len(given) > 1 else None), made[0]))

    handle = backbone.network.register_forward_hook(listen, with_kwargs=True)
    size = {"height": height, "width": width, "num_inference_steps": 2, "output_type": "latent"}
    backbone.pipeline(prompt=list(CAPTIONS), generator=torch.Generator().manual_seed(0), **size, **CALLS[name])
    handle.remove()
    times = own_time(name, seen[1][1].expand(2))
    noisy, expected = (as_latents(name, one, height, width) for one in (seen[1][0], seen[1][2]))
    if name == "z-image":
        expected = -expected
    made = backbone.predict(noisy, times, conditions_of(backbone, CAPTIONS, (height, width)))
    assert made.shape == noisy.shape
    assert torch.allclose(made, expected, atol=1e-5)
    other = backbone.predict(noisy, times, conditions_of(backbone, CAPTIONS[::-1], (height, width)))
    assert not torch.allclose(made, other, atol=1e-5)


FLOWS = ("sd3", "flux", "flux2", "flux2-klein", "qwen-image", "z-image")


@pytest.mark.parametrize("name", FLOWS)
@torch.no_grad()
def test_predictions_sample_as_the_pipeline_does(backbones: dict[str, Backbone], name: str) -> None:
    """Euler's method with `predict`, at the sampler's sigmas, is the pipeline's way step by step."""
    backbone, way = backbones[name], []

    def look(pipeline: Any, step: int, time: Any, given: dict[str, Any]) -> dict[str, Any]:
        way.append(as_latents(name, given["latents"]))
        return {}

    size = {"height": HEIGHT, "width": WIDTH, "num_inference_steps": 4, "output_type": "latent"}
    dice = torch.Generator().manual_seed(0)
    backbone.pipeline(prompt=list(CAPTIONS), generator=dice, callback_on_step_end=look, **size, **CALLS[name])
    conditions, sigmas = conditions_of(backbone, CAPTIONS), backbone.pipeline.scheduler.sigmas
    image = way[0]
    for step in (1, 2, 3):
        velocity = backbone.predict(image, 1000 * sigmas[step].expand(2), conditions)
        image = image + (sigmas[step + 1] - sigmas[step]) * velocity
        assert torch.allclose(image, way[step], atol=1e-4)


@pytest.mark.parametrize("name", FLOWS)
@torch.no_grad()
def test_latents_are_what_the_pipeline_decodes(backbones: dict[str, Backbone], name: str) -> None:
    """At the end of a sampling they are the image that the autoencoder makes of its own code."""
    backbone = backbones[name]
    pipeline, images = backbone.pipeline, pictures()
    latents = backbone.encode_images(images)
    assert latents.shape[-2] * WIDTH == latents.shape[-1] * HEIGHT
    packed = latents.flatten(2).transpose(1, 2) if name.startswith("flux2") else latents
    packed = pack(latents) if name in ("flux", "qwen-image") else packed
    size = {"height": HEIGHT, "width": WIDTH, "num_inference_steps": 1, "output_type": "pt"}
    made = pipeline(
        prompt=list(CAPTIONS), callback_on_step_end=lambda *_: {"latents": packed}, **size, **CALLS[name]
    ).images
    video = name == "qwen-image"
    mean = pipeline.vae.encode(images[:, :, None] if video else images).latent_dist.mean
    decoded = pipeline.vae.decode(mean).sample
    decoded = decoded[:, :, 0] if video else decoded
    assert torch.allclose(made, (decoded / 2 + 0.5).clamp(0, 1), atol=1e-4)


@pytest.mark.parametrize("name", ["qwen-image", "z-image"])
@torch.no_grad()
def test_padding_of_shorter_captions_changes_nothing(backbones: dict[str, Backbone], name: str) -> None:
    backbone = backbones[name]
    noisy = noise_like(torch.zeros(1, 4, 16, 24)).expand(2, -1, -1, -1)
    times = torch.tensor([300.0, 300.0])
    alone = [backbone.encode_texts([caption]) for caption in CAPTIONS]
    together = joined(alone)
    for key, value in backbone.encode_texts(CAPTIONS).items():
        assert torch.allclose(value.float(), together[key].float(), atol=1e-5)
    assert together["words_mask"].sum(1).tolist() == [part["words"].shape[1] for part in alone]
    longer = joined([together, {key: torch.cat([value, 0 * value], 1) for key, value in alone[1].items()}])
    assert {key: value.shape for key, value in trimmed(longer).items()} == {
        key: torch.Size([3, *value.shape[1:]]) for key, value in together.items()
    }
    made = backbone.predict(noisy, times, together)
    for i in range(2):
        assert torch.allclose(made[i], backbone.predict(noisy[:1], times[:1], alone[i])[0], atol=1e-5)


@torch.no_grad()
def test_a_prompt_is_embedded_as_the_pipeline_embeds_it(backbones: dict[str, Backbone]) -> None:
    """With a negative prompt, where the pipeline takes guidance from one: the same images from embeddings."""
    calls: dict[str, dict[str, Any]] = {
        **{name: {"guidance_scale": 3.0} for name in ("sd15", "sdxl", "sd3", "flux2-klein", "z-image")},
        **{name: {"true_cfg_scale": 3.0} for name in ("flux", "qwen-image")},
        "flux2": {},
    }
    for name, call in calls.items():
        pipeline = backbones[name].pipeline
        for negative in (None, "six fingers"):
            size = {"height": HEIGHT, "width": WIDTH, "num_inference_steps": 2, "output_type": "np", **call}
            own = {} if name.startswith("flux2") or negative is None else {"negative_prompt": negative}
            given = backbones[name].encode_prompt("a hand", negative if own else None)
            expected = pipeline(prompt="a hand", generator=torch.Generator().manual_seed(0), **own, **size).images
            made = pipeline(generator=torch.Generator().manual_seed(0), **given, **size).images
            assert abs(made - expected).max() < 1e-5, name


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
    assert all(backbones[name].encode_crops(crops) == {} for name in BUILDERS if name != "sdxl")


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
