"""DIR/report/: tables.md, the pictures' values and the plots, from whatever fits, runs and labels are there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import drawing
import front
import labels
import measures
import pandas as pd
import tables
from found import Found, find
from plan import Plan

from hafbench.files import write_whole

METRICS = ("clip", "iqa")


def write(plan: Plan, methods: Sequence[str], docs: Path | None) -> None:
    """All of it; the pictures, and the labels and sheets with whose pictures they were, also into `docs`."""
    found = find(plan, methods)
    out = plan.out / "report"
    out.mkdir(exist_ok=True)
    parts = ["## Errors", tables.errors(found), tables.halved(found)]
    if found.eye is not None:
        parts += [tables.agreement(found), tables.flagged(found), tables.kinds(found)]
        parts += [tables.tints(found)] if (found.eye["kind"] == labels.TINT).any() else []
    if drawn := front.curves(found):
        parts += ["## Error against drift", tables.fronts(drawn), tables.less_change(drawn)]
        parts += [tables.off_the_front(drawn, name) for name in ("asap-guard", "asap") if name in drawn.places]
        front.draw(drawn, out)
    for best in ("ours", "asap"):
        if best in found.runs and len(found.runs) > 1:
            parts += [f"## The others against {best}", tables.beaten(found, best)]
    parts += ["## The rest of the pictures", tables.quality(found, tables.pooled(found))]
    if (plan.out / "tuning.json").exists():
        parts += ["## Tuning", tables.tuning(found)]
    text = "\n\n".join(parts) + "\n"
    write_whole(out / "tables.md", text)
    drawing.forest(found, out)
    drawing.curves(found, out)
    drawing.grid(found, out)
    gzip = {"method": "gzip", "mtime": 0}
    values(found).to_csv(out / "pictures.csv.gz", index=False, float_format="%.5g", compression=gzip)
    if docs:
        docs.mkdir(parents=True, exist_ok=True)
        for made in sorted([*out.glob("*.png"), *out.glob("*.csv.gz")]):
            shutil.copyfile(made, docs / made.name)
        if found.eye is not None:
            found.eye.to_csv(docs / "labels.csv", index=False)
            labels.copy_sheets(plan, docs / "sheets")
    print(text)


def values(found: Found) -> pd.DataFrame:
    """A row for each picture of the base and the methods: name, prompt_id, seed, and what was measured of it.

    error (1, 0, or NaN: not judged) and chance are the judge's; clip and iqa are scores; drift is that of pixels, by
    `measures.drift`, and NaN for the base.
    """
    parts = []
    for name in found.names:
        runs = found.runs.get(name, (found.base,))
        records = pd.concat([run.records for run in runs])
        scores = records[records["scorer"].isin(METRICS)].pivot(
            index=["prompt_id", "seed"], columns="scorer", values="value"
        )
        own = found.verdicts[name][["error", "chance"]].join(scores)
        if name in found.runs:
            own["drift"] = measures.drifts(found.base, runs, found.plan.out)[front.MEASURE]
        parts.append(own.reset_index().assign(name=name))
    columns = ["name", "prompt_id", "seed", "error", "chance", *METRICS, "drift"]
    return pd.concat(parts).reindex(columns=columns).sort_values(columns[:3])
