"""`python -m benchmarks.gpu`: run the parts that are not done yet, in order of worth, within a budget of minutes."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu import flux, rounding, sampling, sdxl, world
from benchmarks.gpu.results import Outcome, Part, Results, Setup, load
from benchmarks.gpu.tables import write

PARTS = (sdxl.PART, flux.PART, rounding.PART, sampling.PART, world.PART)
OUT = Path("docs/studies/gpu.json")
PAGE = Path("docs/studies/gpu.md")


def run_parts(parts: Sequence[Part], results: Results, out: Path, setup: Setup, budget: float) -> None:
    """Run those that are not done, and keep each as soon as it is there; what no longer fits the budget says so.

    A part that fails is not the end of the others: its error is kept as the reason, and it is tried again next time.
    """
    began = time.monotonic()
    for part in parts:
        if results.done(part.name):
            continue
        left = budget - (time.monotonic() - began) / 60
        if part.minutes > left:
            results.parts[part.name] = Outcome(skipped=f"it takes {part.minutes:g} minutes, and {left:.1f} were left")
        else:
            started = time.monotonic()
            try:
                rows = part.run(setup)
                results.parts[part.name] = Outcome(rows, time.monotonic() - started)
            except Exception as error:
                results.parts[part.name] = Outcome(skipped=f"{type(error).__name__}: {str(error).splitlines()[0]}")
        outcome = results.parts[part.name]
        print(f"{part.name}: {outcome.skipped or f'{outcome.seconds:.0f} s'}", flush=True)
        results.save(out)


def main(words: Sequence[str] | None = None) -> None:
    """Entry point."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--size", choices=["true", "tiny"], default="true" if cuda else "tiny")
    parser.add_argument("--budget", type=float, default=25.0, metavar="MINUTES")
    parser.add_argument("--out", type=Path, default=None, help=f"default: {OUT} at true size, build/gpu.json else")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--only", default="", help="parts whose names have this in them")
    asked = parser.parse_args(words)
    out = asked.out or (OUT if asked.size == "true" else Path("build/gpu.json"))
    device = torch.cuda.get_device_name() if cuda else "CPU"
    results = load(out, device, torch.__version__, asked.size)
    with tempfile.TemporaryDirectory() as folder:
        chosen = [part for part in PARTS if asked.only in part.name]
        run_parts(chosen, results, out, Setup(asked.size, Path(folder)), asked.budget)
    if asked.size == "true" and cuda:
        write(asked.page, PARTS, results)


if __name__ == "__main__":
    main()
