"""Set a card's thresholds by labelled samples: `label_card.py --run RUN --labels FILE.csv --weights DETECTOR --card
CARD --version V --out FILE.json`.

A sample is called wrong where any kind's suspicion reaches its threshold. The thresholds are those that agree with most
labels, found one kind after the other; slopes stay those of the card, which calibrate.py fitted on renders. Tells how
often the verdicts agree with labels of prompts that were left out. The first label of an image counts, and `unclear`
none.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import logit
from statsmodels.stats.inter_rater import cohens_kappa

from hafbench.detectors.mannequin import MannequinDetector
from hafbench.scorers.digits import large_enough, suspect
from hafbench.scorers.mannequin_card import EDGE, Curve, MannequinCard, load_mannequin_card

JUDGED = ("extra_digit", "missing_digit", "missing_thumb", "fused_digits", "forked_digit", "short_digit", "two_thumbs")
GRID = np.arange(-5.0, 5.1, 0.25)
"""Thresholds that are tried, as logits of a suspicion."""
PASSES, FOLDS = 3, 8
NEW = Curve(slope=1.0, offset=-3.0)
"""Of a kind that the card does not have."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def suspicions(detector: MannequinDetector, images: Sequence[Path]) -> Floats:
    """The logit of the strongest suspicion of each of JUDGED in each image (n, k)."""
    found = np.full((len(images), len(JUDGED)), EDGE)
    for row, path in enumerate(images):
        for hand in large_enough(detector.detect(np.array(Image.open(path).convert("RGB"))).hands):
            for one in suspect(hand):
                if one.detail in JUDGED:
                    column = JUDGED.index(one.detail)
                    found[row, column] = max(found[row, column], one.score)
    return np.asarray(logit(np.clip(found, EDGE, 1 - EDGE)))


def fitted(values: Floats, bad: Flags, start: Floats) -> Floats:
    """The thresholds (k,) that agree with most labels: of those that do so equally, the one in the middle."""
    cuts = start.copy()
    for _ in range(PASSES):
        for kind in range(len(cuts)):
            others = (np.delete(values, kind, 1) >= np.delete(cuts, kind)).any(1)
            agreed = np.array([((others | (values[:, kind] >= cut)) == bad).mean() for cut in GRID])
            best = np.flatnonzero(agreed >= agreed.max())
            cuts[kind] = GRID[best[len(best) // 2]]
    return cuts


def left_out(values: Floats, bad: Flags, prompts: Sequence[str], start: Floats) -> Flags:
    """Verdicts (n,) by thresholds that were fitted without any picture of the same prompt."""
    folds = np.unique(prompts, return_inverse=True)[1] % FOLDS
    verdicts = np.zeros(len(bad), bool)
    for fold in range(FOLDS):
        own = folds == fold
        verdicts[own] = (values[own] >= fitted(values[~own], bad[~own], start)).any(1)
    return verdicts


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "labels", "weights", "card", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--version", required=True)
    asked = parser.parse_args()
    with asked.labels.open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["turn"] == "1" and row["label"] != "unclear"]
    bad = np.array([row["label"] == "bad" for row in rows])
    prompts = [row["image"].partition("/")[0] for row in rows]
    values = suspicions(MannequinDetector(asked.weights, "cpu"), [asked.run / "images" / row["image"] for row in rows])
    card = load_mannequin_card(asked.card)
    curves = {name: card.curves.get(name, NEW) for name in JUDGED}
    start = np.array([-curve.offset / curve.slope for curve in curves.values()])
    verdicts = left_out(values, bad, prompts, start)
    table = np.array([[np.sum((bad == one) & (verdicts == other)) for other in (False, True)] for one in (False, True)])
    print(
        f"prompts left out: {np.mean(verdicts == bad):.3f} of {len(bad)} agree, kappa {cohens_kappa(table).kappa:.2f}"
    )
    cuts = fitted(values, bad, start)
    own = {
        name: Curve(slope=curve.slope, offset=round(-curve.slope * float(cut), 4))
        for (name, curve), cut in zip(curves.items(), cuts, strict=True)
    }
    made = MannequinCard(
        version=asked.version,
        counted=card.counted,
        curves={**card.curves, **own},
        fitted_on=f"{card.fitted_on}; thresholds on {len(bad)} labelled samples",
    )
    asked.out.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
