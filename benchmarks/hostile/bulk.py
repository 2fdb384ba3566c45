"""Very many files: all are judged, and the memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from time import monotonic

from PIL import Image

from benchmarks.hostile.cases import DONE, LOG, REFUSED, Result, kill, start
from benchmarks.hostile.images import noise

LIMIT_S = 7200.0
MANY = "many files"
ROOM_MB = 250
"""How much more memory the large folder may take than the small one."""


def bulk(folder: Path, files: int, photos: int, context: ForkServerContext) -> Iterator[Result]:
    """`files` tiny images scored, `photos` photos scored, and pairs asked for from a twentieth of them: peak memory.

    Parts of bodies are looked for in each photo that pairs are asked of, which takes a quarter of a second.
    """
    score = ("score", "images", "--scorers", "iqa", "--out", "out", "--quiet")
    yield _compared("tiny files", "hafbench", score, files, folder / "tiny", _tiny, context, _all_rows)
    synth = ("synth", "--photos", "images", "--count", "1", "--workers", "1", "--out", "out", "--quiet")
    yield _compared("photos", "hafbench", score, photos, folder / "photos", _photos, context, _all_rows)
    asked = max(1, photos // 20)
    yield _compared("photos for pairs", "asap-train", synth, asked, folder / "pairs", _photos, context, lambda *_: None)


def _tiny(folder: Path, count: int) -> None:
    for number in range(count):
        Image.new("RGB", (16, 16), (number % 256, number // 256 % 256, 7)).save(folder / f"{number}.png")


def _photos(folder: Path, count: int) -> None:
    """Links to one picture: only their number matters."""
    noise(0, 64).save(folder / "0.png")
    for number in range(1, count):
        (folder / f"{number}.png").hardlink_to(folder / "0.png")


def _all_rows(out: Path, count: int) -> str | None:
    import pandas as pd

    rows = len(pd.read_parquet(out / "records.parquet"))
    return None if rows == count else f"{rows} rows of {count} images"


def _compared(
    name: str,
    tool: str,
    words: tuple[str, ...],
    count: int,
    folder: Path,
    fill: Callable[[Path, int], None],
    context: ForkServerContext,
    check: Callable[[Path, int], str | None],
) -> Result:
    """The command on a twentieth of the files, then on all of them."""
    peaks = []
    for number in (max(1, count // 20), count):
        own = folder / str(number)
        (own / "images").mkdir(parents=True)
        fill(own / "images", number)
        began, process = monotonic(), start(context, tool, words, own)
        peak = 0.0
        while process.is_alive() and monotonic() - began < LIMIT_S:
            peak = max(peak, memory_mb(process.pid or 0))
            process.join(0.05)
        hangs = process.is_alive()
        kill(process)
        last = ((own / LOG).read_text(errors="replace").strip().splitlines() or [""])[-1]
        if hangs or process.exitcode not in DONE | REFUSED:
            return Result(MANY, f"{number} {name}", "hang" if hangs else "traceback", last, own)
        problem = check(own / "out", number)
        if problem:
            return Result(MANY, f"{number} {name}", "wrong", problem, own)
        peaks.append(peak)
    said = f"peak memory {peaks[0]:.0f} MB, and {peaks[1]:.0f} MB of {count}"
    grows = peaks[1] - peaks[0] > ROOM_MB
    return Result(MANY, f"{count} {name}", "wrong" if grows else "accepted", said, folder if grows else None)


def memory_mb(pid: int) -> float:
    """The memory that a process and its children hold, in MB."""
    import psutil

    try:
        process = psutil.Process(pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return 0.0
