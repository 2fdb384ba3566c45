"""What two runs share: scorers, prompts and pairs of (prompt, seed), joined into one table a metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hafbench.errors import HafError
from hafbench.figures import Metric, counted, metrics_of
from hafbench.runs import differences

if TYPE_CHECKING:
    import pandas as pd

    from hafbench.manifest import ScorerFacts
    from hafbench.runs import Run
    from hafbench.statistics.clusters import Ints


@dataclass(frozen=True)
class Shared:
    """What two runs have in common.

    `pairs` is the number of (prompt, seed) that both have; 0 where they share prompts but no seed, and are compared by
    prompt. `same_images` is whether every pair is of two files with the same SHA-256. `remarks` say what was left out
    and why, `changes` how their pictures were made differently.
    """

    prompts: int
    pairs: int
    images: tuple[int, int]
    scorers: tuple[str, ...]
    remarks: tuple[str, ...]
    changes: tuple[str, ...]
    same_images: bool = False


ALONE, UNPAIRED = float("inf"), -1.0
"""In place of a seed: no seed is either."""


def shared_scorers(baseline: Run, candidate: Run, remarks: list[str]) -> dict[str, ScorerFacts]:
    """The scorers that judged both runs in the same version, settings and weights.

    One that the rate of all anatomy scorers together leaves out in either run is left out of it in both.
    """
    one, other = (run.manifest.scorers for run in (baseline, candidate))
    shared: dict[str, ScorerFacts] = {}
    for name in [*one, *(name for name in other if name not in one)]:
        if name not in one or name not in other:
            remarks.append(f"{name} is left out: only one of the runs has it.")
            continue
        changes = differences(one[name].identity(), other[name].identity())
        if changes:
            remarks.append(f"{name} is left out: it is not the same scorer ({'; '.join(changes[:2])}).")
        elif one[name].unavailable:
            remarks.append(f"{name} is left out: neither run was scored by it.")
        else:
            left_out = one[name].left_out or other[name].left_out
            if one[name].left_out != other[name].left_out:
                remarks.append(
                    f"{name} is left out of the rate of all anatomy scorers together, as in one of the runs."
                )
            shared[name] = one[name].model_copy(update={"left_out": left_out})
    if not shared:
        raise HafError(f"{baseline.address} and {candidate.address} share no scorer: {' '.join(remarks)}")
    return shared


def keyed_metrics(runs: tuple[Run, Run], scorers: Mapping[str, ScorerFacts]) -> list[dict[str, Metric]]:
    """Of each run the metrics of the shared scorers, each row with `key`, its prompt's identity, and `pair`.

    Without a prompt the key is the image's name. `pair` is the seed. Without one it is ALONE for the only image of its
    key, and UNPAIRED for several, which are not paired with anything. The keys are categoricals of one kind.
    """
    import pandas as pd

    keys = [_keys(run.records) for run in runs]
    words = pd.Index(keys[0].categories.union(keys[1].categories, sort=False))
    return [_keyed(run, scorers, key.set_categories(words)) for run, key in zip(runs, keys, strict=True)]


def _keys(records: pd.DataFrame) -> pd.Categorical:
    """The identity of each row's prompt: its id and its text, since suites may give one id to two prompts."""
    import numpy as np
    import pandas as pd

    (ids, names), (texts, prompts) = (pd.factorize(records[name]) for name in ("prompt_id", "prompt"))
    prompted, codes = ids >= 0, np.empty(len(ids), dtype=np.int64)
    codes[prompted], both = pd.factorize((ids * len(prompts) + texts)[prompted])
    alone, images = pd.factorize(records["image"][~prompted])
    codes[~prompted] = len(both) + alone
    first, second = np.divmod(both, max(1, len(prompts)))
    words = names.astype("str").take(first) + "\0" + prompts.astype("str").take(second)
    return pd.Categorical.from_codes(codes, words.append(images))


def _keyed(run: Run, scorers: Mapping[str, ScorerFacts], keys: pd.Categorical) -> dict[str, Metric]:
    import numpy as np
    import pandas as pd

    columns = ["prompt", "category", "seed", "scorer", "status", "value", "is_error", "reason", "cause"]
    # Names of images as codes, and hashes not at all: moving texts takes most of the time.
    images = pd.Categorical.from_codes(*pd.factorize(run.records["image"]), validate=False)
    records = run.records[columns].assign(row=np.arange(len(images)), image=images, key=keys)
    shared = records["scorer"].isin(scorers).to_numpy()
    narrowed = replace(
        run,
        manifest=run.manifest.model_copy(update={"scorers": dict(scorers)}),
        records=records if shared.all() else records[shared],
    )
    keyed = {}
    for name, metric in metrics_of(narrowed).items():
        rows = metric.rows
        seeds = rows["seed"].to_numpy(dtype=np.float64, na_value=np.nan)
        alone = ~rows["key"].duplicated(keep=False).to_numpy()
        pair = np.where(np.isnan(seeds), np.where(alone, ALONE, UNPAIRED), seeds)
        keyed[name] = replace(metric, rows=rows.assign(pair=pair))
    return keyed


_COLUMNS = ["key", "pair", "row", "image", "prompt", "category", "seed", "value", "is_error"]


def shared_tables(runs: tuple[Run, Run], sides: Sequence[Mapping[str, Metric]]) -> dict[str, pd.DataFrame]:
    """The shared rows of each metric that both sides have, columns with the endings _a and _b: joined by pair.

    Where no pair is shared, the rows of shared prompts one below the other, with the columns of the other side missing.
    `row` is the place in the records of a side's run, and `image` a categorical. The first table alone has the hashes
    of the images, `sha256_a` and `sha256_b`.
    """
    tables: dict[str, pd.DataFrame] = {}
    known: _Joined | None = None
    for name in sides[0]:
        if name not in sides[1]:
            continue
        one, other = (side[name].rows for side in sides)
        # Most metrics have the same images in the same order.
        if known is None or not known.fits(one, other):
            known = _join(one, other)
        tables[name] = _table(one, other, known)
        if len(tables) == 1:
            tables[name] = _with_hashes(tables[name], runs)
    return tables


@dataclass(frozen=True)
class _Joined:
    """Which rows (n,) of two sides are of the same pair, and the columns key and pair by which that was found."""

    sides: tuple[pd.DataFrame, pd.DataFrame]
    places: tuple[Ints, Ints]

    def fits(self, one: pd.DataFrame, other: pd.DataFrame) -> bool:
        """Whether two other sides have the same pairs at the same places."""
        import numpy as np

        return all(
            len(known) == len(side)
            and np.array_equal(known["key"].array.codes, side["key"].array.codes)
            and np.array_equal(known["pair"], side["pair"])
            for known, side in zip(self.sides, (one, other), strict=True)
        )


def _join(one: pd.DataFrame, other: pd.DataFrame) -> _Joined:
    import numpy as np

    sides = (one[["key", "pair"]], other[["key", "pair"]])
    placed = (side.assign(place=np.arange(len(side)))[side["pair"] != UNPAIRED] for side in sides)
    first, second = (side.drop_duplicates(["key", "pair"]) for side in placed)
    joined = first.merge(second, on=["key", "pair"], how="inner", validate="one_to_one")
    return _Joined(sides, (joined["place_x"].to_numpy(), joined["place_y"].to_numpy()))


def _table(one: pd.DataFrame, other: pd.DataFrame, joined: _Joined) -> pd.DataFrame:
    import pandas as pd

    own = [name for name in _COLUMNS if name not in ("key", "pair")]
    if len(joined.places[0]):
        left, right = (side.take(place) for side, place in zip((one[_COLUMNS], other[own]), joined.places, strict=True))
        columns = {name: left[name].array for name in ("key", "pair")}
        for side, end in ((left, "a"), (right, "b")):
            columns |= {f"{name}_{end}": side[name].array for name in own}
        return pd.DataFrame(columns, copy=False).assign(paired=True)
    keys = set(one["key"].unique()) & set(other["key"].unique())
    sides = [
        side.loc[side["key"].isin(keys), _COLUMNS].rename(columns={name: f"{name}_{end}" for name in own})
        for side, end in ((one, "a"), (other, "b"))
    ]
    return pd.concat(sides, ignore_index=True).assign(paired=False)


def _with_hashes(table: pd.DataFrame, runs: tuple[Run, Run]) -> pd.DataFrame:
    import numpy as np

    rows = [table[f"row_{end}"].fillna(-1).to_numpy(dtype=np.int64) for end in "ab"]
    one, other = (run.records["sha256"].array.take(own, allow_fill=True) for run, own in zip(runs, rows, strict=True))
    return table.assign(sha256_a=one, sha256_b=other)


def describe_shared(
    baseline: Run,
    candidate: Run,
    sides: Sequence[Mapping[str, Metric]],
    table: pd.DataFrame,
    scorers: Iterable[str],
    remarks: list[str],
) -> Shared:
    """What two runs share, from the table of their first metric; `remarks` are those so far."""
    paired = bool(table["paired"].all())
    counts = [int(table[f"image_{end}"].notna().sum()) for end in "ab"]
    whole = [next(iter(side.values())).rows for side in sides]
    if not paired:
        remarks.append("They share prompts but no seed: compared by prompt, without wins and losses.")
    left = [len(rows) - count for rows, count in zip(whole, counts, strict=True)]
    if any(left):
        remarks.append(
            f"Not shared, and left out: {counted(left[0], 'image')} of the baseline, {left[1]} of the candidate."
        )
    return Shared(
        prompts=int(table["key"].nunique()),
        pairs=len(table) if paired else 0,
        images=(counts[0], counts[1]),
        scorers=tuple(scorers),
        remarks=tuple(remarks),
        changes=tuple(differences(baseline.manifest.pictures(), candidate.manifest.pictures())),
        same_images=paired and bool((table["sha256_a"] == table["sha256_b"]).all()),
    )
