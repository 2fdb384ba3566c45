"""Fit the card of the `hands` scorer and measure it; see docs/hands.md.

    python benchmarks/fit_hands_card.py PHOTOS --write      # PHOTOS: a folder of real photos with hands

The card is a linear discriminant. Its separation per feature is the AUROC measured on 308 labelled hands of
AI-generated pictures (PRIOR: an external measurement); means, scales and correlations are those of the real hands
here and of their degraded copies. Photos are split in two: one half fits, the other is what the figures are of.
"""

import argparse
import json
import sys
from datetime import date
from pathlib import Path

import cv2
import numpy as np
from degrade_hands import DEGRADATIONS
from scipy.stats import norm, rankdata

from hafbench.detectors.hands import HandFinder
from hafbench.images import find_images, load_image
from hafbench.scorers.hands import SHIPPED_CARD, SMALLEST_HAND, is_hand

PRIOR = {
    "presence_lite": 0.81,
    "presence_full": 0.80,
    "palm": 0.72,
    "handedness": 0.77,
    "spread": 0.76,
    "disagreement": 0.77,
    "bones": 0.67,
}
LOWER_IS_WORSE = {"presence_lite", "presence_full", "palm", "handedness"}
COPIES = 2


def auroc(bad, good):
    ranks = rankdata(np.r_[bad, good])
    return (ranks[: len(bad)].sum() - len(bad) * (len(bad) + 1) / 2) / (len(bad) * len(good))


def auroc_interval(bad, good, groups_bad, groups_good, rng, times=2000):
    """95 % bootstrap interval that resamples photos, not hands."""
    photos = np.unique(np.r_[groups_bad, groups_good])
    draws = []
    for _ in range(times):
        chosen, count = np.unique(rng.choice(photos, len(photos)), return_counts=True)
        weight = dict(zip(chosen, count, strict=True))
        b = np.repeat(bad, [weight.get(g, 0) for g in groups_bad])
        g = np.repeat(good, [weight.get(g, 0) for g in groups_good])
        if len(b) and len(g):
            draws.append(auroc(b, g))
    return np.quantile(draws, [0.025, 0.975])


def spoiled(image, rng):
    """JPEG, scale and slight blur, the same for good and bad, so that quality tells nothing."""
    factor = rng.uniform(0.8, 1.5)
    image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.0))
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 98))])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].copy(), factor


def collect(folder, finder, rng):
    """One row per hand and version: photo, kind (good or a degradation), features, bones, length, sharpness."""
    rows = []
    for path in find_images(folder):
        image = np.asarray(load_image(path))
        for hand in finder.find(image):
            evidence = finder.measure(image, hand)
            if hand.pixels < 40 or not is_hand(hand, evidence.presence) or evidence.presence < 0.8:
                continue  # degrade only what certainly is a hand
            points = np.array([point[:2] for point in evidence.keypoints])
            palm = float(np.hypot(*(points[9] - points[0])))
            versions = [("good", image)] * COPIES + [
                (name, change(image, points, palm, rng)) for name, change in DEGRADATIONS.items() for _ in range(COPIES)
            ]
            for kind, version in versions:
                changed, factor = spoiled(version, rng)
                row = look(finder, changed, hand, factor)
                if row:
                    rows.append({"photo": path.name, "kind": kind, **row})
        print(path.name, len(rows), file=sys.stderr)
    return rows


def look(finder, image, hand, factor):
    """Find the hand again in the changed picture, as the scorer would."""
    where = np.array([hand.roi.x, hand.roi.y]) * factor
    near = [h for h in finder.find(image) if np.hypot(h.roi.x - where[0], h.roi.y - where[1]) < hand.roi.side * factor / 3]
    for found in near:
        evidence = finder.measure(image, found)
        if is_hand(found, evidence.presence) and found.pixels >= SMALLEST_HAND:
            grey = cv2.cvtColor((found.roi.crop(image, 128) * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
            sharp = float(np.log(cv2.Laplacian(grey, cv2.CV_64F).var()))
            return {"features": dict(evidence.features), "bones": evidence.bones, "pixels": found.pixels, "sharp": sharp}
    return None


def table(rows, reference):
    bones = np.array([np.abs(row["bones"] - reference).mean() for row in rows])
    named = {name: np.array([row["features"][name] for row in rows]) for name in PRIOR if name != "bones"}
    return np.stack([{**named, "bones": bones}[name] for name in PRIOR], 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(20261123)
    rows = collect(arguments.photos, HandFinder(), rng)
    photos = sorted({row["photo"] for row in rows})
    fitted = set(rng.permutation(photos)[: len(photos) // 2])
    fit, held = ([r for r in rows if (r["photo"] in fitted) == half] for half in (True, False))

    good = [r for r in fit if r["kind"] == "good"]
    reference = np.mean([r["bones"] for r in good], axis=0)
    x, bad = table(fit, reference), np.array([r["kind"] != "good" for r in fit])
    centre = x[~bad].mean(0)
    within = x - np.where(bad[:, None], x[bad].mean(0), centre)
    scale = within.std(0)
    correlation = np.corrcoef(within.T)
    correlation = 0.8 * correlation + 0.2 * np.eye(len(PRIOR))
    sign = np.array([-1 if name in LOWER_IS_WORSE else 1 for name in PRIOR])
    separation = sign * np.sqrt(2) * norm.ppf(list(PRIOR.values()))
    weights = np.linalg.solve(correlation, separation)
    weights = np.where(weights * sign > 0, weights, 0.0)
    expected = norm.cdf(np.sqrt(separation @ np.linalg.solve(correlation, separation)) / np.sqrt(2))

    def logit(some):
        return (table(some, reference) - centre - separation * scale / 2) / scale @ weights

    fit_logit = logit(fit)
    threshold_logit = np.quantile(fit_logit[~bad], 0.9)
    report = measure(held, logit, threshold_logit, rng)
    report["prior's own combined AUROC"] = float(expected)
    for name, value in report.items():
        print(f"{name:28} {value}")
    if arguments.write:
        card = {
            "scorer": "hands",
            "version": f"{date.today():%Y.%m.%d}",
            "fitted_on": (
                "separations per feature: AUROCs on 308 labelled hands of AI-generated pictures; means, scales and "
                f"correlations: {len(fit)} views of hands in {len(fitted)} real photos and of their degraded copies; "
                "threshold: 10 % of those good hands"
            ),
            "features": list(PRIOR),
            "means": (centre + separation * scale / 2).tolist(),
            "scales": scale.tolist(),
            "coefficients": weights.tolist(),
            "intercept": 0.0,
            "threshold": float(1 / (1 + np.exp(-threshold_logit))),
            "reference_bones": reference.tolist(),
            "held_out": report,
        }
        SHIPPED_CARD.write_text(json.dumps(card, indent=2) + "\n")


def measure(rows, logit, threshold, rng):
    values = logit(rows)
    kinds, photos = np.array([r["kind"] for r in rows]), np.array([r["photo"] for r in rows])
    good = kinds == "good"
    report = {"photos": len(set(photos)), "good": int(good.sum()), "false alarms": float((values[good] >= threshold).mean())}
    for kind in ["any", *DEGRADATIONS]:
        bad = ~good if kind == "any" else kinds == kind
        low, high = auroc_interval(values[bad], values[good], photos[bad], photos[good], rng)
        report[f"AUROC {kind}"] = (
            f"{auroc(values[bad], values[good]):.3f} ({low:.3f} to {high:.3f}), n = {bad.sum()}, "
            f"found {(values[bad] >= threshold).mean():.2f}"
        )
    for name in ("pixels", "sharp"):
        column = np.array([r[name] for r in rows])
        report[f"AUROC of {name} alone"] = f"{auroc(-column[~good], -column[good]):.3f}"
    x = table(rows, np.mean([r["bones"] for r, g in zip(rows, good, strict=True) if g], axis=0))
    for index, name in enumerate(PRIOR):
        sign = -1 if name in LOWER_IS_WORSE else 1
        report[f"AUROC of {name} alone"] = f"{auroc(sign * x[~good, index], sign * x[good, index]):.3f}"
    return report


if __name__ == "__main__":
    main()
