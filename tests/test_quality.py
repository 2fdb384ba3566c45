"""The quality scorers: clip over a tiny open_clip model, iqa over pyiqa's piqe."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from hafbench.errors import HafError, Unavailable
from hafbench.images import load_image
from hafbench.suites import Prompt
from hafbench.types import Scorer
from small import a_scorer

EXAMPLES = Path(__file__).parents[1] / "examples" / "people"
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights in open_clip's folder layout."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    model = open_clip.CLIP(**TINY)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": PREPROCESS}))
    return folder


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Scorer:
    return a_scorer("clip", model=str(clip_folder))


def picture(name: str) -> np.ndarray:
    return np.asarray(load_image(EXAMPLES / f"{name}.jpg"))


def test_the_value_is_the_cosine_of_the_embeddings(clip: Scorer, clip_folder: Path) -> None:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    with torch.no_grad():
        image = model.eval().encode_image(preprocess(Image.fromarray(picture("hair")))[None])[0].double()
        text = model.encode_text(open_clip.get_tokenizer(f"local-dir:{clip_folder}")(["a raised hand"]))[0].double()
    expected = float(image @ text / (image.norm() * text.norm()))
    score = clip.score(picture("hair"), Prompt(id="x", text="a raised hand"))
    assert score.value == pytest.approx(expected, abs=1e-6)
    assert (score.is_error, score.measures["truncated"]) == (None, 0.0)


def test_a_prompt_longer_than_the_context_is_marked_as_cut(clip: Scorer) -> None:
    long = Prompt(id="x", text="a hand " * 30)
    assert clip.score(picture("hair"), long).measures["truncated"] == 1.0


def test_an_image_without_a_prompt_is_unknown(clip: Scorer) -> None:
    score = clip.score(picture("hair"), None)
    assert (score.status, score.reason) == ("unknown", "the image has no prompt")


def test_a_score_depends_on_nothing_that_was_scored_before(clip: Scorer) -> None:
    prompt = Prompt(id="x", text="two hands")
    first = clip.score(picture("hair"), prompt).value
    clip.score(picture("steps"), Prompt(id="y", text="other words"))
    assert clip.score(picture("hair"), prompt).value == first


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("ViT-B-33", HafError, "did you mean ViT-B-32"),
        ("ViT-B-32:laion", HafError, "has no weights 'laion'"),
        ("ViT-B-32:missing.safetensors", HafError, r"no file missing\.safetensors"),
        ("ViT-B-32", Unavailable, "connect to the hub once, or name a local file"),
        ("hf-hub:nobody/nothing", Unavailable, "not on this machine and cannot be fetched"),
    ],
)
def test_clip_models_that_are_not_to_be_had_are_one_sentence(name: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        a_scorer("clip", model=name)


def test_clip_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    from test_weights import Evil

    torch.save({"state_dict": Evil(tmp_path / "pwned")}, tmp_path / "evil.pt")
    with pytest.raises(HafError, match="cannot be loaded"):
        a_scorer("clip", model=f"ViT-B-32:{tmp_path / 'evil.pt'}")
    assert not (tmp_path / "pwned").exists()


@pytest.fixture(scope="module")
def piqe() -> Scorer:
    return a_scorer("iqa")


@pytest.mark.parametrize("name", ["hair", "steps", "open-palm"])
def test_piqe_says_what_pyiqa_says_of_the_file_and_that_noise_is_worse(piqe: Scorer, name: str) -> None:
    import pyiqa

    score = piqe.score(picture(name), None)
    expected = pyiqa.create_metric("piqe", device="cpu")(str(EXAMPLES / f"{name}.jpg")).item()
    assert score.value == pytest.approx(expected, abs=1e-3)
    assert piqe.higher_is_better is False
    noise = np.random.default_rng(0).normal(0, 40, picture(name).shape)
    noisy = np.clip(picture(name) + noise, 0, 255).astype(np.uint8)
    blurred = np.asarray(Image.fromarray(picture(name)).filter(ImageFilter.GaussianBlur(4)))
    for worse in (noisy, blurred):
        assert (piqe.score(worse, None).value or 0) > (score.value or 0)


def test_images_that_piqe_cannot_judge_are_unknown(piqe: Scorer) -> None:
    red = np.tile((200, 10, 10), (64, 64, 1))
    for pixels, reason in [(np.zeros((20, 200, 3)), "below 32 pixels"), (red, "of one colour")]:
        score = piqe.score(pixels.astype(np.uint8), None)
        assert score.status == "unknown"
        assert reason in (score.reason or "")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("piqqe", HafError, "did you mean piqe"),
        ("lpips", HafError, "compares with a reference"),
        ("musiq", Unavailable, "use --iqa piqe, which needs none"),
    ],
)
def test_metrics_that_are_not_to_be_had_are_one_sentence(name: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        a_scorer("iqa", metric=name)
