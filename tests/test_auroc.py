"""The AUROC of a card against scikit-learn, and its interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from hafbench.calibration import auroc
from small import not_none

FLOATS = st.floats(0, 1, allow_nan=False).map(lambda value: round(value, 2))
Labelled = list[tuple[float, bool]]


@given(st.lists(st.tuples(FLOATS, st.booleans()), min_size=4, max_size=60))
def test_the_auroc_is_scikit_learns_and_turns_with_the_sign(data: Labelled) -> None:
    values, truth = np.array([v for v, _ in data]), np.array([t for _, t in data])
    found = auroc(values, truth, np.arange(len(values)))
    if truth.all() or not truth.any():
        assert found.estimate is None
        return
    estimate = not_none(found.estimate)
    assert estimate == pytest.approx(roc_auc_score(truth, values))
    assert not_none(found.low) <= estimate <= not_none(found.high)
    assert auroc(-values, truth, np.arange(len(values))).estimate == pytest.approx(1 - estimate)


def test_the_interval_of_the_auroc_is_close_to_the_bootstraps() -> None:
    rng = np.random.default_rng(0)
    bad, good = rng.normal(1, 1, 150), rng.normal(0, 1, 150)
    found = auroc(np.r_[bad, good], np.arange(300) < 150, np.arange(300))
    area = lambda one, other: (one[:, None] > other).mean()  # noqa: E731
    expected = bootstrap((bad, good), area, vectorized=False, n_resamples=2000, rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.012)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_of_the_auroc_holds_the_truth(seeds: int) -> None:
    """Images of a prompt share a part of their value; two normals one standard deviation apart have .7602."""
    rng = np.random.default_rng(seeds)
    held = 0
    for _ in range(500):
        prompts = np.repeat(np.arange(120 // seeds), seeds)
        truth = rng.permutation(np.arange(120) % 2 == 0)
        values = truth + 0.6 * rng.normal(size=prompts[-1] + 1)[prompts] + 0.8 * rng.normal(size=120)
        found = auroc(values, truth, prompts)
        held += not_none(found.low) <= 0.7602 <= not_none(found.high)
    assert 0.92 <= held / 500 <= 0.98


def test_images_of_one_prompt_leave_the_auroc_open() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(40) < 20
    found = auroc(truth + rng.normal(size=40), truth, np.zeros(40, int))
    assert not_none(found.low) < 0.5 < not_none(found.estimate) < not_none(found.high)
