"""The pictures of a batch, whichever process draws them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from hafbench.engines import Batch, Made
from hafbench.errors import RunStopped
from hafbench.images import encode_image
from hafbench.scoring import reason_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.records import Sample
    from hafbench.runs import RunFolder
    from hafbench.types import Generator


def save(run: RunFolder, batch: Batch, files: Iterable[bytes | str] | None) -> Iterator[Made]:
    """Save the pictures of a whole batch that are not on disk already; then what is to do of it.

    `files` are those of `draw_files`, or None for a batch that is on disk as a whole.
    """
    problems = {}
    for sample, made in zip(batch.samples, files, strict=True) if files is not None else ():
        if isinstance(made, str):
            problems[sample.image] = made
        elif not run.has_images([sample]):
            run.save_bytes(sample.image, made)
    for sample in batch.todo:
        yield Made(sample, problems.get(sample.image))


def draw_files(generator: Generator, samples: Sequence[Sample]) -> Iterator[bytes | str]:
    """The pictures of `draw` as files in the format of their names."""
    for sample, made in zip(samples, draw(generator, samples), strict=True):
        yield made if isinstance(made, str) else encode_image(made, PurePosixPath(sample.image).suffix)


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
