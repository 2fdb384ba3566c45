"""How often the intervals hold the truth: `python benchmarks/coverage.py [--benchmarks 2000] [--workers 2]`.

Each simulated benchmark draws its own true error rates, so that no figure hangs on one lucky rate. An image is an error
where a normal latent passes a threshold: the prompt makes up 30 % of its variance and, for the same (prompt, seed), two
models share another 20 %. Prints the table of docs/studies/statistics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context

import numpy as np
from scipy.stats import multivariate_normal, norm

from hafbench.statistics import (
    Accuracy,
    compare_means,
    compare_wins,
    corrected_rate,
    error_rate,
    mean_interval,
    prediction_powered_rate,
)

PROMPT, SHARED = 0.3, 0.2
SIZES = ((50, 2), (52, 4), (500, 4), (2000, 4))
RESAMPLES = 2000
Held = bool


def latents(rng: np.random.Generator, images: int, seeds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompts (n,) and the normal latents (n,) of two models on the same (prompt, seed)."""
    prompts = np.arange(images) // seeds
    common = np.sqrt(PROMPT) * rng.normal(size=prompts[-1] + 1)[prompts] + np.sqrt(SHARED) * rng.normal(size=images)
    own = np.sqrt(1 - PROMPT - SHARED)
    return prompts, common + own * rng.normal(size=images), common + own * rng.normal(size=images)


def within(low: float | None, truth: float, high: float | None) -> Held:
    """Whether the interval holds the truth."""
    return low is not None and high is not None and low <= truth <= high


def rate(rng: np.random.Generator, n: int, seeds: int) -> Held:
    truth = rng.uniform(0.05, 0.6)
    prompts, latent, _ = latents(rng, n, seeds)
    found = error_rate(latent < norm.ppf(truth), prompts)
    return within(found.low, truth, found.high)


def plain_wilson(rng: np.random.Generator, n: int, seeds: int) -> Held:
    """One image a prompt: what Wilson's own interval is for."""
    truth = rng.uniform(0.05, 0.6)
    found = error_rate(rng.random(n) < truth, np.arange(n))
    return within(found.wilson_low, truth, found.wilson_high)


def naive_wilson(rng: np.random.Generator, n: int, seeds: int) -> Held:
    """Wilson's interval as if images were independent: shown as a warning."""
    truth = rng.uniform(0.05, 0.6)
    prompts, latent, _ = latents(rng, n, seeds)
    found = error_rate(latent < norm.ppf(truth), prompts)
    return within(found.wilson_low, truth, found.wilson_high)


def mean(rng: np.random.Generator, n: int, seeds: int) -> Held:
    prompts, latent, _ = latents(rng, n, seeds)
    found = mean_interval(latent, prompts)
    return within(found.low, 0.0, found.high)


def corrected(rng: np.random.Generator, n: int, seeds: int, sensitivity: float, specificity: float) -> Held:
    """A card of 150 malformed and 150 sound images."""
    truth = rng.uniform(0.05, 0.6)
    prompts, latent, _ = latents(rng, n, seeds)
    wrong = latent < norm.ppf(truth)
    flagged = rng.random(n) < np.where(wrong, sensitivity, 1 - specificity)
    card = Accuracy(rng.binomial(150, sensitivity), 150, rng.binomial(150, specificity), 150)
    found = corrected_rate(error_rate(flagged, prompts), card)
    return within(found.low, truth, found.high)


def powered(rng: np.random.Generator, n: int, seeds: int) -> Held:
    """n labelled images and four times as many without labels, other prompts; a scorer right in 85 %."""
    truth = rng.uniform(0.05, 0.6)
    prompts, latent, _ = latents(rng, 5 * n, seeds)
    wrong = latent < norm.ppf(truth)
    verdicts = np.where(rng.random(5 * n) < 0.85, wrong, ~wrong)
    found = prediction_powered_rate(np.where(np.arange(5 * n) < n, wrong, np.nan), verdicts, prompts)
    return within(found.low, truth, found.high)


def verdicts_of_two(
    rng: np.random.Generator, n: int, seeds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rates = rng.uniform(0.1, 0.6, 2)
    prompts, one, other = latents(rng, n, seeds)
    return prompts, one < norm.ppf(rates[0]), other < norm.ppf(rates[1]), rates


def difference(rng: np.random.Generator, n: int, seeds: int) -> Held:
    prompts, one, other, rates = verdicts_of_two(rng, n, seeds)
    found = compare_means(one, prompts, other, prompts, resamples=RESAMPLES, seed=int(rng.integers(2**31)))
    return within(found.low, rates[1] - rates[0], found.high)


def superiority(rng: np.random.Generator, n: int, seeds: int) -> Held:
    prompts, one, other, rates = verdicts_of_two(rng, n, seeds)
    correlation = PROMPT + SHARED
    both = multivariate_normal.cdf(norm.ppf(rates), cov=[[1, correlation], [correlation, 1]])
    win, lose = rates[0] - both, rates[1] - both
    found = compare_wins(one, other, prompts, resamples=RESAMPLES, seed=int(rng.integers(2**31)))
    return within(found.rsi_low, (1 - lose) / (1 - win), found.rsi_high)


def scores(rng: np.random.Generator, n: int, seeds: int) -> Held:
    prompts, one, other = latents(rng, n, seeds)
    found = compare_means(one, prompts, other, prompts, resamples=RESAMPLES, seed=int(rng.integers(2**31)))
    return within(found.low, 0.0, found.high)


def other_seeds(rng: np.random.Generator, n: int, seeds: int) -> Held:
    """Runs that share prompts but no seed."""
    rates = rng.uniform(0.1, 0.6, 2)
    prompts = np.arange(n) // seeds
    common = np.sqrt(PROMPT) * rng.normal(size=prompts[-1] + 1)[prompts]
    one, other = (common + np.sqrt(1 - PROMPT) * rng.normal(size=n) < norm.ppf(rate) for rate in rates)
    found = compare_means(one, prompts, other, prompts, resamples=RESAMPLES, seed=int(rng.integers(2**31)))
    return within(found.low, rates[1] - rates[0], found.high)


QUANTITIES: dict[str, Callable[[np.random.Generator, int, int], Held]] = {
    "AER, Wilson, one image a prompt": plain_wilson,
    "AER, Wilson on the effective size": rate,
    "mean of a score": mean,
    "AER corrected, sensitivity .9, specificity .95": partial(corrected, sensitivity=0.9, specificity=0.95),
    "AER corrected, sensitivity .8, specificity .6": partial(corrected, sensitivity=0.8, specificity=0.6),
    "AER by prediction-powered inference, n labelled": powered,
    "difference of AER, same seeds": difference,
    "difference of AER, other seeds": other_seeds,
    "RSI": superiority,
    "difference of a score": scores,
    "(wrong: AER, Wilson, seeds taken as independent)": naive_wilson,
}


def simulate(task: tuple[str, int, int, int]) -> Held:
    """One simulated benchmark."""
    name, n, seeds, number = task
    order = list(QUANTITIES).index(name)
    return QUANTITIES[name](np.random.default_rng([2026, order, n, number]), n, seeds)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmarks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="quantities whose name holds this")
    asked = parser.parse_args()
    print("| 95 % interval | " + " | ".join(f"{n} images, {m} seeds" for n, m in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    with get_context("spawn").Pool(asked.workers) as pool:
        for name in QUANTITIES:
            if asked.only not in name:
                continue
            cells = []
            for n, m in SIZES:
                held = pool.map(simulate, [(name, n, m, i) for i in range(asked.benchmarks)], chunksize=50)
                cells.append(f"{100 * np.mean(held):.1f} %")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
