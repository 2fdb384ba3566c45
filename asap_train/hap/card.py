"""What a data set holds, counted, and its card: README.md with the YAML that a hub reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from asap_train.hap.manifest import Counts, HapManifest, Rejected, Shard, Skipped
from asap_train.types import SPLITS
from hafbench.figures import count_alike

if TYPE_CHECKING:
    from asap_train.hap import Rejection

TITLE = "Human anatomical preference pairs"
COUNTED = ("split", "region", "kind", "detail", "family")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
UNKNOWN = "unknown"
"""A region or kind that an imported pair does not say."""


def describe(
    folder: Path, shards: Mapping[str, Shard], rejected: Iterable[Rejection], items: int
) -> dict[str, Counts | dict[str, Skipped] | dict[str, Rejected]]:
    """The entries `counts`, `skipped` and `rejections` of hap.json, from all shards and the journal.

    Reasons that differ only in numbers are one.
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
    return {
        "counts": Counts(
            items=items,
            pairs=sum(shard.rows for shard in shards.values()),
            photos=len(sources),
            rejected=sum(map(len, reasons.values())),
            **{name: dict(counter.most_common()) for name, counter in counts.items()},
        ),
        "skipped": {
            gate: Skipped(counter.total(), dict(counter.most_common(10))) for gate, counter in sorted(skipped.items())
        },
        "rejections": {
            gate: Rejected(len(texts), dict(count_alike(texts)[:10]))
            for gate, texts in sorted(reasons.items(), key=lambda entry: -len(entry[1]))
        },
    }


def write_card(folder: Path, manifest: HapManifest) -> None:
    """Write README.md."""
    from asap_train.page import render_text
    from hafbench.files import write_whole

    settings = manifest.model_dump(mode="json", include={"request", "facts", "split"})
    text = render_text(
        "hap_card.md",
        front=_front_matter(manifest),
        title=manifest.details.title or TITLE,
        manifest=manifest,
        counted=COUNTED[1:],
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
    )
    write_whole(folder / "README.md", text)


def _front_matter(manifest: HapManifest) -> str:
    from huggingface_hub import DatasetCardData

    details, pairs = manifest.details, manifest.counts.pairs
    there = {shard.split for shard in manifest.shards.values()}
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in SPLITS if split in there]
    data = DatasetCardData(
        license=details.licence,
        pretty_name=details.title or TITLE,
        task_categories=["text-to-image"],
        size_categories=[next((name for most, name in SIZES if pairs < most), "n>1M")],
        tags=["preference-pairs", "dpo", "human-anatomy", "text-to-image"],
        configs=[{"config_name": "default", "data_files": files}],
    )
    return str(data.to_yaml())
