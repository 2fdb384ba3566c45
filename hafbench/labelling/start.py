"""From runs and settings to a session: the plan is drawn, or goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hafbench.errors import HafError
from hafbench.labelling.frame import Item, image_items, pair_items
from hafbench.labelling.sampling import Choose, PlanSpec, Target, draw_plan, frame_hash
from hafbench.labelling.session import Session
from hafbench.labelling.store import FILE, LabelStore
from hafbench.stores import address_of

if TYPE_CHECKING:
    from hafbench.runs import Run


@dataclass(frozen=True)
class Labelling:
    """What is asked of people. `pairs` is the other run, whose images stand beside those of the only one of `runs`."""

    runs: tuple[Path, ...]
    pairs: Path | None = None
    store: Path | None = None
    raters: tuple[str, ...] = ("rater",)
    choose: Choose = "all"
    number: int | None = None
    target: Target = "rate"
    scorer: str | None = None
    shared: float = 0.1
    again: float = 0.05
    seed: int = 0
    prompts: bool = True
    settling: bool = False


def start(asked: Labelling) -> tuple[Session, list[Run]]:
    """The session and the runs; raises HafError for what cannot be asked."""
    from hafbench.runs import read_run

    folders = [*asked.runs, *([asked.pairs] if asked.pairs else [])]
    if not asked.runs:
        raise HafError("Give at least one run folder.")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise HafError("A run is given twice; give different run folders.")
    if asked.pairs and len(asked.runs) > 1:
        raise HafError("--pairs compares two runs: give one run, and --pairs with the other.")
    if (asked.choose != "all") != (asked.number is not None):
        raise HafError("--choose random and --choose active draw a number of images: give --number N with them.")
    if asked.pairs and asked.choose == "active":
        raise HafError("Pairs are drawn with equal chances: give --choose random with --pairs.")
    if asked.target == "difference" and (asked.choose != "active" or len(asked.runs) != 2):
        raise HafError("--target difference chooses for the difference of two runs: give both, and --choose active.")
    if asked.store is None and len(asked.runs) > 1:
        raise HafError("Labels of several runs are kept in one store: give --store FILE.")
    if asked.store is None and address_of(asked.runs[0]):
        raise HafError("Labels are kept in a file of this machine: give --store FILE with a run at an address.")
    raters = tuple(dict.fromkeys(name.strip() for name in asked.raters))
    if not all(0 < len(name) <= 60 and name.isprintable() for name in raters):
        raise HafError("A rater's name has 1 to 60 printable characters.")
    runs = [read_run(folder) for folder in folders]
    items = _items(asked, runs)
    spec = PlanSpec(
        task="pairs" if asked.pairs else "images",
        choose=asked.choose,
        number=asked.number,
        target=asked.target,
        scorer=asked.scorer,
        shared=asked.shared,
        again=asked.again,
        seed=asked.seed,
        frame=frame_hash([one.key for one in items]),
    )
    store = LabelStore(asked.store or asked.runs[0] / FILE)
    pictures = {one.sha256: one for item in items for one in item.pictures}
    store.add_pictures(pictures.values())
    store.add_plan(spec.name, spec.model_dump_json(), draw_plan(spec, items), pictures)
    return Session(store, spec.name, _shown(spec, items, store), raters, asked.prompts, asked.settling), runs


def _items(asked: Labelling, runs: Sequence[Run]) -> list[Item]:
    doubt = asked.choose == "active"
    if asked.pairs or asked.target == "difference":
        return pair_items(runs[0], runs[1], asked.scorer, doubt=doubt)
    return image_items(runs, asked.scorer, doubt=doubt)


def _shown(spec: PlanSpec, items: Sequence[Item], store: LabelStore) -> dict[str, Item]:
    """The items of the plan; a pair that was drawn for a difference is two of them."""
    single = {one.sha256: Item(one.sha256, item.group, (one,), (None,)) for item in items for one in item.pictures}
    known = single if spec.task == "images" else {item.key: item for item in items}
    return {entry.item: known[entry.item] for entry in store.entries(spec.name)}


def verdict_lines(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """What the scorers say of each image, by SHA-256: for review, when a rater asks."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for row in run.records.dropna(subset=["sha256"]).to_dict("records"):
            value, verdict = row["value"], row["is_error"]
            said = {True: "error", False: "sound"}.get(verdict, "") if verdict in (True, False) else row["status"]
            number = f" {value:.2f}" if value == value else ""
            found.setdefault(str(row["sha256"]), []).append(f"{row['scorer']}: {said}{number}")
    return {sha256: tuple(lines) for sha256, lines in found.items()}
