"""Asking a judge: many questions at a time, each answered once in all runs, replies checked and asked for once more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hafbench.errors import HafError, RunStopped
from hafbench.judges.protocols import JudgeProtocol
from hafbench.judges.questions import Picture, Question, chances_of
from hafbench.judges.replies import R, read_reply, schema_of
from hafbench.judges.store import AnswerStore, Asked, Kept
from hafbench.provenance import sha256_of_json
from hafbench.types import PreparingJudge

if TYPE_CHECKING:
    from pathlib import Path

    from hafbench.types import Judge

SAMPLE_TEMPERATURE = 1.0
AHEAD = 8
"""Questions that are prepared while others are asked: few, since pictures take memory."""
GRACE_S = 0.8
"""How long answers that are on their way are waited for when all is to end."""
T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[R]):
    """A reply that follows its model, or why there is none: `refusal` of the judge, `problem` of what went wrong.

    `chances` are the probabilities of the verdict's words, and `source` is where they come from: logprobs, samples (the
    share of several replies) or verdict (1 for the word that was said).
    """

    reply: R | None
    chances: Mapping[str, float]
    source: str = "verdict"
    refusal: str | None = None
    problem: str | None = None


@dataclass
class Tally:
    """What was asked so far. `asked` are questions that went to the judge, `known` those that the store answered."""

    asked: int = 0
    known: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    began: float = field(default_factory=monotonic)

    def __str__(self) -> str:
        """For a line of progress."""
        speed = self.asked / max(1e-9, monotonic() - self.began)
        parts = [f"{self.asked} questions, {speed:.1f}/s", f"{self.tokens_in + self.tokens_out:,} tokens"]
        parts += [f"{self.known} known"] if self.known else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return ", ".join(parts)


class Asker:
    """Asks one judge by one protocol, from any number of threads, at most `concurrency` questions at a time.

    At most `max_questions` go to the judge; the next one raises RunStopped. An event loop in a thread of its own holds
    the judge and the store.
    """

    def __init__(
        self,
        judge: Judge,
        protocol: JudgeProtocol,
        store: Path,
        *,
        concurrency: int = 32,
        max_questions: int | None = None,
        samples: int = 1,
        max_tokens: int = 600,
        seed: int = 0,
    ) -> None:
        self.judge, self.protocol, self.tally = judge, protocol, Tally()
        self._path, self._most, self._samples = store, max_questions, samples
        self._max_tokens, self._seed = max_tokens, seed
        self._ahead, self._places = asyncio.Semaphore(concurrency + AHEAD), asyncio.Semaphore(concurrency)
        self._store: AnswerStore | None = None
        self._kinds: dict[str, str] = {}
        self._under_way: dict[str, asyncio.Task[Kept]] = {}
        self._asking: set[asyncio.Future[Any]] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[Future[Any]] = set()
        self._stopped = False

    def ask_all(self, questions: Sequence[tuple[str, Sequence[str | Picture]]], model: type[R]) -> list[Answer[R]]:
        """The answers to several questions, asked at once: each its name in the store, and its parts.

        Blocks. Raises RunStopped.
        """

        async def all_of_them() -> list[Answer[R]]:
            return await asyncio.gather(*(self._answer(part, model, parts) for part, parts in questions))

        return self._run(all_of_them())

    def known(self, model: type[R], parts: Sequence[str | Picture]) -> list[bool]:
        """Whether the store has the answer to a question, and to those that sample it without log-probabilities."""

        async def looked_up() -> list[bool]:
            question: Question = self._question(model, parts)
            first = self._open().get(self._key(question))
            every = [question] if first is not None and first.chances else [question, *self._again(question)]
            return [self._open().get(self._key(one)) is not None for one in every]

        return self._run(looked_up())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise RunStopped("The judge was stopped; run the same command again to go on.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="judge", daemon=True).start()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._waiting.add(future)
        try:
            return future.result()
        except (CancelledError, asyncio.CancelledError) as error:
            raise RunStopped("The judge was stopped; run the same command again to go on.") from error
        finally:
            with self._lock:
                self._waiting.discard(future)

    def stop(self) -> None:
        """Ask nothing more; who waits gets RunStopped. Answers that come within GRACE_S are kept, others are lost."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            loop, waiting = self._loop, list(self._waiting)
        for future in waiting:
            future.cancel()
        if loop is None:
            return
        ended = asyncio.run_coroutine_threadsafe(self._close(), loop)
        with contextlib.suppress(Exception):  # connections that do not close end with the process
            ended.result(timeout=2 * GRACE_S)
        loop.call_soon_threadsafe(loop.stop)

    async def _close(self) -> None:
        if self._asking:
            await asyncio.wait(self._asking, timeout=GRACE_S)
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        if self._store is not None:
            self._store.close()
        await self.judge.close()

    def _open(self) -> AnswerStore:
        if self._store is None:
            self._store = AnswerStore(self._path)
        return self._store

    def _question(self, model: type[R], parts: Sequence[str | Picture]) -> Question:
        return Question(
            self.protocol.system, tuple(parts), schema_of(model), model.VERDICT, self._max_tokens, seed=self._seed
        )

    def _key(self, question: Question) -> str:
        # What all questions of a kind have in common is hashed once.
        if question.verdict not in self._kinds:
            judge = [self.judge.name, self.judge.version, dict(self.judge.settings)]
            self._kinds[question.verdict] = sha256_of_json(
                {"judge": judge, "system": question.system, "schema": question.schema}
            )
        parts = [part if isinstance(part, str) else {"picture": part.sha256} for part in question.parts]
        parameters = [question.max_tokens, question.temperature, question.seed, question.sample]
        return sha256_of_json({"kind": self._kinds[question.verdict], "parts": parts, "parameters": parameters})

    async def _answer(self, part: str, model: type[R], parts: Sequence[str | Picture]) -> Answer[R]:
        question = self._question(model, parts)
        answer = await self._checked(part, question, model)
        if answer.reply is None or answer.source == "logprobs":
            return answer
        others = await asyncio.gather(*(self._checked(part, one, model) for one in self._again(question)))
        said = [getattr(one.reply, model.VERDICT) for one in others if one.reply is not None]
        if not said:
            return answer
        return replace(answer, chances={word: said.count(word) / len(said) for word in model.WORDS}, source="samples")

    def _again(self, question: Question) -> list[Question]:
        """What is asked to see how often a reply comes, where there are no log-probabilities."""
        numbers = range(1, self._samples + 1) if self._samples > 1 else ()
        return [replace(question, temperature=SAMPLE_TEMPERATURE, sample=number) for number in numbers]

    async def _checked(self, part: str, question: Question, model: type[R]) -> Answer[R]:
        """The answer, asked for once more where the first cannot be used."""
        problem = ""
        for _ in range(2):
            try:
                kept = await self._kept(part, question, model)
            except RunStopped:
                raise
            except HafError as error:
                self.tally.failed += 1
                return Answer(None, {}, problem=str(error).rstrip("."))
            if kept.refusal:
                return Answer(None, {}, refusal=kept.refusal)
            try:
                if kept.cut:
                    raise ValueError(f"it ended at {question.max_tokens} tokens, before it was whole")
                reply = read_reply(kept.text, model)
            except ValueError as error:
                problem = str(error)
                more = self.protocol.once_more(kept.text, problem)
                question = replace(question, parts=(*question.parts, more))
                continue
            if kept.chances:
                return Answer(reply, kept.chances, "logprobs")
            return Answer(reply, {word: float(word == getattr(reply, model.VERDICT)) for word in model.WORDS})
        self.tally.failed += 1
        return Answer(None, {}, problem=f"the judge's reply could not be used twice: {problem}")

    async def _kept(self, part: str, question: Question, model: type[R]) -> Kept:
        """The raw reply: of the store, of the same question that is under way, or of the judge."""
        key = self._key(question)
        if (kept := self._open().get(key)) is not None:
            self.tally.known += 1
            return kept
        if key not in self._under_way:
            task = asyncio.ensure_future(self._ask(key, part, question, model))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        # One of those who wait for the same answer may go away.
        return await asyncio.shield(self._under_way[key])

    def _ended(self, key: str, done: asyncio.Task[Kept]) -> None:
        self._under_way.pop(key, None)
        if not done.cancelled():
            done.exception()  # looked at, so that asyncio does not print one that nobody waits for any more

    async def _ask(self, key: str, part: str, question: Question, model: type[R]) -> Kept:
        async with self._ahead:
            if isinstance(self.judge, PreparingJudge) and not self._stopped:
                await self.judge.prepare(question)
            return await self._in_turn(key, part, question, model)

    async def _in_turn(self, key: str, part: str, question: Question, model: type[R]) -> Kept:
        async with self._places:
            if self._stopped:
                raise RunStopped("The judge was stopped.")
            if self._most is not None and self.tally.asked >= self._most:
                await asyncio.gather(*self._asking, return_exceptions=True)  # they are paid for
                raise RunStopped(
                    f"{self._most} questions were asked, as --max-questions allows; run the same command again, with "
                    "more of them, to go on."
                )
            self.tally.asked += 1
            asked = asyncio.ensure_future(self._paid(key, part, question, model))
            self._asking.add(asked)
            asked.add_done_callback(self._asking.discard)
            return await asked

    async def _paid(self, key: str, part: str, question: Question, model: type[R]) -> Kept:
        got = await self.judge.answer(question)
        self.tally.tokens_in += got.tokens_in
        self.tally.tokens_out += got.tokens_out
        chances = chances_of(got.tokens, model.VERDICT, model.WORDS)
        kept = Kept(got.text, got.refusal, got.cut, chances, got.tokens_in, got.tokens_out, got.model)
        self._open().add(key, Asked(self.judge.name, self.protocol.label, part), kept)
        return kept
