"""Data sets of pictures with their truth: `python -m hafbench.mannequin.dataset --count N --seed S --out DIR`."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.mannequin.attributes import FRAMINGS, Framing
from hafbench.mannequin.errors import COUNTING, JUDGING, SAMPLED, TUNING, ErrorSettings
from hafbench.mannequin.picture import SIZE, Pair, Picture, correct_picture, make_pair
from hafbench.mannequin.truth import as_json

if TYPE_CHECKING:
    from hafbench.types import Pixels

SETTINGS: dict[str, ErrorSettings] = {settings.name: settings for settings in (TUNING, JUDGING, COUNTING, SAMPLED)}


def describe(picture: Picture, pair: Pair | None) -> dict[str, Any]:
    """One line of truth.jsonl."""
    from hafbench.mannequin.captions import caption

    error = None
    if pair is not None:
        error = {"kind": pair.error.kind, "region": pair.error.region, "detail": pair.error.detail, "box": pair.box}
    attributes = picture.scene.attributes
    return {
        "seed": picture.scene.seed,
        "caption": caption(attributes, random.Random(picture.scene.seed)),  # noqa: S311
        "attributes": asdict(attributes),
        "error": error,
        **as_json(picture.truth),
    }


def draw(
    seed: int, malformed: float, settings: ErrorSettings, size: int, framings: Sequence[Framing] = ()
) -> tuple[Pixels, dict[str, Any]]:
    """The picture of a seed: with an error at the rate `malformed`, correct otherwise.

    `framings` are drawn from with equal shares; without any, all are drawn from by the world's own shares.
    """
    framing = framings[int(np.random.default_rng([seed, 78]).integers(len(framings)))] if framings else None
    if np.random.default_rng([seed, 77]).random() < malformed:
        pair = make_pair(seed, settings, framing=framing, size=size)
        if pair is not None:
            return pair.erroneous.image, describe(pair.erroneous, pair)
    picture = correct_picture(seed, framing, size=size)
    return picture.image, describe(picture, None)


def _start() -> None:
    import torch

    torch.set_num_threads(1)


def write(
    out: Path,
    count: int,
    seed: int,
    malformed: float,
    settings: ErrorSettings,
    size: int,
    workers: int,
    framings: Sequence[Framing] = (),
) -> None:
    """Write images.npy (count, size, size, 3) and truth.jsonl; picture i has the seed `seed * 10_000_000 + i`."""
    out.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(out / "images.npy", "w+", np.uint8, (count, size, size, 3))
    seeds = range(seed * 10_000_000, seed * 10_000_000 + count)
    work = partial(draw, malformed=malformed, settings=settings, size=size, framings=framings)
    processes = multiprocessing.get_context("spawn").Pool(workers, _start) if workers > 1 else nullcontext()
    with processes as pool, (out / "truth.jsonl").open("w", encoding="utf-8") as lines:
        for i, (image, truth) in enumerate(pool.imap(work, seeds, chunksize=32) if pool else map(work, seeds)):
            images[i] = image
            lines.write(json.dumps(truth) + "\n")
    images.flush()
    (out / "DONE").touch()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--malformed", type=float, default=0.35, help="share of pictures with an error, 0 to 1")
    parser.add_argument("--errors", choices=sorted(SETTINGS), default="tuning")
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--framing", choices=FRAMINGS, action="append", default=[], help="these alone, in equal shares")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    settings = SETTINGS[asked.errors]
    write(
        asked.out, asked.count, asked.seed, asked.malformed, settings, asked.size, asked.workers, tuple(asked.framing)
    )


if __name__ == "__main__":
    main()
