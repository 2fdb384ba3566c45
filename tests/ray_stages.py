"""Stages for tests of the engine `ray`; a file of its own, since every worker of the cluster imports it."""

import hashlib
import os
from pathlib import Path
from typing import Any


class Numbers:
    """Adds bytes to a row, and a line with its number and this process to a file."""

    def __init__(self, log: Path, size: int) -> None:
        self.log, self.size = log, size

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        with self.log.open("a") as file:
            file.write(f"{row['number']} {os.getpid()}\n")
        return {**row, "bytes": os.urandom(self.size), "node": ray.get_runtime_context().get_node_id()}


class Works:
    """Takes about 10 ms for a row."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 20_000)
        return {"number": row["number"], "pid": os.getpid(), "node": row["node"]}
