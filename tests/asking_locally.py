"""Questions to a local judge, one by one or together, and its replies."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from hafbench.judges.local import LocalJudge
from hafbench.judges.local_model import LocalModel
from hafbench.judges.questions import Picture, Question, Reply

TOKENS = 8


def with_network(folder: Path, batch_size: int = 8) -> tuple[LocalJudge, Any]:
    network = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    return LocalJudge(LocalModel("tiny", network, processor), "1", {}, batch_size), network


def picture(seed: int, height: int, width: int) -> Picture:
    colours = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Picture(colours.repeat(8, 0).repeat(8, 1)[:height, :width])


def ask(*parts: str | Picture, **options: Any) -> Question:
    return Question("Look closely.", parts, {"type": "object"}, "verdict", **{"max_tokens": TOKENS, **options})


def questions() -> list[Question]:
    """Eight of different lengths, with pictures of different shapes."""
    return [
        ask("Is this right? " + "?" * 7 * i, picture(i, 40 + 16 * i, 90 - 8 * i), "Answer.", max_tokens=TOKENS - i % 2)
        for i in range(8)
    ]


def together(judge: LocalJudge, asked: list[Question]) -> list[Any]:
    """Replies or errors."""

    async def run() -> list[Any]:
        return await asyncio.gather(*map(judge.answer, asked), return_exceptions=True)

    return asyncio.run(run())


def alone(judge: LocalJudge, question: Question) -> Reply:
    return asyncio.run(judge.answer(question))


def assert_same(first: Reply, second: Reply) -> None:
    """The same words, with the same chances but for rounding errors."""
    assert (first.text, first.cut, first.tokens_in) == (second.text, second.cut, second.tokens_in)
    for one, other in zip(first.tokens, second.tokens, strict=True):
        assert one.text == other.text
        assert max(one.alternatives.values()) == pytest.approx(max(other.alternatives.values()), abs=1e-3)
