"""Images labelled good or bad: a folder for each label, a CSV, or the ground truth of a built-in world."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count as numbers
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast, get_args

from pydantic_core import from_json

from hafbench.errors import HafError, one_line
from hafbench.images import find_images, load_image
from hafbench.mannequin.attributes import HANDS
from hafbench.sources import open_source
from hafbench.sources.unchanged import load_unchanged
from hafbench.types import Kind, Region

if TYPE_CHECKING:
    from hafbench.people.scene import View
    from hafbench.registry import Home
    from hafbench.sources import ImageSource, Place
    from hafbench.types import Pixels

LABELS = {"good": False, "bad": True, "unclear": None}
FRAMINGS: Mapping[Region, tuple[str, ...]] = {"hands": HANDS, "limbs": ("upper_body", "full_body")}
"""Which pictures of mannequins a scorer of a region can judge."""
VIEWS: Mapping[Region, tuple[str, ...]] = {
    "hands": ("hand",),
    **dict.fromkeys(("limbs", "feet", "face", "torso"), ("figure",)),
}
"""The same for pictures of people."""
WORLD_SEED = 40
"""Of renders that no model or card of the package has seen (docs/studies/mannequin.md lists those that are taken)."""
RENDERS = 400
"""So many are made for a card, unless another number is asked for."""
PEOPLE_SIZE = 384
"""Pictures of people are so many pixels wide and high."""


@dataclass(frozen=True)
class Labelled:
    """An image with its label; `bad` is None for an unclear one, `source` names where it comes from, if known.

    `region` and `kind` are those of the image's error, if known: a kind only with its region, none for a good image.
    `sha256` is that of the file that was labelled, if known.
    """

    name: str
    bad: bool | None
    source: str | None
    prompt: str | None
    read: Callable[[], Pixels]
    region: Region | None = None
    kind: Kind | None = None
    sha256: str | None = None


def read_labels(labels: Path, images: ImageSource | None) -> list[Labelled]:
    """Labelled images of a folder with good/ and bad/, of a CSV, or of a set of renders (images.npy, truth.jsonl).

    A CSV has the columns image and label (good, bad, unclear), and may have source, prompt_id, the region and kind of
    the error, the image's sha256, and choice: lines with the choice active are left out, since a scorer's doubts must
    not choose the images that it is measured on. Its images lie below `images`, or below its own folder. Raises
    HafError for anything else, naming the line.
    """
    if (labels / "truth.jsonl").exists():
        return list(_from_renders(labels))
    if labels.is_dir():
        return _from_folders(labels)
    if labels.is_file():
        return _from_table(labels, images or open_source(labels.parent, "folder"))
    raise HafError(
        f"{labels} does not exist; give a folder with good/ and bad/, a CSV, or for renders --truth "
        f"{' or '.join(WORLDS)}."
    )


def _file(find: Callable[[], Path | Place]) -> Callable[[], Pixels]:
    def read() -> Pixels:
        import numpy as np

        return np.asarray(load_image(find()))

    return read


def _labelled_file(find: Callable[[], Place], sha256: str, name: str) -> Callable[[], Pixels]:
    def read() -> Pixels:
        import numpy as np

        return np.asarray(load_unchanged(find(), sha256, name))

    return read


def _from_folders(folder: Path) -> list[Labelled]:
    found = []
    for label in ("good", "bad"):
        paths = find_images(folder / label) if (folder / label).is_dir() else []
        if not paths:
            raise HafError(f"{folder} has no images in {label}/; put the images of each label into good/ and bad/.")
        for path in paths:
            inside = path.relative_to(folder / label)
            source = inside.parts[0] if len(inside.parts) > 1 else None
            name = path.relative_to(folder).as_posix()
            found.append(Labelled(name, LABELS[label], source, None, _file(partial(Path, path))))
    return found


def _from_table(path: Path, images: ImageSource) -> list[Labelled]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HafError(f"{path}: the labels cannot be read ({error}).") from error
    if not rows or not {"image", "label"} <= set(rows[0]):
        raise HafError(f"{path}: a table of labels has the columns image and label, and one image a line.")
    found: dict[str, Labelled] = {}
    active: set[str] = set()
    for number, row in enumerate(rows, 2):
        name, label = (row["image"] or "").strip(), (row["label"] or "").strip().lower()
        if label not in LABELS:
            raise HafError(f"{path}, line {number}: '{label}' is not a label; use good, bad or unclear.")
        inside = PurePosixPath(name)
        if not name or inside.is_absolute() or ".." in inside.parts or "\0" in name:
            raise HafError(f"{path}, line {number}: {name!r} is not a path below {images.address}.")
        if name in found:
            raise HafError(f"{path}, line {number}: {name} has a label already.")
        prompt, source = (row.get(key) or None for key in ("prompt_id", "source"))
        words = [(row.get(key) or "").strip().lower() or None for key in ("region", "kind")]
        try:
            region, kind = _error_of(LABELS[label], *words)
        except ValueError as error:
            raise HafError(f"{path}, line {number}: {error}.") from error
        place, sha256 = partial(images.place, name), (row.get("sha256") or "").strip().lower() or None
        read = _labelled_file(place, sha256, name) if sha256 else _file(place)
        found[name] = Labelled(name, LABELS[label], source, prompt, read, region, kind, sha256)
        active |= {name} if (row.get("choice") or "").strip().lower() == "active" else set()
    if len(active) == len(found):
        raise HafError(
            f"{path}: the scorers' doubts chose all its images; a card needs some that were drawn at random."
        )
    return [one for name, one in found.items() if name not in active]


def _error_of(bad: bool | None, region: object, kind: object) -> tuple[Region | None, Kind | None]:
    """The region and kind of an image's error; raises ValueError for what cannot be."""
    for name, word, known in (("region", region, get_args(Region)), ("kind", kind, get_args(Kind))):
        if word is not None and word not in known:
            raise ValueError(f"{word!r:.100} is not a {name}; use {', '.join(known)}")
    if bad is False and (region or kind):
        raise ValueError("a good image has no error, and so no region or kind of one")
    if kind and not region:
        raise ValueError(f"the error has the kind {kind}, but no region")
    return cast("Region | None", region), cast("Kind | None", kind)


def _from_renders(folder: Path) -> Iterator[Labelled]:
    import numpy as np

    try:
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        lines = (folder / "truth.jsonl").read_bytes().split(b"\n")
    except (OSError, ValueError, EOFError) as error:
        raise HafError(f"{folder}: the renders cannot be read ({one_line(error)}).") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise HafError(
            f"{folder / 'images.npy'} does not hold RGB images: it is {images.dtype} of shape {images.shape}."
        )
    truths = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(truths) != len(images):
        raise HafError(f"{folder}: truth.jsonl has {len(truths)} lines, but images.npy {len(images)} images.")
    for index, (number, line) in enumerate(truths):
        try:
            found = _render(str(index), from_json(line), images[index])
        except (ValueError, KeyError, TypeError) as error:
            raise HafError(
                f"{folder / 'truth.jsonl'}, line {number}: this is not the truth of a render ({one_line(error)})."
            ) from error
        yield found


def _render(name: str, truth: dict[str, Any], pixels: Pixels) -> Labelled:
    """A render by its truth; raises ValueError, KeyError or TypeError if that is none."""
    import numpy as np

    framing, error = truth["attributes"]["framing"], truth["error"]
    if not isinstance(framing, str):
        raise TypeError(f"the framing is {framing!r:.100}")
    region, kind = (None, None) if error is None else _error_of(True, error["region"], error["kind"])
    return Labelled(name, error is not None, framing, None, lambda: np.array(pixels), region, kind)


Draw = Callable[[Sequence[Region], Sequence[str], int], Iterator[Labelled]]
"""Renders of these views with errors of these regions (of all if there are none), from a seed on, without end."""


@dataclass(frozen=True)
class Rendered:
    """A built-in world in place of labels. views: those that a scorer of a region can judge. note: for the card.

    errors: the regions of the errors that a view may have, where only those of a scorer are drawn; None where all are.
    """

    home: Home
    views: Mapping[Region, tuple[str, ...]]
    draw: Draw
    note: str
    errors: Callable[[str], Collection[Region]] | None = None


def _mannequins(regions: Sequence[Region], views: Sequence[str], seed: int) -> Iterator[Labelled]:
    from hafbench.mannequin.dataset import draw
    from hafbench.mannequin.errors import JUDGING
    from hafbench.mannequin.picture import SIZE

    for number in numbers(seed):
        pixels, truth = draw(number, 0.5, JUDGING, SIZE)
        if not views or truth["attributes"]["framing"] in views:
            yield _render(str(number), truth, pixels)


def _people(regions: Sequence[Region], views: Sequence[str], seed: int) -> Iterator[Labelled]:
    """The good and the bad picture of each scene, one after the other; `source` is the error's detail."""
    from hafbench.people.pairs import pair

    for number in numbers(seed):
        view = views[number % len(views)]
        made = pair(number, view=cast("View", view), size=PEOPLE_SIZE, regions=regions)
        if made is None:
            continue
        for bad, picture in ((False, made.good), (True, made.bad)):
            name = f"{number}/{'bad' if bad else 'good'}"
            error = (made.defect.region, made.defect.kind) if bad else (None, None)
            yield Labelled(name, bad, made.defect.detail, str(number), picture.image.copy, *error)


def _errors_of_people(view: str) -> Collection[Region]:
    from hafbench.people.defects import of_view

    return {row.region for row in of_view(cast("View", view))}


WORLDS: Mapping[str, Rendered] = {
    "mannequin": Rendered(
        "mannequins", FRAMINGS, _mannequins, "renders of the built-in world of mannequins, half of them with an error"
    ),
    "people": Rendered(
        "photographs",
        VIEWS,
        _people,
        "renders of the built-in world of people, each scene without and with an error",
        _errors_of_people,
    ),
}
"""By the words that stand in place of labels: renders whose truth is known."""


def views_of(world: str, regions: Sequence[Region], asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The views of a world that a scorer of these regions can judge, or those asked for.

    Raises HafError for a view that the world does not have, or that has no error of these regions.
    """
    known, errors = WORLDS[world].views, WORLDS[world].errors
    every = tuple(dict.fromkeys(view for views in known.values() for view in views))
    for view in asked:
        if view not in every:
            raise HafError(f"--view {view}: the world {world} has the views {', '.join(every)}.")
    chosen = tuple(asked) or tuple(dict.fromkeys(view for one in regions for view in known.get(one, ()))) or every
    for view in chosen if errors and regions else ():
        if errors and not set(errors(view)) & set(regions):
            raise HafError(
                f"The view {view} of the world {world} has no error of the {' or '.join(regions)}, which is all that "
                "this scorer looks at; leave --view out, or give another."
            )
    return chosen


def render_world(
    world: str, regions: Sequence[Region], count: int, seed: int, views: Sequence[str] = ()
) -> Iterator[Labelled]:
    """`count` renders of the views that a scorer of these regions can judge, half of them with an error."""
    chosen = views_of(world, regions, views)
    return islice(WORLDS[world].draw(regions, chosen, seed * 10_000_000), count)
