"""Examples that are shown to a judge with each question: pictures known to be sound, and known to have an error."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hafbench.errors import HafError
from hafbench.images import find_images, load_image
from hafbench.judges.parts import shown
from hafbench.judges.protocols import PARTS

if TYPE_CHECKING:
    from hafbench.judges.questions import Picture

MOST = 8
"""Of each label and part: each example is paid for with each question."""
TEXTS = {"good": "An example, known to be anatomically sound:", "bad": "An example, known to have an anatomical error:"}


@dataclass(frozen=True)
class Examples:
    """Pictures with their label, good or bad, and the part that they are of; "" is of all."""

    pictures: tuple[tuple[str, str, Picture], ...] = ()

    @property
    def sha256(self) -> str | None:
        """Over labels and pictures, None without any."""
        text = "".join(f"{label}\0{part}\0{picture.sha256}\n" for label, part, picture in self.pictures)
        return hashlib.sha256(text.encode()).hexdigest() if text else None

    @cached_property
    def hashes(self) -> frozenset[str]:
        """Of the pictures."""
        return frozenset(picture.sha256 for _, _, picture in self.pictures)

    def of(self, part: str) -> list[str | Picture]:
        """What stands before the question about a part."""
        own = [(label, picture) for label, of, picture in self.pictures if of in ("", part)]
        return [piece for label, picture in own for piece in (TEXTS[label], picture)]


def read_examples(folder: Path | None) -> Examples:
    """The pictures in good/ and bad/ of a folder, and in good/hands/ ... for one part; raises HafError without both."""
    import numpy as np

    if folder is None:
        return Examples()
    found: list[tuple[str, str, Picture]] = []
    for label in TEXTS:
        paths = find_images(folder / label) if (folder / label).is_dir() else []
        if not paths:
            raise HafError(f"{folder} has no pictures in {label}/; put examples of each label into good/ and bad/.")
        for part in ("", *PARTS):
            own = [path for path in paths if _part(path, folder / label) == part]
            if len(own) > MOST:
                raise HafError(
                    f"{folder / label / part} has {len(own)} examples; give at most {MOST}, since each is sent with "
                    "each question."
                )
            found += [(label, part, shown(np.asarray(load_image(path)))) for path in own]
    return Examples(tuple(found))


def _part(path: Path, folder: Path) -> str:
    first = path.relative_to(folder).parts[0]
    return first if first in PARTS else ""
