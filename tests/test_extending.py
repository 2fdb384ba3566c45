"""The example package, installed beside ours: its components are listed, set, run, and shown in docs/extending.md."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hafbench.registry import Entry, Registry
from hafbench.runs import read_run

REPOSITORY = Path(__file__).parents[1]
PLUGIN = REPOSITORY / "examples" / "plugin"
COMPONENTS = ("contrast", "stripes", "cautious", "blur", "hinge", "tiny")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the package is installed, in a folder of its own beside our packages."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(PLUGIN, tmp_path_factory.mktemp("source") / "plugin")  # a build writes beside the source
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
    return {**os.environ, "PYTHONPATH": str(folder)}


def run(installed: dict[str, str], program: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = Path(sys.executable).with_name(program)
    words_ = [str(path), *map(str, words)]
    return subprocess.run(words_, env=installed, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def python(installed: dict[str, str], code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_shows_the_files_of_the_package_each_under_thirty_lines() -> None:
    page = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert shown == [(PLUGIN / "haf_plugin" / f"{name}.py").read_text(encoding="utf-8") for name in COMPONENTS]
    assert all(len(code.splitlines()) < 30 for code in shown)


def test_a_scorer_with_an_option_is_listed_set_and_run(installed: dict[str, str], tmp_path: Path) -> None:
    assert "contrast" in run(installed, "hafbench", "scorers", cwd=tmp_path).stdout
    (tmp_path / "images").mkdir()
    halves = np.repeat(np.array([0, 100], np.uint8), 32)
    Image.fromarray(np.tile(halves, (64, 1))).convert("RGB").save(tmp_path / "images" / "a.png")
    words = ("score", "images", "--scorers", "contrast", "--out", "out", "--quiet")
    done = run(installed, "hafbench", *words, "--set", "scorers.contrast.ceiling=200", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = read_run(tmp_path / "out")  # by a process that does not have the package
    assert found.records["value"].tolist() == [50 / 200]
    assert found.manifest.scorers["contrast"].settings == {"ceiling": 200.0}
    assert found.manifest.request is None  # which names a scorer that is unknown here: the run cannot be resumed
    wrong = run(installed, "hafbench", *words, "--set", "scorers.contrast.cieling=2", cwd=tmp_path)
    assert (wrong.returncode, "did you mean ceiling" in wrong.stderr) == (2, True)


@pytest.mark.slow
def test_a_generator_and_a_judge_make_a_run(installed: dict[str, str], tmp_path: Path) -> None:
    words = ("run", "--set", "model.generator=stripes", "--set", "model.arguments.width=8", "--suite", "haf-50")
    judge = ("--scorers", "judge", "--judge-protocol", "single", "--limit", 2, "--quiet")
    for darkest, error in ((64, False), (200, True)):
        named = f"scorers.judge.judges=[{{judge: cautious, options: {{darkest: {darkest}}}}}]"
        asked = (*words, *judge, "--set", named, "--out", f"out{darkest}")
        done = run(installed, "hafbench", *asked, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found = read_run(tmp_path / f"out{darkest}")
        assert found.manifest.generator is not None and found.manifest.generator.settings == {"width": 8}
        assert found.manifest.notes == ()  # nothing about mannequins
        assert found.records["is_error"].tolist() == [error, error]
        assert found.manifest.scorers["judge"].version == "cautious, single-1"


TAKEN = """
import numpy as np, torch
from asap_train.backbones import BACKBONES
from asap_train.data.spec import SynthSpec
from asap_train.degrade import load_family
from asap_train.training.losses import Residuals, compute
from asap_train.training.objectives import OBJECTIVES
from asap_train.types import Part, Photo

spec = SynthSpec(photos="photos", count=1, families={"blur": {"sigma": 3}})
(family,) = (load_family(one.name, one.options, "cpu") for one in spec.families)
pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
mask = np.zeros((40, 40), bool); mask[10:30, 10:30] = True
(made,) = family.degrade(Photo("a", "0", pixels), Part("hands", "left_hand", mask), np.random.default_rng(0))
print((made.pixels != pixels)[~mask].any(), (made.pixels != pixels)[mask].mean() > 0.9, made.settings)

winner, loser, mask = torch.zeros(2, 4), torch.ones(2, 4), torch.zeros(2, 1)
settings = OBJECTIVES.get("hinge").settings(tau=2.5)
print(compute("hinge", Residuals(winner, loser, mask, loser, loser), settings).total.item())

entry = BACKBONES.get("TinyPipeline")
print(entry.defaults["learning_rate"], entry.load().__name__)
"""


def test_a_family_an_objective_and_a_backbone_are_taken_with_their_settings(installed: dict[str, str]) -> None:
    family, objective, backbone = python(installed, TAKEN).splitlines()
    assert family == "False True {'sigma': 3.0}"
    assert float(objective) == pytest.approx(1.5)  # delta = 1
    assert backbone.split() == ["0.001", "load"]


def test_a_name_that_exists_already_is_refused() -> None:
    registry = Registry("scorer", "hafbench.scorers", Entry, (Entry("a", "one", "x:y"), Entry("b", "two", "x:y")))
    assert registry.names()[:2] == ["a", "b"]
    with pytest.raises(Exception, match="There is no scorer 'aa': did you mean a"):
        registry.get("aa")
    with pytest.raises(Exception, match="a cannot be loaded from x:y"):
        registry.get("a").load()
