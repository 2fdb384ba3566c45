"""The objectives against hand-worked numbers, published forms, numerical gradients, and what must always hold."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from operator import itemgetter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid, mse_loss

from asap_train.training.losses import Residuals, compute, errors_of, mean_error, safe_scale
from asap_train.training.objectives import OBJECTIVES, Guard, LossSettings, MapoSettings

NAMES = OBJECTIVES.names()
SEEDS = st.integers(0, 2**31)


def random(seed: int, same: bool = False, shape: tuple[int, ...] = (3, 2, 4, 4)) -> Residuals:
    """Residuals whose reference is another model, or the policy itself."""
    dice = torch.Generator().manual_seed(seed)
    winner, loser, ref_winner, ref_loser = torch.randn(4, *shape, generator=dice, dtype=torch.float64)
    mask = (torch.rand(shape[0], 1, *shape[2:], generator=dice) > 0.6).double()
    return Residuals(winner, loser, mask, *((winner, loser) if same else (ref_winner, ref_loser)))


def each(residuals: Residuals, change: Callable[[Tensor], Tensor]) -> Residuals:
    """With all five tensors changed."""
    return replace(residuals, **{one.name: change(getattr(residuals, one.name)) for one in fields(residuals)})


def test_the_localized_error_by_hand() -> None:
    # Errors 1, 4, 9, 16; M covers the last: (1 + 4 + 9 + 11 x 16) / 4.
    residual = torch.tensor([[[[1.0, -2.0], [3.0, 4.0]]]])
    mask = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])
    assert mean_error(residual, mask, 10.0).tolist() == [47.5]
    assert mean_error(residual, mask, 0.0).tolist() == [7.5]


def by_hand() -> Residuals:
    """One sample of one element: L(w) 0.04, L(l) 0.09, of the reference 0.05 and 0.0676."""
    one = [torch.tensor([[[[math.sqrt(value)]]]], dtype=torch.float64) for value in (0.04, 0.09, 0.05, 0.0676)]
    return Residuals(one[0], one[1], torch.ones(1, 1, 1, 1), one[2], one[3])


# delta = -[(0.04 - 0.09) - (0.05 - 0.0676)] = 0.0324; times 11 where M is everywhere and alpha is 10.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sft", 0.04),
        ("sft-local", 0.44),
        ("dpo", math.log1p(math.exp(-5000 * 0.0324))),
        ("dpo-local", 0.0),
        ("margin", (0.0324 - 0.01) ** 2),
        ("asap", (0.3564 - 0.01) ** 2),
        ("ipo", (0.0324 - 0.01) ** 2),
        # f(0.02) = 0.0100331, f(0.045) ... : 0.02 / (e^0.02 - 1) = 0.990033, 0.045 / (e^0.045 - 1) = 0.977669.
        ("mapo", 0.04 + 0.1 * math.log1p(math.exp(-1000 * (0.02 / math.expm1(0.02) - 0.045 / math.expm1(0.045))))),
    ],
)
def test_every_objective_by_hand(name: str, expected: float) -> None:
    loss = compute(name, by_hand(), OBJECTIVES.get(name).settings())
    assert loss.total.item() == pytest.approx(expected, abs=1e-12)
    assert loss.delta.item() == pytest.approx(0.3564 if OBJECTIVES.get(name).localized else 0.0324)


@given(SEEDS)
@settings(max_examples=30)
def test_dpo_is_the_published_loss_of_diffusion_dpo(seed: int) -> None:
    """Their script: a batch of winners and then losers, means per sample, and the mean after the log-sigmoid."""
    r = random(seed)
    prediction, target = torch.cat([r.winner, r.loser]), torch.zeros(6, 2, 4, 4, dtype=torch.float64)
    reference = torch.cat([r.ref_winner, r.ref_loser])
    model, ref = (mse_loss(p, target, reduction="none").mean(dim=[1, 2, 3]).chunk(2) for p in (prediction, reference))
    beta_dpo = 2.0
    inside = -0.5 * beta_dpo * ((model[0] - model[1]) - (ref[0] - ref[1]))
    expected = -logsigmoid(inside).mean()
    assert compute("dpo", r, LossSettings(beta=0.5 * beta_dpo)).total.item() == pytest.approx(expected.item())
    # Not the mean before it, the bug of a public script.
    wrong = -logsigmoid(inside.mean())
    assert compute("dpo", r, LossSettings(beta=0.5 * beta_dpo)).total.item() > wrong.item()


@pytest.mark.parametrize("guard", ["none", "sft", "ceiling"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str, guard: Guard) -> None:
    r = random(1, shape=(2, 1, 2, 2))

    def total(winner: Tensor, loser: Tensor) -> Tensor:
        # sft knows no loser; 0 x keeps it in the graph.
        branches = replace(r, winner=winner, loser=loser)
        return compute(name, branches, OBJECTIVES.get(name).settings(beta=1.0, guard=guard)).total + 0 * loser.sum()

    assert torch.autograd.gradcheck(total, tuple(values.clone().requires_grad_() for values in (r.winner, r.loser)))


@given(SEEDS)
@settings(max_examples=20)
def test_the_safe_guard_scales_the_losers_gradient_and_nothing_else(seed: int) -> None:
    r = random(seed)
    grads = []
    for guard in ("none", "sdpo"):
        both = [values.clone().requires_grad_() for values in (r.winner, r.loser)]
        compute("margin", replace(r, winner=both[0], loser=both[1]), LossSettings(guard=guard)).total.backward()
        grads.append([values.grad for values in both])
    assert torch.allclose(grads[0][0], grads[1][0])
    assert torch.allclose(safe_scale(r, 0.0)[:, None, None, None] * grads[0][1], grads[1][1])


@pytest.mark.parametrize("name", [one.name for one in OBJECTIVES if one.reference])
@given(SEEDS)
@settings(max_examples=15)
def test_at_the_start_the_gap_is_zero(name: str, seed: int) -> None:
    assert compute(name, random(seed, same=True), OBJECTIVES.get(name).settings()).delta.abs().max() == 0


@given(SEEDS, st.floats(0, 20))
@settings(max_examples=30)
def test_the_other_image_preferred_turns_the_gap_round(seed: int, alpha: float) -> None:
    r = random(seed)
    assert torch.allclose(errors_of(r, alpha).delta, -errors_of(r.swapped(), alpha).delta)


@pytest.mark.parametrize(("local", "plain"), [("asap", "margin"), ("dpo-local", "dpo"), ("sft-local", "sft")])
@given(SEEDS)
@settings(max_examples=15)
def test_without_alpha_the_localized_form_is_the_plain_one(local: str, plain: str, seed: int) -> None:
    r, numbers = random(seed), LossSettings(alpha=0.0, beta=1.0)
    assert compute(local, r, numbers).total.item() == compute(plain, r, numbers).total.item()


@given(SEEDS, st.floats(0, 20))
@settings(max_examples=30)
def test_a_mask_of_everything_scales_the_errors(seed: int, alpha: float) -> None:
    r = replace(random(seed), mask=torch.ones(3, 1, 4, 4))
    assert torch.allclose(errors_of(r, alpha).delta, (1 + alpha) * errors_of(r, 0.0).delta)


def test_packed_tokens_and_channels_first_say_the_same() -> None:
    r = random(3)
    packed = each(r, lambda v: v.flatten(2).transpose(1, 2))
    assert compute("asap", packed, LossSettings()).total.item() == pytest.approx(
        compute("asap", r, LossSettings()).total.item()
    )


def test_samples_do_not_touch_each_other() -> None:
    """The margin is of each sample: the loss of a batch is the mean of its samples' own losses."""
    r = random(5)
    alone = [compute("asap", each(r, itemgetter(slice(i, i + 1))), LossSettings()) for i in range(3)]
    assert compute("asap", r, LossSettings()).total.item() == pytest.approx(sum(one.total.item() for one in alone) / 3)


def test_half_precision_is_summed_in_full() -> None:
    r = random(6)
    half = each(r, Tensor.bfloat16)
    assert compute("asap", half, LossSettings()).total.dtype == torch.float32


@given(SEEDS)
@settings(max_examples=30)
def test_the_safe_scale_lets_no_step_raise_the_winners_error(seed: int) -> None:
    """The predictions moved against the gradient of L(w) - s L(l), where both branches share them."""
    r = random(seed, shape=(1, 1, 3, 3))
    scale = safe_scale(r, 0.0)
    assert 0 <= scale.item() <= 1
    step = 1e-4 * (r.winner - scale * r.loser)
    before, after = (mean_error(residual, r.mask, 0.0).item() for residual in (r.winner, r.winner - step))
    # To first order: where the scale is below 1 all that is left is the square of the step.
    assert after <= before + step.square().mean().item() + 1e-12


@given(SEEDS)
@settings(max_examples=20)
def test_the_ceiling_counts_only_what_rises_above_the_reference(seed: int) -> None:
    r = random(seed)
    extra = compute("margin", r, LossSettings(guard="ceiling")).total - compute("margin", r, LossSettings()).total
    errors = errors_of(r, 0.0)
    assert extra.item() == pytest.approx((errors.winner - errors.ref_winner).clamp_min(0).mean().item())


def test_what_needs_a_reference_says_so() -> None:
    r = replace(random(0), ref_winner=None, ref_loser=None)
    with pytest.raises(ValueError, match="needs the reference"):
        compute("asap", r, LossSettings())
    assert torch.isfinite(compute("mapo", r, MapoSettings()).total)
