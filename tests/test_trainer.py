"""Training: what changes and what does not, what is learnt, how it ends when it goes wrong, and several processes."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import load_file

from asap_train.reporting.fit_page import validation_strips
from asap_train.training.config import FitConfig, ValidationSettings
from asap_train.training.fit_log import FitLog, as_row, step_metrics
from asap_train.training.losses import Residuals, compute
from asap_train.training.noise import draw_noise
from asap_train.training.objectives import LossSettings
from asap_train.training.residuals import residuals_of
from asap_train.training.setup import Training
from asap_train.training.trainer import train
from asap_train.training.validation import drawn_steps, write_drawn
from fits import advance, log_of, mannequin_pairs, painted_pairs, ready, settings, tiny_model, two_processes
from hafbench.errors import HafError, Unavailable
from hafbench.generators import load_generator
from hafbench.specs import GeneratorSpec
from hafbench.suites import Prompt

SIDES = {"height": 16, "width": 16}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "sd3")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_pairs(tmp_path_factory.mktemp("pairs") / "hap")


@pytest.fixture(scope="module")
def mannequins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mannequin_pairs(tmp_path_factory.mktemp("mannequins") / "hap")


def errors(training: Training, places: range) -> dict[str, float]:
    """Mean step metrics of some pairs at fixed noises and timesteps."""
    config, shape = training.config, training.cache.batch([0], [False]).winner.shape[1:]
    batch = training.cache.batch(places, [False] * len(places))
    noise = draw_noise(99, places, 4, shape)
    timesteps = torch.tensor([200.0, 400.0, 600.0, 800.0]).expand(len(places), 4)
    with torch.no_grad():
        residuals = residuals_of(training.backbone, training.policy, training.refer, batch, noise, timesteps)
        loss = compute(config.objective, residuals, config.loss)
    return {name: float(value.nanmean()) for name, value in step_metrics(loss, residuals, timesteps / 1000).items()}


def test_asap_raises_the_gap_of_its_pairs_and_leaves_frozen_weights_alone(tmp_path: Path, mannequins: Path) -> None:
    paper = {"tau": 0.01, "guard": "none"}
    config = settings("mannequin", mannequins, tmp_path / "fit", train_batch_size=4, learning_rate=3e-4, loss=paper)
    training, log = ready(config)
    frozen = {
        name: value.detach().clone()
        for name, value in training.backbone.network.named_parameters()
        if "lora" not in name
    }
    count = len(training.cache.ids)
    assert errors(training, range(count))["delta"] == 0.0
    advance(training, log, 20)
    assert log.rows[0]["delta"] == 0.0
    assert log.rows[0]["loss"] == pytest.approx(0.01**2)
    after = errors(training, range(count))
    assert after["delta"] > 0.001
    assert after["below_zero"] < 0.2
    assert after["winner_advantage"] + after["loser_advantage"] == pytest.approx(after["delta"], abs=1e-6)
    now = dict(training.backbone.network.named_parameters())
    assert len(frozen) > 100
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert all(value.requires_grad for _, value in training.parameters)


def test_sft_learns_the_winners_without_a_reference(tmp_path: Path, mannequins: Path) -> None:
    config = settings(
        "mannequin", mannequins, tmp_path / "fit", objective="sft", train_batch_size=4, learning_rate=2e-3
    )
    training, log = ready(config)
    assert training.refer is None
    before = errors(training, range(8))
    advance(training, log, 15)
    after = errors(training, range(8))
    assert after["winner"] < 0.99 * before["winner"]
    assert log.rows[0]["delta"] is log.rows[0]["ref_winner_in"] is log.rows[0]["below_zero"] is None


def test_full_fine_tuning_has_a_copy_as_reference_and_gives_a_whole_pipeline(
    tmp_path: Path, model: Path, pairs: Path
) -> None:
    out = train(settings(model, pairs, tmp_path / "fit", lora=None))
    assert log_of(out)[0]["delta"] == 0.0
    assert log_of(out)[1]["delta"] != 0.0
    tuned, base = (
        StableDiffusion3Pipeline.from_pretrained(path) for path in (out / "checkpoints" / "000004" / "pipeline", model)
    )
    state = load_file(out / "checkpoints" / "000004" / "state.safetensors")
    for name, value in tuned.transformer.named_parameters():
        assert torch.equal(value, state[f"weights.{name}"])
    moved = [
        not torch.equal(one, other)
        for one, other in zip(tuned.transformer.parameters(), base.transformer.parameters(), strict=True)
    ]
    assert sum(moved) > 0.8 * len(moved)
    for part in ("vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        one, other = (dict(getattr(pipe, part).state_dict()) for pipe in (tuned, base))
        assert all(torch.equal(one[name], other[name]) for name in other), part


def test_accumulation_changes_nothing_but_memory(tmp_path: Path, model: Path, pairs: Path) -> None:
    shapes = {"whole": (4, 1), "parts": (1, 4)}
    logs = {}
    for name, (size, parts) in shapes.items():
        sizes = {"train_batch_size": size, "gradient_accumulation_steps": parts}
        logs[name] = log_of(train(settings(model, pairs, tmp_path / name, **sizes)))
    assert_close(logs["whole"], logs["parts"])


def assert_close(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """The same up to rounding; of a gap that is nearly zero rounding decides whether it is above.

    What is measured of rounding itself is another number each time.
    """
    assert len(one) == len(other) > 0
    for row, twin in zip(one, other, strict=True):
        assert row.keys() == twin.keys()
        for name in row.keys() - {"below_zero", "above_tau", "delta_noise"}:
            close = pytest.approx(twin[name], rel=1e-3, abs=1e-6) if twin[name] is not None else None
            assert row[name] == close, (name, row["step"])


@pytest.mark.slow
def test_the_log_says_how_often_the_gradient_was_clipped_and_what_rounding_does(
    tmp_path: Path, model: Path, pairs: Path
) -> None:
    rows = {}
    for name, objective in (("a", "asap"), ("b", "dpo")):
        out = train(settings(model, pairs, tmp_path / name, objective=objective, max_grad_norm=0.5))
        rows[name] = log_of(out)
    assert [row["clipped"] for row in rows["a"]] == [0, 0, 0, 0]
    assert [row["clipped"] for row in rows["b"]] == [1, 1, 1, 1]
    measured = [row["delta_noise"] for row in rows["a"]]
    assert [value is None for value in measured] == [True, False, True, False]
    half = log_of(train(settings(model, pairs, tmp_path / "half", mixed_precision="bf16")))
    assert half[3]["delta_noise"] > 100 * rows["a"][3]["delta_noise"]


def test_validation_images_are_of_fixed_noise_in_the_folder_and_in_the_tracker(
    tmp_path: Path, model: Path, pairs: Path
) -> None:
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    prompts = ("a hand", "two hands")
    score = {"every": 2, "model": {"arguments": {"num_inference_steps": 2}}}
    asked = {"validation": {"prompts": prompts, "every": 2}, "score": score, "report_to": "tensorboard"}
    out = train(settings(model, pairs, tmp_path / "fit", learning_rate=0.1, **asked))
    folders = drawn_steps(out)
    assert [path.name for path in folders] == ["000000", "000002", "000004"]
    images = [np.asarray(Image.open(folders[step] / name)) for step in (0, 2) for name in ("00.png", "01.png")]
    assert all(image.shape == (16, 16, 3) for image in images)
    assert not np.array_equal(images[0], images[1]), "prompts have noises of their own"
    assert not np.array_equal(images[0], images[2]), "the tuned network draws them"
    events = EventAccumulator(str(next((out / "trackers").rglob("events*")).parent))
    events.Reload()
    assert len(events.Images("a hand")) == 3
    # The page names the prompts that each was drawn with, whatever the fit was resumed with since.
    write_drawn(folders[2], ValidationSettings(prompts=("an arm", "a hand")))
    resumed = settings(model, pairs, out, validation={"prompts": ("no picture",)})
    shown = {strip.prompt: [cell.step for cell in strip.cells] for strip in validation_strips(resumed)}
    assert shown == {"a hand": [0, 2, 4], "two hands": [0, 2], "an arm": [4]}
    # What is drawn changes nothing of the training, and the base's images are those of hafbench's own noise.
    plain = train(settings(model, pairs, tmp_path / "plain", learning_rate=0.1))
    assert log_of(plain) == log_of(out)
    generator = load_generator(GeneratorSpec(model=str(model), arguments={"num_inference_steps": 2, **SIDES}), "cpu")
    (own,) = generator.generate([Prompt(id="p", text="a hand")], [0])
    assert np.abs(np.asarray(own).astype(int) - images[0]).max() <= 1


def test_errors_inside_and_outside_of_m_by_hand() -> None:
    residual = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 1, 2, 2)
    mask = torch.tensor([[1.0, 0.5], [0.0, 0.0]]).reshape(1, 1, 1, 2, 2)
    residuals = Residuals(residual, 2 * residual, mask, 0 * residual, residual)
    found = step_metrics(compute("dpo", residuals, LossSettings()), residuals, torch.tensor([[0.6]]))
    assert float(found["winner"]) == (1 + 4 + 9 + 16) / 4
    assert float(found["winner_in"]) == pytest.approx((1 + 2) / 1.5)
    assert float(found["winner_out"]) == pytest.approx((2 + 9 + 16) / 2.5)
    assert float(found["loser_in"]) == pytest.approx(4 * (1 + 2) / 1.5)
    # -[(7.5 - 30) - (0 - 7.5)]
    assert float(found["delta"]) == 15.0
    assert float(found["above_tau"]) == 1.0
    assert float(found["winner_advantage"]) == 0 - 7.5
    assert float(found["loser_advantage"]) == 30 - 7.5
    # The third quarter of the times is the only one drawn.
    assert float(found["delta_q3"]) == 15.0
    assert float(found["winner_in_rise_q3"]) == pytest.approx((1 + 2) / 1.5)
    assert all(math.isnan(float(found[f"delta_q{n}"])) for n in (1, 2, 4))


def test_a_checkpoint_holds_the_average_and_the_state_what_is_trained(tmp_path: Path, model: Path, pairs: Path) -> None:
    out = train(settings(model, pairs, tmp_path / "fit", ema_decay=0.5, learning_rate=1e-2))
    plain = train(settings(model, pairs, tmp_path / "plain", learning_rate=1e-2))
    last = out / "checkpoints" / "000004"
    assert log_of(out) == log_of(plain), "an average does not change the training"
    state = load_file(last / "state.safetensors")
    trained = load_file(plain / "checkpoints" / "000004" / "state.safetensors")
    names = [name for name in state if name.startswith("weights.")]
    assert names
    assert all(torch.equal(state[name], trained[name]) for name in names)
    one, other = (load_file(f / "checkpoints" / "000004" / "pytorch_lora_weights.safetensors") for f in (out, plain))
    shadows = {value.numpy().tobytes() for name, value in state.items() if name.startswith("ema.")}
    downs = [name for name in one if "lora_A" in name]
    assert downs
    for name in downs:
        assert one[name].numpy().tobytes() in shadows
        assert not torch.equal(one[name], other[name])


def test_numbers_that_are_not_finite_end_the_fit(tmp_path: Path, model: Path, pairs: Path) -> None:
    config = settings(model, pairs, tmp_path / "fit", objective="sft", learning_rate=1e30, checkpointing_steps=1)
    said = r"not finite at step 2, pairs [0-9a-f]{12}, [0-9a-f]{12}; the last good checkpoint is .*000001"
    with pytest.raises(HafError, match=said):
        train(config)
    assert [row["step"] for row in log_of(config.out)] == [1]


def test_an_explosion_is_told_by_the_running_median() -> None:
    log = FitLog(Path("none"), writes=False)
    good = {"loss": 1e-4, "norm": 1e-3, "winner": 0.5, "loser": 0.5}
    for step in range(20):
        assert log.trouble(as_row(step, {**good, "winner": 1e6}), 100) is None, "too few to know"
        log.append(as_row(step, good))
    assert log.trouble(as_row(20, {**good, "loss": 1.0, "winner": 40.0}), 100) is None
    assert "over 100 times its running median" in str(log.trouble(as_row(20, {**good, "winner": 120.0}), 100))
    assert log.trouble(as_row(20, {**good, "winner": 120.0}), 200) is None
    assert "not finite" in str(log.trouble(as_row(20, {**good, "norm": float("nan")}), 100))


def test_plots_and_trackers(tmp_path: Path, model: Path, pairs: Path) -> None:
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = train(settings(model, pairs, tmp_path / "fit", report_to="tensorboard"))
    for name in ("gap", "errors", "inside", "loss", "norm"):
        assert (out / "plots" / f"{name}.svg").read_text().rstrip().endswith("</svg>")
        with Image.open(out / "plots" / f"{name}.png") as image:
            assert min(image.size) > 300
    events = EventAccumulator(str(next((out / "trackers").rglob("events*")).parent))
    events.Reload()
    assert [event.value for event in events.Scalars("delta")] == pytest.approx([row["delta"] for row in log_of(out)])
    with pytest.raises(Unavailable, match="pip install trackio"):
        train(settings(model, pairs, tmp_path / "other", report_to="trackio"))


def test_half_precision_by_loss_scaling_needs_a_gpu(tmp_path: Path, model: Path, pairs: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(HafError, match="mixed_precision fp16 needs a GPU"):
        train(settings(model, pairs, tmp_path / "fit", mixed_precision="fp16"))


def as_one_of(config: FitConfig, rank: int, count: int, port: int) -> None:
    """What torchrun, and so `accelerate launch --multi_gpu`, sets for each process; the last one keeps it off GPUs."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    train(config)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [{"rank": 4, "lora_alpha": 4}, None])
def test_two_processes_are_one_with_twice_the_batch(
    tmp_path: Path, model: Path, pairs: Path, lora: dict[str, Any] | None
) -> None:
    together = {"lora": lora, "gradient_accumulation_steps": 2}
    two = settings(model, pairs, tmp_path / "two", train_batch_size=1, **together)
    processes = two_processes(as_one_of, two)
    one = train(settings(model, pairs, tmp_path / "one", train_batch_size=2, **together))
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert_close(log_of(two.out), log_of(one))
    states = [load_file(out / "checkpoints" / "000004" / "state.safetensors") for out in (two.out, one)]
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-2, atol=2e-4)
    shards = [sorted(path.name for path in (out / "cache").rglob("*.safetensors")) for out in (two.out, one)]
    assert shards[0] == shards[1]
    origin = json.loads((two.out / "checkpoints" / "000004" / "state.json").read_text())
    assert origin["pairs a step"] == 4
