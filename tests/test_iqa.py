"""The iqa scorer where a metric has nothing to measure, or weights that are not to be trusted."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hafbench.errors import HafError
from small import a_scorer
from test_weights import Evil


@pytest.mark.parametrize("kind", ["gradient", "one edge"])
def test_what_piqe_had_to_go_by_is_told(kind: str) -> None:
    """(0 + 1) / (0 blocks + 1) is 100 %: the formula's worst value, with nothing measured (Venkatanath et al. 2015)."""
    pixels = np.full((128, 128, 3), 100, np.uint8)
    if kind == "gradient":
        pixels[:] = np.linspace(0, 255, 128).astype(np.uint8)[None, :, None]
    else:
        pixels[:, 64:] = 200
    piqe = a_scorer("iqa")
    score = piqe.score(pixels, None)
    assert (score.value, score.measures) == (100.0, {"textured": 0.0})
    pixels[:64] = np.random.default_rng(0).integers(0, 256, (64, 128, 3))
    half = piqe.score(pixels, None)
    assert half.measures["textured"] == pytest.approx(0.5, abs=0.13)  # one row of 8 blocks straddles the border
    assert (half.value or 0) < 100


def test_entropy_is_that_of_the_grey_values() -> None:
    pixels = np.repeat(np.array([0, 85, 170, 255], np.uint8), 1024).reshape(64, 64)
    scorer = a_scorer("iqa", metric="entropy")
    score = scorer.score(np.asarray(Image.fromarray(pixels).convert("RGB")), None)
    assert score.value == pytest.approx(2.0, abs=1e-3)  # four equally frequent values are two bits
    assert scorer.higher_is_better is True


@pytest.mark.parametrize(
    ("name", "words"),
    [("fid", "whole sets"), ("inception_score", "whole sets"), ("clipscore", "which the clip scorer does")],
)
def test_metrics_that_are_not_of_one_image_are_refused(name: str, words: str) -> None:
    with pytest.raises(HafError, match=words):
        a_scorer("iqa", metric=name)


def load_musiq(home: Path) -> str:
    """What loading it says, in a process of its own, for pyiqa reads TORCH_HOME once, when it is imported."""
    load = "from small import a_scorer; a_scorer('iqa', metric='musiq')"
    return subprocess.run(
        [sys.executable, "-c", load],
        cwd=Path(__file__).parent,
        env={**os.environ, "TORCH_HOME": str(home)},
        capture_output=True,
        text=True,
    ).stderr


def cache_of(home: Path) -> list[Path]:
    from pyiqa.archs.musiq_arch import default_model_urls

    cache = home / "hub" / "pyiqa"
    cache.mkdir(parents=True)
    return [cache / Path(url).name for url in default_model_urls.values()]


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    for file in cache_of(tmp_path):
        torch.save({"params": Evil(tmp_path / "pwned")}, file)
    said = load_musiq(tmp_path)
    assert "HafError: --iqa musiq: its weights file" in said
    assert "was refused" in said
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "of another net"])
def test_damaged_weights_are_called_damaged_and_not_absent(tmp_path: Path, damage: str) -> None:
    for file in cache_of(tmp_path):
        torch.save({"a": torch.zeros(1000)}, file)
        if damage != "of another net":
            file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else 2000])
    said = load_musiq(tmp_path)
    assert f"its weights file in pyiqa's cache, {tmp_path / 'hub' / 'pyiqa'}, is damaged" in said


def test_absent_weights_are_called_absent(tmp_path: Path) -> None:
    assert "are not on this machine and cannot be fetched" in load_musiq(tmp_path)


def test_the_hash_of_a_metric_with_parameters_is_recorded() -> None:
    from hafbench.scorers.clip import sha256_of_parameters
    from hafbench.scorers.iqa import IqaScorer

    class Metric:
        lower_better = True
        net = torch.nn.Linear(2, 1)

    assert IqaScorer(Metric(), "linear", "cpu").settings["weights"] == {"parameters": sha256_of_parameters(Metric.net)}
    assert a_scorer("iqa").settings["weights"] == {}
