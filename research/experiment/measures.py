"""What a method does to the rest of a picture: the distance outside the hands, and whether the prompt is followed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hafbench.files import write_whole
from hafbench.images import load_image
from hafbench.runs import Run
from hafbench.sources import Place
from hafbench.statistics import Difference, Distance, Rate, compare_means, error_rate, kernel_distance
from hafbench.types import Box

GREY = 128
"""What hands are painted over with, in both images of a pair alike."""
MARGIN = 2
"""Pixels around a hand's box."""
BATCH = 64


@dataclass(frozen=True)
class Picture:
    """An image of a run."""

    place: Place
    prompt_id: str
    prompt: str
    seed: int

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """RGB (h, w, 3)."""
        return np.asarray(load_image(self.place))


def pictures(runs: Sequence[Run]) -> dict[tuple[str, int], Picture]:
    """The images of runs of different seeds, by prompt and seed."""
    found = {}
    for run in runs:
        source = run.source
        for row in run.records.drop_duplicates("image").itertuples():
            key = (str(row.prompt_id), int(row.seed))
            found[key] = Picture(source.place(str(row.image)), key[0], str(row.prompt), key[1])
    return found


def hands_of(name: str, shown: Mapping[tuple[str, int], Picture], out: Path) -> dict[tuple[str, int], list[Box]]:
    """The boxes of hands that the detector sees in each picture, kept in OUT/measures/NAME.json."""
    from hafbench.detectors.mannequin import load_mannequin_detector

    path = out / "measures" / f"{name}.json"
    keys = list(shown)
    if not path.exists():
        detector = load_mannequin_detector()
        found = [detector.detect(shown[key].pixels) for key in keys]
        boxes = [[one.hand.xyxy[0].tolist() for one in seen.hands] for seen in found]
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps([[*key, own] for key, own in zip(keys, boxes, strict=True)]) + "\n")
    return {(prompt, seed): own for prompt, seed, own in json.loads(path.read_text())}


@lru_cache(maxsize=1)
def clip() -> Any:
    """The built-in world's CLIP: model, preprocessing, tokenizer."""
    import open_clip

    from hafbench.worlds import built_in

    where = f"local-dir:{built_in('clip')}"
    model, preprocess = open_clip.create_model_from_pretrained(where, weights_only=True)
    return model.float().eval(), preprocess, open_clip.get_tokenizer(where)


def embedded(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Rows of length 1 (n, d)."""
    import torch
    from PIL import Image

    model, preprocess, _ = clip()
    rows = []
    with torch.inference_mode():
        for first in range(0, len(images), BATCH):
            pixels = [preprocess(Image.fromarray(image)) for image in images[first : first + BATCH]]
            rows.append(model.encode_image(torch.stack(pixels), normalize=True).double().numpy())
    return np.concatenate(rows)


def painted(image: NDArray[np.uint8], boxes: Sequence[Box]) -> NDArray[np.uint8]:
    """The image with grey rectangles."""
    own = image.copy()
    for x1, y1, x2, y2 in boxes:
        left, top = max(0, int(x1) - MARGIN), max(0, int(y1) - MARGIN)
        own[top : int(np.ceil(y2)) + MARGIN, left : int(np.ceil(x2)) + MARGIN] = GREY
    return own


def outside_hands(base: Sequence[Run], runs: Sequence[Run], names: tuple[str, str], out: Path) -> Distance:
    """The kernel distance of CLIP's embeddings, the hands of both images of a pair painted over in both."""
    one, other = pictures(base), pictures(runs)
    boxes = [hands_of(name, shown, out) for name, shown in zip(names, (one, other), strict=True)]
    keys = [key for key in one if key in other]
    sides = [
        embedded([painted(shown[key].pixels, boxes[0][key] + boxes[1][key]) for key in keys]) for shown in (one, other)
    ]
    return kernel_distance(sides[0], sides[1], [prompt for prompt, _ in keys])


def retrieved(runs: Sequence[Run]) -> pd.Series[float]:
    """By image (prompt, seed): 1 where its own prompt is nearer to it than all others of the suite, else 0."""
    import torch

    shown = pictures(runs)
    prompts = {picture.prompt_id: picture.prompt for picture in shown.values()}
    model, _, tokenizer = clip()
    with torch.inference_mode():
        texts = model.encode_text(tokenizer(list(prompts.values())), normalize=True).double().numpy()
    nearest = (embedded([picture.pixels for picture in shown.values()]) @ texts.T).argmax(1)
    found = [list(prompts)[place] == prompt for place, (prompt, _) in zip(nearest, shown, strict=True)]
    return pd.Series(found, index=pd.MultiIndex.from_tuples(list(shown)), dtype=float)


def following(base: pd.Series[float], own: pd.Series[float]) -> tuple[Rate, Difference]:
    """The share of images that retrieve their prompt (R-precision; Xu et al., arXiv 1711.10485), and the difference."""
    base = base[base.index.isin(own.index)]
    prompts = own.index.get_level_values(0)
    return (
        error_rate(own.to_numpy(), prompts),
        compare_means(base.to_numpy(), base.index.get_level_values(0), own.to_numpy(), prompts),
    )
