"""How long image-space errors take at 1024 x 1024: `python benchmarks/degrade_speed.py`, on one core, nets not counted.

The pictures of examples/people at 1024 x 1024 (cut square, then resized), their parts found once. For each detail: how
often it could be made, and the milliseconds of one candidate from the photo to pixels and mask, cutting out included.
Then whole candidates of the family, as `asap-train synth` takes them: the first of each part. Last, whole pairs: all
that `synth` does for a photo but for finding its parts and asking scorers, rejected candidates included, up to rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from asap_train.data.gates import Gates
from asap_train.data.regions import Finder
from asap_train.data.sources import PhotoSource
from asap_train.data.spec import SynthSpec
from asap_train.degrade.image import DETAILS, ImageFamily, degraded
from asap_train.types import Part, Photo
from hafbench.images import load_image, sha256_of

SIZE = 1024
PEOPLE = Path(__file__).parents[1] / "examples" / "people"


def photos() -> Iterator[Photo]:
    """The pictures, square from their top."""
    for path in sorted(PEOPLE.glob("*.jpg")):
        pixels = np.asarray(load_image(path))
        side = min(pixels.shape[:2])
        made = cv2.resize(pixels[:side, :side], (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        yield Photo(path.name, sha256_of(path), made)


def time_detail(name: str, parts: list[tuple[Photo, Part]]) -> tuple[int, list[float]]:
    """How many candidates of a detail could be made, and the milliseconds of each try."""
    detail, made, times = DETAILS[name], 0, []
    for photo, part in parts:
        if part.region in detail.regions:
            start = time.process_time()
            made += degraded(photo.pixels, detail.cut(photo.pixels, part), name, 0) is not None
            times.append(1000 * (time.process_time() - start))
    return made, times


def main() -> None:
    """Print the timings."""
    cv2.setNumThreads(1)
    finder, parts = Finder(), []
    for photo in photos():
        parts += [(photo, part) for part in finder.find(photo.pixels).parts]
    for name in DETAILS:
        suited = [row for row in parts if row[1].region in DETAILS[name].regions]
        time_detail(name, suited[:1])
        made, times = time_detail(name, parts)
        if times:
            print(f"{name:16s} {made:3d} of {len(times):3d} made, {np.mean(times):5.1f} ms (most {max(times):.1f})")
    start, family, made = time.process_time(), ImageFamily(), 0
    for seed, (photo, part) in enumerate(parts):
        made += next(family.degrade(photo, part, np.random.default_rng(seed)), None) is not None
    seconds = time.process_time() - start
    print(
        f"the first candidate of each of {len(parts)} parts: {made} in {seconds:.2f} s, {made / seconds:.0f} a second"
    )
    spec = SynthSpec(count=1, photos=PEOPLE, scorers=())
    source = PhotoSource(spec, PEOPLE, (), finder, (family,), Gates(spec.gates), {})
    by_photo: dict[str, tuple[Photo, list[Part]]] = {}
    for photo, part in parts:
        by_photo.setdefault(photo.name, (photo, []))[1].append(part)
    start, rows, rejected = time.process_time(), 0, 0
    for photo, own in by_photo.values():
        new, rejections = source.pairs(photo, own, 0)
        rows, rejected = rows + len(new), rejected + len(rejections)
    seconds = time.process_time() - start
    print(f"{rows} pairs through the gates into rows, {rejected} rejected: {rows / seconds:.1f} pairs a second")


if __name__ == "__main__":
    main()
