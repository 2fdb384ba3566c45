"""The objectives against hand-worked numbers, published forms, numerical gradients, and what must always hold."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from operator import itemgetter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid, mse_loss

from asap_train.training.losses import (
    Errors,
    Residuals,
    compute,
    drift,
    errors_of,
    margin,
    mean_error,
    safe_scales,
    slope_at_start,
    slopes_of,
)
from asap_train.training.objectives import OBJECTIVES, AsapSettings, IpoSettings, LossSettings, MapoSettings

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
    assert mean_error(residual, 1 + 10 * mask).tolist() == [47.5]
    assert mean_error(residual, 1 + 0 * mask).tolist() == [7.5]
    # By the sum of the weights, 1 + 1 + 1 + 11.
    assert mean_error(residual, 1 + 10 * mask, "weights").item() == pytest.approx(190 / 14)


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
        # The margin is 1.6 L_ref; the guard adds half of the slope 2 * 1.6 L_ref, times L(w).
        ("asap", (0.3564 - 1.6 * 0.6468) ** 2 + 1.6 * 0.6468 * 0.44),
        ("ipo", (0.0324 - 0.01) ** 2),
        # f(0.02) = 0.0100331, f(0.045) ... : 0.02 / (e^0.02 - 1) = 0.990033, 0.045 / (e^0.045 - 1) = 0.977669.
        ("mapo", 0.04 + 0.1 * math.log1p(math.exp(-1000 * (0.02 / math.expm1(0.02) - 0.045 / math.expm1(0.045))))),
    ],
)
def test_every_objective_by_hand(name: str, expected: float) -> None:
    loss = compute(name, by_hand(), OBJECTIVES.get(name).settings())
    assert loss.total.item() == pytest.approx(expected, abs=1e-12)
    assert loss.delta.item() == pytest.approx(0.3564 if OBJECTIVES.get(name).localized else 0.0324)


def test_asap_of_the_paper_by_hand() -> None:
    papers = AsapSettings(tau=0.01, guard="none")
    assert compute("asap", by_hand(), papers).total.item() == pytest.approx((0.3564 - 0.01) ** 2, abs=1e-12)


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


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"guard": "sft"},
        {"guard": "ceiling", "guard_weight": 0.3},
        {"normalize": "weights", "anchor_weight": 2.0},
        {"auto_tau": True, "guard": "sft"},
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str, numbers: dict[str, Any]) -> None:
    r, objective = random(1, shape=(2, 1, 2, 2)), OBJECTIVES.get(name)
    own: dict[str, Any] = {"beta": 1.0} if "beta" in objective.uses else {}
    if not objective.reference:
        numbers = {key: value for key, value in numbers.items() if key not in ("anchor_weight", "auto_tau")}

    def total(winner: Tensor, loser: Tensor) -> Tensor:
        # sft knows no loser; 0 x keeps it in the graph.
        branches = replace(r, winner=winner, loser=loser)
        return compute(name, branches, objective.settings(**own, **numbers)).total + 0 * loser.sum()

    assert torch.autograd.gradcheck(total, tuple(values.clone().requires_grad_() for values in (r.winner, r.loser)))


@given(SEEDS, st.sampled_from([0.0, 3.0]))
@settings(max_examples=20)
def test_the_safe_guard_scales_gradients_and_nothing_else(seed: int, tau: float) -> None:
    r = random(seed)
    grads = []
    for guard in ("none", "sdpo"):
        both = [values.clone().requires_grad_() for values in (r.winner, r.loser)]
        numbers = LossSettings(guard=guard, tau=tau)
        compute("margin", replace(r, winner=both[0], loser=both[1]), numbers).total.backward()
        grads.append([values.grad for values in both])
    scales = safe_scales(r, 0.0, slopes_of(margin, errors_of(r, 0.0), LossSettings(tau=tau)))
    for scale, plain, guarded in zip(scales, grads[0], grads[1], strict=True):
        assert torch.allclose(scale[:, None, None, None] * plain, guarded)


@given(SEEDS, st.sampled_from(["asap", "margin", "dpo", "mapo"]), st.floats(0, 3))
@settings(max_examples=60)
def test_with_the_safe_guard_no_step_raises_the_winners_error(seed: int, name: str, tau: float) -> None:
    """Neither below the margin nor beyond it: the predictions of both branches moved against the sum of gradients."""
    r = random(seed, shape=(1, 1, 3, 3))
    objective = OBJECTIVES.get(name)
    numbers = objective.settings(guard="sdpo", tau=tau)
    alpha = numbers.alpha if objective.localized else 0.0
    both = [values.clone().requires_grad_() for values in (r.winner, r.loser)]
    compute(name, replace(r, winner=both[0], loser=both[1]), numbers).total.backward()
    step = both[0].grad + both[1].grad
    rise = ((1 + alpha * r.mask) * r.winner * -step).sum().item()
    assert rise <= 1e-9 * step.norm().item()


def test_beyond_the_margin_the_safe_guard_lets_the_loser_bring_the_gap_back() -> None:
    r = by_hand()  # delta .0324, beyond tau; both residuals have one sign
    one, other = safe_scales(r, 0.0, slopes_of(margin, errors_of(r, 0.0), LossSettings()))
    assert one.item() == 1.0, "the loser's gradient is the larger: L(w) falls as it is"
    assert other.item() == 1.0
    turned = replace(r, loser=-r.loser)
    scales = safe_scales(turned, 0.0, slopes_of(margin, errors_of(turned, 0.0), LossSettings()))
    assert [scale.item() for scale in scales] == [0.0, 0.0], "any way back would raise L(w)"
    near = replace(r, loser=0.5 * r.winner, ref_loser=0.1 * r.winner)
    one, other = safe_scales(near, 0.0, slopes_of(margin, errors_of(near, 0.0), LossSettings()))
    assert (one.item(), other.item()) == (pytest.approx(0.5), 1.0)


def at_start(name: str, numbers: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The gradients by the winner's prediction where policy and reference agree: the objective's, and the guard's."""
    r, found = random(4, same=True), []
    for guard in ("none", "sft"):
        winner = r.winner.clone().requires_grad_()
        own = OBJECTIVES.get(name).settings(guard=guard, **numbers)
        compute(name, replace(r, winner=winner), own).total.backward()
        found.append(winner.grad)
    return found[0], found[1] - found[0]


@pytest.mark.parametrize("name", [one.name for one in OBJECTIVES if one.reference or not one.loser])
@pytest.mark.parametrize("numbers", [{}, {"tau": 0.1, "beta": 50.0}, {"auto_tau": True}, {"normalize": "weights"}])
def test_a_guard_of_weight_one_pulls_as_hard_as_the_objective(name: str, numbers: dict[str, Any]) -> None:
    if name == "ipo":
        numbers = {key: value for key, value in numbers.items() if key != "beta"}
    numbers = {"guard_weight": 1.0, **numbers}
    objective, guard = at_start(name, numbers)
    assert objective.norm() > 0
    torch.testing.assert_close(guard, objective)
    half, _ = at_start(name, {**numbers, "guard_weight": 0.5})[1], None
    torch.testing.assert_close(half, 0.5 * objective)


def test_the_slope_at_the_start_by_hand() -> None:
    errors = errors_of(by_hand(), 0.0)
    for name, numbers, slope in (
        ("margin", LossSettings(tau=0.03), 0.06),
        ("dpo", LossSettings(beta=70.0), 35.0),
        ("sft", LossSettings(), 1.0),
        ("mapo", MapoSettings(mapo_beta=0.2), 1 + 0.2 * 0.5 * 1000 / 4),
        ("margin", LossSettings(tau=0.03, auto_tau=True), 2 * 0.03 * (0.05 + 0.0676) / 2),
    ):
        own = errors if OBJECTIVES.get(name).reference else replace(errors, reference=False)
        found = slope_at_start(OBJECTIVES.get(name).load(), own, numbers).item()
        assert found == pytest.approx(slope, rel=1e-4), name
        winner, loser, ref_winner, ref_loser = (
            one.float() for one in (own.winner, own.loser, own.ref_winner, own.ref_loser)
        )
        single = Errors(winner, loser, ref_winner, ref_loser, own.reference)
        found = slope_at_start(OBJECTIVES.get(name).load(), single, numbers).item()
        assert found == pytest.approx(slope, rel=1e-4), f"{name} in single precision"


def test_ipo_is_the_margin_by_another_name() -> None:
    r = random(8)
    assert compute("ipo", r, IpoSettings()).total.item() == compute("margin", r, LossSettings()).total.item()
    mine = IpoSettings.model_validate({"ipo_beta": 5})
    assert mine.tau == 0.1
    assert compute("ipo", r, mine).total.item() == compute("margin", r, LossSettings(tau=0.1)).total.item()
    assert IpoSettings.model_validate(mine.model_dump()) == mine
    with pytest.raises(ValueError, match="its own number is ipo_beta"):
        IpoSettings(beta=5)
    with pytest.raises(ValueError, match="its own number is mapo_beta"):
        MapoSettings(beta=5)


@pytest.mark.parametrize(("seed", "deviation"), [(0, 0.1), (1, 1.0), (2, 1.4), (3, 3.0)])
def test_the_margin_stalls_at_tau_over_one_and_the_spread_of_the_gaps(seed: int, deviation: float) -> None:
    """The gaps s g of a direction: the size s of least loss, by a search, and the formula in `margin`'s docstring."""
    dice = torch.Generator().manual_seed(seed)
    g = 0.02 * (1 + deviation * torch.randn(200, generator=dice, dtype=torch.float64))
    tau, sizes = 0.01, torch.linspace(-1, 1, 2001, dtype=torch.float64)
    gaps = sizes[:, None] * g
    nothing = torch.zeros_like(gaps)
    losses = margin(Errors(nothing, gaps, nothing, nothing, True), LossSettings(tau=tau)).mean(1)
    best = sizes[losses.argmin()]
    assert (best * g).mean().item() == pytest.approx(tau / (1 + (g.var(correction=0) / g.mean() ** 2).item()), abs=5e-5)


def test_errors_normalized_by_weights_do_not_depend_on_the_size_of_m() -> None:
    even = torch.full((2, 3, 4, 4), 2.0)
    mask = torch.zeros(2, 1, 4, 4)
    mask[1, :, :2] = 1
    r = Residuals(even, even, mask, even, even)
    assert errors_of(r, 10.0, "weights").winner.tolist() == pytest.approx([4.0, 4.0])
    assert errors_of(r, 10.0).winner.tolist() == pytest.approx([4.0, 24.0])


def test_the_anchor_is_the_change_outside_of_m_alone() -> None:
    r = random(9)
    assert drift(random(9, same=True)).abs().max() == 0
    inside = replace(r, ref_winner=r.winner + r.mask, ref_loser=r.loser - 3 * r.mask)
    assert drift(inside).abs().max() == 0
    outside = 1 - r.mask
    moved = replace(r, ref_winner=r.winner + 2 * outside, ref_loser=r.loser)
    torch.testing.assert_close(drift(moved), 2 * outside.mean((1, 2, 3)))
    torch.testing.assert_close(drift(moved, "weights"), torch.full((3,), 2.0, dtype=torch.float64))
    for name, slope in (("asap", 0.02), ("dpo", 2500.0)):
        with_anchor, without = (compute(name, moved, LossSettings(anchor_weight=w)).total for w in (0.5, 0.0))
        assert (with_anchor - without).item() == pytest.approx(slope * 0.5 * drift(moved).mean().item())


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
@settings(max_examples=20)
def test_the_ceiling_counts_only_what_rises_above_the_reference(seed: int) -> None:
    r = random(seed)
    extra = compute("margin", r, LossSettings(guard="ceiling")).total - compute("margin", r, LossSettings()).total
    errors = errors_of(r, 0.0)
    assert extra.item() == pytest.approx(2 * 0.01 * (errors.winner - errors.ref_winner).clamp_min(0).mean().item())


def test_what_needs_a_reference_says_so() -> None:
    r = replace(random(0), ref_winner=None, ref_loser=None)
    with pytest.raises(ValueError, match="needs the reference"):
        compute("asap", r, LossSettings())
    assert torch.isfinite(compute("mapo", r, MapoSettings()).total)
