"""May the network be used, and can the model hub be reached? If not, a command fails at once, without retries."""

from __future__ import annotations

import os
import socket
import sys
from functools import cache
from urllib.parse import urlsplit

from hafbench.errors import causes

SECONDS = 3.0
CLIENTS = frozenset({"http", "httpcore", "httpx", "huggingface_hub", "requests", "socket", "ssl", "urllib", "urllib3"})
"""The packages whose errors are about fetching."""


def asked_offline() -> bool:
    """True if the user wants no network: by HAFBENCH_OFFLINE or, where that is not set, by HF_HUB_OFFLINE."""
    return _is_on("HAFBENCH_OFFLINE" if os.environ.get("HAFBENCH_OFFLINE") else "HF_HUB_OFFLINE")


def go_offline() -> None:
    """Use no network from here on, in this process and in those that it starts (the option --offline)."""
    os.environ["HAFBENCH_OFFLINE"] = "1"
    _tell_client()


def offline() -> bool:
    """True if the hub cannot or must not be reached; its client library is then told so.

    It uses only what is on this machine from then on.
    """
    if _is_on("HF_HUB_OFFLINE"):
        return True
    if asked_offline() or not _is_reachable():
        # An unreachable hub says nothing about other servers: they stay allowed, in child processes too.
        os.environ["HAFBENCH_OFFLINE"] = os.environ.get("HAFBENCH_OFFLINE") or "0"
        _tell_client()
        return True
    return False


def fetch_failed(error: BaseException) -> bool:
    """True if an error says that a file is not on this machine and could not be fetched, and not that it is damaged."""
    return any(
        isinstance(cause, ConnectionError | TimeoutError | FileNotFoundError)
        or type(cause).__module__.partition(".")[0] in CLIENTS
        for cause in causes(error)
    )


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in {"1", "true", "yes", "on"}


def _tell_client() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


@cache
def _is_reachable() -> bool:
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True  # a direct connection says nothing about one through the proxy
    parts = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=SECONDS).close()
    except OSError:
        return False
    return True
