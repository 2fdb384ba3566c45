"""The pictures of a batch, whichever process draws them, and the threads that encode and save them meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hafbench.errors import RunStopped
from hafbench.images import encode_image
from hafbench.processes import cores
from hafbench.runs import save_picture
from hafbench.scoring import reason_of
from hafbench.sources import Content

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.records import Sample
    from hafbench.runs import RunFolder
    from hafbench.types import Generator

ENCODERS = 4
"""Threads that encode, where there are as many cores: a PNG of 1024 x 1360 pixels takes one of them 0.76 s."""


Saved = Content | str | None
"""The file of a picture that has been saved, or why there is none; None for one that was on disk already."""


class Encoders:
    """Threads that encode pictures and save them below the folder of a run, while the thread that draws goes on.

    Pillow's encoders of PNG and WebP let other threads of Python work. As a context manager it ends when all that was
    drawn is saved, also where the run is stopped: at most a batch, and a picture for each thread.
    """

    def __init__(self, folder: Path) -> None:
        self.count = min(ENCODERS, cores())
        self._folder = folder
        self._pool = ThreadPoolExecutor(self.count, "encoder")

    def draw(self, generator: Generator, samples: Sequence[Sample], wanted: Collection[str]) -> Iterator[Future[Saved]]:
        """Draw a batch, of which the pictures named in `wanted` are to be saved; raises RunStopped."""
        for sample, made in zip(samples, draw(generator, samples), strict=True):
            if sample.image not in wanted:
                yield known(None)
            elif isinstance(made, str):
                yield known(made)
            else:
                yield self._pool.submit(self._save, sample.image, made)

    def _save(self, name: str, image: Image) -> Content:
        file = to_file(name, image)
        save_picture(self._folder, name, file.content)
        return file

    def __enter__(self) -> Encoders:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def known(saved: Saved) -> Future[Saved]:
    """For a picture that is not to be saved."""
    future: Future[Saved] = Future()
    future.set_result(saved)
    return future


def missing(run: RunFolder, samples: Sequence[Sample]) -> tuple[str, ...]:
    """The pictures of a batch that are not on disk."""
    return tuple(sample.image for sample in samples if not run.has_images([sample]))


def to_file(name: str, image: Image) -> Content:
    """A picture as a file, in the format of its name."""
    content = encode_image(image, PurePosixPath(name).suffix)
    return Content(content, hashlib.sha256(content).hexdigest())


def draw(generator: Generator, samples: Sequence[Sample]) -> Iterator[Image | str]:
    """The pictures of a batch, or why one cannot be made.

    A batch that breaks or does not fit into memory is halved until the images that cannot be made stand alone.
    """
    prompts = [sample.prompt for sample in samples if sample.prompt is not None]
    seeds = [sample.seed for sample in samples if sample.seed is not None]
    try:
        images = generator.generate(prompts, seeds)
    except RunStopped:
        raise
    except Exception as error:
        if len(samples) == 1:
            yield f"generator: {reason_of(error)}"
            return
        _free_memory()
        half = len(samples) // 2
        yield from draw(generator, samples[:half])
        yield from draw(generator, samples[half:])
    else:
        yield from images


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
