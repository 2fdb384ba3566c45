"""Fit the card of the built-in world's scorers: `calibrate.py --data SET [SET ...] --weights FILE --out FILE.json`.

The sets must be in no training and in no reported figure. For each kind of error a logistic curve tells pictures with
that error from correct ones by the detector's strongest suspicion of it. Then all curves of a scorer are shifted alike,
so that FALSE_ALARMS of the correct pictures reach the threshold. A digit counts from the confidence that gives the most
exact counts. A scorer keeps its shipped curves where the sets have no picture of its framings, and a kind of error that
no picture has gets a curve that never reaches the threshold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from check import FRAMINGS, count_is_right
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logit

from hafbench.detectors.mannequin import Detected, MannequinDetector
from hafbench.mannequin.taxonomy import DETAILS
from hafbench.scorers import digits, limb_count
from hafbench.scorers.mannequin_card import EDGE, Curve, MannequinCard, load_mannequin_card
from hafbench.types import Finding

FALSE_ALARMS = 0.015
RIDGE = 0.3
"""On slopes, as a penalty in units of pictures: a kind that is told apart perfectly would have an infinite one."""


def suspicions(found: Detected, scorer: str) -> Iterator[Finding]:
    """What a scorer suspects in a picture."""
    if scorer == "digits":
        for hand in digits.large_enough(found.hands):
            yield from digits.suspect(hand)
    else:
        for person in found.people:
            yield from limb_count.suspect(person)


def curve(suspicion: NDArray[np.float64], is_there: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of the logistic curve, by penalised likelihood."""
    z = logit(np.clip(suspicion, EDGE, 1 - EDGE))

    def loss(w: NDArray[np.float64]) -> float:
        value = w[0] * z + w[1]
        return float(np.sum(np.logaddexp(0, value) - is_there * value) + RIDGE * w[0] ** 2)

    slope, offset = minimize(loss, [1.0, 0.0], bounds=[(0, None), (None, None)]).x
    return float(slope), float(offset)


def fit(scorer: str, found: list[Detected], rows: list[dict[str, Any]]) -> dict[str, Curve]:
    """The curves of one scorer; the shipped ones where no picture is of its framings."""
    region = "hands" if scorer == "digits" else "limbs"
    names = [name for name, (_, where) in DETAILS.items() if where == region]
    own = [i for i, row in enumerate(rows) if row["attributes"]["framing"] in FRAMINGS[region]]
    if not own:
        return {name: load_mannequin_card().curves[name] for name in names}
    values = np.zeros((len(own), len(names)))
    for line, i in enumerate(own):
        # A missing thumb is no error of the renderer's: only labelled samples give it a curve (label_card.py).
        for finding in (one for one in suspicions(found[i], scorer) if one.detail in names):
            column = names.index(finding.detail)
            values[line, column] = max(values[line, column], finding.score)
    details = np.array([rows[i]["error"]["detail"] if rows[i]["error"] else "" for i in own])
    curves = {}
    for column, name in enumerate(names):
        used = (details == "") | (details == name)
        curves[name] = curve(values[used, column], details[used] == name)
    correct = logit(np.clip(values[details == ""], EDGE, 1 - EDGE))
    worst = np.max([slope * correct[:, i] + offset for i, (slope, offset) in enumerate(curves.values())], axis=0)
    shift = float(np.quantile(worst, 1 - FALSE_ALARMS))
    return {
        name: Curve(slope=round(slope, 4), offset=round(offset - shift, 4)) for name, (slope, offset) in curves.items()
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", required=True, help="of the card")
    asked = parser.parse_args()
    detector = MannequinDetector(asked.weights, "cpu")
    rows: list[dict[str, Any]] = []
    found: list[Detected] = []
    seeds = []
    for data in asked.data:
        own = [json.loads(line) for line in (data / "truth.jsonl").open()]
        images = np.load(data / "images.npy", mmap_mode="r")
        found += [detector.detect(np.array(image)) for image in images]
        seeds.append(f"{own[0]['seed']} to {own[-1]['seed']}")
        rows += own
    cuts = np.arange(0.2, 0.61, 0.025)
    exact = [
        np.mean([right for row, one in zip(rows, found, strict=True) for right in count_is_right(row, one, cut)])
        for cut in cuts
    ]
    curves = fit("digits", found, rows) | fit("limbs", found, rows)
    card = MannequinCard(
        version=asked.version,
        counted=round(float(cuts[int(np.argmax(exact))]), 3),
        curves=curves,
        fitted_on=f"{len(rows)} renders of seeds {' and '.join(seeds)}",
    )
    asked.out.write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    print(f"{asked.out}: digits count from {card.counted}, which makes {max(exact):.4f} of the counts exact")


if __name__ == "__main__":
    main()
