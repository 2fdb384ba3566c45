"""The batches of a local judge: what shares one, what does not fit, who gets an error, and how work ends early."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from asking_locally import alone, ask, assert_same, picture, questions, together, with_network
from hafbench.errors import HafError, RunStopped
from hafbench.judges.local import LocalJudge
from hafbench.judges.questions import Reply
from tiny_judges import FAMILIES

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES["qwen3_vl"](tmp_path_factory.mktemp("judges") / "qwen3_vl")


@pytest.fixture
def qwen(folder: Path) -> tuple[LocalJudge, Any]:
    """A judge, and its network."""
    return with_network(folder)


def test_what_waits_shares_a_batch(qwen: tuple[LocalJudge, Any]) -> None:
    judge, network = qwen
    sizes = watch(network, lambda: None)
    together(judge, [*questions(), *questions()[:3], ask("Sampled?", temperature=0.5)])
    starts = [size for size, is_start in sizes if is_start]
    assert starts == [8, 3, 1]


def watch(network: Any, at_each: Callable[[], None]) -> list[tuple[int, bool]]:
    """The number of questions of each step from now on, and whether it is the first step of a batch."""
    seen: list[tuple[int, bool]] = []

    def before(module: Any, arguments: Any, inputs: dict[str, Any]) -> None:
        rows, width = inputs["input_ids"].shape
        seen.append((rows, width > 1))
        at_each()

    network.register_forward_pre_hook(before, with_kwargs=True)
    return seen


def beginning(network: Any) -> tuple[asyncio.Event, list[tuple[int, bool]]]:
    """Set in this event loop when the network begins, and what `watch` gives."""
    begun, loop = asyncio.Event(), asyncio.get_running_loop()

    def tell() -> None:
        if len(seen) == 1:
            loop.call_soon_threadsafe(begun.set)

    seen = watch(network, tell)
    return begun, seen


def test_what_does_not_fit_is_asked_in_halves(qwen: tuple[LocalJudge, Any]) -> None:
    judge, network = qwen
    asked = questions()
    expected = [alone(judge, question) for question in asked]

    def limit() -> None:
        if sizes[-1][0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    sizes = watch(network, limit)
    for reply, right in zip(together(judge, asked), expected, strict=True):
        assert_same(reply, right)
    assert [size for size, is_start in sizes if is_start] == [8, 4, 2, 2, 4, 2, 2]
    sizes.clear()
    together(judge, asked[:4])
    assert [size for size, is_start in sizes if is_start] == [2, 2], "it tries again what did not fit"


def test_a_question_that_does_not_fit_alone(qwen: tuple[LocalJudge, Any]) -> None:
    judge, network = qwen

    def limit() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    watch(network, limit)
    with pytest.raises(HafError, match=r"^A question of \d+ tokens with pictures of 90x40 pixels does not fit"):
        alone(judge, questions()[0])


def test_a_lost_gpu_stops_the_run(qwen: tuple[LocalJudge, Any]) -> None:
    judge, network = qwen

    def lose() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    sizes = watch(network, lose)
    assert all(isinstance(each, RunStopped) for each in together(judge, questions()[:4]))
    assert len(sizes) == 1


def test_an_error_reaches_the_question_that_made_it(qwen: tuple[LocalJudge, Any]) -> None:
    good, bad = questions()[:3], ask("Is it?", picture(0, 2, 600))
    replies = together(qwen[0], [good[0], bad, *good[1:]])
    error = replies.pop(1)
    assert isinstance(error, HafError) and "aspect ratio" in str(error) and "\n" not in str(error)
    for question, reply in zip(good, replies, strict=True):
        assert_same(reply, alone(qwen[0], question))


def test_a_cancelled_question_blocks_no_other(qwen: tuple[LocalJudge, Any]) -> None:
    judge, network = qwen
    first, second, third = questions()[:3]

    async def run(is_late: bool) -> list[Any]:
        begun, _ = beginning(network)
        task = asyncio.create_task(judge.answer(first))
        await asyncio.sleep(0)
        if is_late:
            await begun.wait()
        others = [asyncio.create_task(judge.answer(each)) for each in (second, third)]
        task.cancel()
        return [*await asyncio.gather(task, *others, return_exceptions=True)]

    for is_late in (False, True):
        cancelled, *replies = asyncio.run(run(is_late))
        assert isinstance(cancelled, asyncio.CancelledError)
        for question, reply in zip((second, third), replies, strict=True):
            assert_same(reply, alone(judge, question))


def test_work_ends_when_nobody_waits(qwen: tuple[LocalJudge, Any]) -> None:
    """An event loop that ends, as at Ctrl-C, leaves a judge that another loop can ask."""
    judge, network = qwen
    long = ask("Is it?", max_tokens=10_000)

    async def run() -> list[tuple[int, bool]]:
        begun, sizes = beginning(network)
        task = asyncio.create_task(judge.answer(long))
        await begun.wait()
        task.cancel()
        return sizes

    sizes = asyncio.run(run())
    assert alone(judge, questions()[0]).text
    assert len(sizes) < long.max_tokens / 10


def test_close_ends_what_waits(qwen: tuple[LocalJudge, Any]) -> None:
    judge, network = qwen

    async def run() -> list[Any]:
        begun, _ = beginning(network)
        in_work = asyncio.create_task(judge.answer(ask("Is it?", max_tokens=10_000)))
        await begun.wait()
        queued = asyncio.create_task(judge.answer(ask("And this?")))
        await asyncio.sleep(0)
        await judge.close()
        late: Awaitable[Reply] = judge.answer(ask("Too late?"))
        return [*await asyncio.gather(in_work, queued, late, return_exceptions=True)]

    assert all(isinstance(each, RunStopped) for each in asyncio.run(run()))


def test_nan_is_an_error(qwen: tuple[LocalJudge, Any]) -> None:
    judge, network = qwen
    with torch.no_grad():
        network.get_input_embeddings().weight.fill_(math.nan)
    for temperature in (0.0, 1.0):
        (error,) = together(judge, [ask("Is it?", temperature=temperature)])
        assert isinstance(error, HafError)
