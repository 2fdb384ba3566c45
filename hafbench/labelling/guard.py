"""Who may talk to the server of labels: this machine's own pages, and elsewhere whoever has the token."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Guard:
    """`token` is None on this machine's own address; `hosts` are names by which the server may be called.

    A page of another site may make a browser send requests here: such requests name their Origin, or their Host where
    that site's name was made to point here (DNS rebinding). Numbers as Host cannot be rebound, and pass with a token.
    """

    hosts: frozenset[str]
    token: str | None = None

    def refusal(self, method: str, headers: Mapping[str, str], query: str) -> str | None:
        """Why a request is refused, in one sentence; None if it is not. `headers` have lower-case names."""
        host = _host(headers.get("host", ""))
        if host is None or not (host in self.hosts or (self.token is not None and _is_address(host))):
            return "This server does not go by that name; use the address that the command printed."
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not _is_visit(method, headers):
            return "Another site asked for this."
        origin = headers.get("origin")
        if origin is None and method not in ("GET", "HEAD"):
            return "This request does not say which page it comes from."
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            return "Another site asked for this."
        if self.token is not None and not self.knows(headers, query):
            return "Open the whole address that the command printed, with its token."
        return None

    def knows(self, headers: Mapping[str, str], query: str) -> bool:
        """Whether a request has the token, in its address or in the cookie."""
        name = cookie_name(headers.get("host", ""))
        given = [*parse_qs(query).get("token", ()), _cookie(headers.get("cookie", ""), name)]
        return any(secrets.compare_digest(one.encode(), (self.token or "").encode()) for one in given)


def cookie_name(host: str) -> str:
    """The name of the cookie with the token, by the Host header: a browser sends cookies to all ports of a machine."""
    port = host.rpartition(":")[2]
    return f"hafbench_token_{port if port.isdecimal() else 80}"


def guard_for(address: str) -> Guard:
    """The guard of a server that listens at an address: a token is asked for wherever others could reach it."""
    if address in LOCAL:
        return Guard(frozenset(LOCAL))
    return Guard(frozenset({*LOCAL, address.lower(), socket.gethostname().lower()}), secrets.token_urlsafe(24))


def _is_visit(method: str, headers: Mapping[str, str]) -> bool:
    """A link from elsewhere to the page itself, such as in a chat: it shows nothing to the site that it is on."""
    fetch = [headers.get(f"sec-fetch-{name}") for name in ("mode", "dest")]
    return method == "GET" and fetch == ["navigate", "document"]


def _host(header: str) -> str | None:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""
