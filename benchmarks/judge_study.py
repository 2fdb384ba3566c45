"""`python -m benchmarks.judge_study [--repeats 40] [--kills 10]`: judges that err as told, over HTTP.

Prints how often the intervals of a judge's card hold what its script says, how often the corrected error rate holds the
truth, what a position bias does to the RSI, and how many requests a server sees of a run that is stopped or
killed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.scripted_judge import Script, Server, scripted
from hafbench import api
from hafbench.cards import cards_of
from hafbench.figures import all_figures, share
from hafbench.judges.options import PairOptions
from hafbench.judges.parts import shown
from hafbench.scorers.judge import Options
from hafbench.specs import ScorerSpec, ScoreSpec

SENSITIVITY, SPECIFICITY, TRUE_RATE, IMAGES = 0.8, 0.9, 0.1, 200


def pictures(folder: Path, bad: Sequence[bool], first: int) -> dict[str, bool]:
    """Small pictures of different colours, and the truth by what a judge is shown."""
    folder.mkdir(parents=True)
    truth = {}
    for number, error in enumerate(bad, first):
        picture = Image.new("RGB", (16, 16), (number % 256, number // 256 % 256, number // 65536))
        picture.save(folder / f"{number - first:04}.png")
        truth[shown(np.asarray(picture)).sha256] = error
    return truth


def scorer(server: Server, store: Path) -> ScorerSpec:
    """The scorer judge by that server."""
    judge = {"judge": server.url, "model": "scripted"}
    return ScorerSpec(
        name="judge", options=Options.model_validate({"judges": [judge], "protocol": "single", "store": store})
    )


def trust(server: Server, folder: Path, repeats: int) -> None:
    """How often the intervals hold what is told."""
    rng = random.Random(0)
    bad = [number < TRUE_RATE * IMAGES for number in range(IMAGES)]
    truth = pictures(folder / "labelled" / "bad", [True] * (IMAGES // 2), 0)
    truth |= pictures(folder / "labelled" / "good", [False] * (IMAGES // 2), IMAGES)
    truth |= pictures(folder / "images", bad, 2 * IMAGES)
    held = {"sensitivity": 0, "specificity": 0, "raw rate": 0, "corrected rate": 0}
    for _ in range(repeats):
        seed = rng.randrange(10**9)
        server.change(Script(truth=truth, sensitivity=SENSITIVITY, specificity=SPECIFICITY, seed=seed))
        asked = scorer(server, folder / f"{seed}.sqlite")
        out = folder / f"out-{seed}"
        api.calibrate(folder / "labelled", asked, out=folder / f"card-{seed}.json")
        run = api.score(
            ScoreSpec(images=folder / "images", scorers=(asked,)), out=out, cards=[folder / f"card-{seed}.json"]
        )
        card, figures = cards_of(run)["judge"], all_figures(run)[0]
        told: Mapping[str, tuple[object, float]] = {
            "sensitivity": (card.sensitivity, SENSITIVITY),
            "specificity": (card.specificity, SPECIFICITY),
            "raw rate": (figures.rate, TRUE_RATE),
            "corrected rate": (figures.corrected, TRUE_RATE),
        }
        for name, (found, value) in told.items():
            low, high = getattr(found, "low", None), getattr(found, "high", None)
            held[name] += low is not None and high is not None and low <= value <= high
    print(f"\n| 95 % intervals that hold the truth, of {repeats} | |\n|---|---|")
    for name, count in held.items():
        print(f"| {name} | {count} ({count / repeats:.0%}) |")


def bias(server: Server, folder: Path) -> None:
    """What a position bias does to wins, ties and losses."""
    sides = [[n % 2 == 0 for n in range(IMAGES)], [n % 5 == 0 for n in range(IMAGES)]]
    truth: dict[str, bool] = {}
    runs = []
    for name, own, first in zip("ab", sides, (0, 1000), strict=True):
        truth |= pictures(folder / name, own, first)
        server.change(Script(truth=truth))
        spec = ScoreSpec(images=folder / name, scorers=(scorer(server, folder / "judge.sqlite"),))
        runs.append(api.score(spec, out=folder / f"run-{name}"))
    print("\n| pairs | position bias | W / T / L | RSI | orders disagree | the first wins | found |")
    print("|---|---|---|---|---|---|---|")
    for what, known in (("one model better", truth), ("both alike", dict.fromkeys(truth, False))):
        for amount in (0.0, 0.3, 0.6):
            server.change(Script(truth=known, position_bias=amount))
            judge = {"judge": server.url, "model": "scripted"}
            options = PairOptions.model_validate({"judges": [judge], "store": folder / f"{what}{amount}.sqlite"})
            (one,) = api.compare(runs, judges=options, out=folder / "page").versus[0].judged
            wins = one.wins
            told = [share(rate) if rate else "" for rate in (one.inconsistent, one.first)]
            rsi = f"{wins.rsi:.2f} [{wins.rsi_low:.2f}, {wins.rsi_high:.2f}]"
            found = "yes" if one.biased else "no"
            counts = f"{wins.win} / {wins.tie} / {wins.lose}"
            print(f"| {what} | {amount} | {counts} | {rsi} | {told[0]} | {told[1]} | {found} |")


def kills(server: Server, folder: Path, count: int) -> None:
    """Requests of runs that are killed once, at a random moment."""
    rng = random.Random(1)
    script = Script(truth=pictures(folder / "images", [True, False] * (IMAGES // 2), 0), latency_s=0.2)
    print(f"\n| killed after answers | requests in all, of {IMAGES} |\n|---|---|")
    for number in range(count):
        server.change(replace(script, seed=number))
        answered, _, seen = ended(server, folder, number, rng.randint(1, IMAGES - 1), signal.SIGKILL)
        print(f"| {answered} | {seen} |")


def interrupts(server: Server, folder: Path, count: int) -> None:
    """How long a run takes to end after Ctrl-C, and the requests in all once it has gone on."""
    script = Script(truth=pictures(folder / "images", [True, False] * (IMAGES // 2), 0), latency_s=0.2)
    print(f"\n| Ctrl-C after answers | ended in | requests in all, of {IMAGES} |\n|---|---|---|")
    for number in range(count):
        server.change(replace(script, seed=number))
        answered, took, seen = ended(server, folder, number, 20 * (number + 1), signal.SIGINT)
        print(f"| {answered} | {took:.2f} s | {seen} |")


def ended(server: Server, folder: Path, number: int, after: int, how: signal.Signals) -> tuple[int, float, int]:
    """A run that is ended after so many answers, and run again.

    How many answers there were, the seconds until it had ended, and the requests in all.
    """
    words = [
        *("score", str(folder / "images"), "--scorers", "judge", "--judge-protocol", "single", "--quiet"),
        *("--judge", server.url, "--judge-model", "scripted", "--out", f"out-{number}"),
    ]
    command = [str(Path(sys.executable).with_name("hafbench")), *words]
    environment = {**os.environ, "HAFBENCH_CACHE": str(folder / f"cache-{number}")}
    before = server.stats()
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and server.stats().answered - before.answered < after:
        time.sleep(0.005)
    began = time.monotonic()
    process.send_signal(how)
    process.wait()
    took, answered = time.monotonic() - began, server.stats().answered - before.answered
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return answered, took, server.stats().seen - before.seen


def main() -> None:
    """All four."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--kills", type=int, default=10)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, scripted() as server:
        interrupts(server, Path(name) / "interrupts", 5)
        kills(server, Path(name) / "kills", asked.kills)
        bias(server, Path(name) / "bias")
        trust(server, Path(name) / "trust", asked.repeats)


if __name__ == "__main__":
    main()
