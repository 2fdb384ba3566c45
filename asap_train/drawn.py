"""The images of a scoring, divided among the processes of a fit: each draws its batches, the first one scores all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.evaluate import plan, spread
from hafbench.files import disk_errors, write_whole
from hafbench.suites import load_suite

if TYPE_CHECKING:
    from PIL.Image import Image

    from hafbench.records import Sample
    from hafbench.specs import RunSpec
    from hafbench.suites import Prompt
    from hafbench.types import Generator


class Drawn:
    """A generator whose images are in a folder, FOLDER/PROMPT_ID/SEED.png; those that are not it draws."""

    def __init__(self, folder: Path, generator: Generator) -> None:
        self.folder, self.generator = folder, generator
        self.name: str = generator.name
        self.settings: Mapping[str, Any] = generator.settings

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image]:
        """One image for each (prompt, seed)."""
        from PIL import Image

        paths = [self._path(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        if not all(path.is_file() for path in paths):
            return self.generator.generate(prompts, seeds)
        found = []
        for path in paths:
            with Image.open(path) as image:
                found.append(image.convert("RGB"))
        return found

    def draw(self, spec: RunSpec, done: Path, share: tuple[int, int]) -> None:
        """Draw the k-th of n shares of a run's batches, share = (k, n); images below `done` are there already.

        A batch that cannot be drawn is left to the run, which says why.
        """
        number, count = share
        for batch in batches_of(spec)[number::count]:
            prompts, seeds = [prompt_of(sample) for sample in batch], [sample.seed or 0 for sample in batch]
            paths = [self._path(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
            if all((done / sample.image).exists() for sample in batch) or all(path.exists() for path in paths):
                continue
            try:
                images = self.generator.generate(prompts, seeds)
            except Exception:  # noqa: S112 (see above)
                continue
            with disk_errors(self.folder):
                for path, image in zip(paths, images, strict=True):
                    write_whole(path, partial(image.save, format="PNG"))

    def _path(self, prompt: Prompt, seed: int) -> Path:
        return self.folder / f"{prompt.id}/{seed}.png"

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def batches_of(spec: RunSpec) -> list[list[Sample]]:
    """The samples of a run, in the batches in which `hafbench.run` draws them."""
    prompts = spread(load_suite(spec.suite or "").prompts, spec.limit)
    samples = plan(prompts, range(spec.first_seed, spec.first_seed + spec.seeds), spec.image_format)
    size = spec.batch_size or 1
    return [samples[i : i + size] for i in range(0, len(samples), size)]


def prompt_of(sample: Sample) -> Prompt:
    """The prompt of a sample of a suite."""
    assert sample.prompt is not None  # noqa: S101 (only images from elsewhere have none)
    return sample.prompt
