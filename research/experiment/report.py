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
from kept import LABELS, PICTURE, VALUES
from plan import BASE, LAST, Plan

from hafbench.files import write_whole

METRICS = ("clip", "iqa")


def write(plan: Plan, methods: Sequence[str], docs: Path | None, kept: Sequence[Path]) -> None:
    """All of it; the pictures, and the labels and sheets with whose pictures they were, also into `docs`.

    `kept` are folders that were `docs` of other reports: their methods are told beside those that are here.
    """
    found = find(plan, methods, kept)
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
        if best in found.methods and len(found.methods) > 1:
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
    values(found, drawn).to_csv(out / VALUES, index=False, float_format="%.5g", compression=gzip)
    if docs:
        docs.mkdir(parents=True, exist_ok=True)
        for made in sorted([*out.glob("*.png"), *out.glob("*.csv.gz")]):
            shutil.copyfile(made, docs / made.name)
        if (own := labels.read(plan)) is not None:
            own.to_csv(docs / LABELS, index=False)
            labels.copy_sheets(plan, docs / "sheets")
    print(text)


def values(found: Found, drawn: front.Curves | None) -> pd.DataFrame:
    """A row for each picture of the base and the methods that are here: whose it is, and what was measured of it.

    error (1, 0, or NaN: not judged) and chance are the judge's; clip and iqa are scores; drift is that of pixels, by
    `measures.drift`, and NaN for the base. Of points of the front but the last only error and drift are told.
    """
    parts = []
    for name, runs in {BASE: (found.base,), **found.runs}.items():
        records = pd.concat([run.records for run in runs])
        scores = records[records["scorer"].isin(METRICS)].pivot(
            index=["prompt_id", "seed"], columns="scorer", values="value"
        )
        own = found.verdicts[name][["error", "chance"]].join(scores)
        if name in found.runs:
            own["drift"] = measures.drifts(found.base, runs, found.plan.out)[front.MEASURE]
        parts.append(own.reset_index().assign(name=name, point=LAST.name))
        others = drawn.places.get(name, ()) if drawn else ()
        for place in (one for one in others if one.point != LAST):
            own = pd.DataFrame({"error": place.errors, "drift": place.drift})
            parts.append(own.reset_index().assign(name=name, point=place.point.name))
    columns = ["name", "point", *PICTURE, "error", "chance", *METRICS, "drift"]
    return pd.concat(parts).reindex(columns=columns).sort_values(columns[:4])
