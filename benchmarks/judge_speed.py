"""`python -m benchmarks.judge_speed [--questions 640] [--latency 0.2] [--in-flight 32] [--side 512]`.

How near to the ideal a judge's endpoint is used: a run scored by one question an image, over HTTP, against
in-flight / latency questions a second, from the first image to the last. Server and client share the machine.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import psutil
from PIL import Image

from benchmarks.scripted_judge import Script, scripted
from hafbench import api
from hafbench.scorers.judge import Options
from hafbench.specs import ScorerSpec, ScoreSpec


class Clock:
    """Progress that keeps the time and CPU time from the first image to the last; what follows is the report."""

    began = ended = (0.0, 0.0)

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Scoring begins."""
        self.began = perf_counter(), process_time()

    def update(self, task: str, done: int, note: str = "") -> None:
        """So many images are scored."""
        self.ended = perf_counter(), process_time()


def main() -> None:
    """Print one line of Markdown for the settings of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, default=640)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--side", type=int, default=512)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, scripted() as server:
        folder = Path(name)
        (folder / "images").mkdir()
        rows = np.linspace(0, 255, asked.side, dtype=np.uint8)
        for number in range(asked.questions):
            pixels = np.zeros((asked.side, asked.side, 3), np.uint8)
            pixels[..., 0], pixels[..., 1], pixels[..., 2] = rows, rows[:, None], number % 256
            pixels[0, 0] = number // 256, number % 256, 0
            Image.fromarray(pixels).save(folder / "images" / f"{number:05}.png", compress_level=1)
        # Without a truth the server decodes no image, which would take a core of its own.
        server.change(Script(unknown_answer="no", latency_s=asked.latency))
        judge = {"judge": server.url, "model": "scripted"}
        options = Options.model_validate(
            {"judges": [judge], "protocol": "single", "concurrency": asked.in_flight, "store": folder / "judge.sqlite"}
        )
        spec = ScoreSpec(images=folder / "images", scorers=(ScorerSpec(name="judge", options=options),))
        clock = Clock()
        run = api.score(spec, out=folder / "out", progress=clock)
        took, cpu = (after - before for before, after in zip(clock.began, clock.ended, strict=True))
        ideal = asked.in_flight / asked.latency
        stats = server.stats()
        server_cpu = psutil.Process(server.process.pid).cpu_times()
        speed = asked.questions / took
        print(
            f"{asked.questions} questions, {asked.side} px, {asked.in_flight} in flight of {asked.latency} s: "
            f"{speed:.1f}/s of {ideal:.1f}/s ({speed / ideal:.0%}), at most {stats.most_in_flight} in flight, "
            f"{1000 * cpu / asked.questions:.1f} ms of CPU a question, and "
            f"{1000 * (server_cpu.user + server_cpu.system) / asked.questions:.1f} ms of the server's; "
            f"{run.manifest.counts.scored} scored"
        )


if __name__ == "__main__":
    main()
