"""The loop that scores: scorers that wait, scorers of batches, and how a run ends before its time."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hafbench.engines.drawing import ENCODERS
from hafbench.errors import RunStopped
from hafbench.evaluate import evaluate, plan
from hafbench.images import load_image
from hafbench.records import Sample
from hafbench.runs import Run, open_run
from hafbench.suites import Prompt
from hafbench.types import BatchScorer, ConcurrentScorer, Role, Score
from small import Brightness, Painter, Returns, a_scorer, manifest_of, painted

EXAMPLES = Path(__file__).parents[1] / "examples" / "people"
PROMPTS = [Prompt(id=f"p{i:03}", text=f"a hand, number {i}", category="basic_anatomy") for i in range(64)]
ORDER = [f"{prompt.id}/0.png" for prompt in PROMPTS]


def number_of(prompt: Prompt | None) -> int:
    assert prompt is not None
    return int(prompt.id[1:])


class Asked:
    """A scorer that waits, as for an endpoint: `wait` is what happens in each call, given the image's number."""

    name, version, about = "judge", "1", "asked elsewhere"
    role: Role = "quality"
    higher_is_better: bool | None = None
    settings: Mapping[str, Any] = {}
    concurrency = 8

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.said = "3 dollars"

    def wait(self, number: int) -> None:
        """Answer at once."""

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        self.wait(number_of(prompt))
        return Score("scored", float(number_of(prompt)))

    def note(self) -> str:
        return self.said

    def stop(self) -> None:
        self.stopped.set()


class Told:
    """Progress that remembers the notes, and the images done."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done = 0

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def update(self, task: str, done: int, note: str = "") -> None:
        self.done = done
        self.notes.append(note)


def bench(folder: Path, scorers: dict[str, Any], painter: Any = None, batch_size: int = 1, **options: Any) -> Run:
    painter = painter or Painter()
    with open_run(folder, manifest_of(scorers, painter.settings)) as run:
        return evaluate(run, plan(PROMPTS, [0]), scorers, painter, batch_size=batch_size, **options)


def kept(folder: Path) -> list[str]:
    """The images in records.jsonl, in the order of its lines."""
    return [line.split('"')[3] for line in (folder / "records.jsonl").read_text().splitlines()]


def test_a_plan_has_every_prompt_with_every_seed_wherever_it_is_looked_at() -> None:
    planned = plan(PROMPTS[:2], range(3, 6), "jpeg95")
    samples = [Sample(f"{prompt.id}/{seed}.jpg", prompt, seed) for prompt in PROMPTS[:2] for seed in range(3, 6)]
    assert list(planned) == samples == planned[:]
    assert [planned[place] for place in range(-6, 6)] == samples * 2
    assert (len(planned), planned[1:9:2]) == (6, samples[1::2])
    with pytest.raises(IndexError):
        planned[6]


def test_a_scorer_that_waits_is_asked_about_many_images_at_once_and_answers_in_order(tmp_path: Path) -> None:
    class Together(Asked):
        barrier = threading.Barrier(8, timeout=60)

        def wait(self, number: int) -> None:
            self.barrier.wait()  # passed by eight threads together, or by none

    told = Told()
    run = bench(tmp_path / "run", {"hands": Brightness(), "judge": Together()}, progress=told)
    assert isinstance(Together(), ConcurrentScorer)
    assert kept(run.folder) == [image for image in ORDER for _ in ("hands", "judge")]
    answers = run.records[run.records["scorer"] == "judge"]["value"].tolist()
    assert answers == [float(number) for number in range(64)]
    bright = run.records[run.records["scorer"] == "hands"]["value"].tolist()
    assert bright == [float(np.asarray(painted(prompt.id, 0)).mean() / 255) for prompt in PROMPTS]
    assert told.notes[-1].endswith("errors, 3 dollars")


def test_the_other_scorers_go_on_while_one_waits(tmp_path: Path) -> None:
    class Later(Asked):
        def wait(self, number: int) -> None:
            assert other.wait(60)

    class Tells(Brightness):
        def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
            if number_of(prompt) == 10:
                other.set()
            return super().score(image, prompt)

    other = threading.Event()
    run = bench(tmp_path / "run", {"judge": Later(), "hands": Tells()})
    assert run.manifest.counts.scored == 128


@pytest.mark.parametrize(("batch_size", "most"), [(1, 16), (24, 24)])
def test_no_more_images_wait_than_keep_the_scorers_busy(tmp_path: Path, batch_size: int, most: int) -> None:
    class Counts(Painter):
        ahead = 0

        def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
            # All that is handed over waits for the first image, which is answered when there is no room for more.
            self.ahead = max(self.ahead, sum(self.batches) - told.done)
            if sum(self.batches) + len(prompts) > most:
                full.set()
            return super().generate(prompts, seeds)

    class First(Asked):
        def wait(self, number: int) -> None:
            assert number > 0 or full.wait(60)

    full, told, painter = threading.Event(), Told(), Counts()
    bench(tmp_path / "run", {"judge": First()}, painter, batch_size, progress=told)
    assert 0 < painter.ahead <= most + batch_size + ENCODERS  # the latter are being encoded


def test_run_stopped_by_a_scorer_keeps_the_images_before_in_order(tmp_path: Path) -> None:
    class Down(Asked):
        def wait(self, number: int) -> None:
            if number == 20:
                raise RunStopped("the endpoint is down")

    with pytest.raises(RunStopped, match="the endpoint is down"):
        bench(tmp_path / "run", {"judge": Down()})
    assert kept(tmp_path / "run") == ORDER[:20]
    assert bench(tmp_path / "run", {"judge": Asked()}).manifest.counts.scored == 64


def test_run_stopped_by_a_scorer_of_the_loop_itself_is_no_failed_record(tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="no more"):
        bench(tmp_path / "run", {"iqa": Returns("iqa", RunStopped("no more"))})
    assert not (tmp_path / "run" / "records.jsonl").exists()


@pytest.mark.parametrize("error", [RunStopped("the other machine is down"), KeyboardInterrupt()])
def test_when_the_generator_ends_the_run_waiting_scorers_are_stopped_and_complete_images_kept(
    tmp_path: Path, error: BaseException
) -> None:
    class Waits(Asked):
        def wait(self, number: int) -> None:
            if number < 5:
                return
            waiting.set()
            assert self.stopped.wait(60)
            raise RunStopped("stopped")

    class Ends(Painter):
        def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
            if number_of(prompts[0]) == 12:
                assert waiting.wait(60)
                raise error
            return super().generate(prompts, seeds)

    waiting, judge = threading.Event(), Waits()
    with pytest.raises(type(error)) as caught:
        bench(tmp_path / "run", {"judge": judge}, Ends(), batch_size=4)
    assert caught.value is error
    assert judge.stopped.is_set()
    assert kept(tmp_path / "run") == ORDER[:5]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scorer")]


class Pairs(Returns):
    """Scores images together, and breaks on any batch with the image `broken`."""

    batch_size = 4
    broken = 6

    def __init__(self) -> None:
        super().__init__("iqa", Score("scored", 0.0))
        self.batches: list[list[int]] = []

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        return self.score_batch([image], [prompt])[0]

    def score_batch(self, images: Sequence[np.ndarray], prompts: Sequence[Prompt | None]) -> list[Score]:
        numbers = [number_of(prompt) for prompt in prompts]
        self.batches.append(numbers)
        if self.broken in numbers:
            raise ValueError("this one breaks")
        return [Score("scored", float(number)) for number in numbers]


def test_images_that_wait_are_scored_together_and_one_that_breaks_costs_its_own_score_only(tmp_path: Path) -> None:
    scorer = Pairs()
    assert isinstance(scorer, BatchScorer)
    run = bench(tmp_path / "run", {"iqa": scorer}, batch_size=64)
    values = run.records["value"].tolist()
    assert run.records["status"].tolist() == ["failed" if number == 6 else "scored" for number in range(64)]
    assert [value for number, value in enumerate(values) if number != 6] == [n for n in range(64) if n != 6]
    assert max(map(len, scorer.batches)) == 4
    assert [numbers[0] for numbers in scorer.batches if len(numbers) > 1] == sorted(
        numbers[0] for numbers in scorer.batches if len(numbers) > 1
    )


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Of three sizes, one too small for iqa and one of one colour."""
    photos = [load_image(path) for path in sorted(EXAMPLES.glob("*.jpg"))[:6]]
    sizes = [(96, 64), (64, 96), (96, 64), (80, 80), (96, 64), (96, 64)]
    resized = [np.asarray(photo.resize(size)) for photo, size in zip(photos, sizes, strict=True)]
    return [*resized, resized[0][:20], np.full((64, 96, 3), 7, np.uint8), *resized[:3]]


@pytest.mark.parametrize("batch_size", [2, 8])
def test_clip_gives_each_image_of_a_batch_the_score_that_it_has_alone(
    pictures: list[np.ndarray], batch_size: int
) -> None:
    clip: Any = a_scorer("clip", model="mannequin")
    assert clip.batch_size == 1  # on a CPU, where larger ones are hardly faster
    prompts = [None if i == 4 else Prompt(id=f"p{i}", text="a hand " * (i + 1)) for i in range(len(pictures))]
    clip.batch_size = batch_size
    alone = [clip.score(image, prompt) for image, prompt in zip(pictures, prompts, strict=True)]
    assert alone[4].status == "unknown"
    assert clip.score_batch(pictures, prompts) == alone
    assert clip.score_batch(pictures[::-1], prompts[::-1]) == alone[::-1]
    assert clip.score_batch(pictures[:1], [None])[0].status == "unknown"


def test_iqa_gives_each_image_of_a_batch_the_score_that_it_has_alone(pictures: list[np.ndarray]) -> None:
    iqa: Any = a_scorer("iqa")
    none = [None] * len(pictures)
    alone = [iqa.score(image, None) for image in pictures]
    assert [score.status for score in alone].count("unknown") == 2
    assert iqa.batch_size > 1
    assert iqa.score_batch(pictures, none) == alone
    assert iqa.score_batch(pictures[::-1], none) == alone[::-1]
