"""The clip scorer's weights that go by a tag: a tiny architecture, made known to open_clip for the test."""

import logging
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hafbench.scorers.robustness import check
from hafbench.suites import Prompt
from small import a_scorer
from test_quality import TINY

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.fixture
def tagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The weights behind `tiny:quick`, trained with QuickGELU, and `tiny:plain`, the same ones without."""
    torch.manual_seed(0)
    weights = {name: value * 3 for name, value in open_clip.CLIP(**TINY).state_dict().items()}
    save_file(weights, tmp_path / "tiny.safetensors")
    tags = {
        tag: {"file": str(tmp_path / "tiny.safetensors"), "quick_gelu": tag == "quick"} for tag in ("quick", "plain")
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", TINY)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
    return weights


def cosine(weights: dict[str, torch.Tensor], text: str, quick_gelu: bool) -> float:
    """Worked without the factory: the bare model, OpenAI's mean and standard deviation, no resizing at 32 x 32."""
    model = open_clip.CLIP(**TINY, quick_gelu=quick_gelu).eval()
    model.load_state_dict(weights)
    mean, std = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
    pixels = ((torch.from_numpy(NOISE).float() / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        seen = model.encode_image(pixels)
        read = model.encode_text(open_clip.SimpleTokenizer(context_length=24)([text]))
    return float(torch.nn.functional.cosine_similarity(seen, read))


@pytest.mark.parametrize("tag", ["quick", "plain"])
def test_weights_get_the_activation_that_they_were_trained_with(tagged: dict[str, torch.Tensor], tag: str) -> None:
    text = "two open hands"
    right, wrong = (cosine(tagged, text, quick_gelu) for quick_gelu in (tag == "quick", tag != "quick"))
    assert abs(right - wrong) > 1e-4  # ten times the tolerance below
    scorer = a_scorer("clip", model=f"tiny:{tag}")
    assert scorer.score(NOISE, Prompt(id="x", text=text)).value == pytest.approx(right, abs=1e-5)


def test_the_hash_of_the_weights_follows_their_values(tagged: dict[str, torch.Tensor], tmp_path: Path) -> None:
    def loaded() -> str:
        return str(a_scorer("clip", model="tiny:plain").settings["weights"]["parameters"])

    before = loaded()
    assert loaded() == before
    save_file({**tagged, "logit_scale": tagged["logit_scale"] + 1}, tmp_path / "tiny.safetensors")
    assert loaded() != before


def test_loading_leaves_the_level_of_logging_as_it_was(tagged: dict[str, torch.Tensor]) -> None:
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        a_scorer("clip", model="tiny:plain")
        assert logging.getLogger().level == logging.DEBUG
    finally:
        logging.getLogger().setLevel(before)


def test_the_check_measures_clip_though_photos_have_no_prompt(tagged: dict[str, torch.Tensor], tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, pixels in zip(paths, (NOISE, NOISE // 2), strict=True):
        Image.fromarray(pixels).save(path)
    rows = {row.change: row for row in check(a_scorer("clip", model="tiny:plain"), paths)}
    assert all(row.compared == 2 for row in rows.values())
    assert rows["repeat"].largest_shift == rows["among other images"].largest_shift == 0.0
    assert (rows["brightness -10 %"].largest_shift or 0) > 0
