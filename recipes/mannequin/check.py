"""How well the scorers of the built-in world judge held-out renders: `check.py --data TEST --out FILE.json`.

Every figure has its n and a 95 % interval (Wilson; AUROC by percentile bootstrap over pictures). Pictures of which a
scorer says `unknown` count as not flagged, with the value 0, and are numbered.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from scipy.stats import bootstrap, mannwhitneyu
from statsmodels.stats.proportion import proportion_confint

from hafbench.detectors.mannequin import Detected, MannequinDetector
from hafbench.labelled import FRAMINGS
from hafbench.scorers import digits, limb_count
from hafbench.scorers.mannequin_card import SHIPPED, load_mannequin_card


def share(right: Sequence[bool]) -> dict[str, float | int]:
    """A proportion with its Wilson interval."""
    low, high = proportion_confint(sum(right), max(1, len(right)), method="wilson")
    return {
        "share": round(sum(right) / max(1, len(right)), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "n": len(right),
    }


def auroc(bad: np.ndarray, good: np.ndarray) -> dict[str, float | int]:
    """The chance that a wrong picture scores above a correct one, ties as halves."""

    def area(one: np.ndarray, other: np.ndarray) -> float:
        return float(mannwhitneyu(one, other).statistic) / (len(one) * len(other))

    interval = bootstrap(
        (bad, good), area, vectorized=False, n_resamples=1000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return {
        "auroc": round(area(bad, good), 4),
        "low": round(float(interval.low), 4),
        "high": round(float(interval.high), 4),
        "n_wrong": len(bad),
        "n_correct": len(good),
    }


def count_is_right(row: dict[str, Any], found: Detected, counted: float) -> list[bool]:
    """For each hand with all its digits in view: is the number of those seen with that confidence exactly right?"""
    verdicts = []
    for hand in row["hands"]:
        if hand["countable"] and not row["people"]:
            ious = [sv.box_iou(hand["box"], seen.hand.xyxy[0]) for seen in found.hands]
            best = found.hands[int(np.argmax(ious))] if max(ious, default=0.0) > 0.4 else None
            number = (best.digits.confidence >= counted).sum() if best else -1
            verdicts.append(bool(number == len(hand["digits"])))
    return verdicts


def evaluate(data: Path, weights: Path, card_file: Path, first: int = 0) -> dict[str, Any]:
    """Judge the pictures of a data set from number `first` on."""
    images = np.load(data / "images.npy", mmap_mode="r")
    rows = [json.loads(line) for line in (data / "truth.jsonl").open()]
    detector = MannequinDetector(weights, "cpu")
    card = load_mannequin_card(card_file)
    counts: list[bool] = []
    judged: dict[str, list[tuple[float, bool, str | None, bool]]] = {"digits": [], "limbs": []}
    for image, row in zip(images[first:], rows[first:], strict=True):
        found = detector.detect(np.array(image))
        counts += count_is_right(row, found, card.counted)
        name = "digits" if row["attributes"]["framing"] in FRAMINGS["hands"] else "limbs"
        score = digits.judge(found.hands, card) if name == "digits" else limb_count.judge(found.people, card)
        detail = row["error"]["detail"] if row["error"] else None
        judged[name].append((score.value or 0.0, bool(score.is_error), detail, score.status == "unknown"))
    result: dict[str, Any] = {"digit_count_exact": share(counts)}
    for name, verdicts in judged.items():
        wrong = [v for v in verdicts if v[2] is not None]
        correct = [v for v in verdicts if v[2] is None]
        result[name] = {
            "auroc": auroc(np.array([v[0] for v in wrong]), np.array([v[0] for v in correct])),
            "false_alarms": share([v[1] for v in correct]),
            "found": share([v[1] for v in wrong]),
            "unknown": sum(v[3] for v in verdicts),
            "found_by_detail": {
                detail: share([v[1] for v in wrong if v[2] == detail]) for detail in sorted({str(v[2]) for v in wrong})
            },
        }
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--card", type=Path, default=SHIPPED)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--first", type=int, default=0, help="leave out the pictures before this one")
    asked = parser.parse_args()
    result = json.dumps(evaluate(asked.data, asked.weights, asked.card, asked.first), indent=1)
    print(result)
    if asked.out:
        asked.out.write_text(result + "\n")


if __name__ == "__main__":
    main()
