"""`python -m benchmarks.scripted_judge [--port 8000] < script.json`: serves on 127.0.0.1, prints its URL.

The script is an object of the fields of `Script`, all of which have defaults: `echo '{}'` will do.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress

from benchmarks.scripted_judge.script import Script
from benchmarks.scripted_judge.server import run


def main() -> None:
    """Serve what the command line and the standard input ask for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scripted_judge", description="A scripted judge.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--parent", type=int, default=None, help="ends when this process is not its parent any more")
    asked = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(run(Script.from_json(sys.stdin.read()), asked.port, asked.parent))


if __name__ == "__main__":
    main()
