"""The controlled experiment: the same model tuned on the same scenes by every method, and what became of its errors.

    python research/experiment cost   --out DIR      what a step and a picture cost here, and so the whole of it
    python research/experiment pairs  --out DIR      pairs of the renderer, and as the base draws them: as METHODS need
    python research/experiment tune   --out DIR      settings tried on the selection prompts
    python research/experiment make   --out DIR      the fits, and runs on the held-out prompts
    python research/experiment sheets --out DIR      numbered pictures, to be labelled by eye
    python research/experiment report --out DIR [--docs DOCS]    tables and pictures from what is there

Run a command again, with the same options, to resume it. Every method has as many pairs of the same scenes, the same
steps and batch, and as many settings tried. Base and fits then draw the same prompts from the same noise.

    DIR/cost.json                                 core seconds of everything, as measured
    DIR/pairs/rendered, pairs/redrawn, pairs/own  data sets of preference pairs
    DIR/cache                                     their latents and texts, shared by all fits
    DIR/tuning/fits, tuning/runs, tuning.json     what was tried, and what was chosen by it
    DIR/fits/METHOD-SEED, runs/base, runs/METHOD-SEED     what is reported; the last checkpoint counts
    DIR/front/METHOD-SEED-POINT                   runs of other checkpoints and strengths
    DIR/labels/                                   sheets, key.csv (not for who labels), labels-WHO.csv
    DIR/measures/                                 boxes of hands, and how far pictures moved outside them
    DIR/report/                                   tables.md, pictures.csv.gz, and plots
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pairs import Judge, Kind
from plan import ABLATIONS, HELD_OUT, METHODS, Plan, Sizes

from hafbench.errors import HafError

BASE = Path(__file__).parent / "base"
"""The base, and the judge that reports, as README.md says how they were made."""
USUAL = Sizes()
SHIPPED = Judge()
KNOWN = (*METHODS, *ABLATIONS)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "pairs", "tune", "make", "sheets", "report"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--model", default=str(BASE / "pipeline"), help="the base: a pipeline's folder in the built-in one's layout"
    )
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS), help=", ".join(KNOWN))
    parser.add_argument("--steps", type=int, default=USUAL.steps, help="of every fit")
    parser.add_argument("--seeds", type=int, default=USUAL.seeds, help="fits of each method")
    parser.add_argument("--pairs", type=int, default=USUAL.pairs, help="of each kind")
    parser.add_argument("--images", type=int, default=USUAL.images, help="at least, of the base and of each method")
    parser.add_argument("--selection", type=int, default=USUAL.selection, help="at least, of each setting tried")
    parser.add_argument("--front", type=int, default=USUAL.front, help="at least, of each point of a method's front")
    parser.add_argument("--prompts", type=int, help="of each suite; for trials")
    parser.add_argument("--held-out", choices=HELD_OUT, default=HELD_OUT[0], help="the suite of the reported pictures")
    parser.add_argument("--labelled", type=int, default=300, help="pictures of the base and each method on the sheets")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--chosen", type=Path, help="settings for make, as tuning.json has them, in place of it")
    parser.add_argument("--judge", type=Path, default=BASE / "judge.pt", help="the reporting judge's detector")
    parser.add_argument("--card", type=Path, default=BASE / "judge.json", help="the reporting judge's card")
    parser.add_argument("--tuning-judge", type=Path, default=SHIPPED.detector, help="the tuning judge's detector")
    parser.add_argument("--tuning-card", type=Path, default=SHIPPED.card, help="the tuning judge's card")
    parser.add_argument("--docs", type=Path, help="where plots, values and labels go, too")
    parser.add_argument("--kept", type=Path, nargs="*", default=[], help="--docs of reports, of methods not made here")
    asked = parser.parse_args()
    if unknown := [method for method in asked.methods if method not in KNOWN]:
        parser.error(f"--methods: there is no {unknown[0]}; known: {', '.join(KNOWN)}")
    if asked.what in ("cost", "tune"):
        asked.methods = [method for method in asked.methods if method in METHODS]
        if not asked.methods:
            parser.error(f"{asked.what} is of methods and not of ablations alone: {', '.join(METHODS)}")
    return asked


def kinds(methods: Sequence[str]) -> list[Kind]:
    """The kinds of pairs that methods need; those that others are made of come first."""
    needed: set[Kind] = {(METHODS | ABLATIONS)[method].pairs for method in methods}
    if "redrawn" in needed:
        needed.add("rendered")
    return [kind for kind in get_args(Kind) if kind in needed]


def main() -> None:
    """Do what is asked."""
    asked = parsed()
    asked.out.mkdir(parents=True, exist_ok=True)
    sizes = Sizes(asked.steps, asked.seeds, asked.pairs, asked.images, asked.selection, asked.front, asked.prompts)
    plan = Plan(asked.out, asked.model, sizes, Judge(asked.judge.resolve(), asked.card.resolve()), asked.held_out)
    tuning = Judge(asked.tuning_judge, asked.tuning_card)
    if asked.what == "cost":
        import cost

        print(cost.table(plan, cost.measured(plan), asked.methods))
    elif asked.what == "pairs":
        from pairs import make_pairs

        for kind in kinds(asked.methods):
            made = make_pairs(kind, plan.out / "pairs", plan.name, tuning, sizes.pairs, asked.workers)
            print(f"{made.counts.pairs} pairs in {plan.pairs(kind)}", flush=True)
    elif asked.what == "tune":
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

        report.write(plan, asked.methods, asked.docs, asked.kept)


if __name__ == "__main__":
    try:
        main()
    except HafError as error:
        raise SystemExit(f"Error: {error}") from None
