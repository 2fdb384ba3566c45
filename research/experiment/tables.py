"""The tables of the experiment, as Markdown: errors by eye and by the judge, fronts, all else, what was tried."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite

import measures
import numpy as np
import pandas as pd
from found import Found
from front import RESAMPLES, Curves, dominating, ratio
from labels import TINT
from numpy.typing import NDArray
from plan import BASE
from statsmodels.stats.inter_rater import cohens_kappa

from hafbench.comparison import Comparison, compare_runs
from hafbench.comparison.tables import line
from hafbench.figures import p_value, percent
from hafbench.statistics import (
    Corrected,
    Difference,
    Mean,
    Rate,
    compare_means,
    compare_wins,
    holm,
    mean_interval,
    prediction_powered_rate,
)
from hafbench.statistics.clusters import bootstrap

DASH = "–"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; nothing in it may end a cell."""
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {one.replace('<', '&lt;')} |" for one in lines)


def points(found: Difference) -> str:
    """A difference of rates in percentage points, with its interval."""
    if found.estimate is None:
        return DASH
    ends = "" if found.low is None or found.high is None else f" [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"{100 * found.estimate:+.1f}{ends}"


def rate(found: Rate | Corrected) -> str:
    """A rate in percent, with its interval."""
    if found.estimate is None or found.low is None or found.high is None:
        return DASH
    return f"{100 * found.estimate:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def against(values: Mapping[str, pd.Series[float]], one: str, others: Iterable[str]) -> dict[str, Difference]:
    """`other` minus `one` for each, over the prompts and seeds that both have; values by (prompt_id, seed)."""
    found = {}
    for other in others:
        both = values[one].dropna().index.intersection(values[other].dropna().index)
        prompts = both.get_level_values(0)
        found[other] = compare_means(values[one][both].to_numpy(), prompts, values[other][both].to_numpy(), prompts)
    return found


def errors(found: Found) -> str:
    """A row each for the base and the methods: the rate by eye, the judge's, and the differences from the base."""
    judge, eye = found.judge, found.by_eye
    apart = against(judge, BASE, found.methods)
    p_values = dict(zip(apart, holm([one.p_value for one in apart.values()]), strict=True))
    seen = against(eye, BASE, [name for name in found.methods if name in eye])
    eye_p = dict(zip(seen, holm([one.p_value for one in seen.values()]), strict=True))
    rows = []
    for name in found.names:
        own = judge[name]
        row = [name, *(by_eye(eye[name], own, name, seen, eye_p) if name in eye else [DASH] * 4)]
        row += [rate(measures.rate_of(own)), not_judged(found, name)]
        if name == BASE:
            rows.append([*row, *[DASH] * 4])
            continue
        moved = own - judge[BASE].reindex(own.index)
        each = moved.groupby(moved.index.get_level_values("seed") // found.plan.each(found.plan.sizes.images)).mean()
        base = judge[BASE].reindex(own.index)
        wins = compare_wins(base.to_numpy(), own.to_numpy(), own.index.get_level_values(0))
        row += [points(apart[name]), ", ".join(f"{100 * one:+.1f}" for one in each), p_value(p_values[name])]
        rows.append([*row, f"{wins.rsi:.2f} [{wins.rsi_low:.2f}, {wins.rsi_high:.2f}]"])
    heads = ["", "wrong by eye, % (n)", "difference, points", "p", "by eye and judge, %"]
    return markdown([*heads, "judge's AER, %", "no hand found, %", "difference, points", "each fit", "p", "RSI"], rows)


def not_judged(found: Found, name: str) -> str:
    """The share of pictures in which the judge found nothing to judge, in percent."""
    verdicts = found.verdicts[name]["error"]
    return f"{100 * verdicts.isna().mean():.1f}"


def by_eye(
    own: pd.Series[float],
    judge: pd.Series[float],
    name: str,
    apart: Mapping[str, Difference],
    p_values: Mapping[str, float | None],
) -> list[str]:
    """The rate by eye and its number, the difference from the base and its p, and the rate with the judge's help."""
    clear = own.dropna()
    found = measures.rate_of(clear)
    judged = judge.dropna()
    powered = prediction_powered_rate(
        clear.reindex(judged.index).to_numpy(), judged.to_numpy(), judged.index.get_level_values(0)
    )
    told = [f"{rate(found)} ({len(clear)})"]
    told += [points(apart[name]), p_value(p_values[name])] if name in apart else [DASH, DASH]
    return [*told, rate(powered)]


def beaten(found: Found, best: str) -> str:
    """Every other method minus `best`: above 0 it has more errors."""
    others = [name for name in found.methods if name != best]
    rows = []
    for source, values in found.sources.items():
        apart = against(values, best, [name for name in others if name in values])
        p_values = holm([one.p_value for one in apart.values()])
        for (name, one), p in zip(apart.items(), p_values, strict=True):
            rows.append([f"{name} − {best}", source, points(one), p_value(p)])
    return markdown(("", "", "difference, points", "p"), rows)


def halved(found: Found) -> str:
    """Each method's error rate over the base's: by the judge alone, and by the labels with the judge's help."""
    judge, eye, rows = found.judge, found.by_eye, []
    for name in found.methods:
        told = [ratio_of_rates(judge[BASE], judge[name])]
        told += [ratio_of_rates(judge[BASE], judge[name], eye[BASE], eye[name])] if name in eye else []
        row = [name, *(f"{ratio:.2f} [{low:.2f}, {high:.2f}]" for ratio, low, high in told)]
        rows.append([*row, *[DASH] * (bool(eye) and name not in eye)])
    heads = ["error rate over the base's", "judge", *(["by eye and judge"] if eye else [])]
    return markdown(heads, rows)


def ratio_of_rates(
    base: pd.Series[float],
    own: pd.Series[float],
    base_labels: pd.Series[float] | None = None,
    own_labels: pd.Series[float] | None = None,
) -> tuple[float, float, float]:
    """The ratio of two error rates over shared prompts, and 95 % bounds by a bootstrap of prompts.

    With labels each rate is the judge's plus the mean of label - verdict over the labelled pictures: prediction-powered
    inference (Angelopoulos et al., Science 2023) with all weight on the judge.
    """
    columns = []
    for verdicts, labels in ((base, base_labels), (own, own_labels)):
        surplus = verdicts * 0 if labels is None else (labels - verdicts.reindex(labels.index))
        columns += [verdicts, surplus]
    prompts = sorted(set(base.index.get_level_values(0)) & set(own.index.get_level_values(0)))
    grouped = [column.dropna().groupby(level=0) for column in columns]
    sums = [one.sum().reindex(prompts, fill_value=0.0).to_numpy() for one in grouped]
    counts = [one.count().reindex(prompts, fill_value=0).to_numpy() for one in grouped]
    totals = np.array([*sums, *counts], dtype=np.float64).T

    def statistic(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            means = rows[:, :4] / rows[:, 4:]
            return np.asarray((means[:, 2] + means[:, 3]) / (means[:, 0] + means[:, 1]))[:, None]

    low, high = bootstrap(totals, statistic, resamples=RESAMPLES, seed=0, confidence=0.95)
    return float(statistic(totals.sum(0)[None])[0, 0]), float(low[0]), float(high[0])


def less_change(found: Curves) -> str:
    """The drift of each method over that of dpo at the same error, where both have a front."""
    rows = []
    for name in found.places:
        if name == "dpo" or "dpo" not in found.places:
            continue
        told, low, high = ratio(found, name, "dpo")
        rows.append([name, f"{told:.2f} [{low:.2f}, {high:.2f}]"])
    return markdown(("", "drift over that of dpo at equal error"), rows)


def off_the_front(found: Curves, own: str) -> str:
    """Which points of other methods but `ours` have fewer errors and less drift than the last one of `own`."""
    rows = [
        [name, f"{100 * point.share:.0f} %", f"{point.scale:g}", p_value(errors), p_value(drift)]
        for name, point, errors, drift in dominating(found, own, ("ours",))
    ]
    if not rows:
        return f"No point of another method has both fewer errors and less drift than {own}."
    heads = (f"fewer errors and less drift than {own}", "steps", "strength", "p of errors", "p of drift")
    return markdown(heads, rows)


def fronts(found: Curves) -> str:
    """Every point: the share of the steps and the strength of the LoRA, its error rate and its drift."""
    rows = [
        [name, f"{100 * place.point.share:.0f} %", f"{place.point.scale:g}", rate(place.error), mean(place.far, 100)]
        for name, places in found.places.items()
        for place in sorted(places, key=lambda one: (one.point.share, one.point.scale))
    ]
    return markdown(("", "steps", "strength", "judge's AER, %", "drift, %"), rows)


def mean(found: Mean, factor: float = 1.0) -> str:
    """A mean with its interval."""
    if found.estimate is None:
        return DASH
    ends = "" if found.low is None or found.high is None else f" [{factor * found.low:.2f}, {factor * found.high:.2f}]"
    return f"{factor * found.estimate:.2f}{ends}"


def agreement(found: Found) -> str:
    """How labels by eye agree with each other and with the judge; and how many pictures were unclear."""
    assert found.eye is not None
    eye = found.eye
    unclear = int(eye["bad"].isna().sum())
    told = [f"{len(eye)} pictures were labelled, {unclear} of them unclear."]
    twice = eye[(eye["second"] != "none")]
    clear = twice[twice["bad"].notna() & twice["second"].notna()]
    if len(clear):
        same = _kappa(clear["bad"], clear["second"])
        told.append(f"{len(twice)} were labelled twice; of {len(clear)} clear both times {same}.")
    judge = pd.concat(
        [table.assign(name=name).set_index("name", append=True) for name, table in found.verdicts.items()]
    )
    both = eye.set_index(["prompt_id", "seed", "name"]).join(judge["error"]).dropna(subset=["bad", "error"])
    told.append(f"With the judge {_kappa(both['bad'], both['error'])} of {len(both)}.")
    for bad, text in ((True, "It flagged of the wrong ones"), (False, "and of the right ones")):
        own = both[both["bad"] == bad]
        flagged = measures.rate_of(own["error"])
        told.append(f"{text} {rate(flagged)} % (n {len(own)}){';' if bad else '.'}")
    return " ".join(told)


def flagged(found: Found) -> str:
    """What the judge says of the pictures that are wrong by eye and of those that are right, by whose they are."""
    rows = []
    for name, said in found.by_eye.items():
        labels = said.dropna()
        told = []
        for bad in (1.0, 0.0):
            own = found.judge[name].reindex(labels[labels == bad].index).dropna()
            told.append(f"{rate(measures.rate_of(own))} ({len(own)})")
        rows.append([name, *told])
    return markdown(("", "of the wrong ones the judge flags, % (n)", "of the right ones, % (n)"), rows)


def kinds(found: Found) -> str:
    """What is wrong by eye: of every kind that was told the pictures of the base and of each method."""
    assert found.eye is not None
    bad = found.eye[(found.eye["kind"] != "") & (found.eye["bad"] == True)]  # noqa: E712 (None is unclear)
    names = list(found.by_eye)
    table = pd.crosstab(bad["kind"], bad["name"]).reindex(columns=names, fill_value=0)
    order = table.sum(axis=1).sort_values(ascending=False).index
    return markdown(("wrong by eye, pictures", *names), [[kind, *map(str, table.loc[kind])] for kind in order])


def tints(found: Found) -> str:
    """The rates if a tint at a whole digit were an error, too, and over the base's, with the judge's help."""
    assert found.eye is not None
    strict, judge, rows = found.strictly.by_eye, found.judge, []
    for name in strict:
        own = strict[name].dropna()
        tinted = int(((found.eye["name"] == name) & (found.eye["kind"] == TINT)).sum())
        told = [name, str(tinted), f"{rate(measures.rate_of(own))} ({len(own)})"]
        ratio = ratio_of_rates(judge[BASE], judge[name], strict[BASE], strict[name]) if name != BASE else None
        rows.append([*told, "{:.2f} [{:.2f}, {:.2f}]".format(*ratio) if ratio else DASH])
    heads = ("", "good with a tint, pictures", "wrong by eye with these, % (n)", "by eye and judge, over the base's")
    return markdown(heads, rows)


def _kappa(one: pd.Series, other: pd.Series) -> str:
    table = pd.crosstab(one.astype(bool), other.astype(bool)).reindex(
        index=[False, True], columns=[False, True], fill_value=0
    )
    same = (table.loc[False, False] + table.loc[True, True]) / table.to_numpy().sum()
    return f"{percent(same)} agree (kappa {cohens_kappa(table.to_numpy()).kappa:.2f})"


def pooled(found: Found) -> Comparison:
    """hafbench's comparison of the base with every method's fits as one run; Holm over the methods."""
    runs = [
        replace(
            own[0],
            records=pd.concat(
                [run.records.assign(image=f"{place}/" + run.records["image"]) for place, run in enumerate(own)],
                ignore_index=True,
            ),
            manifest=own[0].manifest.model_copy(update={"name": name}),
        )
        for name, own in found.runs.items()
    ]
    return compare_runs([found.base, *runs])


def quality(found: Found, comparison: Comparison) -> str:
    """Whether the rest was kept: hafbench's quality scores, prompts retrieved, the distance outside the hands."""
    told = measures.retrieved([found.base])
    names = [one.name for one in comparison.versus[0].metrics if one.role != "anatomy"]
    rows = [[BASE, *[DASH] * len(names), rate(measures.rate_of(told)), *[DASH] * 6]]
    for versus in comparison.versus:
        name = versus.label
        own = [one for one in versus.metrics if one.role != "anatomy"]
        cells = [f"{(text := line(name, one)).difference} ({text.verdict})" for one in own]
        precision, apart = measures.following(told, measures.retrieved(found.runs[name]))
        far = measures.outside_hands(found.base, found.runs[name], found.plan.out)
        moved = measures.drifts(found.base, found.runs[name], found.plan.out)
        prompts = moved.index.get_level_values(0)
        log = last_rows(found, name)
        cells += [rate(precision), f"{points(apart)} (p {p_value(apart.p_value)})"]
        cells += [mean(mean_interval(moved[what].to_numpy(), prompts), 100) for what in ("pixels", "clip")]
        cells += [f"{round(far.estimate or 0, 4) + 0:.4f}", p_value(far.p_value)]
        told_by = [log[key] for key in ("delta", "winner_rise", "loser_rise")]
        cells += [", ".join(f"{one:+.4f}" for one in told_by) if all(map(isfinite, told_by)) else DASH]
        rows.append([name, *cells])
    heads = ["", *(f"{name}, difference" for name in names), "own prompt nearest, %", "difference, points"]
    heads += ["drift, %", "drift by CLIP, %", "kernel distance outside hands", "p", "delta, rise of L(w), of L(l)"]
    return markdown(heads, rows)


def last_rows(found: Found, name: str) -> dict[str, float]:
    """Means over the last fifth of a method's logs."""
    both = pd.concat([found.plan.last_steps("", f"{name}-{seed}") for seed in range(found.plan.sizes.seeds)])
    rises = {f"{side}_rise": float((both[side] - both[f"ref_{side}"]).mean()) for side in ("winner", "loser")}
    return {"delta": float(both["delta"].mean()), **rises}


def tuning(found: Found) -> str:
    """Every setting tried, the chosen ones marked."""
    told = json.loads((found.plan.out / "tuning.json").read_text())
    rows = []
    for row in told["tried"]:
        method = row["name"].rpartition("-")[0]
        mark = "**chosen**" if told["chosen"][method] == row["settings"] else ""
        settings = ", ".join(text.removeprefix("loss.") for text in row["settings"])
        gap = f"{row['delta']:+.4f}" if "delta" in row else DASH
        rise = f"{row['winner'] - row['ref_winner']:+.4f}" if "ref_winner" in row else DASH
        change = f"{100 * (row['aer'] - row['aer_base']):+.1f}"
        rows.append([method, settings, f"{100 * row['chance']:+.1f}", change, gap, rise, mark])
    return markdown(("", "settings", "chance of an error, points", "AER, points", "delta", "rise of L(w)", ""), rows)
