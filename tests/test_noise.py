"""What is random in a fit depends on the seed and the place, and on nothing else."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from asap_train.training.noise import draw_dropped, draw_noise, draw_uniform, epoch_order, pair_at

seeds, counts = st.integers(0, 2**40), st.integers(1, 60)


@given(seeds, counts)
def test_every_epoch_has_every_pair_once(seed: int, count: int) -> None:
    epochs = [[pair_at(seed, epoch * count + place, count) for place in range(count)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [tuple(epoch_order(seed, epoch, 40)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


@given(seeds, st.integers(1, 4), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_noise_does_not_depend_on_how_a_step_is_divided(seed: int, draws: int, parts: list[int]) -> None:
    size = sum(parts)
    whole, uniform = draw_noise(seed, range(size), draws, (2, 3)), draw_uniform(seed, 7, range(size), size, draws)
    ends = np.cumsum(parts)
    places = [range(end - part, end) for end, part in zip(ends, parts, strict=True)]
    assert torch.equal(torch.cat([draw_noise(seed, place, draws, (2, 3)) for place in places]), whole)
    assert torch.equal(torch.cat([draw_uniform(seed, 7, place, size, draws) for place in places]), uniform)
    assert whole.shape == (size, draws, 2, 3)
    assert torch.equal(draw_noise(seed, range(size), draws + 1, (2, 3))[:, :draws], whole), "more draws keep the first"


def test_noise_is_normal_and_independent() -> None:
    noise = draw_noise(0, range(400), 2, (5, 5)).double()
    assert abs(noise.mean()) < 4 / noise.numel() ** 0.5
    assert abs(noise.var() - 1) < 4 * (2 / noise.numel()) ** 0.5
    one, other = noise[:, 0].flatten(), noise[:, 1].flatten()
    assert abs((one * other).mean()) < 4 / len(one) ** 0.5


@given(seeds, st.integers(0, 1000), st.integers(1, 20), st.integers(1, 3))
def test_times_are_one_in_each_equal_part(seed: int, step: int, size: int, draws: int) -> None:
    uniform = draw_uniform(seed, step, range(size), size, draws)
    count = size * draws
    ranks = np.sort(uniform.double().flatten().numpy()) * count
    assert (ranks > np.arange(count) - 1e-4).all()
    assert (ranks < np.arange(count) + 1 + 1e-4).all()
    assert uniform.min() >= 0
    assert uniform.max() < 1


def test_each_time_is_uniform_over_the_steps() -> None:
    from scipy.stats import kstest

    first = [float(draw_uniform(3, step, [0], 8, 1)) for step in range(1500)]
    assert kstest(first, "uniform").pvalue > 0.001
    part = torch.tensor([float(draw_uniform(3, step, [0], 8, 1, 0.25, 0.5)) for step in range(200)])
    assert 0.25 <= part.min() < 0.27
    assert 0.48 < part.max() <= 0.5


def test_captions_are_dropped_as_often_as_asked() -> None:
    positions = range(4000)
    assert not any(draw_dropped(0, positions, 0.0))
    assert all(draw_dropped(0, positions, 1.0))
    share = np.mean(draw_dropped(0, positions, 0.2))
    assert abs(share - 0.2) < 4 * (0.16 / 4000) ** 0.5
    assert draw_dropped(0, positions, 0.2)[100:110] == draw_dropped(0, range(100, 110), 0.2)
