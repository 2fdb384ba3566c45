"""What reports kept of methods whose runs are elsewhere by now: the values of their pictures, and the labels."""

from __future__ import annotations

from collections.abc import Sequence
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


class Kept:
    """The values of the methods in these reports but `others`, which are here, and the labels of theirs and the base's.

    Raises HafError for a folder without values, and for two that have the same method.
    """

    def __init__(self, folders: Sequence[Path], others: Sequence[str]) -> None:
        values, names = [], set(others)
        told: pd.DataFrame | None = None
        for folder in folders:
            if not (folder / VALUES).exists():
                raise HafError(f"{folder} has no {VALUES}: give the folder that a report wrote by --docs.")
            own = pd.read_csv(folder / VALUES, dtype={"prompt_id": str})
            own = own[~own["name"].isin([BASE, *others])]
            if both := sorted(names & set(own["name"]) - set(others)):
                raise HafError(f"{folder} has the method {both[0]}, as another folder that is given has, too.")
            names |= set(own["name"])
            values.append(own)
            if (folder / LABELS).exists():
                said = pd.read_csv(folder / LABELS, dtype=str, keep_default_na=False).astype({"seed": int})
                told = with_kept(said.assign(bad=said["bad"].map(SAID), second=said["second"].map(SAID)), told)
        every = pd.concat(values) if values else pd.DataFrame(columns=["name", "point", *PICTURE])
        self._groups = dict(iter(every.groupby(["name", "point"])))
        self.names = list(dict.fromkeys(every["name"]))
        self.labels = None if told is None else told[~told["name"].isin(others)]

    def points(self, name: str) -> list[Point]:
        """The points of a method's front that were drawn."""
        return [point for key, point in POINTS.items() if (name, key) in self._groups]

    def at(self, name: str, point: Point = LAST) -> pd.DataFrame:
        """By (prompt_id, seed) error, chance, clip, iqa and drift of the pictures of a point."""
        return self._groups[name, point.name].set_index(PICTURE)


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
