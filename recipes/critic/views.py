"""What a net sees of each square of a table, in several random views: its activations, kept in a folder.

    python recipes/critic/views.py hands TABLE.jsonl --out views/NAME [--measured]

Good and bad squares go through the same changes of size, blur, JPEG, brightness, colour and noise, so that none of
these is a cue. Writes ID.npz for each square; run it again to resume. HAFBENCH_WEIGHTS may name the weights' folder.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import cv2
import numpy as np
from tables import LABELS, Square, picture, read_table

from hafbench.detectors.critic import SETUPS, VIEWS, Setup
from hafbench.detectors.nets import Roi
from hafbench.detectors.taps import TapNet
from hafbench.weights import locate

SMALLEST, LARGEST = {"hands": 60, "figures": 90}, {"hands": 260, "figures": 400}
TURN = {"hands": 12.0, "figures": 6.0}
JPEG = (55, 96)
RANDOM = {"good": 3, "bad": 2, "none": 3}
TAP_LIMIT = 60000  # half precision ends at 65504


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """The image as it comes back from a JPEG of that quality."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def random_view(
    image: np.ndarray, roi: Roi, subject: str, setup: Setup, rng: np.random.Generator
) -> tuple[np.ndarray, Roi, bool]:
    """A crop of the net's size in [0, 1], the square that it shows, and whether it is mirrored."""
    shift = rng.normal(0, 0.03, 2) * roi.side
    scale = float(np.exp(rng.uniform(np.log(0.85), np.log(1.22))))
    seen = Roi(roi.x + shift[0], roi.y + shift[1], roi.side, roi.rotation).turned(rng.normal(0, TURN[subject]), scale)
    length = roi.side / 2
    wanted = float(np.exp(rng.uniform(np.log(SMALLEST[subject]), np.log(LARGEST[subject]))))
    shrink = min(1.0, wanted / length)
    work, there = image, seen
    if shrink < 0.95:
        work = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        there = Roi(seen.x * shrink, seen.y * shrink, seen.side * shrink, seen.rotation)
    if rng.random() < 0.3:
        work = cv2.GaussianBlur(work, (0, 0), rng.uniform(0.3, 0.9))
    if rng.random() < 0.6:
        work = jpeg(work, int(rng.integers(*JPEG)))
    crop = there.crop(work, setup.size, setup.border)
    crop = np.clip(crop * rng.uniform(0.75, 1.25) + rng.uniform(-0.08, 0.08), 0, 1) ** rng.uniform(0.8, 1.25)
    crop = crop * (1 + rng.normal(0, 0.05, 3))
    if rng.random() < 0.15:
        crop = np.repeat(crop.mean(2, keepdims=True), 3, 2)
    if rng.random() < 0.3:
        crop = crop + rng.normal(0, rng.uniform(0, 0.03), crop.shape)
    mirrored = bool(rng.random() < 0.5)
    crop = np.clip(crop, 0, 1).astype(np.float32)
    return (crop[:, ::-1] if mirrored else crop), seen, mirrored


def cells(mask: np.ndarray, roi: Roi, mirrored: bool, size: int) -> np.ndarray:
    """Which share (0 to 255) of each of size x size cells of a square is under a mask (height, width)."""
    crop = roi.crop(np.repeat(mask[..., None], 3, 2), 8 * size, cv2.BORDER_CONSTANT)[..., 0]
    small = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return np.rint(255 * (small[:, ::-1] if mirrored else small)).astype(np.uint8)


def views_of(square: Square, subject: str, net: TapNet, setup: Setup, measured: bool) -> dict[str, np.ndarray]:
    """The arrays of a square's file. `plain`: 0 for random views, 1 for those that a critic takes, if `measured`."""
    image = picture(square.image)
    mask = None if square.mask is None else cv2.imread(str(square.mask), cv2.IMREAD_GRAYSCALE)
    rng = np.random.default_rng(int(hashlib.sha256(square.id.encode()).hexdigest()[:12], 16))
    label = {number: name for name, number in LABELS.items()}[square.label]
    taps, masks, plain = [], [], []
    for _ in range(RANDOM[label]):
        crop, seen, mirrored = random_view(image, square.roi, subject, setup, rng)
        taps.append(net(crop))
        size = taps[-1][0].shape[0]
        masks.append(np.zeros((size, size), np.uint8) if mask is None else cells(mask, seen, mirrored, size))
        plain.append(0)
    for degrees, mirrored in VIEWS if measured else ():
        crop = square.roi.turned(degrees).crop(image, setup.size, setup.border)
        taps.append(net(crop[:, ::-1] if mirrored else crop))
        masks.append(np.zeros_like(masks[-1]))
        plain.append(1)
    arrays = {
        f"tap{n}": np.clip(np.stack(each), -TAP_LIMIT, TAP_LIMIT) for n, each in enumerate(zip(*taps, strict=True))
    }
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    return {**halves, "mask": np.stack(masks), "plain": np.array(plain)}


def main() -> None:
    """Write the views of every square that has none yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=list(SETUPS))
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--measured", action="store_true", help="also the views that a critic takes")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    setup = SETUPS[asked.subject]
    net = TapNet(locate(setup.net), setup.tensors)
    cv2.setNumThreads(1)
    for square in read_table(asked.table):
        path = asked.out / f"{square.id}.npz"
        if not path.exists():
            part = path.with_suffix(".part.npz")
            np.savez(part, **views_of(square, asked.subject, net, setup, asked.measured))
            part.replace(path)


if __name__ == "__main__":
    main()
