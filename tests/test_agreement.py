"""Cohen's kappa against scikit-learn, and its interval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from hafbench.statistics import cohen_kappa


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=60))
def test_kappa_is_that_of_scikit_learn(verdicts: list[tuple[bool, bool]]) -> None:
    one, other = ([float(pair[side]) for pair in verdicts] for side in (0, 1))
    found = cohen_kappa(one, other, [None] * len(one), resamples=200)
    if len({*one, *other}) < 2:
        assert found.estimate is None and found.agree == 1.0
        return
    expected = cohen_kappa_score(one, other)
    assert found.estimate == pytest.approx(expected)
    assert found.low is not None and found.high is not None
    assert found.n == len(one)


def test_full_agreement_on_few_images_is_no_certainty() -> None:
    few, many = (cohen_kappa([0, 1] * n, [0, 1] * n, [None] * 2 * n) for n in (1, 100))
    assert few.high == many.high == 1
    assert few.low is not None and few.low < 0.5 and many.low is not None and 0.9 < many.low < 1


def test_the_interval_of_kappa_holds_the_truth() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        truth = rng.random(80) < 0.4
        one, other = (truth ^ (rng.random(80) < 0.15) for _ in range(2))
        found = cohen_kappa(one, other, [str(n // 2) for n in range(80)], resamples=400)
        # Both err independently with .15: P(agree) = .745; each says yes with .4 * .85 + .6 * .15 = .43.
        chance = 0.43**2 + 0.57**2
        assert found.low is not None and found.high is not None
        held += found.low <= (0.745 - chance) / (1 - chance) <= found.high
    assert 180 <= held <= 200
