"""What a picture costs a CPU and a disk: `python -m benchmarks.costs [IMAGES] [--number 6] [--size 1024]`.

The first images of a folder, or rendered people of so many pixels a side, half hands, half whole figures. CPU seconds
a picture of each image format and of each scorer that needs no GPU, with one thread and without loading; bytes; and the
wall time in which a file is written.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL.Image import Image, fromarray

from benchmarks.image_formats import timed
from hafbench.files import write_whole
from hafbench.images import ENCODINGS, encode_image, find_images, load_image
from hafbench.people.render import render
from hafbench.people.scene import View
from hafbench.people.scenes import random_scene
from hafbench.scorers.loading import load_scorers
from hafbench.specs import ScorerSpec
from hafbench.types import Scorer

SCORERS = ("hands", "limbs", "iqa")
VIEWS: tuple[View, View] = ("hand", "figure")


def mean_time(calls: list[Callable[[], object]], clock: Callable[[], float] = time.process_time) -> float:
    """Mean time of the calls, of which the first is made once before."""
    calls[0]()
    start = clock()
    for call in calls:
        call()
    return (clock() - start) / len(calls)


def formats(images: list[Image]) -> None:
    """A line for each format."""
    for title, encoding in ENCODINGS.items():
        files, seconds = timed(images, encoding)
        print(f"| {title} | {seconds:.3f} | {np.mean([len(file) for file in files]) / 1e6:.2f} |", flush=True)


def writing(images: list[Image]) -> None:
    """A line for a file that is written."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        files = [encode_image(image, ".png") for image in images]
        calls: list[Callable[[], object]] = [
            partial(write_whole, Path(folder) / f"{number}.png", file) for number, file in enumerate(files)
        ]
        print(f"| a PNG file, written: wall s | {mean_time(calls, time.perf_counter):.4f} | |", flush=True)


def scored(name: str, scorer: Scorer, images: list[Image]) -> None:
    """A line for a scorer."""
    calls: list[Callable[[], object]] = [partial(scorer.score, np.asarray(image), None) for image in images]
    print(f"| {name} | {mean_time(calls):.2f} | |", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--number", type=int, default=6)
    parser.add_argument("--size", type=int, default=1024)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if asked.images:
        images = [load_image(path).convert("RGB") for path in find_images(asked.images)[: asked.number]]
    else:
        scenes = [random_scene(seed, VIEWS[seed % 2]) for seed in range(asked.number)]
        images = [fromarray(render(scene, asked.size).image) for scene in scenes]
    megapixels = np.mean([image.width * image.height for image in images]) / 1e6
    print(f"| {len(images)} pictures of {megapixels:.2f} MP | CPU s a picture | MB |\n|---|---|---|")
    formats(images)
    writing(images)
    specs = [ScorerSpec(name=name).at_home("photographs") for name in SCORERS]
    for name, scorer in load_scorers(specs, "cpu", SCORERS).items():
        assert not isinstance(scorer, Exception)
        scored(name, scorer, images)


if __name__ == "__main__":
    main()
