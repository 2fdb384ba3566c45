"""Backbones against diffusers' pipelines: what these hand to their networks, and make of what comes out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DiffusionPipeline,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    Flux2Pipeline,
    FluxPipeline,
    QwenImagePipeline,
)
from torch import Tensor

from asap_train.backbones import Backbone, Crop, Loaded, joined, load_backbone, mask_on_grid, trimmed
from asap_train.backbones.flux import pack, unpack
from asap_train.backbones.stable_diffusion import StableDiffusion, StableDiffusionXL
from diffusers_scripts import CAPTIONS, HEIGHT, WIDTH, conditions_of, noise_like, pictures
from hafbench.errors import HafError
from tiny_inpainting import build_sd15_inpaint
from tiny_pipelines import BUILDERS


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("models")
    return {name: build(base / name) for name, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def backbones(folders: dict[str, Path]) -> dict[str, Backbone]:
    return {name: load_backbone(str(folder)) for name, folder in folders.items()}


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


@pytest.mark.parametrize("kind", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_a_scheduler_without_betas_is_refused(folders: dict[str, Path], kind: Any) -> None:
    pipeline = DiffusionPipeline.from_pretrained(folders["sdxl"])
    pipeline.scheduler = kind()
    with pytest.raises(HafError, match=f"{kind.__name__}, has no schedule of betas"):
        StableDiffusionXL(Loaded(pipeline, {}))


def test_an_architecture_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HafError, match=r"InpaintPipeline, which cannot be tuned; known: StableDiffusionPipeline"):
        load_backbone(str(build_sd15_inpaint(tmp_path / "inpaint")))
