"""Critics of hands and of figures: a small head, trained on localized errors, on the activations of MediaPipe's nets.

`critics/NAME.safetensors` holds the heads (several, whose answers are averaged) and what was measured of them;
recipes/critic trains them, and docs/studies/critic.md tells how well they do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hafbench.detectors.nets import Roi, sigmoid
from hafbench.detectors.taps import TapNet
from hafbench.errors import Unavailable
from hafbench.images import sha256_of
from hafbench.weights import WEIGHTS, locate

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from hafbench.detectors.critic_head import Head
    from hafbench.types import Pixels

Subject = Literal["hands", "figures"]


@dataclass(frozen=True)
class Setup:
    """The net under a critic: its file, the tensors that are read, its input's side, and what lies outside an image."""

    net: str
    tensors: tuple[int, ...]
    size: int
    border: int


SETUPS: Mapping[Subject, Setup] = {
    "hands": Setup("hand_landmark_full.tflite", (131, 142, 158), 224, cv2.BORDER_REPLICATE),
    "figures": Setup("pose_landmark_full.tflite", (251, 269, 271), 256, cv2.BORDER_CONSTANT),
}
# (degrees, mirrored): a mirrored image scores nearly the same, and a little noise moves the mean less than a view.
VIEWS = ((-4.0, False), (4.0, True))


class Trained(BaseModel):
    """What a file of heads says of itself.

    P(error) and P(there is such a part) are logistic(slope x logit + shift), each with its slope and shift, fitted on
    pictures of generators that were left out of training.
    `threshold` on P(error) from which a part counts as an error, `present_threshold` on P(there is such a part).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    channels: tuple[int, ...]
    kinds: tuple[str, ...]
    width: int = Field(gt=0)
    local: int = Field(gt=0)
    heads: int = Field(gt=0)
    slope: float = Field(gt=0)
    shift: float
    present_slope: float = Field(gt=0)
    present_shift: float
    threshold: float = Field(gt=0, lt=1)
    present_threshold: float = Field(gt=0, lt=1)
    trained_on: str


@dataclass(frozen=True)
class Look:
    """What a critic sees in one square of an image.

    `error`: the probability in [0, 1] that the part is malformed, if it is there; `present`: that it is there.
    `kinds`: how the probability of an error divides among its kinds. `heat` (n, n) in [0, 1]: where, over the square.
    """

    error: float
    present: float
    kinds: Mapping[str, float]
    heat: NDArray[np.float64]
    roi: Roi

    @property
    def kind(self) -> str | None:
        """The kind that takes half of the probability or more; None where no kind does."""
        likeliest = max(self.kinds, key=lambda name: self.kinds[name])
        return likeliest if self.kinds[likeliest] >= 0.5 else None


def file_of(subject: Subject) -> Path:
    """The shipped heads; raises Unavailable if the installation lacks them."""
    path = Path(__file__).parent / "critics" / f"{subject}.safetensors"
    if not path.is_file():
        raise Unavailable(f"{path} is not in this installation; install hafbench from its repository again.")
    return path


class Critic:
    """Looks at squares of images. Not thread-safe: one for each scorer."""

    def __init__(self, subject: Subject, path: Path | None = None) -> None:
        """Raises Unavailable for weights that are not on this machine."""
        path = path or file_of(subject)
        self._setup = SETUPS[subject]
        self._net = TapNet(locate(self._setup.net), self._setup.tensors)
        self.trained, self._heads = read_heads(path)
        self.weights: Mapping[str, str] = {
            self._setup.net: WEIGHTS[self._setup.net].sha256,
            path.name: sha256_of(path),
        }

    def look(self, image: Pixels, rois: Sequence[Roi]) -> list[Look]:
        """One Look for each square of an RGB image (height, width, 3)."""
        if not rois:
            return []
        import torch

        views = [(roi.turned(degrees), mirrored) for roi in rois for degrees, mirrored in VIEWS]
        seen = [self._taps(image, roi, mirrored) for roi, mirrored in views]
        taps = [torch.from_numpy(np.stack(each)) for each in zip(*seen, strict=True)]
        with torch.no_grad():
            answers = [head(taps) for head in self._heads]
        error, present, kinds, heat = (_mean(parts) for parts in zip(*answers, strict=True))
        looks = []
        for number, roi in enumerate(rois):
            rows = range(number * len(VIEWS), (number + 1) * len(VIEWS))
            maps = [heat[row, :, ::-1] if VIEWS[row - rows.start][1] else heat[row] for row in rows]
            looks.append(
                Look(
                    error=float(sigmoid(self.trained.slope * error[rows].mean() + self.trained.shift)),
                    present=float(
                        sigmoid(self.trained.present_slope * present[rows].mean() + self.trained.present_shift)
                    ),
                    kinds=dict(zip(self.trained.kinds, _softmax(kinds[rows].mean(0)), strict=True)),
                    heat=sigmoid(np.mean(maps, axis=0)),
                    roi=roi,
                )
            )
        return looks

    def _taps(self, image: Pixels, roi: Roi, mirrored: bool) -> list[NDArray[np.float32]]:
        """The activations (channels, height, width) of one view."""
        crop = roi.crop(image, self._setup.size, self._setup.border)
        return [tap.transpose(2, 0, 1) for tap in self._net(crop[:, ::-1] if mirrored else crop)]


def read_heads(path: Path) -> tuple[Trained, list[Head]]:
    """The heads of a file, ready to be asked, and what the file says of itself."""
    from safetensors import safe_open

    from hafbench.detectors.critic_head import Head

    with safe_open(path, "pt") as file:
        trained = Trained.model_validate_json(file.metadata()["trained"])
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    heads = []
    for number in range(trained.heads):
        head = Head(trained.channels, len(trained.kinds), trained.width, trained.local)
        prefix = f"{number}."
        head.load_state_dict({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
        heads.append(head.eval())
    return trained, heads


def write_heads(path: Path, trained: Trained, heads: Sequence[Head]) -> None:
    """Write the heads in half precision."""
    from safetensors.torch import save_file

    tensors = {
        f"{number}.{name}": tensor.half().contiguous()
        for number, head in enumerate(heads)
        for name, tensor in head.state_dict().items()
    }
    save_file(tensors, path, {"trained": json.dumps(trained.model_dump(mode="json"))})


def _mean(answers: Sequence[Tensor]) -> NDArray[np.float64]:
    """The mean over the heads."""
    return np.asarray(np.mean([answer.double().numpy() for answer in answers], axis=0))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(logits - logits.max())
    return np.asarray(shares / shares.sum())
