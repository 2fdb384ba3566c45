"""The commands as a user gives them, without the seconds that a process of its own takes to import what they need."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Literal

import pytest

import asap_train.cli
import hafbench.cli

PROGRAMS = {"hafbench": hafbench.cli.main, "asap-train": asap_train.cli.main}


@dataclass(frozen=True)
class Ended:
    """What a process would have left behind."""

    returncode: int
    stdout: str
    stderr: str


def command(*words: object, program: Literal["hafbench", "asap-train"] = "hafbench") -> Ended:
    """The program's own entry point with these arguments; raises what it does not make a sentence of."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code: object = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", [program, *map(str, words)])
        try:
            PROGRAMS[program]()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int)
    return Ended(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))
