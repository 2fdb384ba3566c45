"""What a fit is told: YAML there and back, defaults by the model's family, and mistakes in one sentence each."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from asap_train.training.config import PRESETS, FitConfig, ScoreSettings, as_dict, from_dict, read_config, write_config
from asap_train.training.lora import LoraSettings
from asap_train.training.objectives import GUARDS, OBJECTIVES, Weights
from hafbench.errors import HafError
from tiny_pipelines import build_sdxl

NEEDED = ["model=mannequin", "pairs=hap", "out=fit"]


@given(
    st.sampled_from([name for name in OBJECTIVES if OBJECTIVES[name].reference]),
    st.sampled_from(list(GUARDS)),
    st.none() | st.builds(LoraSettings, rank=st.integers(1, 256), dropout=st.floats(0, 0.9)),
    st.none() | st.builds(ScoreSettings, every=st.integers(1, 9).map(lambda n: 100 * n), seeds=st.integers(1, 9)),
    st.floats(1e-9, 1),
    st.integers(0, 2**40),
    st.text("abc é/.: '\"#-", min_size=1).map(lambda text: Path(f"x{text}")),
)
def test_yaml_gives_the_same_settings_back(
    tmp_path_factory: pytest.TempPathFactory,
    objective: str,
    guard: str,
    lora: LoraSettings | None,
    score: ScoreSettings | None,
    rate: float,
    seed: int,
    out: Path,
) -> None:
    weights = Weights(alpha=rate * 3, guard=guard)
    config = FitConfig(
        "mannequin", Path("hap"), out, objective, weights, lora, learning_rate=rate, seed=seed, score=score, keep=3
    )
    path = tmp_path_factory.mktemp("yaml") / "fit.yaml"
    write_config(config, path)
    assert read_config(path) == config
    assert from_dict(as_dict(config)) == config


def test_overrides_go_over_the_file_and_the_file_over_the_family(tmp_path: Path) -> None:
    path = tmp_path / "fit.yaml"
    path.write_text("model: sdxl\npairs: hap\nout: fit\nlearning_rate: 3e-6\nlora: {rank: 64}\n")
    config = read_config(path, ["accumulate=2", "weights.tau=0.02", "lora.alpha=8", "score.seeds=9"])
    assert config.learning_rate == 3e-6, "YAML 1.1 takes this for a text"
    assert config.precision == PRESETS["StableDiffusionXLPipeline"]["precision"] == "bf16"
    assert (config.batch_size, config.accumulate) == (1, 2)
    assert config.lora == LoraSettings(rank=64, alpha=8)
    assert config.weights == Weights(tau=0.02)
    assert config.score == ScoreSettings(seeds=9)
    full = read_config(path, ["lora=null", "score=null"])
    assert full.lora is full.score is None


def test_the_method_is_the_papers_in_every_family() -> None:
    for model in ("mannequin", "sd15", "sdxl", "sd35-medium", "flux-dev"):
        config = read_config(None, [f"model={model}", "pairs=hap", "out=fit"])
        assert config.objective == "asap"
        tau = 0.1 if model == "mannequin" else 0.01  # docs/experiment.md
        assert (config.weights.alpha, config.weights.tau, config.weights.beta) == (10, tau, 5000)
        assert config.lora is not None


def test_a_folder_has_the_defaults_of_its_pipeline(tmp_path: Path) -> None:
    folder = build_sdxl(tmp_path / "my-model")
    config = read_config(None, [f"model={folder}", "pairs=hap", "out=fit"])
    assert config.learning_rate == PRESETS["StableDiffusionXLPipeline"]["learning_rate"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stepz=3", "no setting 'stepz'; did you mean steps?"),
        ("weights.alpa=3", "no setting 'weights.alpa'; did you mean alpha?"),
        ("lora.rnak=3", "no setting 'lora.rnak'; did you mean rank?"),
        ("score.sede=3", "no setting 'score.sede'; did you mean seeds?"),
        ("steps=many", "steps: Input should be a valid integer"),
        ("steps=1.5", "steps: Input should be a valid integer"),
        ("steps=0", "steps: Input should be greater than or equal to 1"),
        ("learning_rate=-1e-4", "learning_rate: Input should be greater than 0"),
        ("learning_rate=.nan", "learning_rate: Input should be"),
        ("ema=1", "ema: Input should be less than 1"),
        ("caption_dropout=2", "caption_dropout: Input should be less than or equal to 1"),
        ("precision=fp8", "precision: Input should be 'no', 'bf16' or 'fp16'"),
        ("schedule=cosin", "schedule: Input should be 'constant'"),
        ("lora=16", "lora: Input should be a dictionary"),
        ("lora.rank=0", r"lora\.rank: 0 is too small"),
        ("weights.beta=-1", r"weights\.beta: -1\.0 is too small"),
        ("objective=asp", "objective asp: did you mean asap"),
        ("weights.guard=sftt", r"weights\.guard sftt: did you mean sft"),
        ("time_range=[0.5, 0.5]", "time_range: 0.5 is not below 0.5"),
        ("time_range=[0, 2]", "time_range.1: Input should be less than or equal to 1"),
        ("score.every=150", r"score\.every \(150\) must be a multiple of checkpoint_every \(100\)"),
        ("steps", "write KEY=VALUE"),
        ("steps=[", "cannot be read as YAML"),
        ("model=mannekin", "no model 'mannekin'.*mannequin"),
    ],
)
def test_mistakes_are_one_sentence(override: str, said: str) -> None:
    with pytest.raises(HafError, match=said) as caught:
        read_config(None, [*NEEDED, override])
    assert "\n" not in str(caught.value)


def test_a_guard_that_needs_a_reference_is_refused_without_one() -> None:
    with pytest.raises(HafError, match="'ceiling' needs a reference, which sft does not have"):
        read_config(None, [*NEEDED, "objective=sft", "weights.guard=ceiling"])


@pytest.mark.parametrize("text", ["- a\n- b\n", "steps: [", "just words"])
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fit.yaml"
    path.write_text(text)
    with pytest.raises(HafError, match=r"fit\.yaml"):
        read_config(path)
    with pytest.raises(HafError, match=r"none\.yaml cannot be read"):
        read_config(tmp_path / "none.yaml")


def test_the_resolved_file_can_be_read_by_a_person(tmp_path: Path) -> None:
    write_config(read_config(None, NEEDED), tmp_path / "fit.yaml")
    values = yaml.safe_load((tmp_path / "fit.yaml").read_text())
    assert values["lora"] == {"rank": 16, "alpha": 16.0, "targets": None, "dropout": 0.0}
    assert list(values)[:4] == ["model", "pairs", "out", "objective"]
