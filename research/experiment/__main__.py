"""The controlled experiment: the same model tuned on the same pairs by every method, and what became of its errors.

    python research/experiment tune   --out DIR --pairs HAP      settings tried on the suite's selection prompts
    python research/experiment make   --out DIR --pairs HAP      the fits, and runs on the held-out prompts
    python research/experiment sheets --out DIR                  numbered pictures, to be labelled by eye
    python research/experiment report --out DIR [--docs DOCS]    tables and pictures from what is there

Run a command again to resume it. Every method has the same pairs in the same order, the same steps and batch, and as
many settings tried. Base and fits then draw the same prompts from the same noise.

    DIR/tuning/fits, tuning/runs, tuning.json     what was tried, and what was chosen by it
    DIR/fits/METHOD-SEED, runs/base, runs/METHOD-SEED     what is reported; the last checkpoint counts
    DIR/labels/                                   sheets, key.csv (not for who labels), labels-WHO.csv
    DIR/measures/                                 the boxes of hands in the runs' images
    DIR/report/                                   tables.md, forest.png, curves.png, grid.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from plan import GRID, Plan

from hafbench.errors import HafError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tune", "make", "sheets", "report"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, help="a data set of `asap-train synth`; for tune and make")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(GRID), help=", ".join(GRID))
    parser.add_argument("--steps", type=int, default=300, help="of every fit")
    parser.add_argument("--seeds", type=int, default=3, help="fits of each method")
    parser.add_argument("--images", type=int, default=1000, help="at least so many of the base and of each method")
    parser.add_argument("--tuning-images", type=int, default=4, help="a prompt, for each setting tried")
    parser.add_argument("--labelled", type=int, default=5, help="pictures a prompt and method on the sheets")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--chosen", type=Path, help="settings for make, as tuning.json has them, in place of it")
    parser.add_argument("--docs", type=Path, help="where the pictures go, too")
    asked = parser.parse_args()
    if unknown := [method for method in asked.methods if method not in GRID]:
        parser.error(f"--methods: there is no {unknown[0]}; known: {', '.join(GRID)}")
    if asked.what in ("tune", "make") and asked.pairs is None:
        parser.error("--pairs is needed")
    asked.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(asked.out, asked.pairs, asked.steps, asked.seeds, asked.images, asked.tuning_images)
    if asked.what == "tune":
        from making import tune

        tune(plan, asked.methods, asked.workers)
    elif asked.what == "make":
        from making import make

        make(plan, asked.methods, asked.workers, asked.chosen)
    elif asked.what == "sheets":
        import labels
        from found import find

        found = find(plan, asked.methods)
        labels.make_sheets(plan, found.base, found.runs, asked.labelled)
    else:
        import report

        report.write(plan, asked.methods, asked.docs)


if __name__ == "__main__":
    try:
        main()
    except HafError as error:
        raise SystemExit(f"Error: {error}") from None
