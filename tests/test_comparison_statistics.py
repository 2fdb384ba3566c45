"""Comparisons, corrections and power against scipy, statsmodels, ppi-python and hand-worked examples."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from hafbench.statistics import (
    Accuracy,
    compare_means,
    compare_unjudged,
    compare_wins,
    corrected_rate,
    equivalence,
    error_rate,
    holm,
    power_of,
    prediction_powered_rate,
)
from small import not_none

Pairs = list[tuple[bool | None, bool | None, int]]

PAIRS = st.lists(
    st.tuples(st.sampled_from([True, False, None]), st.sampled_from([True, False, None]), st.integers(0, 9)),
    min_size=1,
    max_size=60,
)


def two_models(seed: int, prompts: int = 60, seeds: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(prompts), seeds)
    common = rng.normal(size=prompts)[clusters]
    one, other = (common + rng.normal(size=len(clusters)) for _ in range(2))
    return clusters, one, other - 0.3


@pytest.mark.parametrize("seed", range(4))
def test_the_permutation_test_is_scipys_on_the_sums_of_the_prompts(seed: int) -> None:
    clusters, one, other = two_models(seed, prompts=11)
    sums = np.bincount(clusters, other - one)
    expected = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert compare_means(one, clusters, other, clusters).p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("seed", range(20))
def test_exact_ties_of_large_values_count(seed: int) -> None:
    """Where every prompt is better, only the exchange of all of them is as far as what was seen."""
    rng = np.random.default_rng(seed)
    noise, gains = 1e5 * rng.random((2, 8))
    assert compare_means(noise, range(8), noise + gains, range(8)).p_value == pytest.approx(2 / 2**8)


def test_many_prompts_are_permuted_at_random_and_close_to_scipys() -> None:
    clusters, one, other = two_models(5)
    sums = np.bincount(clusters, other - one)
    expected = stats.permutation_test((sums,), np.sum, permutation_type="samples", n_resamples=20_000, rng=1)
    assert compare_means(one, clusters, other, clusters).p_value == pytest.approx(expected.pvalue, abs=0.01)


def test_the_bootstrap_is_scipys_up_to_the_expansion_for_few_prompts() -> None:
    clusters, one, other = two_models(1, prompts=400)
    sums = np.bincount(clusters, other - one)
    expected = stats.bootstrap(
        (sums,), lambda s, axis: s.mean(axis) / 4, vectorized=True, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    found = compare_means(one, clusters, other, clusters, resamples=20_000)
    assert found.estimate == pytest.approx((other - one).mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_one_pair_a_prompt_is_a_paired_t_test() -> None:
    clusters, one, other = two_models(2, prompts=200, seeds=1)
    found, expected = compare_means(one, clusters, other, clusters), stats.ttest_rel(other, one)
    assert found.error == pytest.approx(stats.sem(other - one))
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.015)


def test_runs_of_other_seeds_are_compared_by_prompt() -> None:
    # Prompt a: 1 of 2 against 0 of 3; prompt b: 1 of 1 against 1 of 1; c and d are in one run only.
    found = compare_means([1, 0, 1, 1], ["a", "a", "b", "c"], [0, 0, 0, 1, 1], ["a", "a", "a", "b", "d"])
    assert (found.n_baseline, found.n_candidate, found.clusters) == (3, 4, 2)
    assert (found.baseline, found.candidate) == (2 / 3, 1 / 4)
    # The labels of both prompts may change places: 1/4 - 2/3 = -5/12 as seen; exchanging a alone gives 2/3 - 1/4.
    assert found.p_value == 1.0


def test_equal_runs_differ_by_nothing_and_say_how_little_that_proves() -> None:
    verdicts = [True, False] * 20
    found = compare_means(verdicts, np.arange(40) // 2, verdicts, np.arange(40) // 2)
    assert (found.estimate, found.p_value) == (0.0, 1.0)
    assert found.high == -not_none(found.low) == pytest.approx(error_rate([False] * 20, range(20)).high)


def test_nothing_shared_is_no_difference() -> None:
    found = compare_means([True], ["a"], [True], ["b"])
    assert (found.clusters, found.estimate, found.p_value) == (0, None, None)


def test_wins_and_losses_by_hand() -> None:
    # The candidate is sound where the baseline errs in 3 pairs, the other way round in 1, alike in 4; one is unknown.
    one = [True, True, True, False, True, False, False, True, None]
    other = [False, False, False, True, True, False, False, True, True]
    found = compare_wins(one, other, range(9))
    assert (found.win, found.tie, found.lose) == (3, 4, 1)
    assert found.rsi == 7 / 5
    assert found.mcnemar == pytest.approx(mcnemar([[3, 3], [1, 1]], exact=True).pvalue)
    assert not_none(found.rsi_low) <= found.rsi <= not_none(found.rsi_high)


def test_scores_win_where_they_are_better() -> None:
    found = compare_wins([0.1, 0.2, 0.3], [0.2, 0.2, 0.1], "abc", higher_is_better=True)
    assert (found.win, found.tie, found.lose) == (1, 1, 1)


def test_a_candidate_that_wins_every_pair_is_infinitely_superior() -> None:
    found = compare_wins([True] * 5, [False] * 5, range(5))
    assert found.rsi == found.rsi_high == float("inf")


@settings(deadline=None)
@given(PAIRS)
def test_a_difference_lies_in_its_interval_and_changes_sign_with_the_order(data: Pairs) -> None:
    one, other, clusters = zip(*data, strict=True)
    there = compare_means(one, clusters, other, clusters, resamples=200)
    back = compare_means(other, clusters, one, clusters, resamples=200)
    assert (there.estimate is None) == (back.estimate is None)
    if there.estimate is not None and back.estimate is not None:
        assert there.estimate == pytest.approx(-back.estimate)
    if there.p_value is not None:
        assert 0 < there.p_value <= 1
        assert there.p_value == pytest.approx(back.p_value, abs=0.15)


@settings(deadline=None)
@given(PAIRS)
def test_wins_of_one_are_losses_of_the_other(data: Pairs) -> None:
    one, other, clusters = zip(*data, strict=True)
    there = compare_wins(one, other, clusters, resamples=50)
    back = compare_wins(other, one, clusters, resamples=50)
    assert (there.win, there.tie, there.lose) == (back.lose, back.tie, back.win)
    assert there.mcnemar == back.mcnemar


@pytest.mark.parametrize("margin", [0.1, 0.3, 0.6])
def test_equivalence_is_statsmodels_two_one_sided_tests(margin: float) -> None:
    clusters, one, other = two_models(3, prompts=80, seeds=1)
    p_value, _, _ = ttost_paired(other, one, -margin, margin)
    found = equivalence(compare_means(one, clusters, other, clusters), margin)
    assert found.p_value == pytest.approx(p_value)
    assert found.shown == (p_value < 0.05)
    assert found.shown == (-margin < not_none(found.low) and not_none(found.high) < margin)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_statsmodels_bit_for_bit_and_passes_over_what_is_missing(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1].tolist()
    assert holm([None, *p_values, None]) == [None, *expected, None]
    assert holm([None]) == [None]


def test_a_rate_corrected_by_hand() -> None:
    # 40 % flagged, sensitivity .9, specificity .8: (.4 + .8 - 1) / .7.
    rate = error_rate([True] * 40 + [False] * 60, range(100))
    found = corrected_rate(rate, Accuracy(90, 100, 80, 100))
    assert found.estimate == pytest.approx(2 / 7)
    assert not_none(found.low) < 2 / 7 < not_none(found.high)


def test_a_perfect_scorer_known_for_sure_leaves_wilsons_interval() -> None:
    rate = error_rate([True] * 40 + [False] * 60, range(100))
    found = corrected_rate(rate, Accuracy(1e12, 1e12, 1e12, 1e12))
    assert (found.estimate, found.low, found.high) == pytest.approx((0.4, rate.low, rate.high), abs=1e-5)


@given(st.integers(1, 99), st.integers(55, 100), st.integers(55, 100))
def test_the_corrected_bounds_are_where_the_inequality_turns(flagged: int, hit: int, passed: int) -> None:
    found = corrected_rate(error_rate([i < flagged for i in range(100)], range(100)), Accuracy(hit, 100, passed, 100))
    if found.reason:
        return
    sensitivity, specificity = (hit + 0.5) / 101, (passed + 0.5) / 101
    for bound in (not_none(found.low), not_none(found.high)):
        if 0 < bound < 1 and bound != found.estimate:
            expected = bound * sensitivity + (1 - bound) * (1 - specificity)
            variance = (
                expected * (1 - expected) / 100
                + bound**2 * sensitivity * (1 - sensitivity) / 101
                + (1 - bound) ** 2 * specificity * (1 - specificity) / 101
            )
            assert abs(flagged / 100 - expected) == pytest.approx(stats.norm.ppf(0.975) * variance**0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (Accuracy(5, 10, 5, 10), "no better than chance"),
        (Accuracy(3, 4, 2, 4), "cannot tell the scorer from chance"),
        (Accuracy(0, 0, 4, 4), "lacks labelled images"),
        (Accuracy(900, 1000, 300, 1000), "not of such images"),
    ],
)
def test_a_card_that_cannot_correct_says_why(card: Accuracy, said: str) -> None:
    rate = error_rate([True] * 3 + [False] * 97, range(100))
    assert said in not_none(corrected_rate(rate, card).reason)


@pytest.mark.parametrize("seed", range(3))
def test_prediction_powered_inference_is_ppi_pythons_without_clusters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(3000) < 0.35
    verdicts = np.where(rng.random(3000) < 0.85, truth, ~truth).astype(float)
    labelled = np.arange(3000) < 600
    found = prediction_powered_rate(np.where(labelled, truth, np.nan), verdicts, range(3000))
    inputs = (truth[labelled].astype(float), verdicts[labelled], verdicts[~labelled])
    low, high = ppi_mean_ci(*inputs, alpha=0.05)
    # They take the variance of the verdicts from another divisor, and a normal interval in place of Wilson's.
    assert found.estimate == pytest.approx(float(np.squeeze(ppi_mean_pointestimate(*inputs))), abs=5e-4)
    assert (found.low, found.high) == pytest.approx((float(np.squeeze(low)), float(np.squeeze(high))), abs=2e-3)


def test_a_useless_scorer_leaves_the_labels_own_rate() -> None:
    labels = [True] * 12 + [False] * 28 + [None] * 200
    found = prediction_powered_rate(labels, [False] * 240, range(240))
    rate = error_rate(labels[:40], range(40))
    assert found.estimate == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((rate.low, rate.high), abs=0.01)


def test_labels_of_everything_or_of_one_prompt_are_refused() -> None:
    assert "no scorer is needed" in not_none(prediction_powered_rate([True, False], [True, True], "ab").reason)
    assert "two prompts" in not_none(prediction_powered_rate([True, None], [True, True], "ab").reason)


def test_power_without_clusters_is_statsmodels() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=2000)
    found = not_none(power_of(values, range(2000)))
    expected = TTestPower().solve_power(nobs=2000, alpha=0.05, power=0.8) * values.std(ddof=1)
    assert found.smallest == pytest.approx(expected, rel=2e-3)


def test_power_holds_in_simulation() -> None:
    """Prompts differ with variance 0.04, pairs within a prompt with 0.25: plan 100 prompts, then look."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(4000), 5)
    pilot = rng.normal(size=4000)[clusters] * 0.2 + rng.normal(size=20_000) * 0.5
    plan = not_none(power_of(pilot, clusters))
    assert (plan.between, plan.within) == pytest.approx((0.04, 0.25), rel=0.1)
    seeds = not_none(replace(plan, prompts=100).seeds_for(0.08))
    found = 0
    for _ in range(400):
        values = 0.08 + rng.normal(size=100) * 0.2 + rng.normal(size=(seeds, 100)).mean(0) * 0.5
        found += stats.ttest_1samp(values, 0).pvalue < 0.05
    assert 0.74 <= found / 400 <= 0.9


def test_power_among_several_tests_is_that_of_holms_verdict() -> None:
    """One of five candidates differs; planned for one test, it would be found in about 59 % (Phi(2.80 - 2.58))."""
    rng = np.random.default_rng(0)
    plan = replace(not_none(power_of(rng.normal(size=4000), range(4000))), prompts=100, tests=5)
    expected = TTestPower().solve_power(nobs=100, alpha=0.05 / 5, power=0.8)
    assert plan.smallest == pytest.approx(expected, rel=0.05)
    assert plan.prompts_for(expected) == pytest.approx(100, abs=6)
    found = 0
    for _ in range(400):
        values = rng.normal(size=(5, 100)) + np.array([plan.smallest, 0, 0, 0, 0])[:, None]
        found += multipletests(stats.ttest_1samp(values, 0, axis=1).pvalue, method="holm")[0][0]
    assert 0.74 <= found / 400 <= 0.88


@pytest.mark.parametrize("tests", [1, 2, 5, 10])
def test_with_the_fewest_prompts_holms_verdict_is_just_possible(tests: int) -> None:
    fewest = replace(not_none(power_of([0.0, 1.0], "ab")), tests=tests).fewest
    least = [
        not_none(compare_means(np.ones(k), range(k), np.zeros(k), range(k), interval=False).p_value)
        for k in (fewest - 1, fewest)
    ]
    before, now = (not_none(holm([p, *[1.0] * (tests - 1)])[0]) for p in least)
    assert now < 0.05 <= before


def test_seeds_cannot_make_up_for_prompts() -> None:
    plan = not_none(power_of([0, 0, 1, 1, -1, -1, 1, 1], [0, 0, 1, 1, 2, 2, 3, 3]))
    assert plan.within == 0
    assert plan.seeds_for(0.1) is None
    assert plan.prompts_for(0.1) > 4
    assert power_of([1.0, 0.0], ["a", "a"]) is None


@given(PAIRS, st.integers(0, 2**31))
def test_whatever_the_images_not_judged_are_the_difference_lies_in_the_bounds(data: Pairs, seed: int) -> None:
    one, other, clusters = (list(column) for column in zip(*data, strict=True))
    found = compare_unjudged(one, clusters, other, clusters, paired=True)
    rng = np.random.default_rng(seed)
    chance = rng.random()
    sides = [np.array([rng.random() < chance if v is None else v for v in side], dtype=float) for side in (one, other)]
    low, high = not_none(found.bounds)
    assert low - 1e-12 <= sides[1].mean() - sides[0].mean() <= high + 1e-12
    either = np.array([a is not None or b is not None for a, b in zip(one, other, strict=True)])
    if either.any():
        low, high = not_none(found.one_sided)
        assert low - 1e-12 <= sides[1][either].mean() - sides[0][either].mean() <= high + 1e-12


def test_what_only_one_model_had_judged_may_undo_a_difference_by_hand() -> None:
    clusters = np.repeat(np.arange(20), 4)
    one, other = [True, True, False, None] * 20, [None, False, False, None] * 20
    paired = compare_unjudged(one, clusters, other, clusters, paired=True)
    # Of three pairs that somebody judged: 2/3 against 0 to 1/3; over all four: 2/4 to 3/4 against 0 to 2/4.
    assert paired.one_sided == pytest.approx((-2 / 3, -1 / 3))
    assert paired.bounds == pytest.approx((-3 / 4, 0))
    assert (paired.judged.baseline, paired.judged.candidate) == (0.75, 0.5)
    assert not paired.uneven()
    # Not paired: the second lacks a third of what the first had judged.
    loose = compare_unjudged(one, clusters, other, clusters, paired=False)
    assert loose.one_sided == pytest.approx((-2 / 3, -1 / 3))
    hiding = compare_unjudged(
        [True, True, False, False] * 20, clusters, [None, None, False, False] * 20, clusters, paired=True
    )
    assert hiding.one_sided == pytest.approx((-0.5, 0))
    assert hiding.uneven()


def test_of_very_many_prompts_bundles_are_resampled_with_the_same_result() -> None:
    rng = np.random.default_rng(3)
    prompts = np.repeat(np.arange(20_000), 2)
    base = rng.normal(size=20_000)[prompts] + rng.normal(size=40_000)
    moved = base + rng.normal(0.01, 1, 40_000)
    found = compare_means(base, prompts, moved, prompts)
    assert found.clusters == 20_000
    assert None not in (found.estimate, found.error, found.low, found.high, found.p_value)
    z = (found.estimate or 0) / (found.error or 1)
    width = 2 * stats.norm.ppf(0.975) * (found.error or 0)
    assert ((found.high or 0) - (found.low or 0)) == pytest.approx(width, rel=0.06)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.03)
