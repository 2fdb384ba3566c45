"""The smallest real generator and scorers: pictures made of arithmetic, so that every score is known by hand."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from hafbench.suites import Prompt
from hafbench.types import Finding, Score


def painted(prompt_id: str, seed: int) -> Image.Image:
    """A 16 x 16 picture of noise that is a function of the prompt's id and the seed."""
    digest = hashlib.sha256(f"{prompt_id}/{seed}".encode()).digest()
    rng = np.random.default_rng(list(digest))
    return Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))


class Painter:
    """Paints; fails on the prompts named in `broken`, and on any batch of more than `fits`."""

    name = "painter"

    def __init__(self, broken: Sequence[str] = (), fits: int = 1000) -> None:
        self.settings: Mapping[str, Any] = {"broken": list(broken)}
        self.broken, self.fits = set(broken), fits
        self.batches: list[int] = []

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        self.batches.append(len(prompts))
        if len(prompts) > self.fits:
            raise MemoryError("out of memory")
        if self.broken & {prompt.id for prompt in prompts}:
            raise ValueError("this prompt breaks the painter")
        return [painted(prompt.id, seed) for prompt, seed in zip(prompts, seeds, strict=True)]


class Brightness:
    """value = mean of the pixels / 255; dark images are errors."""

    name, version, role, higher_is_better, about = "hands", "1", "anatomy", False, "mean brightness"
    settings: Mapping[str, Any] = {"threshold": 0.5, "weights": {"brightness.bin": "0" * 64}}

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        value = float(image.mean() / 255)
        finding = Finding("hands", "configuration", "detectability", value, (1, 2, 3, 4), ((1.0, 2.0, 0.5),))
        return Score("scored", value, value < 0.5, None, (finding,), {"mean": value})


class Returns:
    """A scorer that answers every image with the same score, or raises the same error."""

    version, role, higher_is_better, about = "1", "quality", None, "constant"
    settings: Mapping[str, Any] = {}

    def __init__(self, name: str, answer: Score | Exception) -> None:
        self.name, self.answer = name, answer

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer
