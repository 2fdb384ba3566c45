"""tau and beta that follow the gaps: what mean gap comes of them, and what is looked at."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asap_train.reporting.health import health_of
from asap_train.training.adaptive import LARGEST, overshoot, settings_at, spread
from asap_train.training.config import FitConfig
from asap_train.training.fit_log import FEWEST, Row
from asap_train.training.losses import Errors, margin
from asap_train.training.objectives import LossSettings


def row_of(gaps: torch.Tensor, scale: torch.Tensor) -> Row:
    """What a step's log says of such gaps, with errors of the reference of that size."""
    size = float(scale.mean())
    return {
        "delta": float(gaps.mean()),
        "delta_square": float(gaps.square().mean()),
        "delta_scale": float((gaps * scale).mean()),
        "ref_winner": 0.8 * size,
        "ref_loser": 1.2 * size,
    }


def descend(settings: LossSettings, steps: int = 600) -> tuple[float, float]:
    """Gradient descent on how far to go along a direction whose gaps spread: the mean gap, and the mean of errors."""
    dice = torch.Generator().manual_seed(0)
    size = torch.zeros((), requires_grad=True)
    rows: list[Row] = []
    made: list[float] = []
    for _ in range(steps):
        scale = 0.2 + torch.rand(64, generator=dice)
        direction = scale * (0.1 + 0.14 * torch.randn(64, generator=dice))  # CV^2 of about 2
        errors = Errors(scale, scale + size * direction, scale, scale, True)
        loss = margin(errors, settings_at(settings, rows)).mean()
        loss.backward()
        with torch.no_grad():
            size -= 8.0 * size.grad
            size.grad = None
        made.append(float((size.detach() * direction).mean()))
        rows.append(row_of(errors.delta.detach(), scale))
    return float(np.mean(made[-200:])), 0.7


def test_the_wanted_mean_gap_is_reached_where_tau_alone_stalls() -> None:
    wanted = LossSettings(tau=0.05, auto_tau=True)
    gap, scale = descend(wanted)
    assert gap == pytest.approx(0.05 * scale, rel=0.1)
    stalled, _ = descend(LossSettings(tau=0.05 * 0.7))
    assert 0.2 < stalled / (0.05 * scale) < 0.5


def test_the_factor_is_one_and_the_spread_where_errors_are_alike() -> None:
    gaps = torch.tensor([0.01, 0.03, -0.01, 0.05])
    rows = [row_of(gaps, torch.ones(4))]
    cv = float(gaps.var(correction=0) / gaps.mean() ** 2)
    assert spread(rows) == pytest.approx(cv)
    assert overshoot(rows) == pytest.approx(1 + cv)
    assert overshoot([row_of(-gaps, torch.ones(4))]) == 1.0
    assert overshoot([row_of(gaps - 0.0199, torch.ones(4))]) == LARGEST
    assert spread([row_of(-gaps, torch.ones(4))]) is None


def test_a_gap_just_below_zero_is_no_negative_zero_of_the_target() -> None:
    config = FitConfig(model="mannequin", pairs=Path("hap"), out=Path("fit"))
    health = health_of([{"delta": -0.0007, "target": 0.4}], config)
    assert health is not None
    assert (health.lines[0].value, health.lines[0].note) == ("-0.0007", "0 % of the target 0.4")


def test_beta_gives_a_typical_pair_the_wanted_share_of_the_slope() -> None:
    gaps = torch.tensor([0.02, -0.02])
    rows = [row_of(gaps, torch.ones(2))] * FEWEST
    asked = LossSettings(auto_beta=True, gradient_factor=0.2)
    beta = settings_at(asked, rows).beta
    assert torch.sigmoid(torch.tensor(-beta * 0.02)).item() == pytest.approx(0.2)
    assert settings_at(asked, rows[1:]).beta == 5000, "with too few steps it is what was given"
    assert settings_at(asked, [row_of(1e-6 * gaps, torch.ones(2))] * FEWEST).beta == 5000, "and never more"
    assert settings_at(LossSettings(), rows) == LossSettings()
