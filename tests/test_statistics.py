"""Rates and means against statsmodels, hand-worked examples, and simulation."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from hafbench.statistics import error_rate, mean_interval
from small import not_none

VERDICTS = st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(0, 9)), min_size=1, max_size=60)


@pytest.mark.parametrize(("errors", "n"), [(0, 10), (3, 10), (41, 200), (10, 10), (1, 1)])
def test_one_image_a_prompt_is_wilsons_interval(errors: int, n: int) -> None:
    rate = error_rate([True] * errors + [False] * (n - errors), list(range(n)))
    assert (rate.low, rate.high) == pytest.approx(proportion_confint(errors, n, method="wilson"), abs=1e-12)


def test_four_equal_seeds_a_prompt_are_one_observation_each() -> None:
    rate = error_rate([True] * 12 + [False] * 28, [i // 4 for i in range(40)])
    # Robust variance of 10 clusters .21 / 9, of 40 independent images .21 / 39: effective size 40 * 9 / 39, times the
    # squared ratio of the t quantiles in tables, 2.0227 (39 degrees of freedom) and 2.2622 (9).
    size = 40 * 9 / 39 * (2.0227 / 2.2622) ** 2
    expected = proportion_confint(0.3 * size, size, method="wilson")
    assert (rate.low, rate.high) == pytest.approx(expected, abs=1e-4)


def test_images_without_a_prompt_are_clusters_of_their_own() -> None:
    verdicts = [True] * 3 + [False] * 9
    own = error_rate(verdicts, list(range(12)))
    assert error_rate(verdicts, [None] * 12) == error_rate(verdicts, [float("nan")] * 12) == own


def test_without_errors_the_prompts_are_the_sample_size() -> None:
    rate = error_rate([False] * 40, [i // 4 for i in range(40)])
    assert (rate.estimate, rate.low) == (0.0, 0.0)
    assert rate.high == pytest.approx(proportion_confint(0, 10, method="wilson")[1])


def test_unknowns_are_bounds_and_not_dropped() -> None:
    rate = error_rate([True, False, None, None], [None] * 4)
    assert (rate.errors, rate.scored, rate.total) == (1, 2, 4)
    assert (rate.estimate, rate.lowest, rate.highest) == (0.5, 0.25, 0.75)


def test_nothing_scored_is_no_estimate() -> None:
    rate = error_rate([None, None], ["a", "b"])
    assert (rate.estimate, rate.low, rate.high, rate.lowest, rate.highest) == (None, None, None, 0.0, 1.0)
    assert error_rate([], []).total == 0


@given(VERDICTS)
def test_a_rate_lies_in_its_interval_and_both_in_the_bounds(data: list[tuple[bool | None, int]]) -> None:
    rate = error_rate([v for v, _ in data], [c for _, c in data])
    if rate.estimate is not None:
        assert 0 <= not_none(rate.low) <= rate.estimate <= not_none(rate.high) <= 1
        assert not_none(rate.lowest) <= rate.estimate <= not_none(rate.highest)


@given(VERDICTS)
def test_one_more_unknown_never_narrows_the_bounds(data: list[tuple[bool | None, int]]) -> None:
    verdicts, clusters = [v for v, _ in data], [c for _, c in data]
    before, after = error_rate(verdicts, clusters), error_rate([*verdicts, None], [*clusters, 99])
    widths = [not_none(rate.highest) - not_none(rate.lowest) for rate in (before, after)]
    assert widths[1] >= widths[0] - 1e-12


@pytest.mark.parametrize("seed", range(5))
def test_a_mean_is_statsmodels_regression_on_a_constant_with_clusters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 12, 80)
    values = rng.normal(size=80) + rng.normal(size=12)[clusters]
    fit = sm.OLS(values, np.ones(80)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": True}, use_t=True
    )
    mean = mean_interval(values.tolist(), clusters.tolist())
    # statsmodels' small-sample factor is k / (k - 1) * (n - 1) / (n - p), with p = 1 here.
    assert mean.estimate == pytest.approx(fit.params[0])
    assert (mean.low, mean.high) == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-9)


def test_too_few_values_have_no_interval() -> None:
    assert mean_interval([], []).estimate is None
    assert mean_interval([1.0, 2.0, None, float("nan")], ["a", "a", "b", "c"]).low is None


@pytest.mark.parametrize(("prompts", "seeds", "rate"), [(100, 4, 0.1), (100, 4, 0.4), (20, 4, 0.3)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(prompts: int, seeds: int, rate: float) -> None:
    """Verdicts of a prompt are correlated (beta-binomial, correlation 1 / 3)."""
    rng = np.random.default_rng(int(rate * 10))
    clusters = [i // seeds for i in range(prompts * seeds)]
    hits = 0
    for _ in range(600):
        chance = np.repeat(rng.beta(2 * rate, 2 * (1 - rate), prompts), seeds)
        found = error_rate((rng.random(prompts * seeds) < chance).tolist(), clusters)
        hits += not_none(found.low) <= rate <= not_none(found.high)
    assert 0.92 <= hits / 600 <= 0.98


def test_pairs_that_share_a_prompt_at_either_end_are_statsmodels_two_ways_of_clusters() -> None:
    rng = np.random.default_rng(0)
    ends = np.stack([rng.integers(12, size=80), rng.integers(15, size=80)])
    verdicts = rng.normal(size=80) + rng.normal(size=12)[ends[0]] + rng.normal(size=15)[ends[1]] > 0.5
    rate = error_rate(verdicts, ends[0], others=ends[1] + 100)
    groups = {"groups": ends.T, "use_correction": False}
    error = sm.OLS(verdicts.astype(float), np.ones(80)).fit(cov_type="cluster", cov_kwds=groups).bse[0]
    estimate, k = verdicts.mean(), 12
    size = estimate * (1 - estimate) / (error**2 * k / (k - 1)) * 80 / 79
    size *= (stats.t.ppf(0.975, 79) / stats.t.ppf(0.975, k - 1)) ** 2
    assert rate.effective == pytest.approx(size)
    # Ends that nobody shares change nothing.
    alone, plain = error_rate(verdicts, ends[0], others=range(100, 180)), error_rate(verdicts, ends[0])
    assert (alone.low, alone.high) == pytest.approx((plain.low, plain.high))


def test_the_interval_of_pairs_holds_the_truth_where_both_ends_are_of_few_prompts() -> None:
    """Of 20 prompts, from which both images of 100 pairs are; with one end's prompts alone it held in 81 %."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        ends, prompts = rng.integers(20, size=(2, 100)), rng.normal(size=20)
        values = 0.3**0.5 * prompts[ends].sum(0) + 0.4**0.5 * rng.normal(size=100)
        rate = error_rate(values > -0.5, ends[0], others=ends[1])
        held += not_none(rate.low) <= stats.norm.cdf(0.5) <= not_none(rate.high)
    assert held / 300 > 0.9
