"""From a finished run to its leaderboard entry, and into a folder of entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.cards import cards_of, source_of
from hafbench.errors import HafError
from hafbench.files import disk_errors, slug, write_whole
from hafbench.images import sha256_of
from hafbench.leaderboard.checks import clashes, problems_of, validate
from hafbench.leaderboard.entries import (
    ABSENT,
    ERROR,
    FORMAT,
    SOUND,
    UNJUDGED,
    CardFacts,
    Entry,
    RateFigure,
    check_entry,
    parse_entry,
    sha256_of_prompts,
)
from hafbench.leaderboard.pairs import read_pairs
from hafbench.leaderboard.people import people_facts
from hafbench.provenance import local_paths, without_folders
from hafbench.suites import CATEGORIES

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.cards import CalibrationCard
    from hafbench.runs import Run


def make_entry(
    run: Run,
    by: str,
    *,
    model: str | None = None,
    link: str | None = None,
    licence: str | None = None,
    pairs: Sequence[Path] = (),
    labels: Sequence[Path] = (),
    rater_names: bool = False,
) -> Entry:
    """The entry of a finished run; `pairs` are folders of comparisons in which judges were asked about its images.

    `labels` are stores of people's labels, whose names are in the entry only with `rater_names`. Raises HafError for a
    run that cannot be ranked, for a comparison without its judged pairs, for stores without labels of the run, and for
    texts that do not fit.
    """
    from hafbench.figures import TOGETHER, all_figures, category_figures, metrics_of, together
    from hafbench.notes import left_out

    if not together(run.manifest.scorers):
        why = " ".join(left_out(run.manifest.scorers))
        raise HafError(f"{run.address} has no anatomy scorer, by which a leaderboard ranks. {why}".strip())
    named = {
        name: metric.rows
        for name, metric in metrics_of(run).items()
        if metric.facts.role == "anatomy" and not metric.facts.unavailable
    }
    first = next(iter(named.values()))
    if first["prompt_id"].isna().any():
        raise HafError(f"{run.address} has images without a prompt; score them with --prompts, so that all have one.")
    if first["is_error"].isna().all():
        raise HafError(f"{run.address}: no image could be judged, so there is nothing to rank.")
    words, seeds = _words(run, named)
    figures = {one.scorer: one for one in all_figures(run)}
    categories = category_figures(run)
    cards, source = cards_of(run), source_of(run)

    def facts(name: str) -> dict[str, Any]:
        one = run.manifest.scorers.get(name, TOGETHER)
        # A version names what the settings have, such as a judge's model.
        folders = {path: Path(path).name for path in local_paths(dict(one.settings))}
        version = one.version
        for path in sorted(folders, key=len, reverse=True):
            version = version and version.replace(path, folders[path])
        return {"version": version, "settings": without_folders(dict(one.settings)), "weights": one.weights}

    def counting(name: str) -> dict[str, Any]:
        return {**facts(name), "left_out": run.manifest.scorers.get(name, TOGETHER).left_out}

    anatomy = {
        name: {
            **counting(name),
            "rate": _rate(figures[name].rate),
            "by_category": {
                category: _rate(one.rate) for category, own in categories.items() for one in own if one.scorer == name
            },
            "corrected": asdict(corrected) if (corrected := figures[name].corrected) else None,
            "card": _card(cards[name], source, facts(name)["version"]) if name in cards else None,
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
    machine = run.manifest.machine
    records_sha256 = sha256_of(run.table)
    places, ranked = _places(first, seeds), words[next(iter(named))]
    return check_entry(
        {
            "format": FORMAT,
            "model": {
                "name": model or run.manifest.name,
                "link": link,
                "licence": licence,
                "settings": without_folders(dict(run.manifest.generator.settings)) if run.manifest.generator else {},
            },
            "suite": _suite(run, first, seeds),
            "ranked_by": next(iter(named)),
            "anatomy": anatomy,
            "quality": quality,
            "pairs": [one for page in pairs for one in read_pairs(page, records_sha256, places)],
            "people": people_facts(run, labels, ranked, places, names=rater_names) if labels else None,
            "notes": run.manifest.notes,
            "made": {
                "by": by,
                "date": datetime.now(UTC).date().isoformat(),
                "hafbench": run.manifest.versions.get("hafbench", ""),
                "git": run.manifest.git,
                "hardware": machine.gpu or machine.processor,
                "records_sha256": records_sha256,
            },
        },
        run.address,
    )


def write_entry(entry: Entry, folder: Path) -> Path:
    """Write the entry into `folder`, whole or not at all; raises HafError for one that `validate` would refuse."""
    text = entry.model_dump_json(indent=1) + "\n"
    path = folder / f"{slug(f'{entry.model.name}_{entry.suite.name}')}_{entry.made.records_sha256[:8]}.json"
    if path.exists():
        raise HafError(f"{path} is already the entry of this run; delete it to make a new one.")
    read = parse_entry(text.encode(), str(path))
    for problem in (*problems_of(read), *clashes(read, validate(folder)[0])):
        raise HafError(f"{path} was not written: {problem}")
    with disk_errors(folder):
        return write_whole(path, text)


def _rate(rate: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(rate).items() if key in RateFigure.model_fields}


def _card(card: CalibrationCard, source: str | None, version: str | None) -> dict[str, Any]:
    kept = card.model_dump(include=set(CardFacts.model_fields))
    return {**kept, "scorer_version": version, "same_pictures": card.source is not None and card.source == source}


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
        missing = rows["cause"].astype(object).map({"absent": ABSENT}).fillna(UNJUDGED)
        letters = (
            rows["is_error"].map({True: ERROR, False: SOUND}).astype(object).where(rows["is_error"].notna(), missing)
        )
        table = _in_order(pd.DataFrame({"prompt": rows["prompt_id"], "seed": rows["seed"], "letter": letters}), seeds)
        words[name] = {str(prompt): "".join(part) for prompt, part in table.groupby("prompt", sort=True)["letter"]}
    return words, seeds


def _places(rows: pd.DataFrame, seeds: list[int] | None) -> dict[str, tuple[str, int]]:
    """By image its prompt, and the place of its letter in the prompt's word."""
    table = _in_order(rows, seeds)
    places = table.groupby("prompt_id").cumcount()
    return {
        str(image): (str(prompt), int(place))
        for image, prompt, place in zip(table["image"], table["prompt_id"], places, strict=True)
    }


def _in_order(rows: pd.DataFrame, seeds: list[int] | None) -> pd.DataFrame:
    """The rows in the order of the letters of words."""
    return rows if seeds is None else rows.sort_values("seed", kind="stable")


def _suite(run: Run, rows: pd.DataFrame, seeds: list[int] | None) -> dict[str, Any]:
    prompts = rows.drop_duplicates("prompt_id")
    texts = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    name = run.manifest.suite.name if run.manifest.suite else _known_suite(texts)
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
