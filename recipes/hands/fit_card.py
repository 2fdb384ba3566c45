"""Fit the card of the `detectability` scorer and measure it; see docs/studies/detectability.md.

    python recipes/hands/fit_card.py ../shared/data

Good hands: real photos. Bad hands: the same, degraded locally along their keypoints. Both go through the same resize
and JPEG, so that quality is no cue. The card is a linear discriminant whose separation per feature comes from an
outside measurement (308 labelled hands of AI-generated pictures), and whose means, scales and correlations come from
the hands here. A logistic fit of good against degraded hands is made beside it, and both are measured.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import supervision as sv
from degrade import DEGRADATIONS
from scipy.optimize import minimize, nnls
from scipy.stats import norm, rankdata

from hafbench.detectors.hand_views import hand_boxes, hand_lengths
from hafbench.detectors.hands import HandDetector
from hafbench.detectors.nets import Floats
from hafbench.images import find_images, load_image
from hafbench.scorers.card import FEATURES, SHIPPED, Z_LIMIT
from hafbench.scorers.hands import SMALLEST, quality

# AUROC of each feature alone for "bad", on 308 hands of AI-generated pictures labelled by eye: the outside measurement.
PUBLISHED = {
    "presence_lite": 0.81,
    "presence_full": 0.80,
    "palm": 0.72,
    "handedness": 0.77,
    "spread": 0.76,
    "disagreement": 0.77,
    "bones": 0.67,
}
# The correlations come from other images than the separations do: pulled this far towards none.
SHRINKAGE = 0.5
FALSE_ALARMS = 0.10
SEED = 2026
GOOD_COPIES, BAD_COPIES = 4, 2
SIZES = (60, 300)
AS_IT_IS, COPY = "as it is", "copy"

Pixels = Any


@dataclass(frozen=True)
class Row:
    """A measured hand: the photo it comes from, what was done to it, and what the nets say."""

    source: str
    done: str
    features: dict[str, float]
    log_bones: Floats
    pixels: float
    sharpness: float


def row_of(image: Pixels, hand: sv.KeyPoints, source: str, done: str) -> Row:
    """A hand (a single row) as a line of the table."""
    features = {name: float(hand.data[name][0]) for name in FEATURES if name != "bones"}
    seen = quality(image, hand, 0)
    return Row(source, done, features, hand.data["log_bones"][0], seen["pixels"], seen["sharpness"])


def cut_out(image: Pixels, hand: sv.KeyPoints, pixels: float) -> tuple[Pixels, Floats]:
    """The hand with as much around it, resized so that its box's longer side is `pixels`; and its points there."""
    x1, y1, x2, y2 = hand_boxes(hand)[0]
    length = hand_lengths(hand)[0]
    around = 1.2 * length
    left, top = int(max(0, (x1 + x2) / 2 - around)), int(max(0, (y1 + y2) / 2 - around))
    part = image[top : int((y1 + y2) / 2 + around), left : int((x1 + x2) / 2 + around)]
    scale = float(pixels / length)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(part, None, fx=scale, fy=scale, interpolation=method), (hand.xy[0] - (left, top)) * scale


def jpeg(image: Pixels, quality: int) -> Pixels:
    """The image as it comes back from a JPEG of that quality."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def counted(hands: sv.KeyPoints) -> list[sv.KeyPoints]:
    """The hands that count by half or more, one a row."""
    return [hands[row] for row in np.flatnonzero(hands.detection_confidence >= 0.5)]


def covers(hand: sv.KeyPoints, x: float, y: float, share: float) -> bool:
    """Is the point nearer to the middle of the hand's square than this share of its side?"""
    roi_x, roi_y, side, _ = hand.data["roi"][0]
    return bool(np.hypot(x - roi_x, y - roi_y) < share * side)


def measure_file(task: tuple[str, bool]) -> tuple[list[Row], list[sv.KeyPoints]]:
    """Every hand of a file as it is, then (for a good photo) its copies, good and degraded; and the hands."""
    name, copies = task
    image, detector = np.asarray(load_image(Path(name))), HandDetector()
    hands = counted(detector.detect(image))
    rows = [row_of(image, hand, name, AS_IT_IS) for hand in hands]
    rng = np.random.default_rng([SEED, int.from_bytes(Path(name).stem.encode()[:8])])
    for hand in hands if copies else []:
        plan = [(COPY, GOOD_COPIES), *((kind, BAD_COPIES) for kind in DEGRADATIONS)]
        for done in (kind for kind, times in plan for _ in range(times)):
            low, high = SIZES[0], min(SIZES[1], 2 * float(hand_lengths(hand)[0]))
            part, points = cut_out(image, hand, float(rng.uniform(low, max(low + 1, high))))
            part = DEGRADATIONS[done](part, points, rng) if done in DEGRADATIONS else part
            part = jpeg(part, int(rng.integers(70, 96)))
            near = [one for one in counted(detector.detect(part)) if covers(one, *points.mean(0), 0.5)]
            rows += [row_of(part, near[0], name, done)] if near else []
    return rows, hands


SIGNS = np.array(list(FEATURES.values()))


def table(rows: list[Row], bones: Floats) -> Floats:
    """The features of rows, in the card's order."""
    return np.array(
        [[*(row.features[k] for k in FEATURES if k != "bones"), np.abs(row.log_bones - bones).mean()] for row in rows]
    )


@dataclass(frozen=True)
class Fit:
    """A logistic model: logit = weight . clipped((x - mean) / scale) + intercept."""

    mean: Floats
    scale: Floats
    weight: Floats
    intercept: float

    def __call__(self, x: Floats) -> Floats:
        """The probabilities (n,) of features (n, k)."""
        z = np.clip((x - self.mean) / self.scale, -Z_LIMIT, Z_LIMIT)
        return np.asarray(1 / (1 + np.exp(-(z @ self.weight + self.intercept))))


def discriminant(good: Floats, bad: Floats) -> Fit:
    """Weights w >= 0 along the known signs that maximise d.w - w'Rw / 2: d the published separations in standard
    deviations (AUROC = Phi(d / sqrt 2)), R the shrunk correlation within the classes; even odds half-way."""
    within = np.vstack([good - good.mean(0), bad - bad.mean(0)]) * SIGNS
    correlation = (1 - SHRINKAGE) * np.corrcoef(within.T) + SHRINKAGE * np.eye(len(SIGNS))
    apart = np.sqrt(2) * norm.ppf([PUBLISHED[name] for name in FEATURES])
    root = np.linalg.cholesky(correlation).T
    weight, _ = nnls(root, np.linalg.solve(root.T, apart))
    return Fit(good.mean(0), within.std(0), weight * SIGNS, -float(weight @ apart) / 2)


def logistic(good: Floats, bad: Floats, signs: Floats = SIGNS, ridge: float = 0.05) -> Fit:
    """A ridge logistic regression, classes weighted alike, each weight held to its sign (0: free)."""
    x = np.vstack([good, bad])
    mean, scale = good.mean(0), x.std(0)
    z = np.clip((x - mean) / scale, -Z_LIMIT, Z_LIMIT)
    y = np.r_[np.zeros(len(good)), np.ones(len(bad))]
    share = np.where(y == 1, 0.5 / len(bad), 0.5 / len(good))

    def loss(w: Floats) -> tuple[float, Floats]:
        logit = z @ w[:-1] + w[-1]
        gradient = share * (1 / (1 + np.exp(-logit)) - y)
        value = share @ np.logaddexp(0, np.where(y == 1, -logit, logit)) + ridge / 2 * (w[:-1] @ w[:-1])
        return float(value), np.r_[z.T @ gradient + ridge * w[:-1], gradient.sum()]

    bounds = [{1: (0, None), -1: (None, 0), 0: (None, None)}[int(s)] for s in signs] + [(None, None)]
    w = minimize(loss, np.zeros(len(signs) + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Fit(mean, scale, w[:-1], float(w[-1]))


def auroc(good: Floats, bad: Floats) -> float:
    """The chance that a bad hand's value is above a good one's, ties as halves."""
    ranks = rankdata(np.r_[bad, good])
    return float((ranks[: len(bad)].sum() - len(bad) * (len(bad) + 1) / 2) / len(bad) / len(good))


def with_interval(good: Floats, bad: Floats, good_from: Floats, bad_from: Floats) -> dict[str, float | list[float]]:
    """AUROC with its 95 % percentile bootstrap interval; the photos, not the hands, are drawn again."""
    photos, rng = np.unique(np.r_[good_from, bad_from]), np.random.default_rng(SEED)
    drawn = []
    for _ in range(1000):
        again = np.concatenate([[p] for p in rng.choice(photos, len(photos))])
        g = np.concatenate([good[good_from == p] for p in again])
        b = np.concatenate([bad[bad_from == p] for p in again])
        drawn.append(auroc(g, b))
    return {
        "auroc": round(auroc(good, bad), 3),
        "interval": [round(float(q), 3) for q in np.quantile(drawn, (0.025, 0.975))],
    }


def out_of_fold(fit: Callable[..., Fit], x: Floats, bad: Floats, train: Floats, photo: Floats) -> Floats:
    """The probability of every row by a fit that saw no row of its photo."""
    folds = np.random.default_rng(SEED).permutation(photo.max() + 1) % 5
    result = np.zeros(len(x))
    for fold in range(5):
        seen, test = train & (folds[photo] != fold), folds[photo] == fold
        result[test] = fit(x[seen & ~bad], x[seen & bad])(x[test])
    return result


def by_eye(hands: list[sv.KeyPoints], file: str) -> list[tuple[str, int]]:
    """(label, index into `hands`) of those of a file that were labelled by eye."""
    with (Path(__file__).parent / "labels.csv").open() as lines:
        labels = [line for line in csv.DictReader(lines) if line["file"].endswith(file)]
    return [
        (line["label"], index)
        for line in labels
        for index, hand in enumerate(hands)
        if covers(hand, float(line["x"]), float(line["y"]), 0.25)
    ]


def fitted(rows: list[Row], version: str) -> tuple[dict[str, Any], Fit]:
    """The card as JSON values, and its model: fitted on copies and degraded copies, measured out of fold."""
    rows = [row for row in rows if row.pixels >= SMALLEST]
    names = list(dict.fromkeys(row.source for row in rows))
    photo, done = np.array([names.index(row.source) for row in rows]), np.array([row.done for row in rows])
    bad, real, copy = np.isin(done, list(DEGRADATIONS)), done == AS_IT_IS, done == COPY
    bones = np.mean([row.log_bones for row in rows if row.done == AS_IT_IS], axis=0)
    x, base = table(rows, bones), np.array([[np.log(row.pixels), row.sharpness] for row in rows])
    chances = {
        "card": out_of_fold(discriminant, x, bad, ~real, photo),
        "logistic fit on degraded hands": out_of_fold(logistic, x, bad, ~real, photo),
        "size and sharpness": out_of_fold(lambda g, b: logistic(g, b, np.zeros(2)), base, bad, ~real, photo),
    }
    p = chances["card"]
    threshold = float(np.quantile(p[real], 1 - FALSE_ALARMS))
    against = {name: with_interval(v[copy], v[bad], photo[copy], photo[bad]) for name, v in chances.items()}
    kinds = {k: with_interval(p[copy], p[done == k], photo[copy], photo[done == k]) for k in DEGRADATIONS}
    alone = {
        name: round(auroc(sign * x[copy, j], sign * x[bad, j]), 3) for j, (name, sign) in enumerate(FEATURES.items())
    }
    flagged = {
        name: round(float((p[who] >= threshold).mean()), 3)
        for name, who in {AS_IT_IS: real, COPY: copy, "degraded": bad, **{k: done == k for k in DEGRADATIONS}}.items()
    }
    fit = discriminant(x[copy], x[bad])
    card = {
        "version": version,
        "date": date.today().isoformat(),
        "features": {
            name: {"mean": fit.mean[j], "scale": fit.scale[j], "coefficient": fit.weight[j] + 0.0}
            for j, name in enumerate(FEATURES)
        },
        "bones": bones.tolist(),
        "intercept": fit.intercept,
        "threshold": threshold,
        "fitted_on": (
            "separations: AUROCs on 308 labelled hands of AI-generated pictures (published); means, scales and "
            "correlations: resized copies of hands in real photos and the same with local degradations; threshold: "
            f"{FALSE_ALARMS:.0%} of the unchanged real hands, out of fold; probabilities are for even odds"
        ),
        "n": {"photos": len(names), "hands": int(real.sum()), "copies": int(copy.sum()), "degraded": int(bad.sum())},
        "measured": {"degraded_against_copies": against, "by_kind": kinds, "features_alone": alone, "flagged": flagged},
    }
    return card, fit


def main(data: Path) -> None:
    """Measure the hands of DATA, fit the card, write it and print its figures."""
    from ultralytics.utils import ASSETS

    real = [*find_images(data / "hands_real"), ASSETS / "bus.jpg", ASSETS / "zidane.jpg"]
    made = [*find_images(data / "hands_ai"), *find_images(data / "people_ai")]
    cv2.setNumThreads(1)
    with Pool() as pool:
        results = pool.map(measure_file, [(str(p), p in real) for p in (*real, *made)], chunksize=1)
    rows = [row for result in results[: len(real)] for row in result[0]]
    card, fit = fitted(rows, f"{date.today():%Y.%m.%d}")
    card["measured"]["by_eye"] = [
        [path.name, label, round(float(fit(table([rows[index]], np.array(card["bones"])))[0]), 3)]
        for path, (rows, hands) in zip(made, results[len(real) :], strict=True)
        for label, index in by_eye(hands, path.name)
    ]
    SHIPPED.parent.mkdir(exist_ok=True)
    SHIPPED.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: card[key] for key in ("intercept", "threshold", "features", "n", "measured")}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
