"""What a picture costs a CPU and a disk: `python -m benchmarks.costs [IMAGES] [--number 6] [--size 1024]`.

The first images of a folder, or rendered people of so many pixels a side, half hands, half whole figures. CPU seconds
a picture of each image format and of each scorer that needs no GPU, with one thread and without loading; bytes; and the
wall time in which a file is written. Last, what the thread that draws has to do beside drawing, in which its GPU waits.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image, fromarray

from benchmarks.image_formats import timed
from hafbench.errors import Unavailable
from hafbench.evaluate import describe, evaluate, plan
from hafbench.files import write_whole
from hafbench.images import ENCODINGS, ImageFormat, encode_image, find_images, load_image
from hafbench.manifest import GeneratorFacts, Manifest, SuiteFacts
from hafbench.people.render import render
from hafbench.people.scene import View
from hafbench.people.scenes import random_scene
from hafbench.provenance import made_with
from hafbench.runs import open_run
from hafbench.scorers.loading import load_scorers
from hafbench.specs import RunSpec, ScorerSpec
from hafbench.suites import Prompt
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


@dataclass
class Held:
    """A model whose pictures are there already; `left` is the CPU time of its thread from one batch to the next."""

    images: Sequence[Image]
    name: str = "held"
    settings: Mapping[str, Any] = field(default_factory=dict)
    left: list[float] = field(default_factory=list)

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image]:
        """As many pictures as are asked for."""
        self.left.append(time.thread_time())
        return [self.images[seed % len(self.images)] for seed in seeds]


def drawing(images: list[Image], image_format: ImageFormat) -> None:
    """A line for what is left to do for the thread that draws, saving and recording the pictures of a run."""
    model, scorers = Held(images), {"iqa": Unavailable("is not asked")}
    samples = plan([Prompt(id="p", text="a picture")], range(2 * len(images)), image_format)
    manifest = Manifest(
        command="run",
        name=model.name,
        request=RunSpec(scorers=()),
        suite=SuiteFacts(name="one", sha256="0", limit=None, seeds=len(samples), first_seed=0),
        generator=GeneratorFacts.of(model),
        scorers=describe(scorers),
        image_root="images",
        **made_with(),
    )
    with tempfile.TemporaryDirectory(dir=".") as folder, open_run(Path(folder), manifest) as run:
        evaluate(run, samples, scorers, model)
    print(f"| {image_format}: CPU s of the drawing thread | {np.mean(np.diff(model.left[1:])):.3f} | |", flush=True)


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
    for title in ENCODINGS:
        drawing(images, title)
    specs = [ScorerSpec(name=name).at_home("photographs") for name in SCORERS]
    for name, scorer in load_scorers(specs, "cpu", SCORERS).items():
        assert not isinstance(scorer, Exception)
        scored(name, scorer, images)


if __name__ == "__main__":
    main()
