"""How much does a score move when it should not? `hafbench scorers check` measures it for each scorer.

Repetition, order and the images scored before must change nothing at all. What changes the pixels a little (JPEG, size,
flip, brightness) should change the score a little: the table says how much.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hafbench.errors import BadImage
from hafbench.images import load_image
from hafbench.suites import Prompt

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.types import Score, Scorer


# Photos have no prompt; clip needs one, and what it measures here is the image's side of the cosine.
PROMPT = Prompt(id="check", text="a photo of a person")


@dataclass(frozen=True)
class RobustnessRow:
    """One line of the table: a scorer under one change, over the images that could be judged before and after.

    `mean_shift` and `largest_shift` are of |value after - value before|, in the scorer's own units; `relative_shift`
    is the mean shift over the standard deviation of the values across images; `flipped` is the share of verdicts that
    changed (None for quality scorers); `lost` and `gained` count images that became or ceased to be unknown.
    """

    scorer: str
    change: str
    images: int
    compared: int
    mean_shift: float | None
    largest_shift: float | None
    relative_shift: float | None
    flipped: float | None
    lost: int
    gained: int


def _jpeg(quality: int) -> Callable[[Image], Image]:
    def change(image: Image) -> Image:
        from PIL import Image as PILImage

        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=quality)
        return PILImage.open(buffer).convert("RGB")

    return change


def _brightness(factor: float) -> Callable[[Image], Image]:
    return lambda image: image.point(lambda value: min(255, round(value * factor)))


def _resized(image: Image) -> Image:
    from PIL import Image as PILImage

    return image.resize((round(image.width * 0.9), round(image.height * 0.9)), PILImage.Resampling.LANCZOS)


def _flipped(image: Image) -> Image:
    from PIL import ImageOps

    return ImageOps.mirror(image)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "JPEG 95": _jpeg(95),
    "JPEG 75": _jpeg(75),
    "resize to 90 %": _resized,
    "horizontal flip": _flipped,
    "brightness +10 %": _brightness(1.1),
    "brightness -10 %": _brightness(0.9),
}


def check(scorer: Scorer, paths: Sequence[Path]) -> list[RobustnessRow]:
    """Score every image under every change, with PROMPT; images that cannot be read are left out."""
    images = []
    for path in paths:
        try:
            images.append(load_image(path))
        except BadImage:
            continue
    before = _score_all(scorer, images)
    after = {
        "repeat": _score_all(scorer, images),
        "reversed order": _score_all(scorer, images[::-1])[::-1],
        "among other images": _score_among_others(scorer, images),
        **{name: _score_all(scorer, [change(image) for image in images]) for name, change in CHANGES.items()},
    }
    return [_compare(scorer.name, name, before, scores) for name, scores in after.items()]


def _score_all(scorer: Scorer, images: Sequence[Image]) -> list[Score]:
    import numpy as np

    return [scorer.score(np.asarray(image), PROMPT) for image in images]


def _score_among_others(scorer: Scorer, images: Sequence[Image]) -> list[Score]:
    """Each image right after another one, which it must not remember: the mirrored image of its neighbour."""
    scores = []
    for index, image in enumerate(images):
        _score_all(scorer, [_flipped(images[index - 1])])
        scores += _score_all(scorer, [image])
    return scores


def _compare(scorer: str, change: str, before: Sequence[Score], after: Sequence[Score]) -> RobustnessRow:
    import numpy as np

    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b.value is not None and a.value is not None]
    values = np.array([[b.value, a.value] for b, a in pairs], dtype=np.float64).reshape(-1, 2)
    shifts = np.abs(values[:, 1] - values[:, 0])
    deviation = float(values[:, 0].std(ddof=1)) if len(pairs) > 1 else 0.0
    verdicts = [b.is_error != a.is_error for b, a in pairs if b.is_error is not None and a.is_error is not None]
    return RobustnessRow(
        scorer=scorer,
        change=change,
        images=len(before),
        compared=len(pairs),
        mean_shift=float(shifts.mean()) if len(pairs) else None,
        largest_shift=float(shifts.max()) if len(pairs) else None,
        relative_shift=float(shifts.mean()) / deviation if deviation > 0 else None,
        flipped=sum(verdicts) / len(verdicts) if verdicts else None,
        lost=sum(b.value is not None and a.value is None for b, a in zip(before, after, strict=True)),
        gained=sum(b.value is None and a.value is not None for b, a in zip(before, after, strict=True)),
    )


def to_markdown(rows: Sequence[RobustnessRow]) -> str:
    """The rows as a Markdown table."""
    head = "scorer | change | compared | mean shift | largest | mean / SD | verdicts flipped | lost | gained"
    lines = [f"| {head} |", "|" + "---|" * 9]
    for row in rows:
        cells = [
            *(row.scorer, row.change, f"{row.compared} of {row.images}"),
            *(_number(value) for value in (row.mean_shift, row.largest_shift, row.relative_shift)),
            "-" if row.flipped is None else f"{row.flipped:.1%}",
            *(str(row.lost), str(row.gained)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def to_json(rows: Sequence[RobustnessRow]) -> str:
    """The rows as a JSON list."""
    return json.dumps([asdict(row) for row in rows], indent=2)
