"""Similarity inside and outside of M against scikit-image, and what the gates make of them."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.metrics import structural_similarity

from asap_train.data.gates import (
    NearDuplicates,
    fingerprint,
    is_kept,
    judge,
    judge_by_scorer,
    refusal,
    skipped,
)
from asap_train.data.similarity import LPIPS_FILES, Similarity, load_lpips, mean_ssim, measure_similarity, ssim_map
from asap_train.data.spec import Thresholds
from hafbench.errors import HafError, Unavailable
from hafbench.types import Score
from hap_pairs import mannequin, painted
from test_weights import Evil

GOOD = Similarity(ssim_in=0.5, ssim_out=0.98, lpips_in=0.3, lpips_out=0.01, area=0.05)


def reference_map(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The whole map, by scikit-image."""
    options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 255, "channel_axis": 2}
    similarity: np.ndarray = structural_similarity(one, other, full=True, **options)[1].mean(-1)
    return similarity


@st.composite
def changed_pictures(pick: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture, the same with a box of it changed, at a border or in the middle, and a mask of any kind."""
    rng = np.random.default_rng(pick(st.integers(0, 2**32)))
    height, width = pick(st.integers(11, 70)), pick(st.integers(11, 70))
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if pick(st.booleans()):
        image[:] = pick(st.integers(0, 255))
    y, x = pick(st.integers(0, height - 1)), pick(st.integers(0, width - 1))
    other = image.copy()
    box = other[y : y + pick(st.integers(1, height)), x : x + pick(st.integers(1, width))]
    box[:] = rng.integers(0, 256, box.shape, dtype=np.uint8)
    return image, other, rng.random((height, width)) < pick(st.floats(0.01, 1))


@settings(max_examples=80, deadline=None)
@given(changed_pictures())
def test_ssim_on_the_crop_is_that_of_the_whole_picture(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    image, other, where = case
    whole = reference_map(image, other)
    np.testing.assert_allclose(ssim_map(image, other), whole, atol=1e-9)
    if where.any():
        assert mean_ssim(image, other, where) == pytest.approx(whole[where].mean(), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(changed_pictures())
def test_each_side_is_measured_on_a_picture_of_its_own(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    winner, loser, mask = case
    mask[0, 0], mask[-1, -1] = True, False
    inside, outside = winner.copy(), winner.copy()
    inside[mask], outside[~mask] = loser[mask], loser[~mask]
    found = measure_similarity(winner, loser, mask)
    assert found.ssim_in == pytest.approx(reference_map(winner, inside)[mask].mean(), abs=1e-9)
    assert found.ssim_out == pytest.approx(reference_map(winner, outside)[~mask].mean(), abs=1e-9)
    assert found.area == mask.mean()
    assert (found.lpips_in, found.lpips_out) == (None, None)


def test_what_happens_outside_does_not_leak_in() -> None:
    pair = painted(0)
    spoilt = pair.loser.copy()
    spoilt[~pair.mask] ^= 255
    assert measure_similarity(pair.winner, spoilt, pair.mask).ssim_in == pair.similarity.ssim_in
    assert pair.similarity.ssim_out == 1.0
    assert measure_similarity(pair.winner, spoilt, pair.mask).ssim_out < 0.5


def test_equal_pictures_and_a_mask_of_everything() -> None:
    image, every = painted(0).winner, np.ones((48, 56), np.bool_)
    assert measure_similarity(image, image, every) == Similarity(1.0, 1.0, None, None, 1.0)


@pytest.mark.parametrize(
    ("loser", "mask", "words"),
    [
        (np.zeros((10, 12, 3), np.uint8), np.ones((10, 10), np.bool_), "10 x 10 pixels and the loser 12 x 10"),
        (np.zeros((10, 10, 3), np.uint8), np.ones((10, 12), np.bool_), "mask has 12 x 10 pixels and the image 10 x 10"),
        (np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), np.bool_), "mask is empty"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_sizes(loser: np.ndarray, mask: np.ndarray, words: str) -> None:
    with pytest.raises(HafError, match=words):
        measure_similarity(np.zeros((10, 10, 3), np.uint8), loser, mask)


def test_the_defaults_keep_what_the_paper_reports_as_means() -> None:
    assert is_kept(judge(Similarity(0.5315, 0.9827, 0.3446, 0.0109, 0.05), Thresholds()))
    assert is_kept(judge(Similarity(0.65, 0.95, 0.25, 0.02, 0.5), Thresholds()))  # the bounds themselves


@pytest.mark.parametrize(
    ("change", "gate", "sentence"),
    [
        ({"ssim_in": 0.66}, "inside_ssim", "SSIM inside M of 0.660 is above 0.650"),
        ({"ssim_out": 0.94}, "outside_ssim", "SSIM outside M of 0.940 is below 0.950"),
        ({"lpips_in": 0.2}, "inside_lpips", "LPIPS inside M of 0.200 is below 0.250"),
        ({"lpips_out": 0.03}, "outside_lpips", "LPIPS outside M of 0.030 is above 0.020"),
        ({"area": 0.0002}, "area", "M covers 0.02 % of the picture: below 0.05 %"),
        ({"area": 0.6}, "area", "M covers 60.00 % of the picture: above 50.00 %"),
    ],
)
def test_each_gate_refuses_with_its_sentence(change: dict[str, float], gate: str, sentence: str) -> None:
    verdicts = judge(Similarity(**{**vars(GOOD), **change}), Thresholds())
    assert not is_kept(verdicts)
    assert refusal(verdicts) == (gate, sentence)
    assert [one.gate for one in verdicts if one.outcome == "failed"] == [gate]


def test_a_gate_without_its_measure_is_skipped_and_not_passed() -> None:
    verdicts = judge(Similarity(0.5, 0.98, None, None, 0.05), Thresholds())
    outcomes = {one.gate: one.outcome for one in verdicts}
    assert (outcomes["inside_lpips"], outcomes["outside_lpips"]) == ("skipped", "skipped")
    assert set(skipped(verdicts)) == {"inside_lpips", "outside_lpips"}
    assert is_kept(verdicts)


@pytest.mark.parametrize(
    ("winner", "loser", "outcome", "words"),
    [
        (Score("scored", 0.1, False), Score("scored", 0.9, True), "passed", None),
        (Score("scored", 0.9, True), Score("scored", 0.9, True), "failed", "suspects an error in x_w"),
        (Score("scored", 0.1, False), Score("scored", 0.1, False), "failed", "sees no error in x_l"),
        (
            Score("unknown", reason="No hand was found."),
            Score("scored", 0.9, True),
            "skipped",
            "x_w: No hand was found",
        ),
        (Score("scored", 0.1, False), Score("unscored", reason="no weights"), "skipped", "x_l: no weights"),
    ],
)
def test_a_scorer_sees_the_error_in_the_loser_only(
    winner: Score, loser: Score, outcome: str, words: str | None
) -> None:
    verdict = judge_by_scorer("hands", winner, loser)
    assert (verdict.gate, verdict.outcome) == ("scorer_hands", outcome)
    assert (verdict.reason or "").endswith(words or "")


def test_the_same_pair_again_is_a_near_duplicate_and_others_are_not() -> None:
    pairs = [mannequin(seed) for seed in (700_000, 700_001, 700_003, 700_006)]
    known = NearDuplicates(4)
    for pair in pairs:
        assert known.judge(pair.fingerprint).outcome == "passed"
        known.add(pair.fingerprint)
    for pair in pairs:
        winner, loser = (np.asarray(jpeg(image)) for image in (pair.winner, pair.loser))
        assert known.judge(fingerprint(winner, loser, pair.mask)).outcome == "failed"
        # Another error in the same photo is another pair.
        assert known.judge(fingerprint(pair.winner, pair.winner[::-1], pair.mask)).outcome == "passed"


def jpeg(image: np.ndarray) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("RGB")


@given(st.lists(st.integers(0, 2**128 - 1), max_size=30), st.integers(0, 2**128 - 1), st.integers(0, 64))
def test_near_is_near_in_both_halves(known: list[int], new: int, distance: int) -> None:
    """Against the definition, bit by bit."""
    near = any(max((one >> 64 ^ new >> 64).bit_count(), ((one ^ new) % 2**64).bit_count()) <= distance for one in known)
    index = NearDuplicates(distance, [f"{one:032x}" for one in known])
    assert (index.judge(f"{new:032x}").outcome == "failed") is near


def test_the_index_grows() -> None:
    index = NearDuplicates(0, [f"{number:032x}" for number in range(3000)])
    assert index.judge(f"{2999:032x}").outcome == "failed"
    assert index.judge(f"{3000:032x}").outcome == "passed"


def test_without_its_weights_lpips_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Unavailable, match=r"alexnet-owt-7be5be79\.pth and pyiqa/LPIPS_v0\.1_alex-df73285e\.pth"):
        load_lpips()


RUN = """
import numpy as np, torch
from torch.nn import functional as F
from torchvision.models import alexnet
from asap_train.data.similarity import load_lpips, measure_similarity, LPIPS_FILES
from hap_pairs import painted
from pathlib import Path

lpips, pair = load_lpips(), painted(3, side=64)
folder = Path(torch.hub.get_dir())
trunk = alexnet(); trunk.load_state_dict(torch.load(folder / LPIPS_FILES[0])); trunk.eval()
lines = torch.load(folder / LPIPS_FILES[1])

def features(image):
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    x = (x - torch.tensor([-.030, -.088, -.188])[:, None, None]) / torch.tensor([.458, .448, .450])[:, None, None]
    for number, layer in enumerate(trunk.features):
        x = layer(x)
        if number in (1, 4, 7, 9, 11):
            yield x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)

def expected(one, other):
    total = 0
    for number, (a, b) in enumerate(zip(features(one), features(other))):
        distance = F.conv2d((a - b) ** 2, lines[f"lin{number}.model.1.weight"])
        total = total + F.interpolate(distance, one.shape[:2], mode="bilinear", align_corners=False)
    return total[0, 0].detach().numpy()

loser = pair.loser.copy()
loser[40:50, 40:50] ^= 255
inside, outside = pair.winner.copy(), pair.winner.copy()
inside[pair.mask], outside[~pair.mask] = loser[pair.mask], loser[~pair.mask]
np.testing.assert_allclose(lpips.map(pair.winner, loser), expected(pair.winner, loser), rtol=1e-4, atol=1e-6)
found = measure_similarity(pair.winner, loser, pair.mask, lpips)
np.testing.assert_allclose(found.lpips_in, expected(pair.winner, inside)[pair.mask].mean(), rtol=1e-4)
np.testing.assert_allclose(found.lpips_out, expected(pair.winner, outside)[~pair.mask].mean(), rtol=1e-4)
assert measure_similarity(pair.winner, pair.loser, pair.mask, lpips).lpips_out == 0
assert len(lpips.settings["weights"]["parameters"]) == 64
print("as expected")
"""


def with_weights(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, for pyiqa reads TORCH_HOME once, when it is imported."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "TORCH_HOME": str(folder), "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_lpips_by_pyiqa_is_that_of_its_definition(tmp_path: Path) -> None:
    """On random weights, since the trained ones are unavailable: Zhang et al. 2018, equation 1, before the mean."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    state = alexnet().state_dict()
    for name, value in state.items():
        if name.startswith("classifier"):  # not used by LPIPS: one stored number for all
            state[name] = torch.zeros(1).expand(value.shape)
    channels = enumerate((64, 192, 384, 256, 256))
    lines = {f"lin{number}.model.1.weight": torch.rand(1, count, 1, 1) for number, count in channels}
    for name, value in zip(LPIPS_FILES, (state, lines), strict=True):
        (tmp_path / "hub" / name).parent.mkdir(parents=True)
        torch.save(value, tmp_path / "hub" / name)
    done = with_weights(tmp_path, RUN)
    assert done.stdout.strip() == "as expected", done.stderr

    torch.save({"params": lines}, tmp_path / "hub" / LPIPS_FILES[1])  # another file by that name
    done = with_weights(tmp_path, "from asap_train.data.similarity import load_lpips; load_lpips()")
    assert "has no lin0.model.1.weight: it is not the file of LPIPS 0.1" in done.stderr


def test_weights_of_lpips_that_would_run_code_are_refused(tmp_path: Path) -> None:
    for name in LPIPS_FILES:
        (tmp_path / "hub" / name).parent.mkdir(parents=True)
        torch.save(Evil(tmp_path / "pwned"), tmp_path / "hub" / name)
    done = with_weights(tmp_path, "from asap_train.data.similarity import load_lpips; load_lpips()")
    assert "HafError: The weights of LPIPS in" in done.stderr
    assert not (tmp_path / "pwned").exists()
