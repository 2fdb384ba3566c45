"""How long an exact pair of the built-in world takes, on one core: `python benchmarks/mannequin_pairs.py`.

10,000 pairs in 10 minutes on 4 cores leave 240 ms a pair and core, its two PNGs included.
"""

from __future__ import annotations

import argparse
import io
import time
from typing import get_args

import numpy as np
import torch
from PIL import Image

from asap_train.degrade.mannequin import mannequin_pair
from hafbench.mannequin.attributes import Framing
from hafbench.mannequin.picture import SIZE

FIRST = 972_000_000  # of no data set


def main() -> None:
    """Print, for each framing and for the usual mix of them, the time a pair takes and the share of seeds without."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="seeds a framing")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    mannequin_pair(FIRST - 1, asked.size)
    framings: tuple[Framing | None, ...] = (*get_args(Framing), None)
    for number, framing in enumerate(framings):
        pairs, wall, processor, saved = 0, [], 0.0, 0.0
        for seed in range(FIRST + number * asked.count, FIRST + (number + 1) * asked.count):
            start, used = time.perf_counter(), time.process_time()
            pair = mannequin_pair(seed, asked.size, framing)
            wall.append(1000 * (time.perf_counter() - start))
            processor += 1000 * (time.process_time() - used)
            if pair is None:
                continue
            pairs += 1
            used = time.process_time()
            for pixels in (pair[0].pixels, pair[1].pixels, pair[1].mask):
                Image.fromarray(np.ascontiguousarray(pixels)).save(io.BytesIO(), format="PNG")
            saved += 1000 * (time.process_time() - used)
        print(
            f"{framing or 'the mix':10s}  {processor / pairs:5.0f} ms of the core a pair, {saved / pairs:4.1f} ms more "
            f"to write it as PNG; by the clock median {np.median(wall):5.0f} ms, "
            f"95 % below {np.quantile(wall, 0.95):.0f} ms; no pair from {asked.count - pairs} of {asked.count} seeds"
        )


if __name__ == "__main__":
    main()
