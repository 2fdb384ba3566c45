"""What each format of --image-format costs, and does to scores: `python benchmarks/image_formats.py DATA`.

DATA is a folder of photographs. For the pictures of the built-in model, rendered people and photographs: bytes and CPU
time a picture for writing and reading, and how scores change between a picture as it was made and as it is read back.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from hafbench.generators import load_generator
from hafbench.images import ENCODINGS, Encoding, decode_image, find_images, load_image
from hafbench.labelled import render_world
from hafbench.scorers.loading import load_scorers
from hafbench.specs import GeneratorSpec, ScorerSpec
from hafbench.suites import load_suite
from hafbench.types import Scorer

OTHERS = {
    "png, level 1": Encoding(".png", "PNG", {"compress_level": 1}),
    "webp-lossless, Pillow's default": Encoding(".webp", "WEBP", {"lossless": True}),
}
"""Formats that are not offered, beside those that are."""


def mannequins(count: int) -> list[Image.Image]:
    """Pictures of the built-in model."""
    prompts = load_suite("mannequin").prompts[:count]
    return list(load_generator(GeneratorSpec()).generate(prompts, [0] * len(prompts)))


def people(count: int) -> list[Image.Image]:
    """Rendered hands and figures, half of them with an error."""
    return [Image.fromarray(one.read()) for one in render_world("people", ("hands", "limbs"), count, 77)]


def photographs(folder: Path, count: int) -> list[Image.Image]:
    """Photographs, which have been JPEG before."""
    paths = find_images(folder)
    return [load_image(path) for path in paths[:: max(1, len(paths) // count)][:count]]


def encoded(image: Image.Image, encoding: Encoding) -> bytes:
    """The bytes of the file."""
    buffer = io.BytesIO()
    image.save(buffer, format=encoding.name, **encoding.options)
    return buffer.getvalue()


def timed(images: Sequence[Image.Image], encoding: Encoding) -> tuple[list[bytes], float]:
    """The bytes of the files, and the median CPU time of making one, in seconds."""
    files, times = [], []
    for image in images:
        start = time.process_time()
        files.append(encoded(image, encoding))
        times.append(time.process_time() - start)
    return files, float(np.median(times))


def sizes(name: str, images: list[Image.Image]) -> None:
    """A line for each format."""
    side = " x ".join(map(str, images[0].size))
    for title, encoding in {**ENCODINGS, **OTHERS}.items():
        files, writing = timed(images, encoding)
        start = time.process_time()
        read = [np.asarray(decode_image(content, "x")) for content in files]
        reading = 1000 * (time.process_time() - start) / len(files)
        kilobytes = np.mean([len(content) for content in files]) / 1000
        same = all(np.array_equal(one, np.asarray(image)) for one, image in zip(read, images, strict=True))
        print(
            f"| {name}, {len(images)} of {side} | {title} | {kilobytes:.1f} | {1000 * writing:.1f} | {reading:.1f} | "
            f"{'yes' if same else 'no'} |",
            flush=True,
        )


def scores(name: str, images: list[Image.Image], scorers: Mapping[str, Scorer]) -> None:
    """A line for each scorer: pictures as they are, and as JPEG 95 reads back."""
    for title, scorer in scorers.items():
        changed = judged = lost = 0
        moved = []
        for image in images:
            again = decode_image(encoded(image, ENCODINGS["jpeg95"]), "x")
            before, after = (scorer.score(np.asarray(one), None) for one in (image, again))
            if before.value is None or after.value is None:
                lost += before.value is not after.value
                continue
            judged += 1
            changed += before.is_error != after.is_error
            moved.append(abs(before.value - after.value))
        share = f"{changed} of {judged}"
        mean, largest = (float(np.mean(moved)), float(np.max(moved))) if moved else (float("nan"), float("nan"))
        print(f"| {name} | {title} | {share} | {lost} | {mean:.4f} | {largest:.3f} |", flush=True)


def loaded(*specs: ScorerSpec) -> dict[str, Scorer]:
    """Scorers that have to be there."""
    found = load_scorers(specs, "cpu", [spec.name for spec in specs])
    return {name: one for name, one in found.items() if not isinstance(one, Exception)}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--number", type=int, default=24)
    asked = parser.parse_args()
    drawn = mannequins(3 * asked.number)
    made = {
        "mannequins": list(islice(drawn, asked.number)),
        "people": people(asked.number),
        "photographs": photographs(asked.data, asked.number),
    }
    print("| pictures | format | kB | ms to write | ms to read | same pixels |\n|---|---|---|---|---|---|")
    for name, images in made.items():
        sizes(name, images)
    print("\n| pictures | scorer | verdicts changed | judged once only | mean change | largest |")
    print("|---|---|---|---|---|---|")
    scores("mannequins", drawn, loaded(ScorerSpec(name="digits"), ScorerSpec(name="limb_count")))
    photo = loaded(*(ScorerSpec(name=name).at_home("photographs") for name in ("hands", "limbs")))
    for name in ("people", "photographs"):
        scores(name, made[name], photo)


if __name__ == "__main__":
    main()
