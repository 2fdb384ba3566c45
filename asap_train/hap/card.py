"""What a data set holds, counted, and its card: README.md with the YAML that a hub reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asap_train.types import SPLITS
from hafbench.figures import count_alike

if TYPE_CHECKING:
    from asap_train.hap import Rejection

COUNTED = ("split", "region", "kind", "detail", "family")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
UNKNOWN = "unknown"
"""A region or kind that an imported pair does not say."""


def describe(
    folder: Path, shards: Mapping[str, Any], rejected: Iterable[Rejection], items: int
) -> dict[str, dict[str, Any]]:
    """The entries `counts`, `skipped` and `rejections` of hap.json, from all shards and the journal.

    `skipped` and `rejections` are by gate: the number, and the reasons with how often each was given. Reasons that
    differ only in numbers are one.
    """
    from asap_train.hap.read import table_of

    counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    sources: set[str] = set()
    skipped: dict[str, Counter[str]] = {}
    for name in sorted(shards):
        table = table_of(folder / name, [*COUNTED, "source", "skipped"])
        for column, counter in counts.items():
            counter.update(UNKNOWN if value is None else value for value in table[column])
        sources.update(table["source"])
        for text in table["skipped"]:
            for gate, reason in json.loads(text).items():
                skipped.setdefault(gate, Counter())[reason] += 1
    reasons: dict[str, list[str]] = {}
    for gate, reason in rejected:
        reasons.setdefault(gate, []).append(reason)
    pairs = sum(about["rows"] for about in shards.values())
    return {
        "counts": {
            "items": items,
            "pairs": pairs,
            "photos": len(sources),
            "rejected": sum(map(len, reasons.values())),
            **{name: dict(counter.most_common()) for name, counter in counts.items()},
        },
        "skipped": {
            gate: {"pairs": counter.total(), "reasons": dict(counter.most_common(10))}
            for gate, counter in sorted(skipped.items())
        },
        "rejections": {
            gate: {"count": len(texts), "reasons": dict(count_alike(texts)[:10])}
            for gate, texts in sorted(reasons.items(), key=lambda entry: -len(entry[1]))
        },
    }


def write_card(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write README.md."""
    from asap_train.page import render_text
    from hafbench.files import write_whole

    details = manifest["details"]
    text = render_text(
        "hap_card.md",
        front=_front_matter(manifest),
        title=details.get("title", "Human anatomical preference pairs"),
        about=details.get("about", []),
        weights=details.get("weights", {}),
        licence=details.get("licence", "unknown"),
        manifest=manifest,
        counted=COUNTED[1:],
        settings=json.dumps(manifest["request"], indent=2, ensure_ascii=False),
    )
    write_whole(folder / "README.md", text)


def _front_matter(manifest: Mapping[str, Any]) -> str:
    from huggingface_hub import DatasetCardData

    details, pairs = manifest["details"], manifest["counts"]["pairs"]
    there = {about["split"] for about in manifest["shards"].values()}
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in SPLITS if split in there]
    data = DatasetCardData(
        license=details.get("licence", "unknown"),
        pretty_name=details.get("title", "Human anatomical preference pairs"),
        task_categories=["text-to-image"],
        size_categories=[next((name for most, name in SIZES if pairs < most), "n>1M")],
        tags=["preference-pairs", "dpo", "human-anatomy", "text-to-image"],
        configs=[{"config_name": "default", "data_files": files}],
    )
    return str(data.to_yaml())
