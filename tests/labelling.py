"""A server of labels as a user starts it, and what tests ask of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from hafbench.evaluate import evaluate
from hafbench.labelling.answers import Label
from hafbench.labelling.store import LabelStore
from hafbench.records import Sample
from hafbench.runs import Run, open_run
from hafbench.suites import Prompt
from small import COLOURS, Blueness, Painted, manifest_of

ROOT = Path(__file__).parents[1]


def pictured_run(folder: Path, verdicts: dict[str, str], *, name: str = "a model", text: str = "a hand") -> Run:
    """As `coloured_run`, of pictures that all differ: "esu" is an error (red), a sound and an unjudged image."""
    samples = [
        Sample(f"{prompt}/{seed}.png", Prompt(id=prompt, text=f"{text} {prompt}", category="basic_anatomy"), seed)
        for prompt, word in verdicts.items()
        for seed in range(len(word))
    ]
    scorers: dict[str, Any] = {"hands": Painted(), "iqa": Blueness()}
    manifest = manifest_of(scorers, {}, name=name, seeds=max(map(len, verdicts.values())))
    with open_run(folder, manifest) as run:
        for number, sample in enumerate(samples):
            assert sample.prompt is not None and sample.seed is not None
            pixels = np.full((32, 48, 3), COLOURS[verdicts[sample.prompt.id][sample.seed]], dtype=np.uint8)
            pixels[0, 0] = number % 256, number // 256, len(name)
            run.save_image(sample.image, Image.fromarray(pixels))
        return evaluate(run, samples, scorers)


@dataclass(frozen=True)
class Served:
    """A running `hafbench label` and the addresses that it printed."""

    process: subprocess.Popen[str]
    addresses: tuple[str, ...]

    @property
    def base(self) -> str:
        """The address without a rater."""
        return self.addresses[0].split("?")[0].rstrip("/")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.base.rsplit(":", 1)[1])

    def kill(self) -> None:
        """End it at once, without a chance to clean up."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        """A request as the page sends it."""
        return httpx.post(self.base + path, json=body, headers={"Origin": self.base, **headers})


@contextmanager
def served(*words: str | Path, port: int = 0) -> Iterator[Served]:
    """`hafbench label` with these arguments, until the block ends."""
    code = "from hafbench.cli import main; main()"
    command = [sys.executable, "-c", code, "label", *map(str, words), "--no-open", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        raters = max(1, words.count("--rater"))
        lines = [process.stdout.readline().strip() for _ in range(raters)]
        assert all("http://" in line for line in lines), [first, *lines]
        yield Served(process, tuple(line[line.index("http://") :] for line in lines))
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def labels_in(store: Path) -> list[Label]:
    """The labels that hold."""
    opened = LabelStore(store, must_exist=True)
    try:
        return opened.labels()
    finally:
        opened.close()
