"""A leaderboard entry: what a run found, in one JSON file, with the verdicts that its figures follow from.

The published schema is leaderboards/schema/entry.json; docs/leaderboard.md explains the fields.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints, ValidationError

from hafbench.cards import Frozen, Share, cards_of, source_of
from hafbench.errors import HafError, first_problem
from hafbench.images import sha256_of
from hafbench.suites import CATEGORIES, ID_PATTERN

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.cards import CalibrationCard
    from hafbench.runs import Run

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=500)]
PromptId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Word = Annotated[str, StringConstraints(pattern=r"^[esu]+$")]

ERROR, SOUND, UNJUDGED = "e", "s", "u"


class RateFigure(Frozen):
    """An error rate with its 95 % interval, which knows that images of a prompt are alike.

    `wilson_low` and `wilson_high` take images as independent; `lowest` and `highest` are the rates with every image
    that was not judged counted as sound, and as an error.
    """

    errors: int = Field(ge=0)
    scored: int = Field(ge=0)
    total: int = Field(ge=0)
    estimate: float | None
    low: float | None
    high: float | None
    wilson_low: float | None
    wilson_high: float | None
    lowest: float | None
    highest: float | None


class MeanFigure(Frozen):
    """A mean of `n` images with its 95 % interval."""

    n: int = Field(ge=0)
    estimate: float | None
    low: float | None
    high: float | None


class CorrectedFigure(Frozen):
    """A rate corrected for the scorer's mistakes by its card; `reason` says why there is none, or what limits it."""

    estimate: float | None
    low: float | None
    high: float | None
    reason: str | None


class CardFacts(Frozen):
    """What a calibration card says of a scorer; `same_pictures` is whether it was made on this model's pictures."""

    scorer_version: str
    date: str
    made_on: str
    sha256: Sha256
    bad: int
    good: int
    sensitivity: Share
    specificity: Share
    auroc: Share
    same_pictures: bool


class Anatomy(Frozen):
    """An anatomy scorer, or all of them together: its verdicts, and the rates that follow from them.

    `verdicts` has a word for each prompt, a letter for each of the suite's seeds: e an error, s sound, u not judged.
    """

    version: str | None
    settings: Mapping[str, Any]
    weights: Mapping[str, str]
    rate: RateFigure
    by_category: Mapping[str, RateFigure]
    corrected: CorrectedFigure | None
    card: CardFacts | None
    verdicts: Mapping[PromptId, Word]


class Quality(Frozen):
    """A quality scorer and its mean."""

    version: str | None
    settings: Mapping[str, Any]
    weights: Mapping[str, str]
    higher_is_better: bool | None
    mean: MeanFigure


class ModelFacts(Frozen):
    """The model and how it was sampled; `settings` is empty for images made elsewhere."""

    name: Text
    link: Url | None
    licence: Text | None
    settings: Mapping[str, Any]


class SuiteFacts(Frozen):
    """The prompts that were judged: `sha256` is of their ids and texts (`sha256_of_prompts`).

    `seeds` are those that every prompt was drawn with, in the order of the words; None where images have no seed.
    """

    name: Text
    sha256: Sha256
    prompts: int = Field(ge=1)
    images: int = Field(ge=1)
    seeds: tuple[int, ...] | None
    categories: Mapping[str, tuple[PromptId, ...]]


class Made(Frozen):
    """Who ran it, when, and with what. `records_sha256` is of the run's records.parquet."""

    by: Text
    date: str
    hafbench: str
    git: str | None
    hardware: str
    records_sha256: Sha256


class Entry(Frozen):
    """One file of a leaderboard. `ranked_by` names the anatomy measure that ranks: the first one."""

    format: int = Field(ge=1, le=1)
    model: ModelFacts
    suite: SuiteFacts
    ranked_by: str
    anatomy: Mapping[str, Anatomy]
    quality: Mapping[str, Quality]
    notes: tuple[str, ...]
    made: Made

    @property
    def table(self) -> str:
        """Entries with the same value were made with the same prompts and the same anatomy scorers."""
        judges = {name: [one.version, dict(one.settings), dict(one.weights)] for name, one in self.anatomy.items()}
        return _digest([self.suite.sha256, self.ranked_by, judges])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256_of_prompts(texts: Mapping[str, str]) -> str:
    """A hash of prompt ids and their texts, whatever their order and wherever they came from."""
    return _digest(sorted(texts.items()))


def make_entry(
    run: Run, by: str, *, model: str | None = None, link: str | None = None, licence: str | None = None
) -> Entry:
    """The entry of a finished run; raises HafError for a run that cannot be ranked, and for texts that do not fit."""
    from hafbench.figures import all_figures, category_figures, measures

    every = measures(run)
    named = {
        name: rows
        for name, (rows, about) in every.items()
        if about["role"] == "anatomy" and not run.manifest["scorers"].get(name, {}).get("unavailable")
    }
    if not named:
        raise HafError(f"{run.folder} has no anatomy scorer, by which a leaderboard ranks.")
    first = next(iter(named.values()))
    if first["prompt_id"].isna().any():
        raise HafError(f"{run.folder} has images without a prompt; score them with --prompts, so that all have one.")
    if first["is_error"].isna().all():
        raise HafError(f"{run.folder}: no image could be judged, so there is nothing to rank.")
    words, seeds = _words(run, named)
    figures = {one.scorer: one for one in all_figures(run)}
    categories = category_figures(run)
    cards, source = cards_of(run), source_of(run.manifest)

    def facts(name: str) -> dict[str, Any]:
        about = run.manifest["scorers"].get(name, {})
        return {key: about.get(key) or empty for key, empty in (("version", None), ("settings", {}), ("weights", {}))}

    anatomy = {
        name: {
            **facts(name),
            "rate": _rate(figures[name].rate),
            "by_category": {
                category: _rate(one.rate) for category, own in categories.items() for one in own if one.scorer == name
            },
            "corrected": asdict(corrected) if (corrected := figures[name].corrected) else None,
            "card": _card(cards[name], source) if name in cards else None,
            "verdicts": words[name],
        }
        for name in named
    }
    quality = {
        one.scorer: {
            **facts(one.scorer),
            "higher_is_better": one.higher_is_better,
            "mean": asdict(one.mean),
        }
        for one in figures.values()
        if one.mean and one.mean.n
    }
    machine = run.manifest["machine"]
    return _entry(
        {
            "format": 1,
            "model": {
                "name": model or run.manifest["name"],
                "link": link,
                "licence": licence,
                "settings": _settings(run.manifest["request"].get("generator", {})),
            },
            "suite": _suite(run, first, seeds),
            "ranked_by": next(iter(named)),
            "anatomy": anatomy,
            "quality": quality,
            "notes": run.manifest.get("notes", []),
            "made": {
                "by": by,
                "date": datetime.now(UTC).date().isoformat(),
                "hafbench": run.manifest["versions"]["hafbench"],
                "git": run.manifest["git"],
                "hardware": machine["gpu"] or machine["processor"],
                "records_sha256": sha256_of(run.folder / "records.parquet"),
            },
        },
        str(run.folder),
    )


def _entry(values: Any, where: str) -> Entry:
    try:
        return Entry.model_validate(values)
    except ValidationError as error:
        raise HafError(f"{where}: this is not a leaderboard entry: {first_problem(error)}.") from error


def _rate(rate: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(rate).items() if key in RateFigure.model_fields}


def _card(card: CalibrationCard, source: str | None) -> dict[str, Any]:
    kept = card.model_dump(include=set(CardFacts.model_fields))
    return {**kept, "same_pictures": card.source is not None and card.source == source}


def _settings(generator: Mapping[str, Any]) -> dict[str, Any]:
    """How the model was sampled, without the place of a local copy, which may name a person."""
    settings = {key: value for key, value in generator.items() if key != "name"}
    if "model" in settings:
        start, equals, path = str(settings["model"]).rpartition("=")
        settings["model"] = start + equals + (Path(path).name if Path(path).is_absolute() else path)
    return settings


def _words(run: Run, named: Mapping[str, pd.DataFrame]) -> tuple[dict[str, dict[str, str]], list[int] | None]:
    """Each measure's verdicts as a word a prompt, and the seeds that their letters stand for, if every prompt has them.

    Images without seeds, or with others for each prompt, stand in the order of the records.
    """
    import pandas as pd

    first = next(iter(named.values()))
    seeds = None
    if first["seed"].notna().all():
        own = first.groupby("prompt_id")["seed"].apply(lambda column: tuple(sorted(int(seed) for seed in column)))
        alike = set(own)
        if len(alike) == 1 and len(set(next(iter(alike)))) == len(next(iter(alike))):
            seeds = list(next(iter(alike)))
    words = {}
    for name, rows in named.items():
        letters = (
            rows["is_error"].map({True: ERROR, False: SOUND}).astype(object).where(rows["is_error"].notna(), UNJUDGED)
        )
        table = pd.DataFrame({"prompt": rows["prompt_id"], "seed": rows["seed"], "letter": letters})
        if seeds is not None:
            table = table.sort_values("seed", kind="stable")
        words[name] = {str(prompt): "".join(part) for prompt, part in table.groupby("prompt", sort=True)["letter"]}
    return words, seeds


def _suite(run: Run, rows: pd.DataFrame, seeds: list[int] | None) -> dict[str, Any]:
    prompts = rows.drop_duplicates("prompt_id")
    texts = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    asked = run.manifest["request"].get("suite")
    name = asked["name"] if asked else _known_suite(texts)
    return {
        "name": name,
        "sha256": sha256_of_prompts(texts),
        "prompts": len(texts),
        "images": len(rows),
        "seeds": seeds,
        "categories": {
            category: sorted(prompts["prompt_id"][prompts["category"] == category])
            for category in CATEGORIES
            if (prompts["category"] == category).any()
        },
    }


def _known_suite(texts: Mapping[str, str]) -> str:
    """The packaged suite that has these prompts, for a folder of images made elsewhere."""
    from hafbench.suites import load_suite, suite_names

    digest = sha256_of_prompts(texts)
    for name in suite_names():
        if sha256_of_prompts({prompt.id: prompt.text for prompt in load_suite(name).prompts}) == digest:
            return name
    return "prompts of one's own"


def write_entry(entry: Entry, folder: Path) -> Path:
    """Write the entry into `folder`, whole or not at all; raises HafError if the same run has one there."""
    from hafbench.bench import slug
    from hafbench.runs import disk_errors

    digest = entry.made.records_sha256
    path = folder / f"{slug(f'{entry.model.name}_{entry.suite.name}')}_{digest[:8]}.json"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise HafError(f"{path} is the entry of this run already; delete it to make it anew.")
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(entry.model_dump_json(indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    return path


def read_entry(path: Path) -> Entry:
    """Read an entry; raises HafError if it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HafError(f"{path}: the entry cannot be read ({error}).") from error
    return _entry(values, str(path))


def schema() -> str:
    """The published JSON schema of an entry."""
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Entry.model_json_schema()}
    return json.dumps(made, indent=1) + "\n"
