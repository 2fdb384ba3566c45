"""Where a model comes from: a folder, a single file, the hub's cache; and what is refused because it could run code."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from hafbench.errors import HafError, Unavailable
from hafbench.generators import PRESETS, load_generator
from hafbench.generators.sources import Source, find_source, out_of_reach, weights_of
from hafbench.images import sha256_of
from hafbench.specs import GeneratorSpec
from hafbench.suites import Prompt
from small import not_none
from tiny_one_file import as_one_file
from tiny_pipelines import build_flux, build_sd15, build_sdxl

SMALL = {"num_inference_steps": 2, "height": 32, "width": 32}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sd15(tmp_path_factory.mktemp("models") / "sd15")


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_flux(tmp_path_factory.mktemp("models") / "flux")


def draw(model: str | Path) -> np.ndarray:
    generator = load_generator(GeneratorSpec(model=str(model), arguments=SMALL))
    return np.asarray(generator.generate([Prompt(id="a", text="a hand")], [3])[0])


def copy_of(model: Path, folder: Path) -> Path:
    return Path(shutil.copytree(model, folder))


def test_a_whole_checkpoint_in_one_file_draws_what_the_folder_draws(sd15: Path, tmp_path: Path) -> None:
    folder = copy_of(sd15, tmp_path / "copy")
    save_file(as_one_file(sd15), folder / "shared.safetensors")
    for weights in folder.glob("*/*.safetensors"):
        weights.unlink()
    assert np.array_equal(draw(folder / "shared.safetensors"), draw(sd15))


def test_a_file_of_the_denoiser_alone_takes_the_rest_from_its_folder(flux: Path, tmp_path: Path) -> None:
    folder = copy_of(flux, tmp_path / "copy")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file = Path(shutil.copy(weights, folder / "tuned.safetensors"))
    assert np.array_equal(draw(file), draw(flux))
    state = load_file(file)
    save_file({**state, "proj_out.weight": 2 * state["proj_out.weight"]}, file)
    weights.unlink()
    assert not np.array_equal(draw(file), draw(flux))
    settings = load_generator(GeneratorSpec(model=str(file), arguments=SMALL)).settings
    assert settings["weights"] == {"tuned.safetensors": sha256_of(file)}
    assert "vae/diffusion_pytorch_model.safetensors" in settings["base"]["weights"]


def test_a_file_without_its_configuration_says_where_to_put_it(sd15: Path, tmp_path: Path) -> None:
    save_file(as_one_file(sd15), tmp_path / "alone.safetensors")
    with pytest.raises(Unavailable, match=r"model_index\.json of a copy of stable-diffusion-v1-5/"):
        load_generator(GeneratorSpec(model=str(tmp_path / "alone.safetensors")))


def test_a_local_copy_of_a_preset_keeps_the_presets_settings(flux: Path) -> None:
    generator = load_generator(GeneratorSpec(model=f"flux-schnell={flux}", arguments={"height": 32, "width": 32}))
    assert generator.name == "flux-schnell"
    assert generator.settings["arguments"]["num_inference_steps"] == PRESETS["flux-schnell"].steps
    assert generator.settings["arguments"]["guidance_scale"] == 0.0
    assert generator.settings["arguments"]["height"] == 32


def put_into_cache(model: Path, cache: Path, repo: str) -> Path:
    """A model as the hub's client lays it out: large files are links to blobs named by their SHA-256."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = copy_of(model, root / "snapshots" / COMMIT)
    (root / "blobs").mkdir()
    for file in snapshot.glob("*/*.safetensors"):
        blob = root / "blobs" / sha256_of(file)
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, file.parent))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("model", ["someone/tiny", "someone/tiny@main", f"someone/tiny@{COMMIT}"])
def test_a_hub_model_in_the_cache_loads_offline_and_says_its_commit(
    sd15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    put_into_cache(sd15, tmp_path, "someone/tiny")
    generator = load_generator(GeneratorSpec(model=model, arguments=SMALL))
    assert generator.name == "someone--tiny"
    assert (generator.settings["hub_id"], generator.settings["commit"]) == ("someone/tiny", COMMIT)
    assert generator.settings["weights"] == weights_of(sd15)


def test_a_preset_loads_its_variant_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_sdxl(tmp_path / "sdxl")
    DiffusionPipeline.from_pretrained(model).save_pretrained(model, variant="fp16")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    put_into_cache(model, tmp_path / "hub", not_none(PRESETS["sdxl"].hub_id))
    generator = load_generator(GeneratorSpec(model="sdxl", arguments=SMALL))
    assert generator.settings["commit"] == COMMIT
    assert generator.settings["weights"]
    assert all(".fp16." in name for name in generator.settings["weights"])
    assert generator.settings["arguments"] == {**PRESETS["sdxl"].call(), "num_inference_steps": 2} | {
        "height": 32,
        "width": 32,
    }
    (image,) = generator.generate([Prompt(id="a", text="a hand")], [3])
    assert np.asarray(image).std() > 5


def test_of_several_sets_of_weights_only_the_loaded_ones_are_named(sd15: Path, tmp_path: Path) -> None:
    folder = copy_of(sd15, tmp_path / "copy")
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    half = shutil.copy(unet, unet.with_name("diffusion_pytorch_model.fp16.safetensors"))
    shutil.copy(unet, folder / "unrelated.safetensors")
    assert weights_of(folder) == weights_of(sd15)
    assert Path(half).relative_to(folder).as_posix() in weights_of(folder, "fp16")
    unet.unlink()
    assert np.array_equal(draw(folder), draw(sd15))


def as_bin(folder: Path) -> Path:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    return folder


def as_shards_of_bin(folder: Path) -> Path:
    weights = folder / "text_encoder" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model-00001-of-00001.bin"))
    weights.unlink()
    return folder


def as_ckpt(folder: Path) -> Path:
    torch.save({}, folder / "model.ckpt")
    return folder / "model.ckpt"


def as_broken(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"not a model")
    return folder / "model.safetensors"


def as_truncated(folder: Path) -> Path:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return folder


def as_nested(folder: Path) -> Path:
    (folder / "model_index.json").write_text("[" * 100_000)
    return folder


def without_a_tensor(folder: Path, part: str, name: str) -> Path:
    (weights,) = (folder / part).glob("*.safetensors")
    state = load_file(weights)
    del state[name]
    save_file(state, weights, metadata={"format": "pt"})
    return folder


def as_incomplete_unet(folder: Path) -> Path:
    return without_a_tensor(folder, "unet", "conv_in.weight")


def as_incomplete_encoder(folder: Path) -> Path:
    return without_a_tensor(folder, "text_encoder", "encoder.layers.0.layer_norm2.weight")


def as_empty(folder: Path) -> Path:
    (folder / "model_index.json").unlink()
    return folder


def with_index(folder: Path, **changes: object) -> Path:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, **changes}))
    return folder


def as_own_pipeline(folder: Path) -> Path:
    """A folder that asks for a pipeline of its own code."""
    (folder / "mine.py").write_text("import pathlib; pathlib.Path('ran').touch()\nclass Mine: pass\n")
    return with_index(folder, _class_name=["mine", "Mine"])


def as_component_with_a_path(folder: Path) -> Path:
    return with_index(folder, **{"../" * 5000: ["diffusers", "UNet2DConditionModel"], "x" * 5000: ["a", "b"]})


def as_own_component(folder: Path) -> Path:
    (folder / "unet" / "mine.py").write_text("import pathlib; pathlib.Path('ran').touch()\nclass Mine: pass\n")
    return with_index(folder, unet=["mine", "Mine"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (as_bin, "are a pickle"),
        (as_shards_of_bin, "are a pickle"),
        (as_ckpt, r"only \.safetensors"),
        (as_broken, "cannot be loaded"),
        (as_truncated, "cannot be loaded"),
        (as_nested, r"model_index\.json cannot be read"),
        (as_incomplete_unet, r"weights of unet lack conv_in\.weight"),
        (as_incomplete_encoder, r"weights of CLIPTextModel lack encoder\.layers\.0\.layer_norm2\.weight"),
        (as_empty, r"no model_index\.json"),
        (as_own_pipeline, "code of their own"),
        (as_own_component, "cannot be loaded"),
    ],
)
def test_what_is_unsafe_or_broken_is_refused(
    sd15: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Path], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    model = change(copy_of(sd15, tmp_path / "copy"))
    with pytest.raises(HafError, match=words):
        load_generator(GeneratorSpec(model=str(model)))
    assert not (tmp_path / "ran").exists()


def test_components_are_looked_for_in_the_folder_alone(sd15: Path, tmp_path: Path) -> None:
    assert weights_of(as_component_with_a_path(copy_of(sd15, tmp_path / "copy"))) == weights_of(sd15)


def test_a_pipe_in_place_of_a_checkpoint_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(HafError, match=r"only \.safetensors files"):
        find_source(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("model", ["flux-dev", "nobody/nothing", "sd35-large"])
def test_a_model_out_of_reach_is_one_sentence_with_the_way_out(model: str) -> None:
    with pytest.raises(Unavailable, match="path of a local copy") as caught:
        load_generator(GeneratorSpec(model=model))
    gated = PRESETS[model].gated if model in PRESETS else False
    assert ("hf auth login" in str(caught.value)) == gated


def test_a_model_out_of_reach_is_told_before_torch_is_imported() -> None:
    code = """
import sys
from hafbench.errors import Unavailable
from hafbench.generators import load_generator
from hafbench.specs import GeneratorSpec
try:
    load_generator(GeneratorSpec(model="flux-dev"))
except Unavailable:
    sys.exit(3 if {"torch", "diffusers"} & set(sys.modules) else 0)
sys.exit(4)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("kind", "words"), [(GatedRepoError, "is gated: accept its licence"), (RepositoryNotFoundError, "no public model")]
)
def test_what_the_hub_says_is_told_even_where_diffusers_wraps_it(kind: type[HfHubHTTPError], words: str) -> None:
    answer = httpx.Response(401, request=httpx.Request("GET", "https://hub.example"))
    wrapped = OSError("cannot load the model")
    wrapped.__cause__ = kind("401", response=answer)
    assert words in out_of_reach(Source("a", "org/a"), wrapped)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("sdxll", "did you mean sdxl"),
        ("flux-dev=/no/such/folder", "no file or folder /no/such/folder"),
        ("one/two/three", "There is no model 'one/two/three'"),
    ],
)
def test_a_name_that_is_nothing_is_one_sentence(model: str, words: str) -> None:
    with pytest.raises(HafError, match=words):
        find_source(model)
