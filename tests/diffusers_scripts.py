"""Losses by the lines of diffusers' own training scripts, and the pictures, noise and captions that they are of."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, DiffusionPipeline, Flux2Pipeline, FluxPipeline, QwenImagePipeline
from torch import Tensor
from torch.nn.functional import mse_loss

from asap_train.backbones import Backbone, Conditions, Crop

CAPTIONS = ["a hand", "two people shaking hands"]
HEIGHT, WIDTH = 32, 48


def pictures() -> Tensor:
    return 2 * torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) - 1


def noise_like(latents: Tensor) -> Tensor:
    return torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))


def conditions_of(backbone: Backbone, captions: list[str], size: tuple[int, int] = (HEIGHT, WIDTH)) -> Conditions:
    """Of whole images of that size."""
    return {**backbone.encode_texts(captions), **backbone.encode_crops([Crop.whole(size)] * len(captions))}


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
