"""What is in memory while a model is tuned: encoders one kind after the other, and never with the network."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from asap_train.backbones.parts import AUTOENCODER, TEXT_ENCODERS, open_backbone
from asap_train.training.cache import native_size
from asap_train.training.trainer import train
from fits import painted_pairs, settings
from hafbench.generators.pipelines import load_pipeline
from hafbench.generators.sources import find_source
from tiny_one_file import as_one_file
from tiny_pipelines import BUILDERS, build_sd3, build_sd15

pytestmark = pytest.mark.usefixtures("one_thread")
MODELS = ("Transformer2DModel", "UNet2DConditionModel", "AutoencoderKL", "TextModel", "WithProjection", "EncoderModel")
KINDS = {"Transformer2D": "network", "UNet2D": "network", "Autoencoder": "autoencoder", "CLIP": "text", "T5": "text"}
"""Ends and parts of the names of models' classes."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_pairs(tmp_path_factory.mktemp("pairs") / "hap")


def kind_of(module: Any) -> str | None:
    name = type(module).__name__
    return next((kind for part, kind in KINDS.items() if part in name), None) if name.endswith(MODELS) else None


def with_weights() -> set[str]:
    """The kinds of models that are alive and have weights."""
    gc.collect()
    alive = [one for one in gc.get_objects() if kind_of(one) and issubclass(type(one), torch.nn.Module)]
    return {kind_of(one) or "" for one in alive if not next(one.parameters()).is_meta}


@contextmanager
def seen() -> Iterator[list[tuple[str, set[str]]]]:
    """Whenever a model or an autoencoder's encoder is called: its kind, and which kinds have weights then."""
    calls: list[tuple[str, set[str]]] = []

    def before(module: Any, given: Any) -> None:
        kind = "autoencoder" if type(module).__name__ == "Encoder" else kind_of(module)
        if kind and (not calls or calls[-1][0] != kind):
            calls.append((kind, with_weights()))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(before)
    try:
        yield calls
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["sdxl", "flux"])
def test_encoders_are_in_memory_one_kind_after_the_other_and_never_with_the_network(
    tmp_path: Path, pairs: Path, name: str
) -> None:
    model = BUILDERS[name](tmp_path / name)
    gc.collect()
    assert with_weights() == set(), "what a test before left"
    config = settings(model, pairs, tmp_path / "fit", max_train_steps=2)
    with seen() as calls:
        train(config)
    assert calls == [("text", {"text"}), ("autoencoder", {"autoencoder"}), ("network", {"network"})]
    # A cache that is full needs no encoder.
    with seen() as calls:
        train(settings(model, pairs, tmp_path / "again", max_train_steps=2, cache_dir=config.out / "cache"))
    assert calls == [("network", {"network"})]


def test_images_for_validation_need_text_encoders_first_and_the_autoencoder_beside_the_network(
    tmp_path: Path, pairs: Path
) -> None:
    model = build_sd3(tmp_path / "sd3")
    asked = {"validation": {"prompts": ("a hand",), "every": 2}, "max_train_steps": 2}
    with seen() as calls:
        train(settings(model, pairs, tmp_path / "fit", **asked))
    assert calls == [("text", {"text"}), ("autoencoder", {"autoencoder"}), ("network", {"network", "autoencoder"})]


@pytest.mark.parametrize("name", BUILDERS)
def test_models_loaded_in_parts_are_those_of_the_whole_pipeline(tmp_path: Path, name: str) -> None:
    folder = BUILDERS[name](tmp_path / name)
    same_as_whole(str(folder))


def same_as_whole(model: str) -> None:
    whole, facts = load_pipeline(find_source(model), torch.bfloat16)
    parts = open_backbone(model, "bf16")
    assert parts.backbone.facts["weights"] == facts["weights"]
    before = native_size(parts.backbone)
    names = (*TEXT_ENCODERS, *AUTOENCODER)
    with parts.loaded(names):
        for name in names:
            assert_same(getattr(parts.backbone.pipeline, name, None), getattr(whole, name, None))
    parts.load_network()
    assert native_size(parts.backbone) == before
    network = "unet" if hasattr(whole, "unet") else "transformer"
    assert_same(parts.backbone.network, getattr(whole, network))
    assert getattr(parts.backbone.pipeline, network) is parts.backbone.network


def assert_same(one: Any, other: Any) -> None:
    if other is None:
        assert one is None
        return
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert {value.dtype for value in mine.values()} == {value.dtype for value in theirs.values()}


def test_single_files_and_networks_alone_are_loaded_in_parts_too(tmp_path: Path) -> None:
    folder = build_sd15(tmp_path / "sd15")
    whole = as_one_file(folder)
    save_file(whole, folder / "whole.safetensors")
    same_as_whole(str(folder / "whole.safetensors"))
    network = {name: value for name, value in whole.items() if name.startswith("model.diffusion_model.")}
    save_file(network, folder / "network.safetensors")
    same_as_whole(str(folder / "network.safetensors"))
