"""Latents and text embeddings computed once: what they are, when they are stale, and that the work goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asap_train.backbones import Backbone, load_backbone
from asap_train.data.crops import crop_of, fit_pair, window
from asap_train.hap.read import read_pairs
from asap_train.training.cache import Cache, find_cache, forget_others, is_whole
from fits import fill, painted_pairs, tiny_model
from hafbench.errors import HafError

SIZE = 32
COUNT = 70
"""More than one file."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted_pairs(tmp_path_factory.mktemp("pairs") / "hap", COUNT)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "sd3")


@pytest.fixture(scope="module")
def backbone(model: Path) -> Backbone:
    return load_backbone(str(model))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, pairs: Path, backbone: Backbone) -> Cache:
    made = find_cache(tmp_path_factory.mktemp("cache"), pairs, backbone, SIZE, torch.float32)
    fill(made, backbone)
    return made


def contents(cache: Cache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.folder.iterdir()}


def lacks(cache: Cache) -> list[str]:
    return [path.name for path, rows in cache.files.items() if not is_whole(path, rows)]


def test_a_batch_is_what_the_encoders_give(cache: Cache, pairs: Path, backbone: Backbone) -> None:
    known = {pair.id: pair for pair in read_pairs(pairs, "train")}
    places = [0, 69, 5]
    batch = cache.batch(places, [False, False, True])
    assert len(cache.ids) == COUNT
    for i, place in enumerate(places):
        pair = known[cache.ids[place]]
        top, left, side, _ = window(pair.mask, (SIZE, SIZE))
        # At 48 x 48 pixels and a third smaller, a mask covers as much of the square as before.
        part = pair.mask[top : top + side, left : left + side]
        assert batch.mask[i].mean() == pytest.approx(part.mean(), abs=0.002)
        winner, loser, _ = fit_pair(pair, (SIZE, SIZE))
        for name, pixels in (("winner", winner), ("loser", loser)):
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
            torch.testing.assert_close(getattr(batch, name)[i], backbone.encode_images(image)[0], atol=1e-4, rtol=1e-4)
        caption = "" if i == 2 else pair.caption
        for name, value in backbone.encode_texts([caption]).items():
            assert torch.equal(batch.conditions[name][i], value[0])
    assert batch.winner.shape == batch.loser.shape == (3, 4, SIZE // 2, SIZE // 2)
    assert batch.mask.shape == (3, 1, SIZE // 2, SIZE // 2)


def test_captions_are_encoded_once_each(cache: Cache) -> None:
    assert list(cache.texts) == ["", "a hand", "two hands", "an arm"]
    assert sorted(path.name for path in cache.folder.glob("texts*")) == ["texts-00000.safetensors"]


def test_what_is_missing_or_broken_is_made_again_and_nothing_else(cache: Cache, backbone: Backbone) -> None:
    before = contents(cache)
    (cache.folder / "pairs-00000.safetensors").unlink()
    broken = cache.folder / "texts-00000.safetensors"
    broken.write_bytes(broken.read_bytes()[:-10])
    kept = (cache.folder / "pairs-00001.safetensors").stat().st_mtime_ns
    assert lacks(cache) == ["pairs-00000.safetensors", "texts-00000.safetensors"]
    fill(Cache(cache.folder, cache.pairs, cache.ids, cache.captions, cache.buckets, cache.stored), backbone)
    assert contents(cache) == before
    assert (cache.folder / "pairs-00001.safetensors").stat().st_mtime_ns == kept


def test_a_place_that_cannot_be_written_is_told_with_the_settings_that_name_it(
    tmp_path: Path, pairs: Path, backbone: Backbone
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HafError, match=r"/file cannot be written: .*; choose another --out or cache_dir\."):
        find_cache(tmp_path / "file", pairs, backbone, SIZE, torch.float32)


def test_several_processes_share_the_work(tmp_path: Path, cache: Cache, pairs: Path, backbone: Backbone) -> None:
    other = find_cache(tmp_path, pairs, backbone, SIZE, torch.float32)
    fill(other, backbone, (0, 2))
    assert lacks(other) == ["pairs-00001.safetensors"]
    fill(other, backbone, (1, 2))
    assert contents(other) == contents(cache)


def test_other_pairs_weights_or_sizes_are_another_cache(
    tmp_path: Path, pairs: Path, backbone: Backbone, model: Path
) -> None:
    def key(folder: Path, made: Backbone = backbone, size: int = SIZE, stored: torch.dtype = torch.float32) -> str:
        return find_cache(tmp_path / "cache", folder, made, size, stored).folder.name

    other = load_backbone(str(model))
    other.facts = {"weights": {**other.facts["weights"], "vae/diffusion_pytorch_model.safetensors": "0"}}
    keys = [
        *(key(pairs), key(painted_pairs(tmp_path / "hap", 5)), key(pairs, other)),
        *(key(pairs, size=64), key(pairs, stored=torch.float16)),
    ]
    assert len(set(keys)) == 5
    assert key(pairs) == keys[0]
    newest = find_cache(tmp_path / "cache", pairs, backbone, SIZE, torch.float32)
    assert json.loads((newest.folder / "key.json").read_text())["size"] == SIZE
    forget_others(newest)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [keys[0]]


def test_half_precision_is_kept_half_as_large(tmp_path: Path, cache: Cache, pairs: Path, backbone: Backbone) -> None:
    small = find_cache(tmp_path, pairs, backbone, SIZE, torch.float16)
    fill(small, backbone)
    name = "pairs-00000.safetensors"
    assert (small.folder / name).stat().st_size < 0.52 * (cache.folder / name).stat().st_size
    one, other = small.batch([3], [False]), cache.batch([3], [False])
    assert one.winner.dtype == torch.float32
    torch.testing.assert_close(one.winner, other.winner, atol=1e-2, rtol=1e-3)


def test_texts_of_large_models_are_kept_in_half_precision_and_as_long_as_is_asked(
    tmp_path: Path, pairs: Path, model: Path, cache: Cache
) -> None:
    whole = load_backbone(str(model))  # in single precision, as for full fine-tuning
    assert whole.text_tokens == 256
    small = find_cache(tmp_path, pairs, whole, SIZE, torch.float16)
    fill(small, whole)
    words = small.batch([0], [False]).conditions["words"]
    assert words.dtype == torch.bfloat16
    own = cache.batch([0], [False]).conditions["words"]
    torch.testing.assert_close(words.float(), own, atol=2e-2, rtol=1e-2)
    whole.text_tokens = 24
    short = find_cache(tmp_path, pairs, whole, SIZE, torch.float16)
    assert short.folder != small.folder
    fill(short, whole)
    assert short.batch([0], [False]).conditions["words"].shape[1] == own.shape[1] - 256 + 24


def test_a_data_set_without_training_pairs_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    import hap_pairs

    hap_pairs.write(tmp_path / "hap", [hap_pairs.painted(0)], shares={"test": 1.0})
    with pytest.raises(HafError, match="no pairs of the split 'train'"):
        find_cache(tmp_path / "cache", tmp_path / "hap", backbone, SIZE, torch.float32)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_m_lies_within_the_square_where_it_can(shape: tuple[int, int], place: tuple[float, ...]) -> None:
    height, width = shape
    mask = np.zeros(shape, np.bool_)
    y, x = int(place[0] * (height - 1)), int(place[1] * (width - 1))
    bottom, right = y + 1 + int(place[2] * (height - 1 - y)), x + 1 + int(place[3] * (width - 1 - x))
    mask[y:bottom, x:right] = True
    top, left, side, across = window(mask, (7, 7))
    assert across == side
    assert side == min(shape)
    assert top >= 0
    assert left >= 0
    assert top + side <= height
    assert left + side <= width
    inside = mask[top : top + side, left : left + side].sum()
    assert inside == min(bottom - y, side) * min(right - x, side), "M, or as much of it as there is room for"


def test_a_portrait_cut_to_a_square_says_so() -> None:
    mask = np.zeros((300, 100), np.bool_)
    mask[250:280, 40:60] = True
    assert window(mask, (50, 50)) == (180, 0, 100, 100)
    crop = crop_of(mask, (50, 50))
    assert (crop.original, crop.corner, crop.size) == ((300, 100), (90, 0), (50, 50))


def test_a_batch_for_sdxl_has_the_cut_of_each_pair(tmp_path: Path) -> None:
    import hap_pairs
    from fits import ALL_FOR_TRAINING
    from tiny_pipelines import build_sdxl

    pair = hap_pairs.painted(0)
    winner, loser, mask = (np.concatenate([one, one]) for one in (pair.winner, pair.loser, pair.mask))
    tall = replace(pair, winner=winner, loser=loser, mask=mask)
    hap_pairs.write(tmp_path / "hap", [tall], shares=ALL_FOR_TRAINING)
    sdxl = load_backbone(str(build_sdxl(tmp_path / "sdxl")))
    made = find_cache(tmp_path / "cache", tmp_path / "hap", sdxl, SIZE, torch.float32)
    fill(made, sdxl)
    height, width = tall.mask.shape
    top, left, side, _ = window(tall.mask, (SIZE, SIZE))
    expected = [height, width, round(top * SIZE / side), round(left * SIZE / side), SIZE, SIZE]
    assert made.batch([0], [False]).conditions["time_ids"].tolist() == [expected]


def test_without_m_the_middle_is_taken() -> None:
    assert window(np.zeros((40, 100), np.bool_), (8, 8)) == (0, 30, 40, 40)
    assert window(np.zeros((101, 40), np.bool_), (8, 8)) == (30, 0, 40, 40)
