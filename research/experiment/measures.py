"""What a method does to the rest of a picture: how far it moves outside the hands, and if the prompt is followed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hafbench.files import write_whole
from hafbench.images import load_image
from hafbench.runs import Run
from hafbench.sources import Place
from hafbench.statistics import Difference, Distance, Rate, compare_means, error_rate, kernel_distance
from hafbench.types import Box

if TYPE_CHECKING:
    from hafbench.detectors.mannequin import MannequinDetector

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


@lru_cache(maxsize=1)
def one_view() -> MannequinDetector:
    """The built-in detector in one view: a quarter of its time, and enough to leave hands out."""
    from hafbench.detectors.mannequin import SIDES, MannequinDetector
    from hafbench.worlds import built_in

    return MannequinDetector(built_in("detector.pt"), "cpu", sides=SIDES[:1], mirrored=False)


def rate_of(errors: pd.Series[float]) -> Rate:
    """The error rate of values by (prompt, seed), with prompts as clusters; NaN is not judged."""
    return error_rate(errors.to_numpy(), errors.index.get_level_values(0))


def hands_in(image: NDArray[np.uint8]) -> list[Box]:
    """The boxes of hands in one view of an RGB image of shape (height, width, 3)."""
    return [tuple(one.hand.xyxy[0].tolist()) for one in one_view().detect(image).hands]


def hands_of(run: Run, out: Path) -> dict[tuple[str, int], list[Box]]:
    """The boxes of hands in each picture of a run, kept in OUT/measures/hands-RUN.json."""
    path = out / "measures" / f"hands-{run.folder.name}.json"
    if not path.exists():
        found = [[*key, hands_in(picture.pixels)] for key, picture in pictures([run]).items()]
        path.parent.mkdir(exist_ok=True)
        write_whole(path, json.dumps(found) + "\n")
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


def drift(base: Run, run: Run, out: Path) -> pd.DataFrame:
    """By (prompt, seed) how far each picture of a run is from the base's at the same noise, outside the hands of both.

    `pixels`: the mean absolute difference of channels, as a share of their range, NaN where the hands are all there is.
    `clip`: one minus the cosine of CLIP's embeddings, the hands painted over in both. Kept in OUT/measures.
    """
    path = out / "measures" / f"drift-{run.folder.name}.csv"
    if not path.exists():
        one, other, keys, boxes = _sides([base], [run], out)
        apart = [outside_difference(one[key].pixels, other[key].pixels, boxes[key]) for key in keys]
        cosines = (_embedded_outside(one, boxes, keys) * _embedded_outside(other, boxes, keys)).sum(1)
        rows = [[*key, far, 1 - cosine] for key, far, cosine in zip(keys, apart, cosines, strict=True)]
        table = pd.DataFrame(rows, columns=["prompt_id", "seed", "pixels", "clip"])
        write_whole(path, table.to_csv(index=False))
    return pd.read_csv(path, dtype={"prompt_id": str}).set_index(["prompt_id", "seed"])


def drifts(base: Run, runs: Iterable[Run], out: Path) -> pd.DataFrame:
    """`drift` of all pictures of runs of different seeds."""
    return pd.concat([drift(base, run, out) for run in runs])


def outside_difference(one: NDArray[np.uint8], other: NDArray[np.uint8], boxes: Sequence[Box]) -> float:
    """The mean absolute difference in 0 .. 1 of two images outside all boxes; NaN where nothing is outside."""
    kept = painted(np.zeros_like(one), boxes)[..., 0] != GREY
    if not kept.any():
        return float("nan")
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16))[kept].mean() / 255)


def outside_hands(base: Run, runs: Sequence[Run], out: Path) -> Distance:
    """The kernel distance of CLIP's embeddings, the hands of both images of a pair painted over in both."""
    one, other, keys, boxes = _sides([base], runs, out)
    sides = [_embedded_outside(shown, boxes, keys) for shown in (one, other)]
    return kernel_distance(sides[0], sides[1], [prompt for prompt, _ in keys])


Key = tuple[str, int]


def _sides(
    base: Sequence[Run], runs: Sequence[Run], out: Path
) -> tuple[dict[Key, Picture], dict[Key, Picture], list[Key], dict[Key, list[Box]]]:
    """The pictures of both, the keys that both have, and the boxes of the hands of both."""
    one, other = pictures(base), pictures(runs)
    keys = [key for key in one if key in other]
    hands = [{key: boxes for run in own for key, boxes in hands_of(run, out).items()} for own in (base, runs)]
    return one, other, keys, {key: hands[0][key] + hands[1][key] for key in keys}


def _embedded_outside(
    shown: Mapping[Key, Picture], boxes: Mapping[Key, Sequence[Box]], keys: Sequence[Key]
) -> NDArray[np.float64]:
    return embedded([painted(shown[key].pixels, boxes[key]) for key in keys])


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
        rate_of(own),
        compare_means(base.to_numpy(), base.index.get_level_values(0), own.to_numpy(), prompts),
    )
