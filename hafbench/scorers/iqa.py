"""The `iqa` scorer: quality of an image without a reference, by any such metric of pyiqa."""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hafbench import hub, registry
from hafbench.errors import HafError, Unavailable, nearest
from hafbench.scorers.clip import sha256_of_parameters
from hafbench.types import Role, Score

if TYPE_CHECKING:
    from hafbench.suites import Prompt
    from hafbench.types import Pixels

SMALLEST_SIDE = 32
BATCH = 4
"""Images at once by piqe: more are not faster."""

# Listed by pyiqa among the metrics without a reference, and yet not about one image alone.
NOT_OF_ONE_IMAGE = {
    **dict.fromkeys(("fid", "sfid", "fid_dinov2", "inception_score"), "compares whole sets of images"),
    "clipscore": "compares an image with its prompt, which the clip scorer does",
}


class IqaScorer:
    """Scores one image at a time: some metrics of pyiqa give another value to the same image in another batch.

    Several images of one size are scored at once by piqe on a CPU alone, for which equality, bit for bit, was measured.
    """

    name = "iqa"
    role: Role = "quality"

    def __init__(self, metric: Any, name: str, device: str) -> None:
        from importlib.metadata import version

        self.version = f"pyiqa {version('pyiqa')}, {name}"
        self.higher_is_better = not metric.lower_better
        direction = "higher" if self.higher_is_better else "lower"
        self.about = (
            f"Image quality by {name}, without a reference: {direction} is better. It says nothing about anatomy."
        )
        weights = {"parameters": sha256_of_parameters(metric.net)} if metric.net.state_dict() else {}
        self.settings: Mapping[str, Any] = {"metric": name, "weights": weights}
        self.batch_size = BATCH if name == "piqe" and device == "cpu" else 1
        self._metric, self._name, self._device = metric, name, device

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """The metric's value in its own units; unknown for an image too small or of one colour.

        For piqe, `textured` is the share of the image, 0 to 1, that is in blocks with texture enough to be judged.
        """
        return self.score_batch([image], [prompt])[0]

    def score_batch(self, images: Sequence[Pixels], prompts: Sequence[Prompt | None]) -> list[Score]:
        """For each image what `score` gives, bit for bit."""
        scores = [Score("unknown", reason=_problem(image), cause="unjudgeable") for image in images]
        sizes: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            if scores[place].reason is None:
                sizes.setdefault(image.shape, []).append(place)
        for places in sizes.values():
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                for place, score in zip(batch, self._scores([images[place] for place in batch]), strict=True):
                    scores[place] = score
        return scores

    def _scores(self, images: Sequence[Pixels]) -> list[Score]:
        """Those of images of one size."""
        import torch

        pixels = torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in images])
        # Some metrics look at random crops: the same ones for every image, whatever was drawn before.
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(0)
            values = self._metric(pixels.to(self._device).float() / 255).flatten().tolist()
        return [
            Score("scored", value, measures=self._measures(place))
            if math.isfinite(value)
            else Score("unknown", reason=f"the metric gave {value}", cause="unjudgeable")
            for place, value in enumerate(values)
        ]

    def _measures(self, place: int) -> dict[str, float]:
        # Without a textured block piqe is 100 by definition, be it a blurred photo or a clean gradient: say so.
        if self._name != "piqe":
            return {}
        return {"textured": float(self._metric.net.get_masks()["activity_mask"][place].mean())}


def _problem(image: Pixels) -> str | None:
    """Why there is nothing to measure."""
    if min(image.shape[:2]) < SMALLEST_SIDE:
        return f"a side is below {SMALLEST_SIDE} pixels"
    return "the image is of one colour" if (image == image[0, 0]).all() else None


class Options(registry.Options):
    """`metric` is a name of pyiqa's, of a metric without a reference."""

    metric: str = "piqe"


def load(options: Options, device: str) -> IqaScorer:
    """Load the metric; raises HafError for an unknown name, Unavailable if its weights are unavailable."""
    hub.offline()
    # Whatever a metric asks for, its weights must not be able to run code.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    with _silent():
        import pyiqa
        from pyiqa.default_model_configs import DEFAULT_CONFIGS

        from hafbench.devices import pick_device
    name = options.metric
    if name not in DEFAULT_CONFIGS:
        raise HafError(f"--iqa {name}: pyiqa has no such metric; {nearest(name, pyiqa.list_models())}")
    if DEFAULT_CONFIGS[name]["metric_mode"] != "NR":
        raise HafError(f"--iqa {name}: this metric compares with a reference image; use one without, such as piqe.")
    if name in NOT_OF_ONE_IMAGE:
        raise HafError(f"--iqa {name}: this metric {NOT_OF_ONE_IMAGE[name]}; use another, such as piqe.")
    device = pick_device(device)
    try:
        with _silent():
            metric = pyiqa.create_metric(name, device=device)
    except ImportError as error:
        raise Unavailable(f"The metric {name} needs a package that is not installed ({error}); install it.") from error
    except Exception as error:
        if not hub.fetch_failed(error):
            raise HafError(
                f"--iqa {name}: its weights file in pyiqa's cache, {pyiqa.utils.download_util.DEFAULT_CACHE_DIR}, is "
                f"damaged or would run code, and was refused ({type(error).__name__}); delete it."
            ) from error
        raise Unavailable(
            f"The weights of the metric {name} are not on this machine and cannot be fetched "
            f"({type(error).__name__}); connect to the network once, or use --iqa piqe, which needs none."
        ) from error
    return IqaScorer(metric, name, device)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
