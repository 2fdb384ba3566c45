"""Optional finer regions by pretrained models: masks by SAM 2, and boxes of what a text names by Grounding DINO.

Both run through transformers from a folder, or from the hub's cache on this machine; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.errors import HafError, Unavailable, one_line
from hafbench.images import sha256_of

if TYPE_CHECKING:
    from asap_train.types import Mask, Part
    from hafbench.types import Box, Pixels, Region

QUERIES: Mapping[str, Region] = {"foot": "feet", "face": "face", "hand": "hands"}
"""What Grounding DINO is asked for, and the region that it is."""
SURE, TEXT_SURE = 0.35, 0.25
AGREES = 0.3
"""A segment that overlaps the keypoints' own mask less than this (intersection over union) is of something else."""


def _folder(source: str, what: str) -> Path:
    """The folder with a model's files: `source` itself, or a hub id's snapshot in the cache."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, local_files_only=True))
    except HFValidationError as error:
        raise HafError(f"{source} is neither a folder nor the id of a model on the hub.") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(
            f"{what} {source} is not on this machine; download it with `hf download {source}`, or leave it out."
        ) from error


def _load(source: str, what: str, classes: tuple[Any, Any]) -> tuple[Any, Any, Mapping[str, str]]:
    """Model, processor and the SHA-256 of its weights, which are taken from safetensors only."""
    folder = _folder(source, what)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise Unavailable(f"{what} {source} has no .safetensors file, and no other kind of weights is opened.")
    model, processor = classes
    try:
        made = model.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        return (
            made,
            processor.from_pretrained(folder, local_files_only=True),
            {f"{folder.name}/{file.name}": sha256_of(file) for file in files},
        )
    except (OSError, ValueError, KeyError) as error:
        raise HafError(f"{what} {source} cannot be loaded ({one_line(error)}).") from error


class Segmenter:
    """SAM 2 (Ravi et al., arXiv 2408.00714), asked with a part's box and points."""

    def __init__(self, source: str) -> None:
        """`source` is a folder or a hub id; raises Unavailable if it is not on this machine."""
        from transformers import Sam2Model, Sam2Processor

        self._model, self._processor, self.weights = _load(source, "SAM 2", (Sam2Model, Sam2Processor))

    def segment(self, image: Pixels, box: Box, points: np.ndarray | None = None) -> Mask:
        """The likeliest of the model's masks (height, width) for a box, and points (n, 2) inside of the thing."""
        import torch

        given: dict[str, Any] = {"input_boxes": [[list(box)]]}
        if points is not None:
            given |= {"input_points": [[points[:, :2].tolist()]], "input_labels": [[[1] * len(points)]]}
        inputs = self._processor(images=image, return_tensors="pt", **given)
        with torch.inference_mode():
            outputs = self._model(**inputs, multimask_output=True)
        masks = self._processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][0]
        return np.asarray(masks[int(outputs.iou_scores[0, 0].argmax())], dtype=np.bool_)

    def refine(self, image: Pixels, part: Part) -> Part:
        """The part with the segment as its mask; unchanged where the segment is of something else."""
        from dataclasses import replace

        y, x = np.nonzero(part.mask)
        box = (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))
        mask = self.segment(image, box, part.points)
        union = (mask | part.mask).sum()
        if (mask & part.mask).sum() < AGREES * union:
            return part
        return replace(part, mask=mask, origin="segmentation")


class TextBoxes:
    """Grounding DINO (Liu et al., arXiv 2303.05499): boxes of what a text names."""

    def __init__(self, source: str) -> None:
        """`source` is a folder or a hub id; raises Unavailable if it is not on this machine."""
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        classes = (AutoModelForZeroShotObjectDetection, AutoProcessor)
        self._model, self._processor, self.weights = _load(source, "Grounding DINO", classes)

    def find(self, image: Pixels) -> list[tuple[Region, Box]]:
        """The boxes of feet, faces and hands in an image, surest first."""
        import torch

        text = " ".join(f"{query}." for query in QUERIES)
        inputs = self._processor(images=image, text=text, return_tensors="pt")
        with torch.inference_mode():
            outputs = self._model(**inputs)
        found = self._processor.post_process_grounded_object_detection(
            outputs, inputs["input_ids"], threshold=SURE, text_threshold=TEXT_SURE, target_sizes=[image.shape[:2]]
        )[0]
        named = []
        for index in found["scores"].argsort(descending=True).tolist():
            words = set(found["text_labels"][index].replace(".", " ").split()) & set(QUERIES)
            if len(words) == 1:  # a box that answers to several names, or none, is of nothing in particular
                named.append((QUERIES[words.pop()], tuple(found["boxes"][index].tolist())))
        return named
