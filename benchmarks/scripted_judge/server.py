"""The server of a scripted judge: HTTP/1.1 with keep-alive, as little of it as clients of chat completions need."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections import Counter, deque
from contextlib import suppress
from dataclasses import asdict
from http.client import responses
from itertools import count
from time import time
from typing import Any

from benchmarks.scripted_judge.replies import Asked, Json, Rejected, completion, name_images, read_request
from benchmarks.scripted_judge.script import Script, Stats, chosen

BODIES = 50
"""How many of the last requests are kept."""
LIMIT = 2**26
"""Bytes that are read ahead of a connection, so that reading a large image is not paused."""
COMPLETIONS = ("POST", "/v1/chat/completions")


class Hangup(Exception):
    """The connection is closed without an answer."""


class ScriptedJudge:
    """Answers requests by a script, and counts them."""

    def __init__(self, script: Script) -> None:
        self._images: dict[bytes, str] = {}
        self._numbers = count(1)
        self._seen = self._in_flight = self._most_in_flight = 0
        self._statuses: Counter[int] = Counter()
        self._questions: Counter[str] = Counter()
        self._bodies: deque[Json] = deque(maxlen=BODIES)
        self._authorizations: set[str] = set()
        self.change(script)

    def change(self, script: Script) -> None:
        """Follow another script from the next request on, to which all questions are new."""
        self._script = script
        self._requested: Counter[str] = Counter()
        self._replied: Counter[str] = Counter()

    def stats(self) -> Stats:
        """What was seen so far."""
        return Stats(
            seen=self._seen,
            answered=self._statuses[200],
            statuses={str(status): number for status, number in self._statuses.items()},
            in_flight=self._in_flight,
            most_in_flight=self._most_in_flight,
            questions=dict(self._questions),
            bodies=list(self._bodies),
            authorizations=sorted(self._authorizations),
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All requests of one connection."""
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, Hangup):
                while await self._serve_one(reader, writer):
                    pass
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """A request, and whether others may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        method, target, _ = first.split(" ", 2)
        path = target.partition("?")[0]
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if self._script.down and path.startswith("/v1/"):
            self._seen += 1
            return False
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if path.startswith("/v1/"):
            await self._count_and_answer(reader, writer, method, path, headers, body)
        else:
            _write(writer, 200, self._control(method, path, body))
        return headers.get("connection", "").lower() != "close"

    def _control(self, method: str, path: str, body: bytes) -> Json:
        if (method, path) == ("POST", "/script"):
            self.change(Script.from_json(body))
        return asdict(self.stats())

    async def _count_and_answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        self._seen += 1
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        if "authorization" in headers:
            self._authorizations.add(hashlib.sha256(headers["authorization"].encode()).hexdigest())
        try:
            answer = await self._answer(reader, method, path, body)
            status = 200
        except Rejected as error:
            status = error.status
            answer = {"error": {"message": str(error), "type": _kind(status), "param": error.param, "code": None}}
        finally:
            self._in_flight -= 1
        self._statuses[status] += 1
        retry = {"Retry-After": f"{self._script.retry_after_s:g}"} if status == 429 else {}
        _write(writer, status, answer, retry)

    async def _answer(self, reader: asyncio.StreamReader, method: str, path: str, body: bytes) -> Json:
        script = self._script
        if script.status is not None:
            raise Rejected(script.status, f"The script answers everything with {script.status}.")
        if (method, path) == ("GET", "/v1/models"):
            rows = [{"id": name, "object": "model", "created": 0, "owned_by": "script"} for name in script.models]
            return {"object": "list", "data": rows}
        if (method, path) != COMPLETIONS:
            raise Rejected(404, f"Unknown request URL: {method} {path}.")
        end = asyncio.get_running_loop().time() + script.latency_s
        request = json.loads(name_images(body, self._images, decode=bool(script.truth)))
        try:
            asked = read_request(request, script)
        except (KeyError, TypeError, AttributeError) as error:
            raise Rejected(400, f"The request is not understood: {error!r}") from error
        finally:
            self._bodies.append(request)
        self._questions[asked.key] += 1
        await self._befall(reader, asked, script)
        made = completion(request, asked, script, self._fault(asked, script))
        await asyncio.sleep(end - asyncio.get_running_loop().time())
        return {"id": f"chatcmpl-{next(self._numbers)}", "created": int(time()), **made}

    async def _befall(self, reader: asyncio.StreamReader, asked: Asked, script: Script) -> None:
        """The faults of the server, at the first request of a question."""
        self._requested[asked.key] += 1
        if self._requested[asked.key] > 1:
            return
        shares = {"rate_limited": script.rate_limited, "errors": script.errors, "stalls": script.stalls}
        match chosen(shares, script.seed, "server", asked.key):
            case "rate_limited":
                raise Rejected(429, "Rate limit reached.")
            case "errors":
                raise Rejected(500, "The server had an error while processing your request.")
            case "stalls":
                # Only the client ends this, by closing the connection.
                await reader.read(1)
                raise Hangup

    def _fault(self, asked: Asked, script: Script) -> str | None:
        """What spoils the reply to a question."""
        self._replied[asked.key] += 1
        shares = {"refusals": script.refusals, "malformed": script.malformed, "cut": script.cut}
        fault = chosen(shares, script.seed, "model", asked.key)
        again = self._replied[asked.key] > 1 and not script.malformed_always
        return None if again and fault != "refusals" else fault


def _kind(status: int) -> str:
    if status == 429:
        return "rate_limit_exceeded"
    return "server_error" if status >= 500 else "invalid_request_error"


def _write(writer: asyncio.StreamWriter, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
    body = json.dumps(answer).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"HTTP/1.1 {status} {responses.get(status, '')}", *(f"{name}: {value}" for name, value in fields.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)


async def run(script: Script, port: int, parent: int | None) -> None:
    """Serve on 127.0.0.1 until the process `parent`, if given, has ended; prints the URL first."""
    server = await asyncio.start_server(ScriptedJudge(script).serve, "127.0.0.1", port, limit=LIMIT, backlog=1024)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    while parent in (None, os.getppid()):
        await asyncio.sleep(0.5)
