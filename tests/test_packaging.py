"""What a user installs: the built wheel has all files of both packages, and its facts hold."""

import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_has_every_file_of_the_packages_and_the_suites(wheel: zipfile.ZipFile) -> None:
    packaged = {path for name in ("hafbench", "asap_train", "prompts") for path in (ROOT / name).rglob("*")}
    expected = {
        path.relative_to(ROOT).as_posix() for path in packaged if path.is_file() and "__pycache__" not in path.parts
    }
    suites = {f"hafbench/{name}" if name.startswith("prompts/") else name for name in expected}
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == suites
    assert {
        "hafbench/prompts/mannequin.jsonl",
        "hafbench/mannequin/weights/detector.pt",
        "hafbench/mannequin/weights/diffusion/transformer/diffusion_pytorch_model.safetensors",
        "hafbench/reports/templates/report.html.j2",
        "hafbench/scorers/cards/hands.json",
        "hafbench/py.typed",
    } <= inside


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    facts = message_from_string(wheel.read(name).decode())
    assert facts["Author"] == "HAF-Bench contributors"
    assert facts["License-Expression"] == "Apache-2.0"
    assert facts["Requires-Python"] == ">=3.11"
    assert facts.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2605.25759"]
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "hafbench = hafbench.cli:main" in wheel.read(name).decode()


def test_the_citation_names_the_software_and_the_paper() -> None:
    facts = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert facts["type"] == "software"
    assert facts["references"][0]["identifiers"][0]["value"] == "arXiv:2605.25759"
    assert facts["license"] == "Apache-2.0"
