"""DIR/report/: tables.md and the pictures, from whatever fits, runs and labels are there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import drawing
import front
import labels
import tables
from found import find
from plan import Plan

from hafbench.files import write_whole


def write(plan: Plan, methods: Sequence[str], docs: Path | None) -> None:
    """All of it; the pictures, and the labels and sheets with whose pictures they were, also into `docs`."""
    found = find(plan, methods)
    out = plan.out / "report"
    out.mkdir(exist_ok=True)
    parts = ["## Errors", tables.errors(found), tables.halved(found)]
    if found.eye is not None:
        parts += [tables.agreement(found), tables.flagged(found), tables.kinds(found)]
    if made := front.curves(found):
        parts += ["## Error against drift", tables.fronts(made), tables.less_change(made)]
        parts += [tables.off_the_front(made, name) for name in ("asap-guard", "asap") if name in made.places]
        front.draw(made, out)
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
    if docs:
        docs.mkdir(parents=True, exist_ok=True)
        for picture in sorted(out.glob("*.png")):
            shutil.copyfile(picture, docs / picture.name)
        if found.eye is not None:
            found.eye.to_csv(docs / "labels.csv", index=False)
            labels.copy_sheets(plan, docs / "sheets")
    print(text)
