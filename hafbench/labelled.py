"""Images labelled good or bad: a folder for each label, a CSV, or the built-in world's ground truth."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast, get_args

from pydantic_core import from_json

from hafbench.errors import HafError, one_line
from hafbench.images import find_images, load_image
from hafbench.types import Kind, Region

if TYPE_CHECKING:
    from hafbench.types import Pixels

LABELS = {"good": False, "bad": True, "unclear": None}
WORLD = "mannequin"
"""In place of labels: renders of the built-in world, whose truth is known."""
FRAMINGS: Mapping[Region, tuple[str, ...]] = {"hands": ("hand", "two_hands"), "limbs": ("upper_body", "full_body")}
"""Which pictures of the built-in world a scorer of a region can judge."""
WORLD_SEED = 40
"""Of renders that no model or card of the package has seen (docs/studies/mannequin.md lists those that are taken)."""


@dataclass(frozen=True)
class Labelled:
    """An image with its label; `bad` is None for an unclear one, `source` names where it comes from, if known.

    `region` and `kind` are those of the image's error, if known: a kind only with its region, none for a good image.
    """

    name: str
    bad: bool | None
    source: str | None
    prompt: str | None
    read: Callable[[], Pixels]
    region: Region | None = None
    kind: Kind | None = None


def read_labels(labels: Path, images: Path | None) -> list[Labelled]:
    """Labelled images of a folder with good/ and bad/, of a CSV, or of a set of renders (images.npy, truth.jsonl).

    A CSV has the columns image and label (good, bad, unclear), and may have source, prompt_id, and the region and kind
    of the error; its images lie below `images`, or below its own folder. Raises HafError for anything else, naming the
    line.
    """
    if (labels / "truth.jsonl").exists():
        return list(_from_renders(labels))
    if labels.is_dir():
        return _from_folders(labels)
    if labels.is_file():
        return _from_table(labels, images or labels.parent)
    raise HafError(f"{labels} does not exist; give a folder with good/ and bad/, a CSV, or the word {WORLD}.")


def _file(path: Path) -> Callable[[], Pixels]:
    def read() -> Pixels:
        import numpy as np

        return np.asarray(load_image(path))

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
            found.append(Labelled(path.relative_to(folder).as_posix(), LABELS[label], source, None, _file(path)))
    return found


def _from_table(path: Path, images: Path) -> list[Labelled]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HafError(f"{path}: the labels cannot be read ({error}).") from error
    if not rows or not {"image", "label"} <= set(rows[0]):
        raise HafError(f"{path}: a table of labels has the columns image and label, and one image a line.")
    found: dict[str, Labelled] = {}
    for number, row in enumerate(rows, 2):
        name, label = (row["image"] or "").strip(), (row["label"] or "").strip().lower()
        if label not in LABELS:
            raise HafError(f"{path}, line {number}: '{label}' is not a label; use good, bad or unclear.")
        inside = PurePosixPath(name)
        if not name or inside.is_absolute() or ".." in inside.parts or "\0" in name:
            raise HafError(f"{path}, line {number}: {name!r} is not a path below {images}.")
        if name in found:
            raise HafError(f"{path}, line {number}: {name} has a label already.")
        prompt, source = (row.get(key) or None for key in ("prompt_id", "source"))
        words = [(row.get(key) or "").strip().lower() or None for key in ("region", "kind")]
        try:
            region, kind = _error_of(LABELS[label], *words)
        except ValueError as error:
            raise HafError(f"{path}, line {number}: {error}.") from error
        found[name] = Labelled(name, LABELS[label], source, prompt, _file(images / name), region, kind)
    return list(found.values())


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


def render_world(regions: Sequence[Region], count: int, seed: int) -> Iterator[Labelled]:
    """`count` renders of the framings that a scorer of these regions can judge, half of them with an error."""
    from hafbench.mannequin.dataset import draw
    from hafbench.mannequin.errors import JUDGING
    from hafbench.mannequin.picture import SIZE

    framings = {framing for region in regions for framing in FRAMINGS.get(region, ())}
    number, drawn = seed * 10_000_000, 0
    while drawn < count:
        pixels, truth = draw(number, 0.5, JUDGING, SIZE)
        if not framings or truth["attributes"]["framing"] in framings:
            drawn += 1
            yield _render(str(number), truth, pixels)
        number += 1
