"""Which images a report shows, in which order, and what it says of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from hafbench.figures import ANATOMY, together, whole_pictures
from hafbench.record_tables import findings_of
from hafbench.reports.overlays import Thumbnails, thumbnails

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.runs import Run
    from hafbench.types import Finding

GALLERY_SIZE = 200
PAGE_CHARACTERS = 13_000_000
"""Where the gallery stops, whatever the number of images, so that the page opens on a phone."""


@dataclass(frozen=True)
class ImageScore:
    """What one scorer says of an image; `judgement` is error, sound, or the status where there is no verdict."""

    scorer: str
    role: str
    judgement: str
    value: float | None
    reason: str | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class GalleryItem:
    """One image with all its scores; `pictures` is None if the file cannot be read.

    `together` is the judgement of all anatomy scorers that count together, where there are several.
    """

    image: str
    prompt: str | None
    category: str | None
    seed: int | None
    scores: tuple[ImageScore, ...]
    together: str | None
    kinds: tuple[str, ...]
    pictures: Thumbnails | None

    @property
    def labels(self) -> list[str]:
        """What the filters look for: SCORER:JUDGEMENT for each score, and any:JUDGEMENT for the image as a whole."""
        anatomy = {score.judgement for score in self.scores if score.role == "anatomy"}
        whole = "error" if "error" in anatomy else "sound" if "sound" in anatomy else "unjudged"
        own = [f"{score.scorer}:{score.judgement}" for score in self.scores]
        missing = {score.judgement for score in self.scores} - {"error", "sound", "scored"}
        headline = [f"{ANATOMY}:{self.together}"] if self.together else []
        return [f"any:{name}" for name in (whole, *sorted(missing))] + headline + own


@dataclass(frozen=True)
class Gallery:
    """What is shown: the worst images, then `drawn` ones at random from the others; `left_out` more are not."""

    items: tuple[GalleryItem, ...]
    drawn: int
    left_out: int


def make_gallery(run: Run, size: int = GALLERY_SIZE, limit: int = PAGE_CHARACTERS) -> Gallery:
    """The worst images first, then the sound, then the unjudged; where there are too many, a sample of the others, too.

    At most `size` images, whose pictures are at most `limit` characters together. A quarter of both is for the sample:
    images drawn at random, the same ones each time, and shown in the same order.
    """
    ranked = _ranked(run)
    chosen: list[tuple[pd.Index[Any], int]] = [(ranked, limit)]
    if len(ranked) > size:
        others = ranked[size - size // 4 :]
        places = sorted(Random(0).sample(range(len(others)), size // 4))  # noqa: S311 (no secret)
        chosen = [(ranked[: size - size // 4], limit - limit // 4), (others.take(places), limit // 4)]
    parts = [([str(image) for image in images], room) for images, room in chosen]
    wanted = [image for images, _ in parts for image in images]
    records, found = run.records[run.records["image"].isin(wanted)], findings_of(run.table, wanted)
    items = [_items(run, records[records["image"].isin(images)], found, images, room) for images, room in parts]
    drawn = len(items[1]) if len(items) > 1 else 0
    shown = tuple(item for part in items for item in part)
    return Gallery(shown, drawn, len(ranked) - len(shown))


def _ranked(run: Run) -> pd.Index[Any]:
    """The images with an error first, and those of a higher probability of one."""
    import numpy as np
    import pandas as pd

    records = run.records
    codes, images = pd.factorize(records["image"])
    anatomy = records["scorer"].isin([name for name, one in run.manifest.scorers.items() if one.role == "anatomy"])
    bad = np.bincount(codes, records["is_error"].fillna(False).to_numpy(dtype=bool), len(images)) > 0
    worst = np.full(len(images), -1.0)
    np.fmax.at(worst, codes, records["value"].where(anatomy).to_numpy(dtype=np.float64))
    return images[np.lexsort((-worst, ~bad))]


def _items(
    run: Run,
    records: pd.DataFrame,
    found: Mapping[tuple[str, str], Sequence[Finding]],
    images: Sequence[str],
    limit: int,
) -> list[GalleryItem]:
    """These images as they are shown, as long as their pictures are at most `limit` characters; one at least."""
    roles = {name: facts.role for name, facts in run.manifest.scorers.items()}
    rows: dict[str, list[Mapping[Any, Any]]] = {image: [] for image in images}
    for row in records.to_dict("records"):
        rows[row["image"]].append(row)
    names = together(run.manifest.scorers)
    headline = {}
    if len(names) > 1:
        several = whole_pictures(records, names)
        headline = {row["image"]: _judgement(row) for row in several.to_dict("records")}
    items: list[GalleryItem] = []
    characters = 0
    for image, own in rows.items():
        scores = tuple(_score(row, roles, found[image, row["scorer"]]) for row in own)
        item = _item(run, scores, headline.get(image), own[0])
        characters += item.pictures.characters if item.pictures else 0
        if items and characters > limit:
            break
        items.append(item)
    return items


def _judgement(row: Mapping[Any, Any]) -> str:
    import pandas as pd

    verdict = None if pd.isna(row["is_error"]) else bool(row["is_error"])
    return {None: str(row["status"]), True: "error", False: "sound"}[verdict]


def _score(row: Mapping[Any, Any], roles: Mapping[str, str], findings: Sequence[Finding]) -> ImageScore:
    import pandas as pd

    return ImageScore(
        scorer=row["scorer"],
        role=roles[row["scorer"]],
        judgement=_judgement(row),
        value=None if pd.isna(row["value"]) else float(row["value"]),
        reason=row["reason"] if isinstance(row["reason"], str) else None,
        findings=tuple(findings),
    )


def _item(run: Run, scores: Sequence[ImageScore], headline: str | None, first: Any) -> GalleryItem:
    import pandas as pd

    findings = [finding for score in scores for finding in score.findings]
    return GalleryItem(
        image=str(first["image"]),
        prompt=first["prompt"] if isinstance(first["prompt"], str) else None,
        category=first["category"] if isinstance(first["category"], str) else None,
        seed=None if pd.isna(first["seed"]) else int(first["seed"]),
        scores=tuple(scores),
        together=headline,
        kinds=kinds_of(findings),
        pictures=thumbnails(run.source, str(first["image"]), findings),
    )


def kinds_of(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The distinct "region kind" names, in the order of their first finding."""
    return tuple(dict.fromkeys(f"{finding.region} {finding.kind}" for finding in findings))
