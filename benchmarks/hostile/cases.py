"""A hostile input, the command that gets it, and what came of it."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["refused", "accepted", "traceback", "wrong", "hang"]
OUTCOMES: tuple[Outcome, ...] = ("refused", "accepted", "traceback", "wrong", "hang")
FINDINGS = frozenset(("traceback", "wrong", "hang"))
ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
"""How long a command may take; each ends in a few seconds where nothing else runs."""
REFUSED, DONE = frozenset((2,)), frozenset((0, 3))
LOG = "output.txt"

PRELOAD = (
    "torch",
    "pandas",
    "pyarrow.parquet",
    "matplotlib.pyplot",
    "PIL.Image",
    "pyiqa",
    "hafbench.api",
    "hafbench.generators",
    "hafbench.scorers.iqa",
    "hafbench.reports.build",
    "hafbench.reports.board",
    "hafbench.reports.comparison",
    "hafbench.leaderboard",
    "asap_train.api",
    "asap_train.hap.validate",
)
"""What a command imports, loaded once for all of them."""


@dataclass(frozen=True)
class Case:
    """An input and the command that reads it, run in the folder that `make` fills.

    `must` says which answer is right: "refuse", "accept", or "either" where both are. `check` looks at what an accepted
    input led to, and says what is wrong with it.
    """

    area: str
    name: str
    tool: str
    words: tuple[str, ...]
    make: Callable[[Path], Any]
    must: Literal["refuse", "accept", "either"] = "either"
    check: Callable[[Path], str | None] | None = None


@dataclass(frozen=True)
class Result:
    """What came of a case; `said` is the last line of its output, or what is wrong; `kept` a finding's folder."""

    area: str
    name: str
    outcome: Outcome
    said: str
    kept: Path | None = None


def command(tool: str, words: tuple[str, ...], folder: Path, log: str = LOG) -> None:
    """The real command in this process, in that folder, with all that it prints in a file."""
    with (folder / log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    sys.argv = [tool, *words]
    if tool == "hafbench":
        from hafbench.cli import main
    else:
        from asap_train.cli import main
    main()


@contextmanager
def server() -> Iterator[ForkServerContext]:
    """Processes that start with the heavy imports done, offline and with one thread each."""
    before = dict(os.environ)
    os.environ |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), before.get("PYTHONPATH", "")]),
        "HAFBENCH_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "YOLO_OFFLINE": "true",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    try:
        yield context
    finally:
        os.environ.clear()
        os.environ.update(before)


def start(context: ForkServerContext, tool: str, words: tuple[str, ...], folder: Path, log: str = LOG) -> BaseProcess:
    """The command in a process of its own."""
    process = context.Process(target=command, args=(tool, words, folder, log))
    process.start()
    return process


def kill(process: BaseProcess) -> None:
    """End a process at once; nothing if it has ended."""
    if process.pid and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def run_case(case: Case, folder: Path, context: ForkServerContext, limit_s: float = LIMIT_S) -> Result:
    """Make the input, run the command, and judge what came of it; the folder stays where that is a finding."""
    folder.mkdir(parents=True)
    case.make(folder)
    process = start(context, case.tool, case.words, folder)
    process.join(limit_s)
    hangs = process.is_alive()
    kill(process)
    outcome, said = judge(case, folder, process.exitcode or 0, hangs)
    if outcome in FINDINGS:
        text = f"{case.area}: {case.name}\n{case.tool} {' '.join(case.words)}\n{outcome}: {said}\n"
        (folder / "case.txt").write_text(text, errors="backslashreplace")
        return Result(case.area, case.name, outcome, said, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return Result(case.area, case.name, outcome, said)


def judge(case: Case, folder: Path, exit_code: int, hangs: bool) -> tuple[Outcome, str]:
    """The outcome, and what was said or is wrong."""
    printed = (folder / LOG).read_text(errors="replace") if (folder / LOG).exists() else ""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if hangs:
        return "hang", last
    if "Traceback (most recent call last)" in printed or exit_code not in REFUSED | DONE:
        return "traceback", f"{last} (exit code {exit_code}, {_where(printed)})"
    if exit_code in REFUSED:
        if case.must == "accept":
            return "wrong", f"a sound input was refused: {last}"
        sentence = any(re.match(rf"({case.tool}|Error|Usage)\b.*", line) for line in lines)
        return ("refused", last) if sentence else ("wrong", f"refused without a sentence: {last!r}")
    if case.must == "refuse":
        return "wrong", f"accepted: {last}"
    problem = case.check(folder) if case.check else None
    return ("wrong", problem) if problem else ("accepted", last)


def _where(printed: str) -> str:
    """The last place of a traceback in our own code."""
    places = re.findall(r'File "[^"]*/((?:hafbench|asap_train)/[^"]+)", line (\d+)', printed)
    return ":".join(places[-1]) if places else "-"
