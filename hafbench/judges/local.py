"""The judge `local`: a vision-language model on this machine, by transformers.

It takes what AutoModelForImageTextToText knows, such as Qwen2.5-VL, Qwen3-VL, Qwen3.5, InternVL and Gemma 3 and 4.
transformers cannot hold a model to a JSON schema, so `Question.schema` is only what the question's text says of it, and
whoever asks checks the reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from hafbench import registry
from hafbench.errors import HafError, RunStopped, one_line
from hafbench.judges.local_files import find

if TYPE_CHECKING:
    from hafbench.judges.local_model import LocalModel
    from hafbench.judges.questions import Question, Reply

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


class Options(registry.Options):
    """`model` is a hub id or a folder. `batch_size` is how many questions are answered at once, at most.

    `dtype` auto is bf16 on CUDA, and fp32 elsewhere.
    """

    model: str = ""
    batch_size: int = Field(default=8, ge=1)
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    revision: str | None = None


@dataclass(frozen=True, eq=False)
class Waiting:
    """A question, and the future of its reply."""

    question: Question
    reply: asyncio.Future[Reply]


class LocalJudge:
    """Answers the questions that wait in batches, one batch at a time, in a thread of its own.

    Questions of temperature 0 share batches, and get the likeliest tokens; the numbers of a batch differ from those of
    a single question by rounding errors. A sampled question is answered alone, with draws that `seed + sample` decides,
    since a draw turns rounding errors into other words more often.
    """

    def __init__(self, model: LocalModel, version: str, settings: Mapping[str, Any], batch_size: int) -> None:
        self.name, self.version, self.settings = model.name, version, settings
        self._model, self._batch_size = model, batch_size
        self._waiting: list[Waiting] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self._is_closed = False

    async def answer(self, question: Question) -> Reply:
        """Wait for the reply; several tasks of one event loop may wait at once.

        Raises HafError if the question does not fit into the memory, has control tokens of the model or makes it fail,
        and RunStopped if the judge is closed or its GPU broken.
        """
        if self._is_closed:
            raise RunStopped(f"The judge {self.name} is closed.")
        self._model.check(question)
        waiting = Waiting(question, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.reply

    async def close(self) -> None:
        """Take no more questions; those that wait raise RunStopped, and the batch in work ends at its next token."""
        self._is_closed = True
        for each in self._waiting:
            if not each.reply.done():
                each.reply.set_exception(RunStopped(f"The judge {self.name} is closed."))
        self._waiting = []
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        """Answer until nothing waits."""
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            try:
                outcomes = await loop.run_in_executor(self._thread, self._outcomes, batch)
            except Exception as error:
                outcomes = [_explained(self.name, error)] * len(batch)
            for each, outcome in zip(batch, outcomes, strict=True):
                if each.reply.done():
                    continue
                if isinstance(outcome, HafError):
                    each.reply.set_exception(outcome)
                else:
                    each.reply.set_result(outcome)

    def _next_batch(self) -> list[Waiting]:
        """The question that has waited longest, with others that can be answered together with it."""
        waiting = [each for each in self._waiting if not each.reply.done()]
        if waiting and waiting[0].question.temperature > 0:
            batch = waiting[:1]
        else:
            batch = [each for each in waiting if each.question.temperature <= 0][: self._batch_size]
        self._waiting = [each for each in waiting if each not in batch]
        return batch

    def _outcomes(self, batch: list[Waiting]) -> list[Reply | HafError]:
        """A reply or an error for each question; where a batch fails, its halves are tried, down to single ones."""
        from hafbench.judges.local_model import TooLarge

        def is_wanted() -> bool:
            return not self._is_closed and not all(each.reply.done() for each in batch)

        try:
            return [*self._model.reply([each.question for each in batch], is_wanted)]
        except Exception as error:
            failure = _explained(self.name, error)
        # Here the error is gone, and with it the tensors that its traceback held.
        if len(batch) == 1 or isinstance(failure, RunStopped):
            return [failure] * len(batch)
        half = len(batch) // 2
        if isinstance(failure, TooLarge):
            self._batch_size = min(self._batch_size, half)
            _free_memory()
        return [*self._outcomes(batch[:half]), *self._outcomes(batch[half:])]


def _explained(name: str, error: Exception) -> HafError:
    """The error without its traceback, as one that is addressed to the user."""
    if isinstance(error, HafError):
        return type(error)(str(error))
    reason = f"{type(error).__name__}: {one_line(error, 300)}"
    if "CUDA error" in reason:
        return RunStopped(f"The judge {name} has lost its GPU ({reason}); start again to resume.")
    return HafError(f"The judge {name} failed ({reason}).")


def _free_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load(options: Options, device: str) -> LocalJudge:
    """Load the model. Raises Unavailable if it cannot be had, and HafError if none or something else is named."""
    if not options.model:
        raise HafError("The judge local needs a model: name a hub id or a folder by --judge-model MODEL.")
    files = find(options.model, options.revision)
    from importlib.metadata import version

    from hafbench.devices import pick_device
    from hafbench.judges.local_model import load_model

    device = pick_device(device)
    dtype = options.dtype if options.dtype != "auto" else ("bf16" if device.startswith("cuda") else "fp32")
    model = load_model(files, DTYPES[dtype], device)
    known = [f"commit {files.commit}"] if files.commit else []
    settings = {"model": files.name, "commit": files.commit, "dtype": dtype, "weights": files.weights}
    return LocalJudge(
        model, ", ".join([*known, f"transformers {version('transformers')}"]), settings, options.batch_size
    )
