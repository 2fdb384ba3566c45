"""How long a picture of the built-in world takes, on one core: `python benchmarks/render_mannequins.py`."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from hafbench.mannequin.attributes import FRAMINGS
from hafbench.mannequin.picture import make_pair, render
from hafbench.mannequin.scene import random_scene


def main() -> None:
    """Print the median and the fastest of 30 pictures for each framing and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", help="where capsules are rasterised; the rest is on the CPU")
    device = parser.parse_args().device
    torch.set_num_threads(1)
    for size in (64, 128, 256):
        for framing in FRAMINGS:
            times = []
            for seed in range(31):
                scene = random_scene(970_000_000 + seed, framing)
                start = time.perf_counter()
                render(scene, size, device=device)
                times.append(1000 * (time.perf_counter() - start))
            middle, best = np.median(times[1:]), min(times[1:])
            print(f"{size:4d} px  {framing:10s}  median {middle:6.1f} ms  fastest {best:6.1f} ms")
    start, count = time.perf_counter(), 0
    for seed in range(40):
        count += make_pair(971_000_000 + seed) is not None
    print(f"{count / (time.perf_counter() - start):.1f} pairs of 128 px a second")


if __name__ == "__main__":
    main()
