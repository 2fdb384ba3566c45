"""Train a critic of figures on pooled activations, and measure it on groups that were left out.

    python recipes/critic/figure_train.py --source NAME TABLE.jsonl VIEWS SHARE ... --measure NAME \\
        --figures OUT.json [--without NAME] [--taps pose|lite0]

Each --source is a name, a table, the folder of its views (figure_views.py), and the share of the draws that it gets.
Groups are dealt into FOLDS over all sources, so that a degraded copy of a figure, and every picture of its generator
and of its repository, is left out with it, and a rendered scene with both of its pictures. The loss is that of the
label, and for pairs of one scene that the wrong one has the higher logit. In the measured source good and bad figures
are drawn alike within bins of size. Tells the figures of every source, and those of the size alone.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from tables import LABELS, Square, read_table
from torch import nn
from torch.nn import functional
from train import FALSE_ALARMS, FOLDS, SMOOTHING, UNSURE, fold_of, interval, within

HEADS, STEPS, BATCH, PAIRS = 5, 600, 64, 32
COMPONENTS, MOST = 192, 2000
RATE, DECAY, WIDTH = 1e-3, 0.05, 64
RANK = 1.0
SIZES = (200.0, 300.0, 450.0, 700.0)
POSE, FEWEST = 3, 5


@dataclass(frozen=True)
class Data:
    """Figures, and the pooled activations of their views: `owner` (n,) is each view's figure, `number` its place among
    the random views of its figure (-1 for the one that a critic takes)."""

    squares: list[Square]
    source: np.ndarray
    pooled: np.ndarray
    owner: np.ndarray
    number: np.ndarray

    @property
    def label(self) -> np.ndarray:
        """0 good, 1 bad, for each figure."""
        return np.array([square.label for square in self.squares])

    @property
    def size(self) -> np.ndarray:
        """Side of each figure's square in pixels."""
        return np.array([square.roi.side for square in self.squares])


def pooled_of(path: Path, taps: str) -> tuple[np.ndarray, np.ndarray]:
    """Means and maxima of the activations of every view (n, d), and which are plain (n,)."""
    file = np.load(path)
    parts = []
    for name in sorted(name for name in file.files if name.startswith("tap")):
        pose = int(name.removeprefix("tap")) < POSE
        if taps != "both" and pose != (taps == "pose"):
            continue
        tap = file[name].astype(np.float32)
        places = tap.reshape(len(tap), -1, *tap.shape[-3:])  # views, crops, height, width, channels
        parts += [places.mean((2, 3)).reshape(len(tap), -1), places.max((2, 3)).reshape(len(tap), -1)]
    return np.concatenate(parts, 1), file["plain"].astype(bool)


def read(sources: list[tuple[Path, Path]], taps: str) -> Data:
    """The figures of several tables that have views."""
    squares, source, pooled, owner, number = [], [], [], [], []
    for place, (table, folder) in enumerate(sources):
        for square in read_table(table):
            path = folder / f"{square.id}.npz"
            if square.label == LABELS["none"] or not path.is_file():
                continue
            values, plain = pooled_of(path, taps)
            pooled.append(values)
            owner += [len(squares)] * len(values)
            number += [-1 if one else count for count, one in enumerate(plain)]
            squares.append(square)
            source.append(place)
    return Data(squares, np.array(source), np.concatenate(pooled), np.array(owner), np.array(number))


def scene_of(square: Square) -> str:
    """What a figure and its degraded or rendered counterpart share."""
    return "-".join(square.id.split("-")[:2])


def weights_of(data: Data, shares: list[float], matched: int) -> np.ndarray:
    """How often each figure is drawn: its source's share, good and bad alike, in the measured source by size too."""
    weight, bins = np.zeros(len(data.squares)), np.digitize(data.size, SIZES)
    sure = np.array([1.0 if square.sure else UNSURE for square in data.squares])
    for number, share in enumerate(shares):
        part = np.where(data.source == number, sure, 0.0)
        if number == matched:
            for one in np.unique(bins):
                both = (part > 0) & (bins == one)
                for label in (0, 1):
                    some = both & (data.label == label)
                    if some.any():
                        part[some] *= both.sum() / some.sum()
        for label in (0, 1):
            some = (data.source == number) & (data.label == label)
            if some.any():
                part[some] /= part[some].sum()
        weight += share * part / max(part.sum(), 1e-9)
    return weight


def pairs_of(data: Data, used: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Views (n, 2) of a good figure (`known`) and of its wrong counterpart (`used`), seen the same way."""
    good = {}
    for row, (figure, number) in enumerate(zip(data.owner, data.number, strict=True)):
        if number >= 0 and known[figure] and data.label[figure] == 0:
            good[scene_of(data.squares[figure]), number] = row
    found = []
    for row, (figure, number) in enumerate(zip(data.owner, data.number, strict=True)):
        if number >= 0 and used[figure] and data.label[figure] == 1:
            key = (scene_of(data.squares[figure]), number)
            if key in good:
                found.append((good[key], row))
    return np.array(found).reshape(-1, 2)


def projected(data: Data, weight: np.ndarray) -> torch.Tensor:
    """All views (n, COMPONENTS) on the principal axes of those of the figures that have a weight."""
    rows = np.flatnonzero(weight[data.owner] > 0)
    rows = np.random.default_rng(0).permutation(rows)[:MOST]
    some = torch.from_numpy(data.pooled[rows])
    mean, std = some.mean(0), some.std(0) + 1e-3
    torch.manual_seed(0)
    axes = torch.pca_lowrank(((some - mean) / std).clamp(-6, 6), q=COMPONENTS, center=False, niter=1)[2]
    found = ((torch.from_numpy(data.pooled) - mean) / std).clamp(-6, 6) @ axes
    return found / found[rows].std()


def fit(data: Data, views: torch.Tensor, weight: np.ndarray, pairs: np.ndarray, seed: int) -> nn.Module:
    """One head on projected views (n, COMPONENTS), trained on random ones of the figures that have a weight."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero((data.number >= 0) & (weight[data.owner] > 0))
    chance = weight[data.owner[rows]] / np.bincount(data.owner[rows], minlength=len(weight))[data.owner[rows]]
    net = nn.Sequential(nn.Dropout(0.4), nn.Linear(COMPONENTS, WIDTH), nn.GELU(), nn.Dropout(0.4), nn.Linear(WIDTH, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    label = torch.from_numpy(data.label).float()
    for _ in range(STEPS):
        chosen = rng.choice(rows, BATCH, p=chance / chance.sum())
        wanted = label[data.owner[chosen]] * (1 - 2 * SMOOTHING) + SMOOTHING
        loss = functional.binary_cross_entropy_with_logits(net(views[chosen])[:, 0], wanted)
        if len(pairs):
            drawn = pairs[rng.choice(len(pairs), PAIRS)]
            loss = loss + RANK * functional.softplus(net(views[drawn[:, 0]]) - net(views[drawn[:, 1]])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def scores_of(heads: list[nn.Module], data: Data, views: torch.Tensor, figures: np.ndarray) -> np.ndarray:
    """The mean logit of figures, over heads, of the plain view where there is one, else of the random ones."""
    plain = np.isin(np.arange(len(data.squares)), data.owner[data.number < 0])
    rows = np.flatnonzero(np.isin(data.owner, figures) & ((data.number < 0) | ~plain[data.owner]))
    with torch.no_grad():
        found = torch.stack([head(views[rows])[:, 0] for head in heads]).mean(0).numpy()
    summed = np.bincount(data.owner[rows], found, minlength=len(data.squares))
    return summed[figures] / np.bincount(data.owner[rows], minlength=len(data.squares))[figures]


def told(truth: np.ndarray, value: np.ndarray, group: np.ndarray, size: np.ndarray) -> dict[str, Any]:
    """AUROC with a 95 % interval by a bootstrap over groups, over all, within groups, within sizes, within both."""
    bins = np.digitize(size, np.quantile(size, (0.25, 0.5, 0.75))).astype(str)
    limit = np.quantile(value[~truth], 1 - FALSE_ALARMS)
    return {
        "good": int((~truth).sum()),
        "bad": int(truth.sum()),
        "auroc": round(float(roc_auc_score(truth, value)), 3),
        "interval": [round(end, 3) for end in interval(truth, value, group)],
        "within_group": round(within(truth, value, group), 3),
        "within_size": round(within(truth, value, bins), 3),
        "within_size_interval": [round(end, 3) for end in interval_within(truth, value, group, bins)],
        "within_group_and_size": round(within(truth, value, np.char.add(group, bins)), 3),
        "found_among_10_percent_false_alarms": round(float((value[truth] > limit).mean()), 3),
    }


def interval_within(
    truth: np.ndarray, value: np.ndarray, group: np.ndarray, stratum: np.ndarray, draws: int = 500
) -> tuple[float, float]:
    """A 95 % interval of the AUROC within strata, by a bootstrap over groups."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(group == one) for one in np.unique(group)]
    found = []
    for _ in range(draws):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        found.append(within(truth[rows], value[rows], stratum[rows]))
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def left_out(data: Data, shares: list[float], matched: int) -> np.ndarray:
    """The logit of every figure, by heads trained without its group."""
    in_use = np.isin(data.source, [number for number, share in enumerate(shares) if share])
    # A degraded figure's counterpart is in the measured source, even where its labels teach nothing.
    known = in_use | (data.source == matched)
    folds = np.array([fold_of(square.group) for square in data.squares])
    score = np.zeros(len(data.squares))
    for fold in range(FOLDS):
        out = folds == fold
        weight = weights_of(data, shares, matched) * ~out
        views, pairs = projected(data, weight), pairs_of(data, in_use & ~out, known & ~out)
        heads = [fit(data, views, weight, pairs, seed) for seed in range(HEADS)]
        score[out] = scores_of(heads, data, views, np.flatnonzero(out))
    return score


def figures_of(data: Data, score: np.ndarray, names: list[str], matched: int) -> dict[str, object]:
    """What is told of every source by these logits."""
    group, sure = np.array([s.group for s in data.squares]), np.array([s.sure for s in data.squares])
    truth, scenes = data.label == 1, np.array([scene_of(s) for s in data.squares])
    kinds = np.array([str(s.kind) for s in data.squares])
    found: dict[str, object] = {}
    for number, name in enumerate(names):
        own = data.source == number
        if not own.any():
            continue
        if truth[own].all():  # degraded copies are set against the figures that they were made of
            own |= (data.source == matched) & ~truth & np.isin(scenes, scenes[own])
        rows = told(truth[own], score[own], group[own], data.size[own])
        good = {scenes[n]: score[n] for n in np.flatnonzero(own & ~truth)}
        higher = [score[n] > good[scenes[n]] for n in np.flatnonzero(own & truth) if scenes[n] in good]
        if number != matched:
            rows["pairs_right"] = round(float(np.mean(higher)), 3)
        rows["by_kind"] = {}
        for kind in sorted(set(kinds[own & truth])):
            some = own & truth & (kinds == kind)
            both = some | own & ~truth
            if some.sum() >= FEWEST:
                rows["by_kind"][kind] = [int(some.sum()), round(float(roc_auc_score(truth[both], score[both])), 3)]
        found[name] = rows
        if number == matched:
            found["sure"] = told(truth[own & sure], score[own & sure], group[own & sure], data.size[own & sure])
    return found


def main() -> None:
    """Measure on left-out groups."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", nargs=4, action="append", required=True, metavar=("NAME", "TABLE", "VIEWS", "SHARE")
    )
    parser.add_argument("--measure", required=True)
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--taps", choices=("both", "pose", "lite0"), default="both")
    parser.add_argument("--figures", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name, *_ in asked.source]
    data = read([(Path(table), Path(views)) for _, table, views, _ in asked.source], asked.taps)
    shares = [0.0 if name in asked.without else float(share) for name, *_, share in asked.source]
    matched = names.index(asked.measure)
    score = left_out(data, shares, matched)
    own = data.source == matched
    size = told(data.label[own] == 1, -data.size[own], np.array([s.group for s in data.squares])[own], data.size[own])
    found = {**figures_of(data, score, names, matched), "size_alone": size}
    print(json.dumps(found, indent=1))
    if asked.figures:
        asked.figures.write_text(json.dumps(found, indent=1) + "\n")
        rows = [(s.id, names[data.source[n]], s.group, s.label, score[n]) for n, s in enumerate(data.squares)]
        asked.figures.with_suffix(".csv").write_text("".join(f"{','.join(map(str, row))}\n" for row in rows))


if __name__ == "__main__":
    main()
