"""The kernel distance against a double loop over scikit-learn's kernel, and the level of its test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import polynomial_kernel

from hafbench.statistics import kernel_distance
from small import not_none


def embeddings(seed: int, n: int = 12, d: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def by_hand(one: np.ndarray, other: np.ndarray) -> float:
    n, d = one.shape
    x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) * d**0.5 for side in (one, other))
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, gamma=1 / d, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    terms = [xx[i, j] + yy[i, j] - xy[i, j] - xy[j, i] for i in range(n) for j in range(n) if i != j]
    return float(np.mean(terms))


@given(st.integers(0, 10_000), st.integers(2, 20))
def test_it_is_kid_over_pairs(seed: int, n: int) -> None:
    one, other = embeddings(seed, n), embeddings(seed + 1, n) + 0.5
    found = kernel_distance(one, other, range(n), resamples=10)
    assert found.estimate == pytest.approx(by_hand(one, other), abs=1e-9)
    assert kernel_distance(other, one, range(n), resamples=10).estimate == pytest.approx(found.estimate, abs=1e-12)


def test_the_same_pictures_are_at_no_distance() -> None:
    found = kernel_distance(embeddings(0), embeddings(0), list("aabbccddeeff"))
    assert found.estimate == pytest.approx(0, abs=1e-12)
    assert (found.p_value, found.clusters) == (1.0, 6)


def test_a_shift_is_found_and_chance_is_not() -> None:
    prompts = np.repeat(np.arange(30), 4)
    means = embeddings(0, 30, 8)[prompts]
    one, alike = (means + embeddings(seed, 120, 8) for seed in (1, 2))
    assert not_none(kernel_distance(one, alike, prompts, resamples=999).p_value) > 0.05
    assert not_none(kernel_distance(one, alike + 0.5, prompts, resamples=999).p_value) < 0.01


def test_its_level_holds_where_images_of_a_prompt_move_together() -> None:
    prompts = np.repeat(np.arange(10), 5)
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        one, other = (rng.normal(size=(10, 6))[prompts] + rng.normal(size=(50, 6)) for _ in range(2))
        p_values.append(not_none(kernel_distance(one, other, prompts, resamples=99, seed=seed).p_value))
    # 200 tests at 5 %: more than 19 have a chance below 1 %.
    assert sum(p <= 0.05 for p in p_values) <= 19


def test_what_is_no_pair_of_embeddings_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        kernel_distance(embeddings(0, 3), embeddings(0, 4), range(3))
    with pytest.raises(ValueError, match="length 0"):
        kernel_distance(np.zeros((3, 2)), embeddings(0, 3, 2), range(3))
    assert kernel_distance(embeddings(0, 1), embeddings(1, 1), ["a"]).estimate is None
