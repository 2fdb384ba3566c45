"""Progress where there is no terminal: a line every so often, by a clock that the test moves."""

import pytest

from hafbench.progress import Lines, progress_bars


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_comes_every_so_often_and_at_the_end() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = Lines(lines.append, clock, every=30)
    progress.start("images", 200, done=50)
    for done in range(51, 201):
        clock.now += 1
        progress.update("images", done, f"hands {done // 10}/{done} errors")
    assert [line.split(",")[0] for line in lines] == [f"{done}/200 images" for done in (80, 110, 140, 170, 200)]
    assert lines[0] == "80/200 images, 1.00 images/s, 0:02:00 left, hands 8/80 errors\n"
    assert lines[-1] == "200/200 images, 1.00 images/s, hands 20/200 errors\n"


def test_a_task_within_another_shares_its_lines() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = Lines(lines.append, clock, every=30)
    progress.start("steps", 10)
    clock.now = 20
    progress.update("steps", 5)
    progress.start("images", 4)
    clock.now = 40
    progress.update("images", 2)
    clock.now = 50
    progress.update("steps", 6)
    progress.update("images", 4)
    assert [line.split(",")[0] for line in lines] == ["2/4 images", "4/4 images"]


def test_a_task_of_unknown_length_is_told_of_by_the_clock_alone() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = Lines(lines.append, clock, every=30)
    progress.start("images", 0)
    for done in range(1, 61):
        clock.now += 1
        progress.update("images", done)
    assert len(lines) == 2


def test_a_log_gets_lines_and_quiet_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet, words in [(False, "3/3 images"), (True, "")]:
        with progress_bars(quiet) as progress:
            progress.start("images", 3)
            progress.update("images", 3)
        said = capsys.readouterr().err
        assert words in said
        assert len(said.splitlines()) == (not quiet)
