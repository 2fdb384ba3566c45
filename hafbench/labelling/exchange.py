"""Labels as files: a table (CSV, Parquet), boxes for COCO and Label Studio, and examples for a judge."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.errors import HafError
from hafbench.files import write_whole
from hafbench.labelling.answers import IMAGE_ANSWERS, Label, Mark
from hafbench.labelling.consensus import consensus
from hafbench.labelling.drawn import drawn_of
from hafbench.labelling.store import LabelStore, Picture

if TYPE_CHECKING:
    import numpy as np

    from hafbench.labelled import Labelled
    from hafbench.runs import Run

WORDS: Mapping[str, str] = {"good": "good", "error": "bad", "unsure": "unclear"}
"""As `hafbench calibrate` calls them."""


@dataclass(frozen=True)
class Row:
    """One image in a table: the label, the region and kind of its main error, and all its boxes as JSON.

    `choice` says how the image was drawn (all, random, active, imported), `chance` how likely that was. `rater` is
    there in a table of single answers only.
    """

    image: str
    label: str
    region: str | None
    kind: str | None
    source: str
    prompt_id: str | None
    prompt: str | None
    seed: int | None
    sha256: str
    raters: int
    settled: bool
    blind: bool
    seconds: float | None
    marks: str
    choice: str
    chance: float | None
    rater: str | None = None
    turn: str | None = None


@dataclass(frozen=True)
class Exported:
    """What a file is made of: each picture with its label, good, error or unsure, its marks, and how it was drawn."""

    picture: Picture
    answer: str
    marks: tuple[Mark, ...]
    choice: str


def labelled_pictures(store: LabelStore) -> list[Exported]:
    """The images with a label that raters agree on."""
    pictures, labels = store.pictures(), store.labels()
    drawn = drawn_of(store, labels)
    return [
        Exported(pictures[item], one.answer, one.marks, drawn.choice(item)[0])
        for item, one in consensus(labels).items()
        if item in pictures and one.answer in IMAGE_ANSWERS
    ]


def rows(store: LabelStore, answers: bool = False, names: bool = False) -> list[Row]:
    """A row an image, or with `answers` a row an answer, with the raters' names if `names`, else numbers."""
    pictures, labels = store.pictures(), store.labels()
    drawn = drawn_of(store, labels)
    known = dict.fromkeys(one.rater for one in labels)
    raters = {name: name if names else f"rater {place}" for place, name in enumerate(known, 1)}
    if answers:
        return [
            replace(
                _row(pictures[one.item], one.answer, one.marks, drawn.choice(one.item)),
                settled=one.turn == "settled",
                blind=one.blind,
                seconds=one.seconds,
                rater=raters[one.rater],
                turn=one.turn,
            )
            for one in labels
            if one.item in pictures
        ]
    return [
        replace(
            _row(pictures[item], one.answer or "unsure", one.marks, drawn.choice(item)),
            raters=len(one.raters),
            settled=one.settled,
            blind=one.blind,
        )
        for item, one in consensus(labels).items()
        if item in pictures
    ]


def _row(picture: Picture, answer: str, marks: tuple[Mark, ...], choice: tuple[str, float | None]) -> Row:
    main = main_mark(marks)
    return Row(
        image=picture.image,
        label=WORDS[answer],
        region=main.region if main else None,
        kind=main.kind if main else None,
        source=picture.run,
        prompt_id=picture.prompt_id,
        prompt=picture.prompt,
        seed=picture.seed,
        sha256=picture.sha256,
        raters=1,
        settled=False,
        blind=True,
        seconds=None,
        marks=json.dumps([mark.model_dump() for mark in marks]),
        choice=choice[0],
        chance=choice[1],
    )


def main_mark(marks: Sequence[Mark]) -> Mark | None:
    """The first mark with a region; a kind without one says too little."""
    return next((mark for mark in marks if mark.region), None)


def to_table(store: LabelStore, path: Path, answers: bool = False, names: bool = False) -> int:
    """Write rows as CSV or Parquet, by the file's name; returns how many."""
    import pandas as pd

    found = rows(store, answers, names)
    columns = [one.name for one in fields(Row) if answers or one.name not in ("rater", "turn", "seconds")]
    frame = pd.DataFrame([asdict(row) for row in found], columns=columns).astype({"seed": "Int64"})
    writers: Mapping[str, Callable[[Path], object]] = {
        ".csv": lambda file: frame.to_csv(file, index=False),
        ".parquet": lambda file: frame.to_parquet(file, index=False),
    }
    if path.suffix not in writers:
        raise HafError(f"{path}: give a file that ends in .csv or .parquet, or a --format.")
    write_whole(path, writers[path.suffix])
    return len(found)


def name_of(mark: Mark) -> str:
    """The class of a box: region and kind, as far as they are known."""
    return " ".join(filter(None, (mark.region, mark.kind))) or "error"


def to_coco(store: LabelStore, path: Path) -> int:
    """Write the boxes as COCO's JSON; good images have none. Images of which nobody was sure are left out."""
    clear = [one for one in labelled_pictures(store) if one.answer != "unsure"]
    boxed = [(number, mark, mark.box) for number, one in enumerate(clear, 1) for mark in one.marks if mark.box]
    categories = {name: place for place, name in enumerate(dict.fromkeys(name_of(mark) for _, mark, _ in boxed), 1)}
    content = {
        "images": [
            {
                "id": number,
                "file_name": one.picture.image,
                "sha256": one.picture.sha256,
                "choice": one.choice,
                "width": one.picture.width,
                "height": one.picture.height,
                "label": WORDS[one.answer],
            }
            for number, one in enumerate(clear, 1)
        ],
        "annotations": [
            {
                "id": place,
                "image_id": number,
                "category_id": categories[name_of(mark)],
                "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                "area": (box[2] - box[0]) * (box[3] - box[1]),
                "iscrowd": 0,
            }
            for place, (number, mark, box) in enumerate(boxed, 1)
        ],
        "categories": [
            {"id": place, "name": name, "supercategory": name.split()[0]} for name, place in categories.items()
        ],
    }
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return len(clear)


def to_label_studio(store: LabelStore, path: Path) -> int:
    """Write tasks with annotations as Label Studio imports them; boxes in percent of the image."""
    found = labelled_pictures(store)
    content = [
        {
            "data": {
                "image": one.picture.image,
                "prompt": one.picture.prompt,
                "sha256": one.picture.sha256,
                "choice": one.choice,
            },
            "annotations": [{"result": [_choice(one.answer), *(_rectangle(one.picture, own) for own in _boxed(one))]}],
        }
        for one in found
    ]
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return len(found)


def _boxed(one: Exported) -> list[Mark]:
    sized = one.picture.width and one.picture.height
    return [mark for mark in one.marks if mark.box and sized]


def _choice(answer: str) -> dict[str, Any]:
    return {"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": [WORDS[answer]]}}


def _rectangle(picture: Picture, mark: Mark) -> dict[str, Any]:
    width, height = picture.width or 1, picture.height or 1
    x1, y1, x2, y2 = mark.box or (0, 0, 0, 0)
    place = {"x": 100 * x1 / width, "y": 100 * y1 / height}
    size = {"width": 100 * (x2 - x1) / width, "height": 100 * (y2 - y1) / height}
    return {
        "type": "rectanglelabels",
        "from_name": "error",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "value": {**place, **size, "rotation": 0, "rectanglelabels": [name_of(mark)]},
    }


def to_examples(store: LabelStore, folder: Path, number: int, seed: int = 0) -> int:
    """Write `number` good and as many bad images, drawn at random, as `--judge-examples` takes them."""
    import numpy as np

    rng = np.random.default_rng(seed)
    found = labelled_pictures(store)
    written = 0
    for label in ("good", "bad"):
        own = [one.picture for one in found if WORDS[one.answer] == label]
        if len(own) < number:
            raise HafError(f"{store.path} has {len(own)} {label} images; ask for at most as many with --number.")
        for place in rng.permutation(len(own))[:number]:
            image = own[place].load()
            target = folder / label / f"{own[place].sha256[:16]}.png"
            write_whole(target, partial(image.save, format="PNG"))
            written += 1
    return written


def labels_for_calibration(store: LabelStore, run: Run | None) -> list[Labelled]:
    """The images with a clear label as `hafbench calibrate` takes them: those of the run, or where they lay.

    Only those that were drawn with equal chances: a scorer's doubts must not choose the images that it is measured on.
    """
    from hafbench.labelled import LABELS, Labelled
    from hafbench.labelling.frame import pictures_of

    own = {one.sha256: one for one in pictures_of(run)} if run else store.pictures()
    labels = store.labels()
    drawn = drawn_of(store, labels)
    equal = drawn.equal
    found = []
    for item, one in consensus(labels).items():
        picture, main = own.get(item), main_mark(one.marks)
        if picture is None or item not in equal or one.answer not in ("good", "error"):
            continue
        word, error = WORDS[one.answer], (main.region, main.kind) if main else (None, None)
        read = partial(_pixels, picture)
        found.append(
            Labelled(picture.image, LABELS[word], picture.run, picture.prompt_id, read, *error, sha256=picture.sha256)
        )
    if not found:
        what = f"of {run.address} " if run else ""
        active = any(plan.active for plan in drawn.plans)
        drawn_so = "that was not drawn by the scorers' doubts " if active else ""
        raise HafError(f"{store.path}: no image {what}{drawn_so}has a clear label; give some with `hafbench label`.")
    return found


def _pixels(picture: Picture) -> np.ndarray:
    import numpy as np

    return np.asarray(picture.load())


@dataclass(frozen=True)
class Imported:
    """A label of a file, and the picture of a run that it is about."""

    picture: Picture
    label: Label


def labels_of_file(path: Path, runs: Sequence[Run], rater: str) -> list[Imported]:
    """The labels of a file about images of these runs: a table, COCO or Label Studio.

    They are of `rater` where the file does not name one. Images are found by their SHA-256 where the file has it, else
    by their name below the run's images. Raises HafError, naming it, for an image of no run, for a name that is of
    several, for two labels of one image by one rater in one turn, and for an image that an active choice drew: without
    its chance, which only its own store has, it would count as one of a random part.
    """
    from hafbench.labelling.frame import pictures_of
    from hafbench.labelling.reading import read_file

    by_sha256: dict[str, Picture] = {}
    by_name: dict[str, dict[str, Picture]] = {}
    for run in runs:
        for one in pictures_of(run):
            by_sha256[one.sha256] = one
            by_name.setdefault(one.image, {})[one.sha256] = one
    found: dict[tuple[str, str, str], Imported] = {}
    for read in read_file(path):
        alike = by_name.get(read.image, {})
        if read.sha256 is None and len(alike) > 1:
            raise HafError(f"{path}: {read.image} is an image of several of these runs; give one --run at a time.")
        picture = by_sha256.get(read.sha256) if read.sha256 is not None else next(iter(alike.values()), None)
        if picture is None:
            other = ", but another one of that name" if alike else ""
            raise HafError(f"{path}: {read.image} is no image of {', '.join(run.address for run in runs)}{other}.")
        if read.choice == "active":
            raise HafError(
                f"{path}: {read.image} was drawn by the scorers' doubts, and would count as drawn at random; use the "
                "store that it was labelled in, or leave it out."
            )
        label = Label(picture.sha256, read.rater or rater, read.turn, read.answer, read.marks)
        if _key(label) in found:
            raise HafError(f"{path}: {read.image} has a label of {label.rater} already; leave out one of the two.")
        found[_key(label)] = Imported(picture, label)
    return list(found.values())


def import_labels(store: LabelStore, found: Sequence[Imported]) -> int:
    """Add the labels of a file; returns how many were new: not what their rater said last of the image in that turn."""
    store.add_pictures(one.picture for one in found)
    standing = {_key(one): one for one in store.labels()}
    new = [
        one.label
        for one in found
        if (before := standing.get(_key(one.label))) is None
        or (before.answer, before.marks) != (one.label.answer, one.label.marks)
    ]
    for label in new:
        store.add(f"import-{secrets.token_hex(24)}", label)
    return len(new)


def _key(label: Label) -> tuple[str, str, str]:
    return label.item, label.rater, label.turn
