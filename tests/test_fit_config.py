"""What a fit is told: YAML there and back, defaults by the model's family, and mistakes in one sentence each."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from asap_train.backbones import BACKBONES
from asap_train.training.config import FitConfig, LoraSettings, ScoreSettings, write_config
from asap_train.training.objectives import OBJECTIVES, AsapSettings, Guard, LossSettings
from hafbench.errors import HafError
from hafbench.settings import read_settings
from hafbench.specs import GeneratorSpec
from tiny_pipelines import build_sdxl

NEEDED = ["model=mannequin", "pairs=hap", "out=fit"]


def read_config(path: Path | None, overrides: list[str]) -> FitConfig:
    return read_settings(FitConfig, path, overrides)


@given(
    st.sampled_from([one.name for one in OBJECTIVES if one.reference]),
    st.sampled_from(["none", "sft", "ceiling", "sdpo"]),
    st.none() | st.builds(LoraSettings, rank=st.integers(1, 256), lora_dropout=st.floats(0, 0.9)),
    st.none() | st.builds(ScoreSettings, every=st.integers(1, 9).map(lambda n: 100 * n), seeds=st.integers(1, 9)),
    st.floats(1e-9, 1),
    st.integers(0, 2**40),
    st.text("abc é/.: '\"#-", min_size=1).map(lambda text: Path(f"x{text}")),
)
def test_yaml_gives_the_same_settings_back(
    tmp_path_factory: pytest.TempPathFactory,
    objective: str,
    guard: Guard,
    lora: LoraSettings | None,
    score: ScoreSettings | None,
    rate: float,
    seed: int,
    out: Path,
) -> None:
    config = FitConfig(
        model="mannequin",
        pairs=Path("hap"),
        out=out,
        objective=objective,
        lora=lora,
        loss=LossSettings(alpha=rate * 3, guard=guard),
        score=score,
        learning_rate=rate,
        seed=seed,
        checkpoints_total_limit=3,
    )
    path = tmp_path_factory.mktemp("yaml") / "fit.yaml"
    write_config(config, path)
    assert read_config(path, []) == config


def test_overrides_go_over_the_file_and_the_file_over_the_family(tmp_path: Path) -> None:
    path = tmp_path / "fit.yaml"
    path.write_text("model: sdxl\npairs: hap\nout: fit\nlearning_rate: 3e-6\nlora: {rank: 64}\n")
    config = read_config(path, ["gradient_accumulation_steps=2", "loss.tau=0.02", "lora.lora_alpha=8", "score.seeds=9"])
    assert config.learning_rate == 3e-6, "YAML 1.1 takes this for a text"
    family = BACKBONES.get("StableDiffusionXLPipeline").defaults
    assert config.mixed_precision == family["mixed_precision"] == "bf16"
    assert (config.train_batch_size, config.gradient_accumulation_steps) == (1, 2)
    assert config.lora == LoraSettings(rank=64, lora_alpha=8)
    assert config.loss == AsapSettings(tau=0.02)
    assert config.score == ScoreSettings(seeds=9, model=GeneratorSpec(model="sdxl", dtype="bf16"))
    full = read_config(path, ["lora=null", "score=null"])
    assert full.lora is None and full.score is None


def test_settings_within_those_of_the_family_keep_its_others() -> None:
    config = FitConfig.of("mannequin", "hap", "fit", lora={"rank": 4})
    assert config.lora == LoraSettings(rank=4, layers=("attention", "feed_forward"))


def test_an_objective_has_numbers_of_its_own() -> None:
    ipo = FitConfig.of("sdxl", "hap", "fit", objective="ipo", loss={"ipo_beta": 5})
    assert (ipo.loss.tau, FitConfig.of("sdxl", "hap", "fit", objective="ipo").loss.tau) == (0.1, 0.01)
    with pytest.raises(HafError, match=r"ipo_beta 5 is a tau of 0\.1, not 0\.3"):
        FitConfig.of("sdxl", "hap", "fit", objective="ipo", loss={"ipo_beta": 5, "tau": 0.3})
    mapo = FitConfig.of("sdxl", "hap", "fit", objective="mapo", loss={"snr": 0.7}).loss
    assert mapo.model_dump()["snr"] == 0.7
    with pytest.raises(HafError, match="loss: there is no setting 'snr'"):
        FitConfig.of("sdxl", "hap", "fit", loss={"snr": 0.7})


def test_checkpoints_are_scored_by_any_scorer_with_any_option() -> None:
    config = read_config(
        None, [*NEEDED, "score.scorers=limbs,clip", "score.scorers.limbs.pose=pose.pt", "score.scorers.clip.model=mine"]
    )
    assert config.score is not None
    spec = config.score.run_spec()
    assert {one.name: one.options.model_dump(exclude_unset=True) for one in config.score.scorers or ()} == {
        "limbs": {"pose": "pose.pt"},
        "clip": {"model": "mine"},
    }
    assert (spec.model.model, spec.suite, spec.seeds) == ("mannequin", "mannequin", 4)
    assert type(spec).__name__ == "RunSpec"


def test_whole_models_are_not_kept_without_end() -> None:
    assert read_config(None, [*NEEDED, "lora=null"]).checkpoints_total_limit == 2
    assert read_config(None, [*NEEDED, "lora=null", "checkpoints_total_limit=null"]).checkpoints_total_limit is None
    assert read_config(None, NEEDED).checkpoints_total_limit is None


def test_a_shorter_text_is_also_what_checkpoints_are_scored_with() -> None:
    config = read_config(None, [*NEEDED, "max_sequence_length=128"])
    assert config.score is not None
    assert config.score.model.arguments == {"max_sequence_length": 128}


def test_how_checkpoints_are_sampled_can_be_set_and_what_they_are_cannot() -> None:
    config = read_config(None, [*NEEDED, "score.model.arguments.num_inference_steps=4"])
    assert config.score is not None
    assert (config.score.model.model, config.score.model.arguments) == ("mannequin", {"num_inference_steps": 4})
    for other in ("score.model=sdxl", "score.model.model=sdxl", "score.model.lora=[x.safetensors]"):
        with pytest.raises(HafError, match="checkpoints are scored with the model that is tuned"):
            read_config(None, [*NEEDED, other])
    with pytest.raises(HafError, match=r"score\.model"):
        read_config(None, [*NEEDED, "score.model=[1]"])


def test_where_things_lie_does_not_hinder_a_resumed_fit() -> None:
    one, other = (
        FitConfig.of("mannequin", "hap", out, report_to=tracker, score={"device": device})
        for out, tracker, device in (("a", "none", "cpu"), ("b", "wandb", "cuda"))
    )
    assert one.compared() == other.compared()
    assert one.compared() != FitConfig.of("mannequin", "hap", "a", seed=1).compared()
    assert FitConfig.of("mannequin", "hap", "a", score=None).compared()["score"] is None


def test_the_method_is_the_same_in_every_family() -> None:
    for model in ("mannequin", "sd15", "sdxl", "sd35-medium", "flux-dev"):
        config = read_config(None, [f"model={model}", "pairs=hap", "out=fit"])
        assert config.objective == "asap"
        assert config.loss == AsapSettings(alpha=10, tau=1.6, auto_tau=True, beta=5000, guard="sft", guard_weight=0.5)
        assert config.lora is not None


@pytest.mark.parametrize(
    ("numbers", "tau", "share"),
    [
        ({}, 1.6, True),
        ({"auto_tau": True}, 1.6, True),
        ({"auto_tau": False}, 0.01, False),
        ({"auto_tau": 0}, 0.01, False),
        ({"auto_tau": "n"}, 0.01, False),
        ({"tau": 0.01}, 0.01, False),
        ({"tau": 0.4, "auto_tau": True}, 0.4, True),
    ],
)
def test_a_tau_that_is_given_alone_is_the_papers(numbers: dict[str, Any], tau: float, share: bool) -> None:
    loss = FitConfig.of("sdxl", "hap", "fit", loss=numbers).loss
    assert (loss.tau, loss.auto_tau) == (tau, share)
    assert AsapSettings.model_validate(loss.model_dump()) == loss
    margin = FitConfig.of("sdxl", "hap", "fit", objective="margin").loss
    assert (margin.tau, margin.auto_tau, margin.guard) == (0.01, False, "none")


def test_a_folder_has_the_defaults_of_its_pipeline(tmp_path: Path) -> None:
    folder = build_sdxl(tmp_path / "my-model")
    config = read_config(None, [f"model={folder}", "pairs=hap", "out=fit"])
    assert config.learning_rate == BACKBONES.get("StableDiffusionXLPipeline").defaults["learning_rate"]


def test_a_hub_repository_and_a_single_file_have_the_defaults_of_their_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is loaded for it: the one has its index in the hub's cache, the other nothing but names and shapes."""
    from huggingface_hub import constants

    snapshot = tmp_path / "hub" / "models--someone--my-flux" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = tmp_path / "flux.safetensors"
    names = ("double_blocks.0.img_attn.norm.key_norm.scale", "guidance_in.in_layer.bias")
    save_file({name: torch.zeros(2) for name in names} | {"img_in.weight": torch.zeros(4, 64)}, file)
    family = BACKBONES.get("FluxPipeline").defaults
    for model in ("someone/my-flux", str(file), "black-forest-labs/FLUX.1-dev"):
        config = read_config(None, [f"model={model}", "pairs=hap", "out=fit"])
        assert config.mixed_precision == family["mixed_precision"] == "bf16", model
        assert (config.train_batch_size, config.gradient_checkpointing) == (1, True)
    assert read_config(None, ["model=someone/else", "pairs=hap", "out=fit"]).mixed_precision == "no"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("max_train_stepz=3", "no setting 'max_train_stepz'; did you mean max_train_steps?"),
        ("loss.alpa=3", "loss: there is no setting 'alpa'; did you mean alpha?"),
        ("lora.rnak=3", r"no setting 'lora\.rnak'; did you mean rank?"),
        ("score.sede=3", r"no setting 'score\.sede'; did you mean seeds?"),
        ("max_train_steps=many", "max_train_steps: Input should be a valid integer"),
        ("max_train_steps=1.5", "max_train_steps: Input should be a valid integer"),
        ("max_train_steps=0", "max_train_steps: Input should be greater than or equal to 1"),
        ("learning_rate=-1e-4", "learning_rate: Input should be greater than 0"),
        ("learning_rate=.nan", "learning_rate: Input should be"),
        ("ema_decay=1", "ema_decay: Input should be less than 1"),
        ("caption_dropout=2", "caption_dropout: Input should be less than or equal to 1"),
        ("mixed_precision=fp8", "mixed_precision: Input should be 'no', 'bf16' or 'fp16'"),
        ("lr_scheduler=cosin", "lr_scheduler: Input should be 'constant'"),
        ("lora=16", "lora: Input should be a valid dictionary"),
        ("lora.rank=0", r"lora\.rank: Input should be greater than or equal to 1"),
        ("loss.beta=-1", "loss: beta: Input should be greater than 0"),
        ("loss.guard=sftt", "loss: guard: Input should be 'none', 'sft'"),
        ("objective=asp", "no objective 'asp': did you mean asap"),
        ("score.scorers=[hnds]", "no scorer 'hnds': did you mean hands"),
        ("time_range=[0.5, 0.5]", "time_range: 0.5 is not below 0.5"),
        ("time_range=[0, 2]", r"time_range\.1: Input should be less than or equal to 1"),
        ("score.every=150", r"score\.every \(150\) must be a multiple of checkpointing_steps \(100\)"),
        ("quantization=int3", "quantization: Input should be 'none', 'nf4' or 'fp8'"),
        ("max_train_steps", "write KEY=VALUE"),
        ("max_train_steps=[", "cannot be read as YAML"),
        ("model=mannekin", "no model 'mannekin'.*mannequin"),
        ("steps=3", "steps is called max_train_steps"),
        ("lora.alpha=3", r"lora\.alpha is called lora\.lora_alpha"),
    ],
)
def test_mistakes_are_one_sentence(override: str, said: str) -> None:
    with pytest.raises(HafError, match=said) as caught:
        read_config(None, [*NEEDED, override])
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(("?.", ".."))


@pytest.mark.parametrize(
    ("objective", "override", "said"),
    [
        ("sft", "loss.guard=ceiling", "'ceiling' needs a reference model, which sft does not have"),
        ("mapo", "loss.anchor_weight=1", r"loss\.anchor_weight needs a reference model, which mapo does not have"),
        ("sft", "loss.guard=sdpo", "'sdpo' scales the gradients of two branches, and sft has no loser's"),
        ("dpo", "loss.auto_tau=true", r"loss\.auto_tau: dpo has no tau"),
        ("asap", "loss.auto_beta=true", r"loss\.auto_beta: asap has no beta"),
        ("ipo", "loss.beta=5", "its own number is ipo_beta"),
        ("mapo", "loss.beta=5", "its own number is mapo_beta"),
        ("dpo", "loss.ipo_beta=5", "there is no setting 'ipo_beta'"),
    ],
)
def test_numbers_that_do_not_go_with_the_objective_are_refused(objective: str, override: str, said: str) -> None:
    with pytest.raises(HafError, match=said):
        read_config(None, [*NEEDED, f"objective={objective}", override])


@pytest.mark.parametrize("beside", [{"guard": "sft"}, {"guard": "ceiling"}, {"anchor_weight": 1}])
def test_what_a_margin_of_zero_would_weigh_by_nothing_is_refused(beside: dict[str, Any]) -> None:
    with pytest.raises(HafError, match=r"does nothing at loss\.tau 0"):
        FitConfig.of("sdxl", "hap", "fit", loss={"tau": 0, **beside})
    assert FitConfig.of("sdxl", "hap", "fit", objective="dpo", loss={"tau": 0, **beside}).loss.tau == 0


def test_only_a_frozen_base_is_quantized() -> None:
    assert read_config(None, [*NEEDED, "quantization=nf4"]).quantization == "nf4"
    with pytest.raises(HafError, match="only a frozen base is quantized; tune it with LoRA"):
        read_config(None, [*NEEDED, "quantization=nf4", "lora=null"])


@pytest.mark.parametrize("text", ["- a\n- b\n", "max_train_steps: [", "just words"])
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fit.yaml"
    path.write_text(text)
    with pytest.raises(HafError, match=r"fit\.yaml"):
        read_config(path, [])
    with pytest.raises(HafError, match=r"none\.yaml cannot be read"):
        read_config(tmp_path / "none.yaml", [])


def test_the_resolved_file_can_be_read_by_a_person(tmp_path: Path) -> None:
    write_config(read_config(None, NEEDED), tmp_path / "fit.yaml")
    values = yaml.safe_load((tmp_path / "fit.yaml").read_text())
    lora = {
        "rank": 16,
        "lora_alpha": 16.0,
        "layers": ["attention", "feed_forward"],
        "target_modules": None,
        "lora_dropout": 0.0,
    }
    lora |= {"text_encoder": False}
    assert values["lora"] == lora
    assert list(values)[:4] == ["model", "pairs", "out", "objective"]


def test_what_the_package_offers_is_there_and_imported_when_it_is_used() -> None:
    import asap_train

    assert all(getattr(asap_train, name) for name in asap_train.__all__)
    code = "import sys, asap_train.training.config as config; config.FitConfig.of('mannequin', 'hap', 'fit'); "
    subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=True)
