"""Two pictures of the same prompt and seed: which is anatomically sounder, asked in both orders.

Most models favour one of the places (PairBench, arXiv 2502.15210). As for MT-Bench (Zheng et al. 2023, arXiv
2306.05685) a picture wins only if it does in both orders; a pair whose orders disagree is a tie, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hafbench.errors import BadImage
from hafbench.judges.parts import shown
from hafbench.judges.replies import Choice
from hafbench.progress import SILENT, Progress

if TYPE_CHECKING:
    from hafbench.judges.asking import Answer, Asker
    from hafbench.judges.questions import Picture
    from hafbench.types import Pixels

TASK = "pairs"
LETTERS: Mapping[str | None, str] = {"first": "f", "second": "s", "tie": "t", None: "u"}
"""A letter for each choice, and for a reply that is missing."""
CHOICES = {letter: choice for choice, letter in LETTERS.items()}


@dataclass(frozen=True)
class Pair:
    """What reads the RGB images (height, width, 3) of the baseline and the candidate for one prompt and seed.

    `key` is the prompt's identity. Reading raises BadImage or OSError for a file that is none.
    """

    key: str
    prompt: str | None
    baseline: Callable[[], Pixels]
    candidate: Callable[[], Pixels]


@dataclass(frozen=True)
class JudgedPair:
    """What a judge chose: `forward` where the baseline's picture came first, `backward` where the candidate's did.

    Each is first, second or tie; None where there is no answer, and `reason` says why.
    """

    key: str
    forward: str | None
    backward: str | None
    reason: str | None = None

    @property
    def gain(self) -> int | None:
        """1 where the candidate wins, -1 where the baseline does, 0 for ties and orders that disagree."""
        if self.forward is None or self.backward is None:
            return None
        signs = {"first": -1, "second": 1, "tie": 0}
        one, other = signs[self.forward], -signs[self.backward]
        return one if one == other else 0

    @property
    def consistent(self) -> bool | None:
        """Whether both orders say the same."""
        if self.forward is None or self.backward is None:
            return None
        return self.backward == {"first": "second", "second": "first", "tie": "tie"}[self.forward]

    @property
    def firsts(self) -> tuple[bool | None, bool | None]:
        """Of both replies whether the picture that came first won; None of a tie and where there is no answer."""
        one, other = ({"first": True, "second": False}.get(said or "") for said in (self.forward, self.backward))
        return one, other

    @property
    def letters(self) -> str:
        """Both replies as letters, which `pair_of` reads: "sf" where the candidate wins, "ff" where the first does."""
        return LETTERS[self.forward] + LETTERS[self.backward]


def pair_of(key: str, letters: str) -> JudgedPair:
    """The pair whose `letters` these are, without a reason; raises KeyError for other letters."""
    forward, backward = (CHOICES[letter] for letter in letters)
    return JudgedPair(key, forward, backward)


def judge_pairs(pairs: Sequence[Pair], asker: Asker, threads: int, progress: Progress = SILENT) -> list[JudgedPair]:
    """Ask about each pair twice, from `threads` threads; in the order of the pairs. Raises RunStopped."""
    judged: list[JudgedPair] = []
    progress.start(TASK, len(pairs))
    with ThreadPoolExecutor(threads, thread_name_prefix="pairs") as pool:
        try:
            for one in pool.map(_asking(asker), pairs):
                judged.append(one)
                progress.update(TASK, len(judged), str(asker.tally))
        except BaseException:
            asker.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return judged


def _asking(asker: Asker) -> Callable[[Pair], JudgedPair]:
    def ask(pair: Pair) -> JudgedPair:
        try:
            one, other = (shown(read()) for read in (pair.baseline, pair.candidate))
        except (BadImage, OSError) as error:
            return JudgedPair(pair.key, None, None, str(error))
        orders = [("pair", question(asker, pair.prompt, *order)) for order in ((one, other), (other, one))]
        forward, backward = asker.ask_all(orders, Choice)
        reason = next((why for why in map(_why_not, (forward, backward)) if why), None)
        return JudgedPair(pair.key, _chosen(forward), _chosen(backward), reason)

    return ask


def question(asker: Asker, prompt: str | None, first: Picture, second: Picture) -> list[str | Picture]:
    """The parts of the question about two pictures in this order."""
    about = asker.protocol.about(prompt)
    pictures: list[str | Picture] = ["The first picture:", first, "The second picture:", second]
    return [*([about] if about else []), *pictures, asker.protocol.question("pair")]


def _chosen(answer: Answer[Choice]) -> str | None:
    return answer.reply.sounder if answer.reply else None


def _why_not(answer: Answer[Choice]) -> str | None:
    return f"the judge refused: {answer.refusal}" if answer.refusal else answer.problem
