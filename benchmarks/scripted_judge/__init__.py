"""A judge for tests and benchmarks that knows the truth, errs as told, and is asked over HTTP by OpenAI's protocol."""

from __future__ import annotations

from benchmarks.scripted_judge.process import Server, scripted
from benchmarks.scripted_judge.script import Script, Stats

__all__ = ["Script", "Server", "Stats", "scripted"]
