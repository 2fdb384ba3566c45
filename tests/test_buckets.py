"""Aspect-ratio buckets: which size a pair is brought to, what is cut of it, and the order of batches."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hap_pairs
from asap_train.backbones import load_backbone
from asap_train.data.buckets import bucket_of, bucket_sizes
from asap_train.data.crops import crop_of, fit_pair, window
from asap_train.hap import Pair
from asap_train.training.cache import find_cache
from asap_train.training.noise import pair_at
from asap_train.training.order import Order
from asap_train.training.trainer import train
from fits import ALL_FOR_TRAINING, fill, log_of, settings, tiny_model
from tiny_pipelines import build_sdxl


@pytest.mark.parametrize(("size", "multiple"), [(1024, 16), (1024, 32), (512, 64), (768, 16)])
def test_buckets_have_about_the_area_of_the_square_and_sides_that_the_model_takes(size: int, multiple: int) -> None:
    buckets = bucket_sizes(size, multiple)
    assert buckets[0] == (size, size)
    assert {(width, height) for height, width in buckets} == set(buckets)
    for height, width in buckets:
        assert height % multiple == width % multiple == 0
        assert abs(height * width / size**2 - 1) < 0.13
    ratios = [height / width for height, width in buckets]
    for shape in ((1600, 1200), (1200, 1600), (3000, 2000), (1920, 1080), (900, 900), (1350, 1080)):
        height, width = bucket_of(shape, buckets)
        best = min(abs(math.log(ratio) - math.log(shape[0] / shape[1])) for ratio in ratios)
        assert abs(math.log(height / width) - math.log(shape[0] / shape[1])) == best


@given(st.integers(40, 400), st.integers(40, 400))
def test_little_of_an_image_of_a_usual_shape_is_cut(height: int, width: int) -> None:
    size = bucket_of((height, width), bucket_sizes(512, 16))
    top, left, tall, wide = window(np.zeros((height, width), np.bool_), size)
    assert top + tall <= height
    assert left + wide <= width
    assert tall == height or wide == width
    # The proportions of the bucket, within a pixel.
    assert abs(tall * size[1] - wide * size[0]) <= max(size)
    if 0.45 < height / width < 2.2:
        assert tall * wide / (height * width) > 0.82


def test_a_whole_figure_stays_whole_and_a_crop_says_what_is_left() -> None:
    pair = hap_pairs.painted(0, side=48)
    winner, loser, mask = (np.concatenate([one, one[:40]]) for one in (pair.winner, pair.loser, pair.mask))
    tall = replace(pair, winner=winner, loser=loser, mask=mask)
    assert mask.shape == (88, 56)
    size = bucket_of((88, 56), bucket_sizes(32, 2))
    assert size == (40, 26)
    made = fit_pair(tall, size)
    assert [one.shape[:2] for one in made] == [size] * 3
    assert made[2].mean() == pytest.approx(mask.mean(), abs=0.01)
    crop = crop_of(mask, size)
    assert (crop.original, crop.corner, crop.size) == ((88, 56), (0, 0), size)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_batches_are_of_one_bucket_and_every_pair_has_its_turn(buckets: list[int], size: int, seed: int) -> None:
    order = Order(seed, size, buckets)
    batches = [order.batch(number) for number in range(3 * len(buckets) // size + 8)]
    assert all(len(batch) == size and len({buckets[place] for place in batch}) == 1 for batch in batches)
    for bucket, count in Counter(buckets).items():
        turns = [place for batch in batches for place in batch if buckets[place] == bucket]
        for first in range(0, len(turns) - count + 1, count):
            assert len(set(turns[first : first + count])) == count, "all pairs of a bucket before one comes again"
        share = len(turns) / (len(batches) * size)
        assert abs(share - count / len(buckets)) <= (len(set(buckets)) + 1) / len(batches) + 0.2


def test_with_one_bucket_the_order_is_that_of_the_pairs_alone() -> None:
    order = Order(7, 3, ["square"] * 10)
    made = [place for number in range(12) for place in order.batch(number)]
    assert made == [pair_at(7, position, 10) for position in range(36)]


def shaped(number: int) -> Pair:
    """A pair of 48 x 56 pixels, and every third as high again."""
    pair = hap_pairs.painted(number)
    if number % 3:
        return pair
    winner, loser, mask = (np.concatenate([one, one]) for one in (pair.winner, pair.loser, pair.mask))
    return replace(pair, winner=winner, loser=loser, mask=mask)


def mixed(folder: Path, count: int = 6) -> Path:
    hap_pairs.write(folder, [shaped(number) for number in range(count)], shares=ALL_FOR_TRAINING)
    return folder


def test_a_cache_keeps_buckets_apart_and_tells_sdxl_the_truth(tmp_path: Path) -> None:
    pairs, sdxl = mixed(tmp_path / "hap"), load_backbone(str(build_sdxl(tmp_path / "sdxl")))
    assert sdxl.multiple == 4
    cache = find_cache(tmp_path / "cache", pairs, sdxl, 32, torch.float32, bucketed=True)
    fill(cache, sdxl)
    assert cache.folder != find_cache(tmp_path / "cache", pairs, sdxl, 32, torch.float32).folder
    assert Counter(cache.buckets) == {(28, 36): 4, (44, 24): 2}
    assert sorted(path.name for path in cache.folder.glob("pairs*")) == [
        "pairs-00000.safetensors",
        "pairs-00001.safetensors",
    ]
    known = {pair.id: pair for pair in map(shaped, range(6))}
    for bucket in set(cache.buckets):
        places = [place for place, own in enumerate(cache.buckets) if own == bucket]
        batch = cache.batch(places, [False] * len(places))
        assert batch.winner.shape[-2:] == batch.mask.shape[-2:] == (bucket[0] // 2, bucket[1] // 2)
        for row, place in enumerate(places):
            pair = known[cache.ids[place]]
            winner, _, _ = fit_pair(pair, bucket)
            image = torch.from_numpy(winner).permute(2, 0, 1)[None] / 127.5 - 1
            torch.testing.assert_close(batch.winner[row], sdxl.encode_images(image)[0], atol=1e-4, rtol=1e-4)
            told = batch.conditions["time_ids"][row].tolist()
            assert told == [*pair.mask.shape, *crop_of(pair.mask, bucket).corner, *bucket]


def test_a_fit_with_buckets_is_resumed_exactly(tmp_path: Path) -> None:
    pairs, model = mixed(tmp_path / "hap"), tiny_model(tmp_path / "model")
    asked = {"use_aspect_ratio_buckets": True, "max_train_steps": 6, "mixed_precision": "no"}
    whole = train(settings(model, pairs, tmp_path / "whole", **asked))
    stopped = settings(model, pairs, tmp_path / "stopped", **asked)
    train(stopped, on_checkpoint=lambda _, step: step == 2)
    assert len(log_of(stopped.out)) == 2
    assert log_of(train(stopped)) == log_of(whole)
