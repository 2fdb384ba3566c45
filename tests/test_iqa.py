"""The iqa scorer where a metric has nothing to measure, or weights that are not to be trusted."""

import json
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


LOAD = """
import json, shutil, sys
from pathlib import Path
from hafbench.errors import HafError
from small import a_scorer
home, said = Path(sys.argv[1]), {}
for name in sys.argv[2:]:
    shutil.rmtree(home / "hub", ignore_errors=True)
    shutil.copytree(home / name, home / "hub" / "pyiqa")
    try:
        a_scorer("iqa", metric="musiq")
    except HafError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torch")


@pytest.fixture(scope="module")
def said(home: Path) -> dict[str, str]:
    """What is said of the weights of musiq, by what is wrong with them.

    In a process of its own, for pyiqa reads TORCH_HOME once, when it is imported.
    """
    from pyiqa.archs.musiq_arch import default_model_urls

    names = ("evil", "empty", "cut", "of another net", "absent")
    for name in names:
        (home / name).mkdir()
        for url in default_model_urls.values() if name != "absent" else ():
            file = home / name / Path(url).name
            torch.save({"params": Evil(home / "pwned")} if name == "evil" else {"a": torch.zeros(1000)}, file)
            if name in ("empty", "cut"):
                file.write_bytes(file.read_bytes()[: 0 if name == "empty" else 2000])
    environment = {**os.environ, "TORCH_HOME": str(home)}
    words = [sys.executable, "-c", LOAD, str(home), *names]
    done = subprocess.run(words, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_weights_that_would_run_code_are_refused(said: dict[str, str], home: Path) -> None:
    assert said["evil"].startswith("--iqa musiq: its weights file")
    assert "was refused" in said["evil"]
    assert not (home / "pwned").exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "of another net"])
def test_damaged_weights_are_called_damaged_and_not_absent(said: dict[str, str], home: Path, damage: str) -> None:
    assert f"its weights file in pyiqa's cache, {home / 'hub' / 'pyiqa'}, is damaged" in said[damage]


def test_absent_weights_are_called_absent(said: dict[str, str]) -> None:
    assert "are not on this machine and cannot be fetched" in said["absent"]


def test_the_hash_of_a_metric_with_parameters_is_recorded() -> None:
    from hafbench.scorers.clip import sha256_of_parameters
    from hafbench.scorers.iqa import IqaScorer

    class Metric:
        lower_better = True
        net = torch.nn.Linear(2, 1)

    assert IqaScorer(Metric(), "linear", "cpu").settings["weights"] == {"parameters": sha256_of_parameters(Metric.net)}
    assert a_scorer("iqa").settings["weights"] == {}
