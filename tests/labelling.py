"""A server of labels as a user starts it, and what tests ask of it."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
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
from small import COLOURS, Blueness, Painted, manifest_of, not_none

PRELOAD = ["fastapi", "uvicorn", "pandas", "PIL.Image", "hafbench.cli", "hafbench.labelling.start"]
"""What the server imports, once for all of them."""
WORDS = {f"p{number:02}": "ess" if number % 2 else "sse" for number in range(20)}
"""The verdicts of 60 images of 20 prompts, a third of them errors; for `pictured_run`."""


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

    process: BaseProcess
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
        os.kill(not_none(self.process.pid), signal.SIGKILL)
        self.process.join()

    def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        """A request as the page sends it."""
        return httpx.post(self.base + path, json=body, headers={"Origin": self.base, **headers})


def _label(words: list[str], out: Connection) -> None:
    """The command in this process, with all that it prints in the pipe."""
    from hafbench.cli import main

    for stream in (1, 2):
        os.dup2(out.fileno(), stream)
    # A stream knows whether it may seek from when it was opened.
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    sys.argv = ["hafbench", "label", *words]
    main()


@contextmanager
def served(*words: str | Path, port: int = 0) -> Iterator[Served]:
    """`hafbench label` with these arguments in a process of its own, until the block ends."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    printed, out = context.Pipe(duplex=False)
    process = context.Process(target=_label, args=([*map(str, words), "--no-open", "--port", str(port)], out))
    process.start()
    out.close()
    try:
        with os.fdopen(os.dup(printed.fileno())) as lines:
            first = lines.readline()
            raters = [lines.readline().strip() for _ in range(max(1, words.count("--rater")))]
            assert all("http://" in line for line in raters), [first, *raters]
            yield Served(process, tuple(line[line.index("http://") :] for line in raters))
    finally:
        process.kill()
        process.join()
        printed.close()


def labels_in(store: Path) -> list[Label]:
    """The labels that hold."""
    opened = LabelStore(store, must_exist=True)
    try:
        return opened.labels()
    finally:
        opened.close()
