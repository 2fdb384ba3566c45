"""Regions: parts found in real photos, the user's masks, what is left out and why, and the optional models."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from asap_train.data import regions
from asap_train.data.masks import find_photos, is_mask, mask_path, read_mask
from asap_train.data.regions import SMALLEST, Finder, Found, doubts
from asap_train.types import Part
from hafbench.detectors.critic import file_of
from hafbench.errors import BadImage, HafError, Unavailable
from hafbench.images import load_image, sha256_of
from hafbench.types import Finding, Score
from hafbench.weights import WEIGHTS
from small import Returns

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
needs_shared = pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="no ../shared/weights and data here")
HANDS = SHARED / "data" / "hands_real"


def picture(name: str) -> np.ndarray:
    return np.asarray(load_image(ROOT / "examples" / "people" / f"{name}.jpg"))


@pytest.fixture(scope="module")
def finder() -> Finder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAFBENCH_WEIGHTS", str(SHARED / "weights"))
        regions._detectors("photographs")  # loaded once a process
    return Finder()


@pytest.fixture(scope="module")
def rooftop(finder: Finder) -> Found:
    return finder.find(picture("rooftop"))


@needs_shared
def test_a_person_has_its_parts(rooftop: Found) -> None:
    names = {part.name: part for part in rooftop.parts}
    assert {"face", "torso", "left_arm", "right_arm"} <= set(names)
    assert any(part.region == "hands" for part in rooftop.parts)
    sizes = [int(part.mask.sum()) for part in rooftop.parts]
    assert sizes == sorted(sizes, reverse=True)
    counts: Mapping[str, int] = {"hands": 21, "limbs": 3, "feet": 3, "face": 5, "torso": 4}
    for part in rooftop.parts:
        assert part.mask.dtype == np.bool_ and part.mask.shape == picture("rooftop").shape[:2]
        assert part.points is not None and part.points.shape == (counts[part.region], 3)
        x, y = part.points[:, :2].round().astype(int).T
        assert part.mask[y, x].all()  # the mask holds its own keypoints
        y, x = np.nonzero(part.mask)
        assert max(np.ptp(x), np.ptp(y)) + 1 >= SMALLEST[part.region]


@needs_shared
def test_hands_are_named_by_their_wrist(finder: Finder) -> None:
    found = {part.name: part for part in finder.find(picture("boardwalk")).parts}
    for side in ("left", "right"):
        hand, arm = found[f"{side}_hand"], found[f"{side}_arm"]
        assert hand.points is not None and arm.points is not None
        gap = np.hypot(*(hand.points[0, :2] - arm.points[2, :2]))
        assert gap < np.hypot(*(hand.points[9, :2] - hand.points[0, :2]))


@needs_shared
def test_masks_scale_with_the_photo(finder: Finder) -> None:
    image = picture("open-palm")
    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    one, other = (next(p for p in finder.find(i).parts if p.region == "hands") for i in (image, large))
    shrunk = cv2.resize(other.mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert (shrunk & one.mask).sum() / (shrunk | one.mask).sum() > 0.85


@needs_shared
def test_what_is_left_out_has_its_reason(finder: Finder) -> None:
    nobody = finder.find(np.full((300, 400, 3), 90, np.uint8))
    assert nobody.parts == ()
    assert nobody.left_out == ("person: none was found.", "hand: none was found.")
    image = picture("open-palm")
    small = cv2.resize(image, None, fx=0.28, fy=0.28, interpolation=cv2.INTER_AREA)
    found = finder.find(small)
    assert not [part for part in found.parts if part.region == "hands"]
    assert any("hand: smaller than 56 pixels." in reason for reason in found.left_out)
    assert "left_leg: not wholly in view." in found.left_out


@needs_shared
@pytest.mark.parametrize("shape", [(1, 1), (3, 600), (40, 40)])
def test_odd_shapes_are_no_accident(finder: Finder, shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert finder.find(noise).parts == ()


@needs_shared
def test_a_given_mask_wins(finder: Finder, rooftop: Found) -> None:
    image = picture("rooftop")
    hand = next(part for part in rooftop.parts if part.region == "hands")
    given = cv2.dilate(hand.mask.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    (part,) = finder.find(image, given).parts
    assert (part.region, part.origin, part.name) == ("hands", "given", hand.name)
    assert np.array_equal(part.mask, given)
    assert part.points is not None and hand.points is not None and np.allclose(part.points, hand.points)
    corner = np.zeros_like(given)
    corner[:90, :90] = True
    (part,) = finder.find(image, corner).parts
    assert (part.region, part.origin, part.points) == ("hands", "given", None)
    (part,) = finder.find(image, corner, "feet").parts
    assert part.region == "feet"
    speck = np.zeros_like(given)
    speck[5:15, 5:15] = True
    assert finder.find(image, speck) == Found((), ("given: smaller than 56 pixels.",))


@needs_shared
def test_weights_are_named_with_their_checksums(finder: Finder) -> None:
    assert set(finder.weights) >= {"hand_landmark_full.tflite", "pose_landmark_full.tflite"}
    for name, checksum in finder.weights.items():
        assert checksum == (WEIGHTS[name].sha256 if name in WEIGHTS else sha256_of(file_of("hands")))


def test_a_finder_can_be_sent_to_a_worker() -> None:
    assert pickle.loads(pickle.dumps(Finder("mannequins"))) == Finder("mannequins")


def test_weights_that_are_not_here_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HAFBENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match="hafbench weights pull"):
        regions._Photographs()


def test_the_built_in_world_has_hands_and_people() -> None:
    from hafbench.mannequin.picture import correct_picture

    finder = Finder("mannequins")
    assert list(finder.weights) == ["detector.pt"]
    picture = correct_picture(50_000_011, "hand")
    found = finder.find(picture.image)
    (hand,) = [part for part in found.parts if part.region == "hands"]
    truth = np.array([digit.points[-1][:2] for digit in picture.truth.hands[0].digits])
    assert hand.points is not None
    near = np.hypot(*(hand.points[[4, 8, 12, 16, 20], None, :2] - truth[None]).transpose(2, 0, 1)).min(0)
    assert np.median(near) < 12
    figure = finder.find(correct_picture(50_000_012, "full_body").image)
    assert any("smaller than" in reason for reason in figure.left_out)


# The user's masks


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "beach.jpg", np.full((40, 60, 3), 120, np.uint8))
    (tmp_path / "deep").mkdir()
    save(tmp_path / "deep" / "street.PNG", np.full((40, 60, 3), 90, np.uint8))
    return tmp_path


def test_masks_are_no_photos(folder: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 30:50] = 255
    save(folder / "beach.mask.png", mask)
    assert [path.name for path in find_photos(folder)] == ["beach.jpg", "street.PNG"]
    assert is_mask(folder / "beach.mask.png") and not is_mask(folder / "beach.jpg")
    assert mask_path(folder / "beach.jpg") == folder / "beach.mask.png"
    read = read_mask(folder / "beach.jpg", (40, 60, 3))
    assert read is not None and np.array_equal(read, mask > 0)
    assert read_mask(folder / "deep" / "street.PNG", (40, 60, 3)) is None


def test_bad_masks_each_have_their_sentence(folder: Path) -> None:
    photo, path = folder / "beach.jpg", folder / "beach.mask.png"
    save(path, np.full((20, 30), 255, np.uint8))
    with pytest.raises(HafError, match=r"beach\.mask\.png is 30 x 20 pixels, but its photo 60 x 40"):
        read_mask(photo, (40, 60, 3))
    save(path, np.zeros((40, 60), np.uint8))
    with pytest.raises(HafError, match="no white pixel"):
        read_mask(photo, (40, 60, 3))
    path.write_bytes(b"no image")
    with pytest.raises(BadImage):
        read_mask(photo, (40, 60, 3))
    save(folder / "gone.mask.png", np.full((4, 4), 255, np.uint8))
    with pytest.raises(HafError, match=r"gone\.mask\.png is a mask, but there is no photo"):
        find_photos(folder)


# Doubts


def test_a_photo_whose_anatomy_is_doubted_has_its_reason() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    finding = Finding("hands", "extra", "extra_digit", 0.9)
    guilty, sound = (
        Returns("hands", Score("scored", 0.9, True, findings=(finding,))),
        Returns("limbs", Score("scored", 0.1, False)),
    )
    unknown, quality = Returns("digits", Score("unknown", reason="no hand")), Returns("iqa", Score("scored", 3.0, True))
    for scorer in (guilty, sound, unknown):
        scorer.role = "anatomy"
    scores: dict[str, Score] = {}
    assert doubts(image, {"iqa": quality, "limbs": sound, "digits": unknown}, scores) is None
    assert scores == {"limbs": sound.answer, "digits": unknown.answer}, "the gates need not ask again"
    reason = doubts(image, {"limbs": sound, "hands": guilty}, {})
    assert reason == "The scorer hands sees an error in the photo itself (extra_digit)."


# SAM 2 and Grounding DINO, tiny and with random weights: what is tested is that they are asked and answered rightly


def tiny_sam2(folder: Path) -> Path:
    import torch
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

    torch.manual_seed(0)
    hiera = {
        "hidden_size": 8,
        "blocks_per_stage": [1, 2, 2, 1],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "global_attention_blocks": [4],
        "image_size": [64, 64],
        "window_size_per_stage": [8, 4, 4, 4],
        "window_positional_embedding_background_size": [7, 7],
    }
    vision: dict[str, Any] = {
        "backbone_config": {"model_type": "sam2_hiera_det_model", **hiera},
        "backbone_channel_list": [64, 32, 16, 8],
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )
    Sam2Model(config).eval().save_pretrained(folder)
    size = {"height": 64, "width": 64}
    Sam2Processor(Sam2ImageProcessor(size=size, mask_size={"height": 16, "width": 16})).save_pretrained(folder)
    return folder


def test_sam2_refines_a_mask_or_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from asap_train.data.segment import Segmenter

    segmenter = Segmenter(str(tiny_sam2(tmp_path / "sam2")))
    assert list(segmenter.weights) == ["sam2/model.safetensors"]
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    points = np.array([[40.0, 30.0, 1.0], [60.0, 40.0, 1.0]])
    segment = segmenter.segment(image, (20, 10, 80, 70), points)
    assert segment.dtype == np.bool_ and segment.shape == (90, 120)
    assert np.array_equal(segment, segmenter.segment(image, (20, 10, 80, 70), points))
    assert segmenter.segment(image, (20, 10, 80, 70)).shape == (90, 120)
    part = Part("hands", "hand", np.ones((90, 120), np.bool_), points)
    for answer, taken in ((part.mask.copy(), True), (np.zeros((90, 120), np.bool_), False)):
        answer[:30] = False
        monkeypatch.setattr(segmenter, "segment", lambda *_, answer=answer: answer)
        refined = segmenter.refine(image, part)
        assert (refined.origin == "segmentation") == taken
        assert np.array_equal(refined.mask, answer if taken else part.mask)
        assert refined.points is points


def tiny_dino(folder: Path) -> Path:
    import torch
    from transformers import (
        BertTokenizerFast,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
    )

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "foot", "face", "hand", ".", "?"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "image_size": 64,
            "embed_dim": 12,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": 4,
            "out_features": ["stage2", "stage3", "stage4"],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": len(words),
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
        },
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=10,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_text_len=32,
    )
    GroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_grounding_dino_names_the_boxes_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from asap_train.data import segment

    monkeypatch.setattr(segment, "SURE", 0.0)  # random weights are sure of nothing
    boxes = segment.TextBoxes(str(tiny_dino(tmp_path / "dino")))
    assert list(boxes.weights) == ["dino/model.safetensors"]
    found = boxes.find(np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8))
    assert {region for region, _ in found} == {"feet", "face", "hands"}
    assert all(0 <= x1 < x2 <= 100 and 0 <= y1 < y2 <= 80 for _, (x1, y1, x2, y2) in found)


def test_boxes_become_parts_where_keypoints_found_none() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[10:50, 10:50] = True
    known = [Part("face", "face", mask)]
    made = regions._boxed(
        known, [("face", (12.0, 12.0, 48.0, 48.0)), ("feet", (60.0, 60.0, 90.0, 80.0))], (100, 100, 3)
    )
    assert [(part.region, part.origin) for part in made] == [("feet", "segmentation")]
    y, x = np.nonzero(made[0].mask)
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((60, 90, 60, 80), abs=2)


def test_models_that_are_not_here_are_unavailable(tmp_path: Path) -> None:
    from asap_train.data.segment import Segmenter, TextBoxes

    with pytest.raises(Unavailable, match="facebook/sam2-hiera-tiny is not on this machine"):
        Segmenter("facebook/sam2-hiera-tiny")
    with pytest.raises(HafError, match="neither a folder nor"):
        TextBoxes("no/such/folder here")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(Unavailable, match=r"no \.safetensors file"):
        Segmenter(str(tmp_path))
