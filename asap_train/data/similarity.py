"""How alike two images of a pair are, inside and outside of M: SSIM, and LPIPS where its weights are available.

Both are computed over windows: a value at one pixel also depends on its surroundings. So that what happened outside
of M does not leak into the inside, and the other way round, each side is measured on a picture of its own:

    inside:  the mean over M of the map between x_w and the loser with its outside replaced by x_w
    outside: the mean over the complement of M of the map between x_w and the loser with its inside replaced by x_w
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hafbench.errors import HafError, Unavailable

if TYPE_CHECKING:
    from asap_train.types import Mask
    from hafbench.types import Pixels

SIGMA = 1.5
REACH = 5
"""Of SSIM's window to each side, in pixels: 11 x 11, as scikit-image's truncate of 3.5 sigma gives it."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
LPIPS_FILES = ("checkpoints/alexnet-owt-7be5be79.pth", "pyiqa/LPIPS_v0.1_alex-df73285e.pth")
"""Below torch's hub folder: the trunk, which torchvision fetches, and the linear layers, which pyiqa fetches."""
LINEAR = tuple(f"lin{layer}.model.1.weight" for layer in range(5))

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Similarity:
    """SSIM is at most 1 (equal images), LPIPS at least 0 (equal images), and None if its weights are unavailable.

    `area` is the share of the picture that M covers, 0 to 1.
    """

    ssim_in: float
    ssim_out: float
    lpips_in: float | None
    lpips_out: float | None
    area: float


def measure_similarity(winner: Pixels, loser: Pixels, mask: Mask, lpips: Lpips | None = None) -> Similarity:
    """Measure a pair of RGB images (height, width, 3), uint8, by its mask (height, width).

    With nothing outside of M the outside is taken as equal. Raises HafError for sizes that do not fit, and for an
    empty mask.
    """
    check_sizes(winner, loser, mask)
    inside, outside = _pasted(loser, mask, winner), _pasted(winner, mask, loser)
    lpips_in = lpips_out = None
    if lpips is not None:
        lpips_in, lpips_out = lpips.mean(winner, inside, mask), lpips.mean(winner, outside, ~mask)
    return Similarity(
        mean_ssim(winner, inside, mask), mean_ssim(winner, outside, ~mask), lpips_in, lpips_out, float(mask.mean())
    )


def _pasted(what: Pixels, mask: Mask, onto: Pixels) -> Pixels:
    """`onto` with `what` in place of it where the mask is True."""
    return np.asarray(cv2.copyTo(what, mask.astype(np.uint8), onto.copy()))


def check_sizes(winner: Pixels, loser: Pixels, mask: Mask) -> None:
    """Raise HafError, with the sizes, for a loser or mask that does not fit the winner, or an empty mask."""
    sizes = [f"{array.shape[1]} x {array.shape[0]}" for array in (winner, loser, mask)]
    if winner.shape != loser.shape:
        raise HafError(f"The winner has {sizes[0]} pixels and the loser {sizes[1]}; a pair's images are of one size.")
    if mask.shape != winner.shape[:2]:
        raise HafError(f"The mask has {sizes[2]} pixels and the image {sizes[0]}; make the mask of the image's size.")
    if not mask.any():
        raise HafError("The mask is empty; mark the pixels of the region in it.")


def mean_ssim(one: Pixels, other: Pixels, where: Mask) -> float:
    """The mean over `where` of the SSIM map of two images; 1 if `where` is empty.

    Wang, Bovik, Sheikh & Simoncelli 2004 (IEEE Trans. Image Processing 13, 600-612), with their Gaussian window
    (sigma 1.5, 11 x 11), K1 = 0.01, K2 = 0.03, for each channel of 8-bit RGB and then averaged: the full map of
    scikit-image's structural_similarity(gaussian_weights=True, use_sample_covariance=False, data_range=255). Where the
    images agree as far as the window reaches, the map is exactly 1: only the rest is computed.
    """
    changed = _box_of_changes(one, other)
    total = np.count_nonzero(where)
    if changed is None or total == 0:
        return 1.0
    affected, needed = (_grown(changed, by, one.shape) for by in (REACH, 2 * REACH))
    there = _cut(ssim_map(_cut(one, needed), _cut(other, needed)), _within(affected, needed))
    return float(1 - (1 - there)[_cut(where, affected)].sum() / total)


def ssim_map(one: Pixels, other: Pixels) -> NDArray[np.float64]:
    """The SSIM of two RGB images about each pixel, (height, width), channels averaged; see `mean_ssim`."""

    def blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
        size = (2 * REACH + 1, 2 * REACH + 1)
        return np.asarray(cv2.GaussianBlur(values, size, SIGMA, borderType=cv2.BORDER_REFLECT))

    x, y = one.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = blurred(x), blurred(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance, variances = blurred(x * y) - product, blurred(x * x + y * y) - squares
    values = (2 * product + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))
    return np.asarray(values.mean(-1))


def _box_of_changes(one: Pixels, other: Pixels) -> Box | None:
    """The box (x1, y1, x2, y2) of all pixels that differ."""
    height, width = one.shape[:2]
    x, y, w, h = cv2.boundingRect(cv2.absdiff(one, other).reshape(height, 3 * width))
    return (x // 3, y, (x + w - 1) // 3 + 1, y + h) if w else None


def _grown(box: Box, by: int, shape: tuple[int, ...]) -> Box:
    x1, y1, x2, y2 = box
    return max(0, x1 - by), max(0, y1 - by), min(shape[1], x2 + by), min(shape[0], y2 + by)


def _within(box: Box, outer: Box) -> Box:
    return box[0] - outer[0], box[1] - outer[1], box[2] - outer[0], box[3] - outer[1]


def _cut(array: NDArray[Any], box: Box) -> NDArray[Any]:
    return array[box[1] : box[3], box[0] : box[2]]


class Lpips:
    """LPIPS version 0.1 on AlexNet (Zhang et al. 2018, arXiv 1801.03924) as a map, by a net of pyiqa."""

    def __init__(self, net: Any, device: str) -> None:
        from importlib.metadata import version

        from hafbench.scorers.clip import sha256_of_parameters

        self._net, self._device = net, device
        self.settings: Mapping[str, Any] = {
            "metric": f"lpips, alex 0.1, spatial, pyiqa {version('pyiqa')}",
            "weights": {"parameters": sha256_of_parameters(net)},
        }

    def map(self, one: Pixels, other: Pixels) -> NDArray[np.float64]:
        """The distance about each pixel, (height, width): the layers' maps, bilinearly enlarged, summed."""
        import torch

        pair = [torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] for image in (other, one)]
        with torch.inference_mode():
            values = self._net(*(image.to(self._device).float() / 255 for image in pair))
        return np.asarray(values[0, 0].double().cpu().numpy())

    def mean(self, one: Pixels, other: Pixels, where: Mask) -> float:
        """The mean of the map over `where`; 0 for equal images, without asking the net, and if `where` is empty."""
        if not where.any() or np.array_equal(one, other):
            return 0.0
        return float(self.map(one, other)[where].mean())


def load_lpips(device: str = "cpu") -> Lpips:
    """pyiqa's LPIPS; raises Unavailable where its weights are neither on this machine nor reachable."""
    from pickle import UnpicklingError

    from hafbench import hub

    # Loaded through torch.hub, which would otherwise let weights run code.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    import torch

    folder = Path(torch.hub.get_dir())
    missing = [name for name in LPIPS_FILES if not (folder / name).is_file()]
    sentence = (
        f"The weights of LPIPS are not on this machine: put {' and '.join(missing or LPIPS_FILES)} into {folder}, "
        "or connect to the network once."
    )
    if missing and hub.offline():
        raise Unavailable(sentence)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            from pyiqa.archs.lpips_arch import LPIPS

            net = LPIPS(net="alex", version="0.1", spatial=True).to(device)
        # pyiqa takes what fits of a file, and leaves the rest random without a word.
        layers = torch.load(folder / LPIPS_FILES[1], map_location="cpu", weights_only=True)
        lacking = [name for name in LINEAR if name not in layers]
    except UnpicklingError as error:
        raise HafError(f"The weights of LPIPS in {folder} are damaged or would run code; delete them.") from error
    except (OSError, RuntimeError) as error:
        raise Unavailable(sentence) from error
    if lacking:
        raise HafError(f"{folder / LPIPS_FILES[1]} has no {lacking[0]}: it is not the file of LPIPS 0.1; delete it.")
    return Lpips(net, device)
