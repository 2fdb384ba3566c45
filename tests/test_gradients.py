"""The gradient of a step: of many draws, in two passes, without what is not learnt; and what is in memory for it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from asap_train.training.losses import compute
from asap_train.training.noise import draw_noise, draw_uniform, pair_at
from asap_train.training.objectives import LossSettings
from asap_train.training.residuals import residuals_of
from asap_train.training.setup import Training
from asap_train.training.trainer import _backward
from fits import advance, painted_pairs, ready, settings, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "sd3")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_pairs(tmp_path_factory.mktemp("pairs") / "hap")


def test_draws_are_averaged_within_their_pair(tmp_path: Path, model: Path, pairs: Path) -> None:
    training, _ = ready(settings(model, pairs, tmp_path / "fit", noise_draws=3))
    batch, noise = training.cache.batch([0, 1], [False, False]), draw_noise(0, [0, 1], 3, (4, 8, 8))
    timesteps = torch.tensor([[100.0, 500.0, 900.0], [300.0, 200.0, 700.0]])
    both = residuals_of(training.backbone, training.policy, training.refer, batch, noise, timesteps)
    single = [
        residuals_of(training.backbone, training.policy, None, batch, noise[:, k : k + 1], timesteps[:, k : k + 1])
        for k in range(3)
    ]
    assert both.winner.shape == (2, 3, 4, 8, 8)
    for name in ("winner", "loser"):
        torch.testing.assert_close(getattr(both, name), torch.cat([getattr(one, name) for one in single], 1))
    mean = compute("asap", both, LossSettings()).winner
    parts = torch.stack([compute("sft-local", one, LossSettings()).winner for one in single])
    torch.testing.assert_close(mean, parts.mean(0))


class Held:
    """What autograd keeps for the backward pass: bytes alive now, and at most."""

    now = peak = 0

    def __init__(self, kept: torch.Tensor) -> None:
        self.kept = kept
        Held.now += kept.nbytes
        Held.peak = max(Held.peak, Held.now)

    def __del__(self) -> None:
        Held.now -= self.kept.nbytes


@pytest.mark.parametrize("guard", ["none", "sdpo"])
def test_many_draws_have_the_gradient_of_one_pass_and_the_memory_of_one_draw(
    tmp_path: Path, model: Path, pairs: Path, guard: str
) -> None:
    peaks: list[int] = []
    for draws in (1, 4):
        loss = {"tau": 0.1, "guard": guard, "anchor_weight": 0.5}
        config = settings(model, pairs, tmp_path / f"{draws}", noise_draws=draws, train_batch_size=2, loss=loss)
        training, log = ready(config)
        advance(training, log, 2)  # so that policy and reference differ
        Held.now = Held.peak = 0
        with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.kept):
            _backward(training, config.loss, 2, 0, True)
        peaks.append(Held.peak)
        values = [value for _, value in training.parameters]
        found = torch.cat([value.grad.flatten() for value in values])

        positions = [4, 5]
        places = [pair_at(config.seed, position, len(training.cache.ids)) for position in positions]
        uniform = draw_uniform(config.seed, 2, range(2), 2, draws)
        times = training.backbone.draw_timesteps(uniform.flatten(), (8, 8)).reshape(2, draws)
        batch, noise = training.cache.batch(places, [False, False]), draw_noise(0, positions, draws, (4, 8, 8))
        whole = residuals_of(training.backbone, training.policy, training.refer, batch, noise, times)
        expected = torch.autograd.grad(compute("asap", whole, config.loss).total, values)
        torch.testing.assert_close(found, torch.cat([one.flatten() for one in expected]), rtol=1e-4, atol=1e-8)
    assert peaks[1] < 1.1 * peaks[0]


def gradient_of(training: Training, **changed: Any) -> tuple[torch.Tensor, int]:
    """That of the third step's first batch, with other settings, and the most bytes that autograd keeps for it."""
    training.config = training.config.model_copy(update=changed)
    training.optimizer.zero_grad()
    Held.now = Held.peak = 0
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.kept):
        _backward(training, training.config.loss, 2, 0, True)
    return torch.cat([value.grad.flatten() for value in training.values]), Held.peak


TWO_PASSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "draws": {"noise_draws": 3},
    "sdpo": {"loss": {"tau": 0.1, "guard": "sdpo"}},
    "ceiling and anchor": {"loss": {"tau": 0.1, "guard": "ceiling", "anchor_weight": 0.5}},
    "dpo": {"objective": "dpo", "loss": {"guard": "sft"}},
    "parts": {"gradient_accumulation_steps": 2, "train_batch_size": 1},
}


@pytest.mark.parametrize("name", TWO_PASSES)
def test_two_passes_have_the_gradient_of_one_at_half_the_activations(
    tmp_path: Path, model: Path, pairs: Path, name: str
) -> None:
    training, log = ready(settings(model, pairs, tmp_path / "fit", **TWO_PASSES[name]))
    advance(training, log, 2)  # so that policy and reference differ
    one, whole = gradient_of(training)
    other, half = gradient_of(training, two_passes=True)
    assert float((other - one).norm() / one.norm()) < 1e-4, "the branches' gradients nearly cancel each other"
    training.backbone.network.double()
    one, other = (gradient_of(training, two_passes=two)[0] for two in (False, True))
    assert float((other - one).norm() / one.norm()) < 1e-8
    assert half < 0.6 * whole


def test_two_passes_in_half_precision_start_at_no_gap_and_with_nearly_the_same_gradient(
    tmp_path: Path, model: Path, pairs: Path
) -> None:
    found = []
    for two in (False, True):
        config = settings(model, pairs, tmp_path / f"{two}", two_passes=two, mixed_precision="bf16", loss={"tau": 0.5})
        training, _ = ready(config)
        assert float(_backward(training, config.loss, 0, 0, True)["delta"].abs().max()) == 0.0
        found.append(torch.cat([value.grad.flatten() for value in training.values]))
    assert torch.cosine_similarity(*found, dim=0) > 0.999
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 0.03


def test_two_passes_draw_the_dropout_that_their_loss_was_computed_with(
    tmp_path: Path, model: Path, pairs: Path
) -> None:
    """The loss of the step is that of the weights' gradient: a finite difference along it says so."""
    lora = {"rank": 4, "lora_alpha": 4, "lora_dropout": 0.5}
    config = settings(model, pairs, tmp_path / "fit", two_passes=True, lora=lora, loss={"tau": 0.5})
    training, log = ready(config)
    advance(training, log, 2)

    def loss() -> float:
        return float(_backward(training, config.loss, 2, 0, True)["loss"].double().mean())

    loss()
    direction = [value.grad.clone() for value in training.values]
    size = sum(float(one.square().sum()) for one in direction)
    moved = []
    for step in (1, -2):
        with torch.no_grad():
            for value, one in zip(training.values, direction, strict=True):
                value.add_(one, alpha=step * 0.02 / size**0.5)
        moved.append(loss())
    assert (moved[0] - moved[1]) / 0.04 == pytest.approx(size**0.5, rel=0.05)


def test_a_mask_is_grown_by_cells(tmp_path: Path, model: Path, pairs: Path) -> None:
    training, _ = ready(settings(model, pairs, tmp_path / "fit"))
    batch = replace(training.cache.batch([0], [False]), mask=torch.zeros(1, 1, 8, 8))
    batch.mask[..., 3, 4] = 0.5
    assert torch.equal(batch.dilated(0).mask, batch.mask)
    grown = batch.dilated(1).mask[0, 0]
    assert torch.equal(grown.nonzero(), torch.cartesian_prod(torch.arange(2, 5), torch.arange(3, 6)))
    assert grown.max() == 0.5


def test_losers_that_are_not_learnt_have_no_gradient_and_change_none(tmp_path: Path, model: Path, pairs: Path) -> None:
    training, _ = ready(settings(model, pairs, tmp_path / "fit", objective="sft"))
    batch, noise = training.cache.batch([0, 1], [False, False]), draw_noise(0, [0, 1], 1, (4, 8, 8))
    timesteps = torch.tensor([[100.0], [900.0]])
    values, found = [value for _, value in training.parameters], []
    for learn in (True, False):
        residuals = residuals_of(training.backbone, training.policy, None, batch, noise, timesteps, learn)
        gradient = torch.autograd.grad(compute("sft", residuals, LossSettings()).total, values)
        found.append((residuals, torch.cat([one.flatten() for one in gradient])))
    (both, whole), (alone, part) = found
    assert both.loser.requires_grad and not alone.loser.requires_grad
    torch.testing.assert_close(alone.loser, both.loser)
    torch.testing.assert_close(part, whole)
