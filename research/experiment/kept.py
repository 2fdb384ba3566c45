"""What reports kept of methods whose runs are elsewhere by now: the values of their pictures, and the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from plan import BASE, FRONT, LAST, Point

from hafbench.errors import HafError

VALUES, LABELS = "pictures.csv.gz", "labels.csv"
"""In the folder of a report."""
POINTS = {point.name: point for point in (*FRONT, LAST)}
PICTURE = ["prompt_id", "seed"]
SAID: dict[str, bool | str | None] = {"True": True, "False": False, "none": "none", "": None}
"""What stands in labels.csv, and what it is in the table of labels."""


@dataclass(frozen=True)
class Kept:
    """The values of methods, by name and point's name, and the labels of theirs and the base's, None without any."""

    values: Mapping[tuple[str, str], pd.DataFrame]
    labels: pd.DataFrame | None

    @property
    def names(self) -> list[str]:
        """The methods."""
        return list(dict.fromkeys(name for name, _ in self.values))

    def points(self, name: str) -> list[Point]:
        """The points of a method's front that were drawn."""
        return [point for key, point in POINTS.items() if (name, key) in self.values]

    def at(self, name: str, point: Point = LAST) -> pd.DataFrame:
        """By (prompt_id, seed) error, chance, clip, iqa and drift of the pictures of a point."""
        return self.values[name, point.name].set_index(PICTURE)


def read_kept(folders: Sequence[Path], others: Sequence[str]) -> Kept:
    """What these reports have of methods but `others`, which are here.

    Raises HafError for a folder without values, and for two that have the same method.
    """
    values: dict[tuple[str, str], pd.DataFrame] = {}
    labels: pd.DataFrame | None = None
    for folder in folders:
        if not (folder / VALUES).exists():
            raise HafError(f"{folder} has no {VALUES}: give the folder that a report wrote by --docs.")
        own = pd.read_csv(folder / VALUES, dtype={"prompt_id": str})
        own = own[~own["name"].isin([BASE, *others])]
        if both := {name for name, _ in values} & set(own["name"]):
            raise HafError(f"{folder} has the method {min(both)}, as another folder that is given has, too.")
        values |= dict(iter(own.groupby(["name", "point"], sort=False)))
        if (folder / LABELS).exists():
            said = pd.read_csv(folder / LABELS, dtype=str, keep_default_na=False).astype({"seed": int})
            labels = with_kept(said.assign(bad=said["bad"].map(SAID), second=said["second"].map(SAID)), labels)
    return Kept(values, None if labels is None else labels[~labels["name"].isin(others)])


def with_kept(own: pd.DataFrame | None, kept: pd.DataFrame | None) -> pd.DataFrame | None:
    """The labels of both; of a picture that both have the kept one counts, and the own one is the second if none is."""
    if own is None or kept is None:
        return kept if own is None else own
    key = ["name", *PICTURE]
    again = own.set_index(key)["bad"]
    place = pd.MultiIndex.from_frame(kept[key])
    missing = (kept["second"] == "none").to_numpy() & place.isin(again.index)
    second = kept["second"].astype(object)
    second[missing] = again.reindex(place[missing]).to_numpy()
    new = ~pd.MultiIndex.from_frame(own[key]).isin(place)
    return pd.concat([kept.assign(second=second), own[new]], ignore_index=True)
