"""How fast pairs pass the gates and are written: `python benchmarks/hap_speed.py [--rows 10000]`, on one core.

The pairs are of noise that is smoothed a little, with an ellipse of other noise: as hard to compress as photos.
"""

import argparse
import hashlib
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from asap_train.data.gates import fingerprint
from asap_train.data.similarity import measure_similarity
from asap_train.hap import Pair, encode_png, make_pair, to_row
from asap_train.hap.read import read_pairs
from asap_train.hap.validate import validate
from asap_train.hap.write import open_hap
from asap_train.types import Candidate, Photo

T = TypeVar("T")


def made(side: int, seed: int = 0) -> Pair:
    rng = np.random.default_rng(seed)
    winner, other = (
        cv2.GaussianBlur(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), (9, 9), 2) for _ in range(2)
    )
    mask = cv2.ellipse(
        np.zeros((side, side), np.uint8), (side // 2, side // 2), (side // 5, side // 6), 0, 0, 360, 1, -1
    )
    loser = np.where(mask[..., None] > 0, other, winner)
    photo = Photo(str(seed), hashlib.sha256(str(seed).encode()).hexdigest(), winner)
    candidate = Candidate(loser, mask > 0, "hands", "extra", "extra_digit", "benchmark", {})
    similarity = measure_similarity(winner, loser, mask > 0)
    return make_pair(photo, candidate, "a hand", similarity, fingerprint(winner, loser, mask > 0), {})


def timed(name: str, work: Callable[[], T], times: int = 10) -> T:
    result = work()
    started = time.perf_counter()
    for _ in range(times):
        work()
    print(f"  {name}: {(time.perf_counter() - started) / times * 1e3:.1f} ms")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    cv2.setNumThreads(1)
    for side in (128, 1024):
        pair = made(side)
        print(f"{side} x {side}, M covers {100 * pair.similarity.area:.1f} %")
        timed("gates of SSIM, inside and outside", lambda p=pair: measure_similarity(p.winner, p.loser, p.mask))  # type: ignore[misc]
        timed("fingerprint", lambda p=pair: fingerprint(p.winner, p.loser, p.mask))  # type: ignore[misc]
        png = timed("PNG of x_w, once a photo", lambda p=pair: encode_png(p.winner))  # type: ignore[misc]
        timed("row: PNG of x_l and M, id", lambda p=pair, png=png: to_row(p, png))  # type: ignore[misc]
    row = to_row(made(128))
    print_memory()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with open_hap(Path(folder), {}) as hap:
            for number in range(rows):
                digest = hashlib.sha256(str(number).encode()).hexdigest()
                hap.add(str(number), [{**row, "id": digest, "source": digest}])
            hap.finish()
        seconds = time.perf_counter() - started
        print(f"{rows} rows of 128 x 128, one an item: {rows / seconds:.0f} a second written")
        started = time.perf_counter()
        print_memory()
        count = sum(1 for _ in read_pairs(Path(folder)))
        print(f"{count / (time.perf_counter() - started):.0f} a second read and decoded")
        started = time.perf_counter()
        validate(Path(folder))
        print(f"{rows / (time.perf_counter() - started):.0f} a second validated")
    print_memory()


def print_memory() -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
