"""The pictures of a batch, whichever process draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hafbench.errors import RunStopped
from hafbench.scoring import reason_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.records import Sample
    from hafbench.types import Generator


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
