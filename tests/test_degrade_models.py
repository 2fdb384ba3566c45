"""Inpainting and skeletons: tiny pipelines of the real classes, and the built-in model for real."""

import inspect
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from asap_train.data.inpainting import CONTROLS, GRID, INPAINTERS, Painter, PainterOptions, load_painter
from asap_train.degrade.inpaint import ERROR_PROMPTS, InpaintFamily
from asap_train.degrade.openpose import draw_skeleton, hand_skeleton
from asap_train.degrade.redraw import Window, paste, window_about
from asap_train.degrade.skeleton import CORRUPTIONS, SkeletonFamily
from asap_train.types import Candidate, Part, Photo
from hafbench.errors import HafError, Unavailable
from hafbench.generators.diffusion import NotFinite
from hafbench.generators.presets import PRESETS
from hafbench.images import sha256_of
from hafbench.mannequin.picture import correct_picture
from hafbench.types import Kind, Region
from parts import HAND, part, photo
from tiny_inpainting import build_flux_fill, build_sd15_inpaint, build_sdxl_inpaint, control_of_flux, control_of_unet
from tiny_pipelines import build_flux, build_sd3, build_sd15, build_sdxl

torch.set_num_threads(1)
BUILDERS = {
    "sd15": build_sd15,
    "sdxl": build_sdxl,
    "sd3": build_sd3,
    "flux": build_flux,
    "sd15-inpaint": build_sd15_inpaint,
    "sdxl-inpaint": build_sdxl_inpaint,
    "flux-fill": build_flux_fill,
}
PAINTED_BY = {
    "sd15": "StableDiffusionInpaintPipeline",
    "sdxl": "StableDiffusionXLInpaintPipeline",
    "sd3": "StableDiffusion3InpaintPipeline",
    "flux": "FluxInpaintPipeline",
    "sd15-inpaint": "StableDiffusionInpaintPipeline",
    "sdxl-inpaint": "StableDiffusionXLInpaintPipeline",
    "flux-fill": "FluxFillPipeline",
}
CONTROLLED_BY = {
    "sd15": "StableDiffusionControlNetInpaintPipeline",
    "sdxl": "StableDiffusionXLControlNetInpaintPipeline",
    "flux": "FluxControlNetInpaintPipeline",
    "sd15-inpaint": "StableDiffusionControlNetInpaintPipeline",
    "sdxl-inpaint": "StableDiffusionXLControlNetInpaintPipeline",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: build(folder / name) for name, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def controls(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("controls")
    sd15, sdxl = (control_of_unet(models[name], folder / name) for name in ("sd15", "sdxl"))
    flux = control_of_flux(models["flux"], folder / "flux")
    return {"sd15": sd15, "sd15-inpaint": sd15, "sdxl": sdxl, "sdxl-inpaint": sdxl, "flux": flux}


def tiny(model: Path, control: Path | None = None) -> Painter:
    options = PainterOptions(model=str(model), arguments={"num_inference_steps": 3}, size=64)
    return load_painter(options, "cpu", str(control) if control else None)


def check(candidates: list[Candidate], source: Photo) -> None:
    """What every family of models keeps to."""
    for candidate in candidates:
        assert candidate.pixels.shape == source.pixels.shape and candidate.pixels.dtype == np.uint8
        changed = (candidate.pixels != source.pixels).any(-1)
        assert not (changed & ~candidate.mask).any()
        assert changed[candidate.mask].mean() > 0.5
        json.dumps(dict(candidate.settings))
    for one, other in itertools.combinations(candidates, 2):
        assert not np.array_equal(one.pixels, other.pixels)
    assert len({candidate.settings["seed"] for candidate in candidates}) == len(candidates)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_architecture_redraws_the_part_and_nothing_else(name: str, models: dict[str, Path]) -> None:
    painter = tiny(models[name])
    family = InpaintFamily(painter, candidates=2)
    first = list(family.degrade(photo(), part(), np.random.default_rng(5)))
    again = list(family.degrade(photo(), part(), np.random.default_rng(5)))
    other = list(family.degrade(photo(), part(), np.random.default_rng(6)))
    assert len(first) == 2
    check(first, photo())
    assert all(np.array_equal(a.pixels, b.pixels) and a == replace(b, pixels=a.pixels, mask=a.mask)
               for a, b in zip(first, again, strict=True))  # fmt: skip
    assert not any(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, other, strict=True))
    made = first[0].settings
    assert made["pipeline"] == PAINTED_BY[name] and made["arguments"]["num_inference_steps"] == 3
    assert made["prompt"].endswith(", a man who waves")
    for file, checksum in made["weights"].items():
        assert checksum == sha256_of(models[name] / file)
    assert (first[0].region, first[0].kind, first[0].family) == ("hands", first[1].kind, "inpaint")
    # A text-to-image model begins from what is there; one made for inpainting does as its authors do.
    assert made["arguments"].get("strength") == (0.8 if name in PRESETS or name in ("sd3", "flux") else None)


@pytest.mark.parametrize("name", CONTROLLED_BY)
def test_every_controlnet_architecture_redraws_after_a_corrupted_skeleton(
    name: str, models: dict[str, Path], controls: dict[str, Path]
) -> None:
    painter = tiny(models[name], controls[name])
    family = SkeletonFamily(painter, candidates=2)
    first = list(family.degrade(photo(), part(), np.random.default_rng(5)))
    again = list(family.degrade(photo(), part(), np.random.default_rng(5)))
    check(first, photo())
    assert [a.pixels.tobytes() for a in first] == [b.pixels.tobytes() for b in again]
    made = first[0].settings
    assert made["pipeline"] == CONTROLLED_BY[name]
    assert made["control"]["weights"] == {
        "diffusion_pytorch_model.safetensors": sha256_of(controls[name] / "diffusion_pytorch_model.safetensors")
    }
    assert (first[0].kind, first[0].detail) in {(c.error.kind, c.error.detail) for c in CORRUPTIONS}
    # The picture of the skeleton reaches the ControlNet.
    window = np.zeros((64, 64), bool)
    window[16:48, 16:48] = True
    grey = np.full((64, 64, 3), 90, np.uint8)
    drawn = draw_skeleton(hand_skeleton(HAND * 0.6), 64, 64)
    with_it, without = (painter.paint(grey, window, "a hand", 1, skeleton) for skeleton in (drawn, 0 * drawn))
    assert (with_it != without).any()


def test_the_words_of_the_error_and_the_caption_reach_the_model(models: dict[str, Path]) -> None:
    painter = tiny(models["sd15-inpaint"])
    inside = np.zeros((64, 64), bool)
    inside[8:56, 8:56] = True
    grey = np.full((64, 64, 3), 90, np.uint8)
    one, same, other = (painter.paint(grey, inside, words, 1) for words in ("six fingers", "six fingers", "a foot"))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    family = InpaintFamily(painter, candidates=1)
    captioned, bare = (
        next(family.degrade(photo(caption), part(), np.random.default_rng(5))) for caption in ("a man", None)
    )
    assert captioned.settings["prompt"] == f"{bare.settings['prompt']}, a man"
    assert bare.settings["prompt"] in {error.text for error in ERROR_PROMPTS if error.detail == bare.detail}
    assert captioned.settings["seed"] == bare.settings["seed"]
    assert not np.array_equal(captioned.pixels, bare.pixels)


def test_each_region_is_asked_for_errors_of_its_own(models: dict[str, Path]) -> None:
    painter = tiny(models["sd15-inpaint"])
    regions: dict[Region, str] = {
        "hands": "left_hand", "feet": "left_foot", "face": "face", "limbs": "left_leg", "torso": "torso"
    }  # fmt: skip
    for region, name in regions.items():
        kinds: set[Kind] = set()
        for seed in range(3):
            made = next(InpaintFamily(painter, 1).degrade(photo(), part(region, name), np.random.default_rng(seed)))
            assert made.region == region and "{" not in made.settings["prompt"]
            assert region != "limbs" or "leg" in made.settings["prompt"]
            kinds.add(made.kind)
        assert kinds <= {error.kind for error in ERROR_PROMPTS if error.region == region}


def test_however_many_candidates_are_taken_the_next_part_gets_the_same(models: dict[str, Path]) -> None:
    family = InpaintFamily(tiny(models["sd15-inpaint"]), candidates=3)
    some, all_of_them = np.random.default_rng(1), np.random.default_rng(1)
    next(family.degrade(photo(), part(), some))
    assert len(list(family.degrade(photo(), part(), all_of_them))) == 3
    assert some.integers(1000) == all_of_them.integers(1000)


def test_a_skeleton_needs_keypoints_and_a_controlnet(models: dict[str, Path], controls: dict[str, Path]) -> None:
    family = SkeletonFamily(tiny(models["flux"], controls["flux"]), candidates=1)
    for poor in (
        part("feet", "left_foot"), part("face", "face"), replace(part(), points=None),
        part("limbs", "given"), replace(part(), mask=np.zeros((120, 100), bool)),
    ):  # fmt: skip
        assert list(family.degrade(photo(), poor, np.random.default_rng(0))) == []
    limb = next(family.degrade(photo(), part("limbs", "right_arm_2"), np.random.default_rng(0)))
    assert limb.region == "limbs" and "arm" in limb.settings["prompt"]
    with pytest.raises(HafError, match="with a ControlNet; name one"):
        SkeletonFamily(tiny(models["flux"]))


def test_what_a_skeleton_adds_has_room_in_the_mask_but_a_users_mask_is_kept(
    models: dict[str, Path], controls: dict[str, Path]
) -> None:
    family = SkeletonFamily(tiny(models["flux"], controls["flux"]), candidates=1)
    found, user = part(), replace(part(), origin="given")
    for seed in range(4):
        grown = next(family.degrade(photo(), found, np.random.default_rng(seed)))
        assert (grown.mask & found.mask).sum() == found.mask.sum()
        tips = np.array(grown.settings["skeleton"]).round().astype(int)
        inside = [(x, y) for x, y in tips if 0 <= x < 100 and 0 <= y < 120]
        assert all(grown.mask[y, x] for x, y in inside)
        kept = next(family.degrade(photo(), user, np.random.default_rng(seed)))
        assert np.array_equal(kept.mask, user.mask)
        assert not (kept.pixels != photo().pixels).any(-1)[~user.mask].any()


# Windows.


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(20, 300), width=st.integers(20, 300), place=st.tuples(*[st.floats(0, 1)] * 4),
    size=st.sampled_from([64, 128, 512]),
)  # fmt: skip
def test_a_window_holds_the_mask_and_lies_in_the_photo(
    height: int, width: int, place: tuple[float, float, float, float], size: int
) -> None:
    mask = np.zeros((height, width), bool)
    (top, bottom), (left, right) = sorted(place[:2]), sorted(place[2:])
    rows = slice(int(top * (height - 1)), int(bottom * (height - 1)) + 1)
    columns = slice(int(left * (width - 1)), int(right * (width - 1)) + 1)
    mask[rows, columns] = True
    window = window_about(mask, size)
    assert window.left >= 0 and window.top >= 0
    assert window.left + window.width <= width and window.top + window.height <= height
    assert mask[window.place].sum() == mask.sum()
    assert all(side % GRID == 0 for side in window.painted) and max(window.painted) == size
    corners = np.array([[window.left, window.top], [window.left + window.width, window.top + window.height]], float)
    assert window.points(corners) == pytest.approx(np.array([(0, 0), window.painted]))


@pytest.mark.parametrize("size", [(40, 30), (90, 200)])
def test_only_the_mask_is_pasted_and_its_middle_is_what_was_painted(size: tuple[int, int]) -> None:
    original = photo(size=size).pixels
    mask = np.zeros(size, bool)
    mask[:20, 5:28] = True  # at the photo's edge, which is no seam
    window = window_about(mask, 64)
    painted = np.full((window.painted[1], window.painted[0], 3), 200, np.uint8)
    result = paste(original, painted, mask, window)
    assert np.array_equal(result[~mask], original[~mask])
    assert (result[:10, 12:20] == 200).all()
    whole = Window(0, 0, size[1], size[0], (size[1], size[0]))
    assert np.array_equal(paste(original, original, mask, whole), original)


# Loading.


def test_the_presets_settings_are_arguments_of_their_pipelines() -> None:
    for preset in INPAINTERS.values():
        known = inspect.signature(getattr(diffusers, preset.pipeline).__call__).parameters
        assert set(preset.call()) <= set(known) and "mask_image" in known
    for control in CONTROLS.values():
        family = "FluxControlNetInpaintPipeline" if "flux" in control.name else next(iter(CONTROLLED_BY.values()))
        assert set(control.arguments) <= set(inspect.signature(getattr(diffusers, family).__call__).parameters)
    assert not INPAINTERS.keys() & PRESETS.keys()


def test_the_size_is_the_models_own_unless_one_is_asked_for(models: dict[str, Path]) -> None:
    assert load_painter(PainterOptions(model=str(models["sd3"])), "cpu").size == 64
    assert load_painter(PainterOptions(model=f"sd15-inpaint={models['sd15-inpaint']}"), "cpu").size == 512


def test_a_local_copy_of_a_preset_is_called_as_the_preset_is(models: dict[str, Path]) -> None:
    painter = load_painter(PainterOptions(model=f"sdxl-inpaint={models['sdxl-inpaint']}", arguments={"strength": 0.9}))
    assert painter.arguments == {"num_inference_steps": 20, "guidance_scale": 8.0, "strength": 0.9}


@pytest.mark.parametrize(
    ("model", "control", "words"),
    [
        ("sd15-inpaint", None, "cannot be fetched.*by --inpaint sd15-inpaint=PATH"),
        ("flux-fill", None, "It is gated"),
        ("sd15=SD15", "sd15-openpose", "control_v11p_sd15_openpose is not on this machine.*by --control PATH"),
    ],
)
def test_weights_that_are_unavailable_are_one_sentence(
    model: str, control: str | None, words: str, models: dict[str, Path]
) -> None:
    options = PainterOptions(model=model.replace("SD15", str(models["sd15"])))
    with pytest.raises(Unavailable, match=words) as told:
        load_painter(options, "cpu", control)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("model", "control", "arguments", "words"),
    [
        ("sd15-inpainting", None, {}, "did you mean sd15-inpaint"),
        ("FOLDER/sd15", "sd15-openpos", {}, "There is no ControlNet 'sd15-openpos'.*did you mean sd15-openpose"),
        ("FOLDER/sd15", "FOLDER", {}, "is not a ControlNet in diffusers' layout"),
        ("FOLDER/sd15", None, {"height": 64}, "asap-train sets this itself"),
        ("FOLDER/sd15", None, {"strenght": 0.5}, "did you mean strength"),
        ("FOLDER/flux-fill/model", "CONTROL/flux", {}, "no ControlNet inpainting pipeline for FluxFillPipeline"),
        ("FOLDER/sdxl", "CONTROL/sd15", {}, "is made for another model"),
    ],
)
def test_a_mistake_is_one_sentence(
    model: str, control: str | None, arguments: dict[str, Any], words: str,
    models: dict[str, Path], controls: dict[str, Path],
) -> None:  # fmt: skip
    here, there = str(models["sd15"].parent), str(controls["sd15"].parent)
    named = control.replace("FOLDER", here).replace("CONTROL", there) if control else None
    with pytest.raises(HafError, match=words):
        load_painter(PainterOptions(model=model.replace("FOLDER", here), arguments=arguments), "cpu", named)


def test_a_controlnet_of_pickles_is_refused(models: dict[str, Path], controls: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(controls["sd15"] / "config.json", tmp_path)
    torch.save({}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(HafError, match="cannot be loaded as a ControlNet"):
        load_painter(PainterOptions(model=str(models["sd15"])), "cpu", str(tmp_path))


def test_nan_pixels_are_told(models: dict[str, Path]) -> None:
    painter = tiny(models["sd15-inpaint"])
    with torch.no_grad():
        painter.pipeline.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(NotFinite, match="NaN pixels for seed"):
        next(InpaintFamily(painter).degrade(photo(), part(), np.random.default_rng(0)))


# For real.


def test_the_built_in_model_redraws_a_hand() -> None:
    painter = load_painter(PainterOptions(model="mannequin"), "cpu")
    assert painter.settings["pipeline"] == "StableDiffusion3InpaintPipeline" and painter.size == 128
    picture = correct_picture(973_500_000, "hand")
    hand = cv2.dilate(picture.truth.mask("hand0").astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    source = Photo("mannequin/973500000", "0" * 64, picture.image, "an open hand on a plain background")
    made = list(InpaintFamily(painter, 3).degrade(source, Part("hands", "hand", hand), np.random.default_rng(0)))
    check(made, source)
    for candidate in made:
        similar = structural_similarity(source.pixels, candidate.pixels, channel_axis=2, full=True)[1].mean(-1)
        assert 0.05 < similar[hand].mean() < 0.8 and similar[~hand].mean() > 0.95
