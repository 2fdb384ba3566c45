"""Captions of photos: given in files and tables, made by a model, or said from the parts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from asap_train.data.captions import describe, given_captions, load_captioner
from asap_train.types import Part
from hafbench.errors import HafError, Unavailable
from hafbench.types import Region

WORDS = ("a", "hand", "with", "five", "fingers", "on", "black")
MASK = np.ones((4, 4), np.bool_)


def parts(*regions: Region) -> list[Part]:
    return [Part(region, region, MASK) for region in regions]


def folder_of(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path / name)
    return path


def test_a_text_beside_the_image_is_its_caption(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a.png", "sub/b.png", "c.png")
    (folder / "a.txt").write_text("A woman\nwaves. \n", encoding="utf-8")
    (folder / "sub" / "b.txt").write_bytes("\ufeffZwei Hände".encode())
    assert given_captions(folder) == {
        (folder / "a.png").resolve(): "A woman waves.",
        (folder / "sub/b.png").resolve(): "Zwei Hände",
    }


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_comes_before_the_text_beside(tmp_path: Path, suffix: str) -> None:
    folder = folder_of(tmp_path / "photos", "a.png", "b.png")
    (folder / "a.txt").write_text("beside")
    (folder / "b.txt").write_text("beside")
    table = tmp_path / f"captions.{suffix}"
    table.write_text(
        'file,caption\na.png,"from, the table"\n'
        if suffix == "csv"
        else json.dumps({"file": "a.png", "caption": "from, the table"}) + "\n"
    )
    assert set(given_captions(folder, table).values()) == {"from, the table", "beside"}


def test_a_text_in_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "a.png")
    (folder / "a.txt").write_bytes("Hände".encode("latin-1"))
    with pytest.raises(HafError, match=r"a\.txt cannot be read as UTF-8"):
        given_captions(folder)


@pytest.mark.parametrize(
    ("regions", "sentence"),
    [
        ((), "a photo"),
        (("hands",), "a photo of a hand"),
        (("hands", "hands"), "a photo of two hands"),
        (("limbs", "torso"), "a photo of a person"),
        (("hands", "limbs"), "a photo of a person, a hand in view"),
        (("hands", "hands", "face", "feet", "limbs"), "a photo of a person, a face, two hands and a foot in view"),
        (("face", "face", *["hands"] * 7), "a photo of people, two faces and many hands in view"),
    ],
)
def test_the_sentence_says_what_was_found(regions: tuple[Region, ...], sentence: str) -> None:
    assert describe(parts(*regions)) == sentence


@pytest.fixture(scope="module")
def tiny_blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP of random weights with its real processor and tokenizer, saved as a user would have it."""
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        BlipTextConfig,
        BlipVisionConfig,
    )

    folder = tmp_path_factory.mktemp("blip")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "[DEC]",
        "[ENC]",
        *["a", "hand", "with", "five", "fingers", "on", "black"],
    ]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    text = BlipTextConfig(
        vocab_size=len(words), hidden_size=32, encoder_hidden_size=32, intermediate_size=37, projection_dim=32,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
        bos_token_id=5, eos_token_id=3, sep_token_id=3, pad_token_id=0,
    )  # fmt: skip
    vision = BlipVisionConfig(
        hidden_size=32, intermediate_size=37, projection_dim=32, num_hidden_layers=2, num_attention_heads=4,
        image_size=32, patch_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
    model.save_pretrained(folder / "model")
    size = {"height": 32, "width": 32}
    BlipProcessor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder / "model")
    return folder / "model"


def test_a_captioner_gives_the_same_words_of_its_vocabulary_again(tiny_blip: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    captioner = load_captioner(str(tiny_blip))
    caption = captioner.caption(image)
    assert caption == load_captioner(str(tiny_blip)).caption(image)
    assert caption
    assert set(caption.lower().split()) <= {*WORDS, "[unk]", "[dec]"}
    assert len(captioner.settings["weights"]["parameters"]) == 64


def test_a_captioner_that_is_not_here_or_is_a_pickle_is_unavailable(tiny_blip: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="not on this machine"):
        load_captioner("nobody/no-captioner")
    for file in tiny_blip.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Unavailable, match="safetensors"):
        load_captioner(str(tmp_path))
