"""From what a scorer says of labelled images to its calibration card."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import numpy as np

from hafbench.cards import (
    IMAGE_SIZE,
    JUDGED_SIZE,
    Bin,
    CalibrationCard,
    Coverage,
    KindShare,
    Operating,
    Share,
    Stratum,
    identity_of,
    share_of,
    source_of,
)
from hafbench.errors import HafError
from hafbench.figures import count_alike
from hafbench.statistics import Corrected, error_rate, prediction_powered_rate
from hafbench.statistics.clusters import Floats, cluster_codes, cluster_sums, robust_variance
from hafbench.statistics.rates import wilson
from hafbench.types import Kind, Region

if TYPE_CHECKING:
    from hafbench.manifest import ScorerFacts
    from hafbench.runs import Run
    from hafbench.verdicts import Judged

FALSE_ALARMS = (0.01, 0.05, 0.1)
FEWEST = 5
"""Good, and bad, images that a stratum needs for a figure."""
BINS = 10
ROC_POINTS = 200
LONGEST_REASON = 300
"""Characters that are kept of why an image could not be judged."""


def make_card(
    judged: Sequence[Judged],
    scorer: str,
    facts: ScorerFacts,
    *,
    made_on: str,
    run: Run | None = None,
    false_alarms: Sequence[float] = FALSE_ALARMS,
) -> CalibrationCard:
    """The card of a scorer; raises HafError with fewer than two good or two bad images that the scorer could judge."""
    sure = [one for one in judged if one.value is not None]
    bad, good = ([one for one in sure if one.bad is side] for side in (True, False))
    if min(len(bad), len(good)) < 2:
        raise HafError(
            f"{scorer} could judge {len(bad)} bad and {len(good)} good images of {len(judged)}; two of each are needed."
        )
    values = np.array([one.value for one in sure], dtype=np.float64)
    truth = np.array([one.bad for one in sure])
    clusters = cluster_codes([one.prompt for one in sure])
    flagged = np.array([one.flagged for one in sure], dtype=bool)
    cues = _cues(sure)
    digest = hashlib.sha256("".join(sorted(f"{one.name}\0{one.bad}\n" for one in judged)).encode())
    return CalibrationCard(
        format=1,
        scorer=scorer,
        scorer_version=facts.version or "",
        date=datetime.now(UTC).date().isoformat(),
        made_on=made_on,
        sha256=digest.hexdigest(),
        source=source_of(run) if run else None,
        flagged_bad=int(flagged[truth].sum()),
        bad=len(bad),
        passed_good=int((~flagged[~truth]).sum()),
        good=len(good),
        effective_bad=error_rate(flagged[truth], clusters[truth]).effective or 0.0,
        effective_good=error_rate(flagged[~truth], clusters[~truth]).effective or 0.0,
        unknown_bad=sum(one.value is None and one.bad for one in judged),
        unknown_good=sum(one.value is None and not one.bad for one in judged),
        sensitivity=_share(flagged[truth], clusters[truth]),
        specificity=_share(~flagged[~truth], clusters[~truth]),
        auroc=auroc(values, truth, clusters),
        baselines={name: _better_way(cue, truth, clusters) for name, cue in cues.items()},
        strata=tuple(_strata(values, truth, clusters, cues, [one.source for one in sure])),
        reliability=tuple(_reliability(values, truth, clusters)),
        operating=tuple(_operating(values, truth, clusters, rate) for rate in false_alarms),
        roc=tuple(_roc(values, truth)),
        kinds=tuple(_kinds([one for one in judged if one.bad])),
        coverage=Coverage(good=_judged(judged, bad=False), bad=_judged(judged, bad=True)),
        reasons=_reasons(judged),
        identity=identity_of(facts),
    )


def _cues(sure: Sequence[Judged]) -> dict[str, Floats]:
    """What a scorer has to beat, by name: the size of what it judged, or of the image, and the image's sharpness."""
    pixels = [one.pixels for one in sure if one.pixels is not None]
    # All on one scale: sizes of hands and of images cannot be compared.
    name, sizes = (JUDGED_SIZE, pixels) if len(pixels) == len(sure) else (IMAGE_SIZE, [one.size for one in sure])
    return {name: np.array(sizes, dtype=np.float64), "sharpness": np.array([one.sharpness for one in sure])}


def _judged(images: Sequence[Judged], bad: bool) -> Share:
    """The share of the bad, or of the good, images that the scorer could judge."""
    own = [one for one in images if one.bad is bad]
    return _share(np.array([one.value is not None for one in own]), cluster_codes([one.prompt for one in own]))


def powered(judged: Sequence[Judged], run: Run, scorer: str) -> Corrected:
    """The true error rate of all images of a run that the scorer judges, when a random part of them has labels."""
    rows = run.records[(run.records["scorer"] == scorer) & (run.records["status"] == "scored")]
    labels = {one.name: float(one.bad) for one in judged}
    known = [labels.get(image, np.nan) for image in rows["image"]]
    return prediction_powered_rate(known, rows["is_error"], rows["prompt_id"])


def auroc(values: Floats, truth: np.ndarray, clusters: np.ndarray) -> Share:
    """The chance that a bad image has a higher value than a good one, ties as halves.

    The variance is DeLong's (1988, Biometrics 44, 837-845), summed by prompt (Obuchowski 1997, Biometrics 53, 567-578);
    the interval is normal on the logit scale. Without a single misplaced pair, or where prompts do not differ, it is
    Wilson's for the fewer side, or for the prompts where they are fewer.
    """
    from scipy.stats import norm, rankdata

    m, n = int(truth.sum()), int((~truth).sum())
    if min(m, n) < 1:
        return Share(estimate=None, low=None, high=None, n=m + n)
    ranks = rankdata(values)
    area = float((ranks[truth].sum() - m * (m + 1) / 2) / (m * n))
    influence = np.zeros(len(values))
    influence[truth] = ((ranks[truth] - rankdata(values[truth])) / n - area) / m
    influence[~truth] = ((m - ranks[~truth] + rankdata(values[~truth])) / m - area) / n
    sums = cluster_sums(influence, clusters)
    error = (robust_variance(sums, 1) if len(sums) > 1 else 0.0) ** 0.5
    if area in (0.0, 1.0) or min(m, n) < 2 or error < 1e-9:
        low, high = wilson(area, min(m, n, len(sums)))
        return Share(estimate=area, low=low, high=high, n=m + n)
    middle, half = np.log(area / (1 - area)), norm.ppf(0.975) * error / (area * (1 - area))
    low, high = (float(1 / (1 + np.exp(-bound))) for bound in (middle - half, middle + half))
    return Share(estimate=area, low=low, high=high, n=m + n)


def _better_way(cue: Floats, truth: np.ndarray, clusters: np.ndarray) -> Share:
    """The AUROC of a cue by whichever direction does better here: what a scorer has to beat."""
    return max(auroc(cue, truth, clusters), auroc(-cue, truth, clusters), key=lambda share: share.estimate or 0)


def _share(verdicts: np.ndarray, clusters: np.ndarray) -> Share:
    return share_of(error_rate(verdicts, clusters))


def _strata(
    values: Floats, truth: np.ndarray, clusters: np.ndarray, cues: dict[str, Floats], sources: Sequence[str | None]
) -> Iterable[Stratum]:
    parts = []
    for by, cue in cues.items():
        cuts = np.unique(np.quantile(cue, [1 / 3, 2 / 3]))
        places = np.searchsorted(cuts, cue, side="left")
        if len(np.unique(places)) > 1:
            names = ("low", "middle", "high") if len(cuts) == 2 else ("low", "high")
            parts += [(by, name, places == place) for place, name in enumerate(names)]
    if len(known := sorted({source for source in sources if source})) > 1:
        parts += [("source", name, np.array([source == name for source in sources])) for name in known]
    for by, name, part in parts:
        own = truth[part]
        enough = min(int(own.sum()), int((~own).sum())) >= FEWEST
        found = auroc(values[part], own, clusters[part])
        yield Stratum(by=by, name=name, auroc=found if enough else Share(estimate=None, low=None, high=None, n=found.n))


def _kinds(bad: Sequence[Judged]) -> Iterable[KindShare]:
    """Each region of the errors as a whole, then its kinds, in the order of the taxonomy."""
    for region in get_args(Region):
        for kind in (None, *get_args(Kind)):
            own = [one for one in bad if one.region == region and kind in (None, one.kind)]
            sure = [one for one in own if one.value is not None]
            if own:
                flagged = np.array([one.flagged for one in sure], dtype=bool)
                share = _share(flagged, cluster_codes([one.prompt for one in sure]))
                known = _judged(own, bad=True)
                yield KindShare(region=region, kind=kind, sensitivity=share, unknown=len(own) - len(sure), judged=known)


def _reasons(judged: Sequence[Judged]) -> Mapping[str, int]:
    """Why images could not be judged, most common first; reasons that differ in numbers only are one."""
    given = (one.reason or "no reason given" for one in judged if one.value is None)
    counted: Counter[str] = Counter()
    for reason, count in count_alike(" ".join(reason.split())[:LONGEST_REASON] for reason in given):
        counted[reason] += count
    return dict(counted.most_common())


def _reliability(values: Floats, truth: np.ndarray, clusters: np.ndarray) -> Iterable[Bin]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    for place in np.unique(places):
        part = places == place
        yield Bin(
            low=float(edges[place]),
            high=float(edges[min(place + 1, len(edges) - 1)]),
            value=float(values[part].mean()),
            bad=_share(truth[part], clusters[part]),
        )


def _operating(values: Floats, truth: np.ndarray, clusters: np.ndarray, rate: float) -> Operating:
    """The threshold that flags most of the images with no more than that share of the good ones."""
    good = np.sort(values[~truth])
    allowed = int(np.floor(rate * len(good) + 1e-9))
    # It must lie above the value of the first good image that may not be flagged.
    threshold = _above(float(good[len(good) - 1 - allowed]), values) if allowed < len(good) else float(good[0])
    flagged = values >= threshold
    return Operating(
        false_alarms=rate,
        threshold=threshold,
        sensitivity=_share(flagged[truth], clusters[truth]),
        specificity=_share(~flagged[~truth], clusters[~truth]),
    )


def _above(value: float, values: Floats) -> float:
    """The number of the fewest decimals that is above `value` and not above the next higher one of `values`, if any."""
    higher = values[values > value]
    highest = float(higher.min()) if len(higher) else value + 0.1
    middle = (value + highest) / 2
    rounded = (round(middle, digits) for digits in range(1, 17))
    return next((number for number in rounded if value < number <= highest), highest)


def _roc(values: Floats, truth: np.ndarray) -> Iterable[tuple[float, float, float | None]]:
    """(false alarms, sensitivity, threshold) from none flagged to all; at most about ROC_POINTS of them."""
    thresholds = np.unique(values)[::-1]
    if len(thresholds) > ROC_POINTS:
        thresholds = thresholds[np.unique(np.linspace(0, len(thresholds) - 1, ROC_POINTS).astype(int))]
    yield 0.0, 0.0, None
    for threshold in thresholds:
        flagged = values >= threshold
        yield float(flagged[~truth].mean()), float(flagged[truth].mean()), float(threshold)
