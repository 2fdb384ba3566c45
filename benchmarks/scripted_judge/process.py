"""A scripted judge in a process of its own, and what its starter can ask of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from subprocess import PIPE, Popen
from urllib.parse import urlsplit

from benchmarks.scripted_judge.script import Script, Stats

ROOT = Path(__file__).parents[2]
ANSWER_S = 60.0


@dataclass(frozen=True)
class Server:
    """A running scripted judge. `url` is what OpenAI's clients call base_url."""

    url: str
    process: Popen[str]

    def stats(self) -> Stats:
        """What it has seen so far."""
        return self._ask("GET", "/stats")

    def change(self, script: Script) -> None:
        """Let it follow another script from the next request on, to which all questions are new."""
        self._ask("POST", "/script", script.to_json())

    def kill(self) -> None:
        """End it, whatever it does; `scripted(script, port)` can start another at the same place."""
        self.process.kill()
        self.process.wait()

    def _ask(self, method: str, path: str, body: str | None = None) -> Stats:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=ANSWER_S)
        try:
            connection.request(method, path, body)
            return Stats(**json.loads(connection.getresponse().read()))
        finally:
            connection.close()


@contextmanager
def scripted(script: Script | None = None, port: int = 0) -> Iterator[Server]:
    """A scripted judge on 127.0.0.1 (port 0: a free one), which ends with the context or with this process."""
    command = [sys.executable, "-m", "benchmarks.scripted_judge", "--port", str(port), "--parent", str(os.getpid())]
    # In a session of its own, Ctrl-C in the terminal ends it through this process only.
    process = Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True, start_new_session=True)
    assert process.stdin and process.stdout
    try:
        process.stdin.write((script or Script()).to_json())
        process.stdin.close()
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"The scripted judge did not start (exit status {process.wait()}).")
        yield Server(url, process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
