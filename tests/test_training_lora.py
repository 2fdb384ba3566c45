"""LoRA on tiny models of every family: what is trained, the reference behind it, and the files it is saved to."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file
from torch import Tensor

from asap_train.api import export_lora
from asap_train.backbones import Backbone, Conditions, Crop, load_backbone
from asap_train.training.config import LoraSettings
from asap_train.training.kohya import Factors, facts_of, kohya_state
from asap_train.training.lora import add_lora, export_kohya, freeze_idle, reference, save_lora, trained_parameters
from asap_train.training.losses import Residuals, compute
from asap_train.training.objectives import LossSettings
from hafbench.errors import HafError
from hafbench.generators.lora import Lora, apply_loras
from tiny_pipelines import BUILDERS

MODELS = [name for name in BUILDERS if name != "flux2-klein"]
"""FLUX.2 klein has the network of FLUX.2 dev."""
FAMILIES = [*MODELS, "mannequin"]
SETTINGS = LoraSettings(rank=4, lora_alpha=6.0)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {**{name: str(BUILDERS[name](folder / name)) for name in MODELS}, "mannequin": "mannequin"}


class Batch:
    """A pair of images with noise, a time and a mask."""

    def __init__(self, backbone: Backbone, size: int, seed: int = 0) -> None:
        dice = torch.Generator().manual_seed(seed)
        self.latents = [backbone.encode_images(2 * torch.rand(1, 3, size, size, generator=dice) - 1) for _ in range(2)]
        self.noise = torch.randn(self.latents[0].shape, generator=dice)
        self.times = backbone.draw_timesteps(torch.rand(1, generator=dice))
        self.words: Conditions = {
            **backbone.encode_texts(["a hand"]),
            **backbone.encode_crops([Crop.whole((size, size))]),
        }
        self.mask = torch.zeros_like(self.noise[:, :1])
        self.mask[..., 2:5, 2:5] = 1

    def residuals(self, backbone: Backbone) -> list[Tensor]:
        return [
            backbone.predict(backbone.noised(image, self.noise, self.times), self.times, self.words)
            - backbone.target(image, self.noise, self.times)
            for image in self.latents
        ]

    def both(self, backbone: Backbone) -> Residuals:
        winner, loser = self.residuals(backbone)
        with reference(backbone):
            return Residuals(winner, loser, self.mask, *self.residuals(backbone))


def load(model: str, settings: LoraSettings = SETTINGS, dtype: str = "fp32") -> tuple[Backbone, Batch]:
    backbone = load_backbone(model, dtype)
    if backbone.text_tokens:
        backbone.text_tokens = min(backbone.text_tokens, 64)
    batch = Batch(backbone, 128 if model == "mannequin" else 32)
    add_lora(backbone, settings, seed=0)
    return backbone, batch


def train(backbone: Backbone, batch: Batch, steps: int = 4) -> list[float]:
    """The gap before every step of ASAP."""
    optimizer = torch.optim.AdamW([value for _, value in trained_parameters(backbone)], lr=0.02)
    gaps = []
    for _ in range(steps):
        loss = compute("asap", batch.both(backbone), LossSettings())
        gaps.append(loss.delta.item())
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return gaps


def draw(pipeline: Any, model: str) -> np.ndarray:
    size = {"height": 32, "width": 32} if model != "mannequin" else {"max_sequence_length": 1}
    noise = torch.Generator().manual_seed(0)
    made = pipeline(prompt="a hand", generator=noise, num_inference_steps=2, output_type="np", **size)
    return np.asarray(made.images)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_changes_the_adapter_alone_and_the_reference_stays_the_base(models: dict[str, str], name: str) -> None:
    base = load_backbone(models[name])
    backbone, batch = load(models[name])
    untouched = batch.residuals(base)
    assert all(torch.equal(*both) for both in zip(batch.residuals(backbone), untouched, strict=True))
    gaps = train(backbone, batch)
    assert gaps[0] == 0
    assert gaps[-1] != 0
    changed = batch.residuals(backbone)
    with reference(backbone):
        assert all(torch.equal(*both) for both in zip(batch.residuals(backbone), untouched, strict=True))
    assert not torch.allclose(changed[0], untouched[0], atol=1e-4)
    assert all(torch.equal(*both) for both in zip(batch.residuals(backbone), changed, strict=True))
    before = dict(base.network.named_parameters())
    for key, value in backbone.network.named_parameters():
        if ".lora_" in key:
            assert value.requires_grad
        else:
            assert value.grad is None
            assert torch.equal(value, before[key.replace(".base_layer", "")])


@pytest.mark.parametrize("name", MODELS)
def test_lora_goes_to_the_attention_of_every_block(models: dict[str, str], name: str) -> None:
    backbone, _ = load(models[name])
    tuned = {key.partition(".lora_")[0] for key, _ in trained_parameters(backbone)}
    projections = {
        key.removesuffix(".base_layer")
        for key, module in backbone.network.named_modules()
        if (".attn" in key or ".attention." in key) and isinstance(module, torch.nn.Linear) and ".lora_" not in key
    }
    # The last block of Qwen-Image makes words of which nothing comes.
    assert tuned == projections - {"transformer_blocks.1.attn.to_add_out"}
    assert tuned


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_of_the_adapter_has_a_gradient(models: dict[str, str], name: str) -> None:
    """Several processes wait for that of each."""
    backbone, batch = load(models[name], LoraSettings(rank=4, layers=("attention", "feed_forward")))
    batch.residuals(backbone)[0].square().mean().backward()
    assert all(value.grad is not None for _, value in trained_parameters(backbone))


@pytest.mark.parametrize("name", FAMILIES)
def test_in_full_every_weight_that_is_tuned_has_a_gradient(models: dict[str, str], name: str) -> None:
    backbone = load_backbone(models[name])
    freeze_idle(backbone)
    Batch(backbone, 32).residuals(backbone)[0].square().mean().backward()
    idle = {key for key, value in backbone.network.named_parameters() if not value.requires_grad}
    assert all(value.grad is not None for _, value in trained_parameters(backbone))
    assert len(idle) == (6 if name == "qwen-image" else 0)


def test_named_modules_without_effect_are_not_tuned(models: dict[str, str]) -> None:
    backbone, _ = load(models["qwen-image"], LoraSettings(rank=4, target_modules=("to_add_out", "img_mod.1")))
    tuned = {key.partition(".lora_")[0] for key, _ in trained_parameters(backbone)}
    blocks = [f"transformer_blocks.{block}" for block in (0, 1)]
    assert tuned == {"transformer_blocks.0.attn.to_add_out", *(f"{block}.img_mod.1" for block in blocks)}


@pytest.mark.parametrize("name", MODELS)
def test_the_feed_forward_layers_are_tuned_where_they_are_asked_for(models: dict[str, str], name: str) -> None:
    tuned = {}
    for layers in (("attention",), ("feed_forward",), ("attention", "feed_forward")):
        backbone, _ = load(models[name], LoraSettings(rank=4, layers=layers))
        tuned[layers] = {key.partition(".lora_")[0] for key, _ in trained_parameters(backbone)}
    linear = {
        key.removesuffix(".base_layer")
        for key, module in backbone.network.named_modules()
        if isinstance(module, torch.nn.Linear) and ".lora_" not in key
    }
    blocks = ("blocks.", "mid_block", "layers.", "refiner.")
    linear = {key for key in linear if any(block in key for block in blocks)}
    single = {key for key in linear if "single" in key and ".attn" not in key and "proj_" in key}
    # FLUX.2's single blocks have one matrix for both kinds.
    single |= {key for key in linear if "single" in key and name.startswith("flux2") and ".attn" in key}
    feed_forward = single | {key for key in linear if any(part in key for part in (".ff", "_mlp.", ".feed_forward"))}
    assert tuned["feed_forward",] == feed_forward - {
        f"transformer_blocks.1.txt_mlp.net.{end}" for end in ("0.proj", "2")
    }
    feed_forward = tuned["feed_forward",]
    assert feed_forward
    assert tuned["attention", "feed_forward"] == tuned["attention",] | feed_forward


def test_a_look_at_the_reference_leaves_the_gradients_of_the_policy(models: dict[str, str]) -> None:
    grads = []
    for look in (False, True):
        backbone, batch = load(models["sd3"])
        loss = batch.residuals(backbone)[0].square().mean()
        if look:
            with reference(backbone):
                assert not batch.residuals(backbone)[0].requires_grad
        loss.backward()
        grads.append({key: value.grad for key, value in trained_parameters(backbone)})
    assert any(grad.abs().max() > 0 for grad in grads[0].values())
    assert all(torch.equal(grad, grads[1][key]) for key, grad in grads[0].items())


@pytest.mark.parametrize("name", MODELS)
def test_layers_computed_again_for_the_gradient_are_the_policys(models: dict[str, str], name: str) -> None:
    """Gradient checkpointing runs the network once more in `backward`, after the reference has had its turn."""
    grads = []
    for again in (False, True):
        backbone, batch = load(models[name])
        train(backbone, batch, 1)
        network: Any = backbone.network
        network.train()
        if again:
            network.enable_gradient_checkpointing()
        compute("asap", batch.both(backbone), LossSettings()).total.backward()
        grads.append({key: value.grad for key, value in trained_parameters(backbone)})
    assert all(torch.allclose(grad, grads[1][key], atol=1e-6) for key, grad in grads[0].items())
    assert sum(grad.abs().sum().item() for grad in grads[0].values()) > 1e-3


def test_the_adapter_comes_back_after_an_error_in_the_reference(models: dict[str, str]) -> None:
    backbone, batch = load(models["sd15"])
    train(backbone, batch, 2)
    expected = batch.residuals(backbone)[0]
    with pytest.raises(RuntimeError), reference(backbone):
        raise RuntimeError
    assert torch.equal(batch.residuals(backbone)[0], expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_lora_draws_what_the_model_in_memory_draws(models: dict[str, str], tmp_path: Path, name: str) -> None:
    backbone, batch = load(models[name])
    train(backbone, batch)
    path = save_lora(backbone, tmp_path)
    fresh = load_backbone(models[name]).pipeline
    base = draw(fresh, name)
    applied = apply_loras(fresh, [Lora(path, 1.0)])
    assert applied[0]["file"] == "pytorch_lora_weights.safetensors"
    expected = draw(backbone.pipeline, name)
    assert np.abs(expected - base).max() > 1e-3
    assert np.abs(draw(fresh, name) - expected).max() < 2e-5


DOUBLE = tuple(f"transformer_blocks.0.attn.{name}" for name in ("to_q", "to_v", "to_out.0", "add_k_proj", "to_add_out"))
FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("sd15", None),
        ("sd15", ("to_q", "conv1", "proj_in", "time_emb_proj", *FEED_FORWARD)),
        ("sdxl", None),
        ("sdxl", ("to_q", "proj_in", "proj_out", *FEED_FORWARD)),
        ("flux2", (*DOUBLE, "linear_in", "linear_out", "to_qkv_mlp_proj", "single_transformer_blocks.0.attn.to_out")),
        ("flux2", None),
        ("qwen-image", None),
        ("qwen-image", ("to_q", "add_k_proj", "transformer_blocks.0.attn.to_add_out", "img_mlp.net.0.proj", "net.2")),
        ("z-image", None),
        ("z-image", ("to_v", "to_out.0", "w1", "w2", "w3")),
        # diffusers' reader has the true widths of FLUX's single blocks written into it: see the test after this.
        ("flux", (*DOUBLE, *FEED_FORWARD, "ff_context.net.0.proj", "ff_context.net.2")),
    ],
)
def test_a_file_for_kohya_and_comfyui_is_read_back_by_diffusers(
    models: dict[str, str], tmp_path: Path, name: str, targets: tuple[str, ...] | None
) -> None:
    backbone, batch = load(models[name], LoraSettings(rank=4, lora_alpha=6.0, target_modules=targets))
    train(backbone, batch)
    export_kohya(save_lora(backbone, tmp_path), tmp_path / "kohya.safetensors")
    fresh = load_backbone(models[name]).pipeline
    base = draw(fresh, name)
    apply_loras(fresh, [Lora(tmp_path / "kohya.safetensors", 1.0)])
    expected = draw(backbone.pipeline, name)
    assert np.abs(expected - base).max() > 1e-3
    assert np.abs(draw(fresh, name) - expected).max() < 2e-5


def test_a_folder_in_the_place_of_an_exported_file_is_named(models: dict[str, str], tmp_path: Path) -> None:
    backbone, _ = load(models["sdxl"], LoraSettings(rank=4))
    made = save_lora(backbone, tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(HafError, match=r"/folder cannot be written: Is a directory; choose another --out"):
        export_lora(str(made), str(tmp_path / "folder"))
    assert export_lora(str(made), str(tmp_path / "kohya.safetensors")) == tmp_path / "kohya.safetensors"


def factors(network: Any, targets: list[str]) -> dict[str, Factors]:
    """Random ones of rank 4 for every module whose name ends so."""
    dice = torch.Generator().manual_seed(0)
    return {
        key: Factors(
            torch.randn(4, module.in_features, generator=dice), torch.randn(module.out_features, 4, generator=dice)
        )
        for key, module in network.named_modules()
        if any(key.endswith(f".{target}") for target in targets)
    }


@pytest.mark.parametrize("targets", [["attn.to_q", "attn.to_k", "attn.to_v"], ["attn.to_k", "proj_mlp", "proj_out"]])
def test_single_blocks_of_flux_are_read_back_at_their_true_size(targets: list[str]) -> None:
    with torch.device("meta"):
        network = diffusers.FluxTransformer2DModel(num_layers=1, num_single_layers=1)
    given = factors(network, targets)
    read = diffusers.FluxPipeline.lora_state_dict(kohya_state(facts_of(network, given), given))
    for module, pair in given.items():
        down, up = (read.pop(f"transformer.{module}.lora_{letter}.weight") for letter in "AB")
        some = torch.randn(down.shape[1], 3)
        assert torch.allclose(up @ (down @ some), pair.up @ (pair.down @ some), atol=1e-3)
    # Of matrices that were not tuned, but lie in one with others that were.
    assert all(value.abs().max() == 0 for key, value in read.items() if ".lora_B." in key)


class Original(dict[str, Tensor]):
    """A checkpoint in Stability's layout whose weights are what a LoRA in kohya's format adds to them.

    As ComfyUI applies it: the layer's name is `lora_unet_` and the weight's name with underscores. Zeros elsewhere.
    """

    def __init__(self, lora: dict[str, Tensor], blocks: int) -> None:
        names = [f"joint_blocks.{i}.x_block.attn2.qkv.weight" for i in range(blocks)]
        super().__init__(dict.fromkeys(names, torch.zeros(6, 1)), **{"context_embedder.weight": torch.zeros(6, 1)})
        self.lora = dict(lora)

    def pop(self, name: str, *_: Any) -> Tensor:
        layer = f"lora_unet_{name.removesuffix('.weight').replace('.', '_')}"
        if not name.endswith(".weight") or f"{layer}.alpha" not in self.lora:
            return torch.zeros(6, 1)
        down, up, alpha = (self.lora.pop(f"{layer}.{end}") for end in ("lora_down.weight", "lora_up.weight", "alpha"))
        return alpha / down.shape[0] * up @ down


def test_the_names_for_sd3_are_those_of_the_original_model() -> None:
    """diffusers reads no such LoRA for SD3; its reader of original checkpoints knows the modules and their order."""
    network = diffusers.SD3Transformer2DModel(
        num_layers=3, attention_head_dim=4, num_attention_heads=2, dual_attention_layers=(0, 1, 2), sample_size=8
    )
    attention = ["to_q", "to_k", "to_v", "to_out.0"]
    given = factors(network, [*attention, "add_q_proj", "add_v_proj", "to_add_out", *FEED_FORWARD, "ff_context.net.2"])
    original = Original(kohya_state(facts_of(network, given), given), 3)
    read = convert_sd3_transformer_checkpoint_to_diffusers(original)
    assert not original.lora
    assert len(given) > 30
    for module, pair in given.items():
        assert torch.allclose(read.pop(f"{module}.weight"), pair.up @ pair.down, atol=1e-5)
    assert all(value.abs().max() == 0 for value in read.values())


def test_a_module_without_a_name_there_is_told(models: dict[str, str], tmp_path: Path) -> None:
    others = (("flux2", "x_embedder"), ("qwen-image", "img_mod.1"), ("z-image", "cap_embedder.1"))
    for name, target in (("sdxl", "conv1"), ("flux", "norm.linear"), ("sd3", "proj_out"), *others):
        backbone, _ = load(models[name], LoraSettings(rank=4, target_modules=(target,)))
        with pytest.raises(HafError, match=f"{target} has no name in kohya's format"):
            export_kohya(save_lora(backbone, tmp_path / name), tmp_path / "kohya.safetensors")


def test_a_file_that_is_no_lora_of_ours_is_told(tmp_path: Path) -> None:
    some = {"unet.a.lora_A.weight": torch.zeros(1, 1)}
    for metadata, said in (
        ({"format": "pt"}, "does not say which network"),
        ({"asap_train.network": "{"}, "is damaged"),
        ({"asap_train.network": '{"kind": "UNet2DConditionModel"}'}, "is damaged"),
    ):
        save_file(some, tmp_path / "a.safetensors", metadata=metadata)
        with pytest.raises(HafError, match=said):
            export_kohya(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(HafError, match="cannot be read"):
        export_kohya(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_a_seed_makes_the_adapter_and_touches_no_other_dice(models: dict[str, str]) -> None:
    made = []
    for seed in (1, 1, 2):
        backbone = load_backbone(models["sd3"])
        state = torch.random.get_rng_state()
        add_lora(backbone, SETTINGS, seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        made.append(torch.cat([value.flatten() for key, value in trained_parameters(backbone) if ".lora_A." in key]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize("name", MODELS)
def test_on_a_model_in_half_precision_the_adapter_is_in_single(models: dict[str, str], name: str) -> None:
    backbone, batch = load(models[name], dtype="bf16")
    assert {value.dtype for _, value in trained_parameters(backbone)} == {torch.float32}
    gaps = train(backbone, batch)
    assert gaps[0] == 0
    assert np.isfinite(gaps).all()
    assert gaps[-1] != 0


def test_a_network_wrapped_for_several_gpus_keeps_its_names(models: dict[str, str], tmp_path: Path) -> None:
    backbone, batch = load(models["sd15"])
    names = [name for name, _ in trained_parameters(backbone)]
    train(backbone, batch, 2)
    expected = load_file(save_lora(backbone, tmp_path / "plain"))
    backbone.network = torch.nn.DataParallel(backbone.network)
    with reference(backbone):
        base = batch.residuals(backbone)[0]
    assert not torch.equal(base, batch.residuals(backbone)[0])
    assert [name for name, _ in trained_parameters(backbone)] == names
    saved = load_file(save_lora(backbone, tmp_path / "wrapped"))
    assert all(torch.equal(value, saved.pop(key)) for key, value in expected.items())
    assert not saved


def test_dropout_acts_in_training_alone(models: dict[str, str]) -> None:
    backbone, batch = load(models["sd3"], LoraSettings(rank=4, lora_dropout=0.5))
    train(backbone, batch, 2)
    backbone.network.train()
    assert not torch.equal(batch.residuals(backbone)[0], batch.residuals(backbone)[0])
    backbone.network.eval()
    assert torch.equal(batch.residuals(backbone)[0], batch.residuals(backbone)[0])


def test_settings_that_fit_no_module_are_told(models: dict[str, str]) -> None:
    backbone = load_backbone(models["sd15"])
    with pytest.raises(HafError, match="name that ends in to_qq"):
        add_lora(backbone, LoraSettings(target_modules=("to_q", "to_qq")), 0)
    with pytest.raises(HafError, match="attn1 is a module of the kind Attention; name linear layers"):
        add_lora(backbone, LoraSettings(target_modules=("to_q", "attn1")), 0)
    with pytest.raises(ValueError, match="no adapter"), reference(backbone):
        pass
