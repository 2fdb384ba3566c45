"""Which images a report shows, in which order, and what it says of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hafbench.reports.overlays import Thumbnails, thumbnails

if TYPE_CHECKING:
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
    """One image with all its scores; `pictures` is None if the file cannot be read."""

    image: str
    prompt: str | None
    category: str | None
    seed: int | None
    scores: tuple[ImageScore, ...]
    kinds: tuple[str, ...]
    pictures: Thumbnails | None

    @property
    def labels(self) -> list[str]:
        """What the filters look for: SCORER:JUDGEMENT for each score, and any:JUDGEMENT for the image as a whole."""
        anatomy = {score.judgement for score in self.scores if score.role == "anatomy"}
        whole = "error" if "error" in anatomy else "sound" if "sound" in anatomy else "unjudged"
        own = [f"{score.scorer}:{score.judgement}" for score in self.scores]
        missing = {score.judgement for score in self.scores} - {"error", "sound", "scored"}
        return [f"any:{name}" for name in (whole, *sorted(missing))] + own


def gallery_items(run: Run, size: int = GALLERY_SIZE, limit: int = PAGE_CHARACTERS) -> tuple[list[GalleryItem], int]:
    """The worst images first, then the sound, then the unjudged; and how many more there are.

    At most `size` images, whose pictures are at most `limit` characters together.
    """
    roles = {name: facts.role for name, facts in run.manifest.scorers.items()}
    ranked = []
    for _, rows in run.records.groupby("image", sort=False):
        scores = tuple(_score(row, roles) for row in rows.to_dict("records"))
        worst = max((s.value for s in scores if s.role == "anatomy" and s.value is not None), default=-1.0)
        ranked.append((not any(s.judgement == "error" for s in scores), -worst, scores, rows.iloc[0]))
    ranked.sort(key=lambda entry: entry[:2])
    items: list[GalleryItem] = []
    characters = 0
    for _, _, scores, first in ranked[:size]:
        item = _item(run, scores, first)
        characters += item.pictures.characters if item.pictures else 0
        if items and characters > limit:
            break
        items.append(item)
    return items, len(ranked) - len(items)


def _score(row: Mapping[Any, Any], roles: Mapping[str, str]) -> ImageScore:
    import pandas as pd

    verdict = None if pd.isna(row["is_error"]) else bool(row["is_error"])
    judged = {None: row["status"], True: "error", False: "sound"}
    return ImageScore(
        scorer=row["scorer"],
        role=roles[row["scorer"]],
        judgement=judged[verdict],
        value=None if pd.isna(row["value"]) else float(row["value"]),
        reason=row["reason"] if isinstance(row["reason"], str) else None,
        findings=tuple(row["findings"]),
    )


def _item(run: Run, scores: Sequence[ImageScore], first: Any) -> GalleryItem:
    import pandas as pd

    findings = [finding for score in scores for finding in score.findings]
    return GalleryItem(
        image=str(first["image"]),
        prompt=first["prompt"] if isinstance(first["prompt"], str) else None,
        category=first["category"] if isinstance(first["category"], str) else None,
        seed=None if pd.isna(first["seed"]) else int(first["seed"]),
        scores=tuple(scores),
        kinds=kinds_of(findings),
        pictures=thumbnails(run.source, str(first["image"]), findings),
    )


def kinds_of(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The distinct "region kind" names, in the order of their first finding."""
    return tuple(dict.fromkeys(f"{finding.region} {finding.kind}" for finding in findings))
