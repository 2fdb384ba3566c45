"""Train the heads of a critic, and measure them on generators that were left out.

    python recipes/critic/train.py hands --source TABLE.jsonl VIEWS SHARE ... --measure TABLE.jsonl \\
        --out hafbench/detectors/critics/hands.safetensors

Each --source is a table, the folder of its views, and the share of the draws that it gets. The groups of the table
named by --measure are dealt into FOLDS; each fold is scored by heads trained without it. Those scores give the printed
figures, the logistics that turn logits into probabilities, and the thresholds (10 % false alarms, 95 % of the parts
that are there judged). The shipped heads are then trained on everything. --without SOURCE leaves one source out of all
training (an ablation). --with FILE adds the heads of a file that was trained before, on other pictures: the answers are
the mean of all heads. Groups that those heads have seen are not left out for them, so that the printed figures are of
the new heads alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tables import KINDS, Square, read_table
from torch.nn import functional

from hafbench.detectors.critic import Subject, Trained, read_heads, write_heads
from hafbench.detectors.critic_head import Head, pool
from hafbench.detectors.nets import sigmoid

FOLDS, HEADS, STEPS, BATCH = 4, 2, 900, 64
RATE, DECAY, SMOOTHING = 1e-3, 0.05, 0.03
WIDTH, LOCAL = 128, 64
UNSURE, NONE_SHARE, HEAT = 0.4, 0.25, 0.5
FALSE_ALARMS, KEPT = 0.10, 0.95
SIZE_BINS = (60.0, 90.0, 140.0)
BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Views:
    """Squares and all views of them: `square` (n,) gives each view's square, `plain` (n,) those that a critic takes."""

    squares: list[Square]
    source: np.ndarray
    taps: list[np.ndarray]
    mask: np.ndarray
    square: np.ndarray
    plain: np.ndarray

    @property
    def label(self) -> np.ndarray:
        """0 good, 1 bad, 2 no such part, for each square."""
        return np.array([square.label for square in self.squares])


def read_views(sources: Sequence[tuple[Path, Path]]) -> Views:
    """The views of several tables."""
    squares: list[Square] = []
    source, mask, owner, plain = [], [], [], []
    taps: list[list[np.ndarray]] = []
    for number, (table, folder) in enumerate(sources):
        for square in read_table(table):
            path = folder / f"{square.id}.npz"
            if not path.is_file():
                continue
            file = np.load(path)
            names = sorted(name for name in file.files if name.startswith("tap"))
            taps = taps or [[] for _ in names]
            for own, name in zip(taps, names, strict=True):
                own.append(file[name])
            mask.append(file["mask"])
            plain.append(file["plain"].astype(bool))
            owner += [len(squares)] * len(plain[-1])
            squares.append(square)
            source.append(number)
    arrays = [np.concatenate(each) for each in taps]
    return Views(squares, np.array(source), arrays, np.concatenate(mask), np.array(owner), np.concatenate(plain))


def weights_of(views: Views, shares: Sequence[float], matched: int) -> np.ndarray:
    """How often each square is drawn: its source's share, good and bad alike.

    In the measured source (number `matched`) they are alike within bins of size too, so that size is no cue.
    """
    weight, label = np.zeros(len(views.squares)), views.label
    size = np.digitize([square.roi.side / 2 for square in views.squares], SIZE_BINS)
    sure = np.array([1.0 if square.sure else UNSURE for square in views.squares])
    for number, share in enumerate(shares):
        own = views.source == number
        part = np.where(own, sure, 0.0)
        if number == matched:
            for one in np.unique(size):
                both = own & (size == one) & (label < 2)
                for side in (0, 1):
                    some = both & (label == side)
                    if some.any():
                        part[some] *= both.sum() / some.sum()
        for side, balance in ((0, 1.0), (1, 1.0), (2, NONE_SHARE)):
            some = own & (label == side)
            if some.any():
                part[some] *= balance / part[some].sum()
        weight += share * part / max(part.sum(), 1e-9)
    return weight


def batch(views: Views, rows: np.ndarray) -> list[torch.Tensor]:
    """The activations (n, channels, height, width) of some views."""
    return [torch.from_numpy(tap[rows].astype(np.float32)).permute(0, 3, 1, 2).contiguous() for tap in views.taps]


def fit(views: Views, weight: np.ndarray, subject: Subject, seed: int) -> Head:
    """One head, trained on the random views of the squares that have a weight."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = Head([tap.shape[-1] for tap in views.taps], len(KINDS[subject]), WIDTH, LOCAL)
    rows = np.flatnonzero(~views.plain & (weight[views.square] > 0))
    chance = weight[views.square[rows]] / np.bincount(views.square[rows], minlength=len(weight))[views.square[rows]]
    first = batch(views, rng.choice(rows, 1500, p=chance / chance.sum()))
    pooled = pool(first)
    head.mean.copy_(pooled.mean(0))
    head.std.copy_(pooled.std(0) + 1e-3)
    head.scale.copy_(torch.stack([tap.std() for tap in first]))
    label = views.label
    kinds = [KINDS[subject].index(s.kind) if s.label == 1 and s.kind in KINDS[subject] else -1 for s in views.squares]
    masked = np.array([square.label == 0 or square.mask is not None for square in views.squares])
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    for _ in range(STEPS):
        head.train()
        chosen = rng.choice(rows, BATCH, p=chance / chance.sum())
        squares = views.square[chosen]
        error, present, kind, heat = head(batch(views, chosen))
        truth = torch.from_numpy(label[squares])
        there = truth < 2
        wanted = truth[there].float() * (1 - 2 * SMOOTHING) + SMOOTHING
        loss = functional.binary_cross_entropy_with_logits(error[there], wanted)
        loss = loss + 0.5 * functional.binary_cross_entropy_with_logits(present, there.float())
        known = torch.tensor(kinds)[squares]
        if (known >= 0).any():
            loss = loss + 0.15 * functional.cross_entropy(kind[known >= 0], known[known >= 0])
        placed = torch.from_numpy(masked[squares]) & there
        if placed.any():
            where = torch.from_numpy((views.mask[chosen][placed.numpy()] > 90).astype(np.float32))
            loss = loss + HEAT * functional.binary_cross_entropy_with_logits(
                heat[placed], where, pos_weight=torch.tensor(4.0)
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def logits_of(heads: Sequence[Head], views: Views, squares: np.ndarray) -> np.ndarray:
    """The mean logits (squares, 2) of an error and of presence, over heads and plain views."""
    rows = np.flatnonzero(views.plain & np.isin(views.square, squares))
    found = []
    with torch.no_grad():
        for start in range(0, len(rows), 256):
            taps = batch(views, rows[start : start + 256])
            found.append(torch.stack([torch.stack(head(taps)[:2], 1) for head in heads]).mean(0).numpy())
    summed = np.zeros((len(views.squares), 2))
    np.add.at(summed, views.square[rows], np.concatenate(found))
    return summed[squares] / np.bincount(views.square[rows], minlength=len(views.squares))[squares, None]


def joined(one: np.ndarray, heads: int, other: np.ndarray, more: int) -> np.ndarray:
    """The mean logits of so many heads and some more."""
    return (heads * one + more * other) / (heads + more)


def logistic_of(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Slope and shift of the logistic regression of truth on logits."""
    found = LogisticRegression(C=1e6).fit(logits[:, None], truth)
    return float(found.coef_[0, 0]), float(found.intercept_[0])


def fold_of(group: str) -> int:
    """The fold of a group, by its name alone."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % FOLDS


def interval(truth: np.ndarray, value: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of the AUROC by bootstrap over groups."""
    rng, found = np.random.default_rng(0), []
    members = {one: np.flatnonzero(group == one) for one in np.unique(group)}
    names = list(members)
    for _ in range(BOOTSTRAPS):
        rows = np.concatenate([members[names[i]] for i in rng.integers(0, len(names), len(names))])
        if 0 < truth[rows].sum() < len(rows):
            found.append(roc_auc_score(truth[rows], value[rows]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def within(truth: np.ndarray, value: np.ndarray, stratum: np.ndarray) -> float:
    """The AUROC over pairs of a good and a bad square of one stratum."""
    right = pairs = 0.0
    for one in np.unique(stratum):
        rows = stratum == one
        count = truth[rows].sum() * (rows.sum() - truth[rows].sum())
        if count:
            right, pairs = right + count * roc_auc_score(truth[rows], value[rows]), pairs + count
    return right / pairs if pairs else float("nan")


def figures(views: Views, chosen: np.ndarray, logits: np.ndarray) -> dict[str, object]:
    """What is told of left-out squares: good against bad, and part against no part."""
    squares = [views.squares[number] for number in chosen]
    label = np.array([square.label for square in squares])
    group = np.array([square.group for square in squares])
    size = np.array([square.roi.side / 2 for square in squares])
    out: dict[str, object] = {}
    for name, only in (("all", label < 2), ("sure", (label < 2) & np.array([square.sure for square in squares]))):
        truth, value = label[only] == 1, logits[only, 0]
        bins = np.digitize(size[only], np.quantile(size[only], (0.25, 0.5, 0.75)))
        limit = np.quantile(value[~truth], 1 - FALSE_ALARMS)
        out[name] = {
            "good": int((~truth).sum()),
            "bad": int(truth.sum()),
            "auroc": round(float(roc_auc_score(truth, value)), 3),
            "interval": [round(end, 3) for end in interval(truth, value, group[only])],
            "within_group": round(within(truth, value, group[only]), 3),
            "within_group_and_size": round(within(truth, value, np.char.add(group[only], bins.astype(str))), 3),
            "within_size": round(within(truth, value, bins), 3),
            "size_alone": round(float(roc_auc_score(truth, -size[only])), 3),
            "sensitivity_at_10_percent_false_alarms": round(float((value[truth] > limit).mean()), 3),
        }
    if (label == 2).any():
        out["present_auroc"] = round(float(roc_auc_score(label < 2, logits[:, 1])), 3)
    return out


def main() -> None:
    """Measure on left-out groups, then train on everything and write the heads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=list(KINDS))
    parser.add_argument("--source", nargs=3, action="append", required=True, metavar=("TABLE", "VIEWS", "SHARE"))
    parser.add_argument("--measure", type=Path, required=True)
    parser.add_argument("--without", type=Path, action="append", default=[])
    parser.add_argument("--with", type=Path, dest="earlier")
    parser.add_argument("--version", default="1")
    parser.add_argument("--trained-on", default="")
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tables = [Path(table) for table, _, _ in asked.source]
    views = read_views([(Path(table), Path(folder)) for table, folder, _ in asked.source])
    matched = tables.index(asked.measure)
    shares = [
        0.0 if table in asked.without else float(s) for table, (_, _, s) in zip(tables, asked.source, strict=True)
    ]
    measured = views.source == matched
    folds = np.array([fold_of(square.group) for square in views.squares])
    chosen = np.flatnonzero(measured)
    logits = np.zeros((len(views.squares), 2))
    for fold in range(FOLDS):
        out = measured & (folds == fold)
        weight = np.where(out, 0.0, weights_of(views, shares, matched))
        heads = [fit(views, weight, asked.subject, seed) for seed in range(HEADS)]
        logits[out] = logits_of(heads, views, np.flatnonzero(out))
    told = figures(views, chosen, logits[chosen])
    print(json.dumps(told, indent=1))
    if asked.figures:
        asked.figures.write_text(json.dumps(told, indent=1) + "\n")
        rows = [(views.squares[n].id, views.squares[n].group, views.squares[n].label, *logits[n]) for n in chosen]
        asked.figures.with_suffix(".csv").write_text("".join(f"{','.join(map(str, row))}\n" for row in rows))
    if asked.out is None:
        return
    earlier = read_heads(asked.earlier)[1] if asked.earlier else []
    if earlier:
        logits[chosen] = joined(logits[chosen], HEADS, logits_of(earlier, views, chosen), len(earlier))
    there = views.label[chosen] < 2
    truth = views.label[chosen][there] == 1
    slope, shift = logistic_of(logits[chosen, 0][there], truth)
    present_slope, present_shift = logistic_of(logits[chosen, 1], there)
    limit = float(np.quantile(logits[chosen, 0][there][~truth], 1 - FALSE_ALARMS))
    least = float(np.quantile(logits[chosen, 1][there], 1 - KEPT))
    heads = [fit(views, weights_of(views, shares, matched), asked.subject, seed) for seed in range(HEADS)] + earlier
    trained = Trained(
        version=asked.version,
        channels=tuple(tap.shape[-1] for tap in views.taps),
        kinds=KINDS[asked.subject],
        width=WIDTH,
        local=LOCAL,
        heads=len(heads),
        slope=slope,
        shift=shift,
        present_slope=present_slope,
        present_shift=present_shift,
        threshold=float(sigmoid(slope * limit + shift)),
        present_threshold=float(sigmoid(present_slope * least + present_shift)),
        trained_on=asked.trained_on,
    )
    write_heads(asked.out, trained, heads)


if __name__ == "__main__":
    main()
