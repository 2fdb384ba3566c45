"""Pictures are encoded and saved by other threads than the one that draws, with the same guarantees."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hafbench.errors import HafError, RunStopped
from hafbench.evaluate import evaluate, plan
from hafbench.images import encode_image
from hafbench.runs import Run, open_run
from hafbench.suites import Prompt
from small import Brightness, Painter, manifest_of, painted

PROMPTS = [Prompt(id=f"p{number}", text=f"a hand, number {number}") for number in range(12)]
SAMPLES = plan(PROMPTS, [0])


def bench(folder: Path, painter: Painter, batch_size: int = 1) -> Run:
    scorers = {"hands": Brightness()}
    with open_run(folder, manifest_of(scorers, painter.settings)) as run:
        return evaluate(run, SAMPLES, scorers, painter, batch_size=batch_size)


def recorded(folder: Path) -> list[str]:
    return [line.split('"')[3] for line in (folder / "records.jsonl").read_text().splitlines()]


class Watched(Image.Image):
    """A picture that cannot be encoded before an event."""

    after: threading.Event

    @classmethod
    def of(cls, image: Image.Image, after: threading.Event) -> "Watched":
        made = cls()
        made.im, made._mode, made._size, made.after = image.im, image.mode, image.size, after
        return made

    def save(self, *args: Any, **options: Any) -> None:
        """As of any picture."""
        assert self.after.wait(60)
        super().save(*args, **options)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_batch_is_encoded_while_the_next_is_drawn_and_pictures_and_order_stay(
    tmp_path: Path, batch_size: int
) -> None:
    class Follows(Painter):
        """What it draws is encoded when the next batch has begun."""

        def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
            self.began.set()
            self.began = threading.Event()
            if PROMPTS[-1] in prompts:
                self.began.set()
            return [Watched.of(image, self.began) for image in super().generate(prompts, seeds)]

        began = threading.Event()

    run = bench(tmp_path / "run", Follows(), batch_size)
    assert recorded(run.folder) == [sample.image for sample in SAMPLES]
    assert run.manifest.counts.scored == len(SAMPLES)
    for prompt in PROMPTS:
        saved = (run.folder / "images" / prompt.id / "0.png").read_bytes()
        assert saved == encode_image(painted(prompt.id, 0), ".png")


def test_a_picture_that_cannot_be_written_stops_the_run_with_those_before_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    class InTheWay(Painter):
        def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
            if prompts[0].id == "p5":
                (folder / "images" / "p5").touch()
            return super().generate(prompts, seeds)

    painter = InTheWay()
    with pytest.raises(HafError, match=r"run cannot be written: .*; choose another --out"):
        bench(folder, painter)
    assert recorded(folder) == [sample.image for sample in SAMPLES[: len(recorded(folder))]]
    assert len(painter.batches) < len(SAMPLES)
    drawn = {path.parent.name for path in (folder / "images").rglob("*.png")}
    assert drawn == {prompt.id for prompt in PROMPTS[: len(painter.batches)]} - {"p5"}
    (folder / "images" / "p5").unlink()
    again = Painter()
    assert bench(folder, again).manifest.counts.scored == len(SAMPLES)
    assert sum(again.batches) == len(SAMPLES) - len(drawn)


@pytest.mark.parametrize("error", [RunStopped("the model is gone"), KeyboardInterrupt()])
def test_what_was_drawn_before_the_model_ends_the_run_is_saved(tmp_path: Path, error: BaseException) -> None:
    class Ends(Painter):
        def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
            if PROMPTS[6] in prompts:
                raise error
            return super().generate(prompts, seeds)

    with pytest.raises(type(error)):
        bench(tmp_path / "run", Ends(), 2)
    drawn = {path.parent.name for path in (tmp_path / "run" / "images").rglob("*.png")}
    assert drawn == {prompt.id for prompt in PROMPTS[:6]}


def test_a_picture_that_is_there_is_scored_though_it_could_not_be_drawn_again(tmp_path: Path) -> None:
    painter, scorers = Painter(broken=["p0"]), {"hands": Brightness()}
    with open_run(tmp_path / "run", manifest_of(scorers, painter.settings)) as run:
        run.save_image(SAMPLES[0].image, painted("p0", 0))
        assert list(evaluate(run, SAMPLES[:2], scorers, painter, batch_size=2).records.status) == ["scored"] * 2
