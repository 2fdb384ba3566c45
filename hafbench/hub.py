"""Is the model hub to be reached? Asked once, so that without a network a command fails at once, without retries."""

from __future__ import annotations

import os
import socket
import sys
from functools import cache
from urllib.parse import urlsplit

SECONDS = 3.0


@cache
def offline() -> bool:
    """True if the hub cannot be reached; its client library is then told so, and uses only what is on this machine."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return True
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return False  # a direct connection says nothing about one through the proxy
    parts = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=SECONDS).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"
        if constants := sys.modules.get("huggingface_hub.constants"):
            constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        return True
    return False


def go_offline() -> None:
    """Fetch nothing from here on: of the hub, and of the detectors' weights."""
    os.environ["HAFBENCH_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    offline.cache_clear()
