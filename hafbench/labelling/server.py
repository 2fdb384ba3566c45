"""The server of the page on which people label. FastAPI and uvicorn come with the extra `label`."""

# Annotations are values here: FastAPI cannot look up the names of those that are imported inside a function.

import io
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import parse_qs, urlencode

from pydantic import BaseModel, ConfigDict

from hafbench.errors import BadImage, HafError, Unavailable
from hafbench.images import load_image
from hafbench.labelling.answers import EventId, Given, Rater, Tab
from hafbench.labelling.guard import COOKIE, Guard
from hafbench.labelling.session import Refused, Session, State
from hafbench.labelling.store import Picture
from hafbench.reports.page import render_page
from hafbench.sources import Content, read_place
from hafbench.types import Kind, Region

if TYPE_CHECKING:
    from fastapi import FastAPI

TEMPLATES = Path(__file__).parent / "templates"
KEPT_IMAGES = 24
MOST_BYTES = 100_000
"""Of a request: an answer is far smaller."""


@dataclass(frozen=True)
class Page:
    """How the page is set up. `verdicts` are what scorers say, by SHA-256; None where raters must not see them."""

    pairs: bool
    settling: bool
    verdicts: Mapping[str, tuple[str, ...]] | None = None


class Asked(BaseModel):
    """A rater in a tab asks for what is next."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rater: Rater
    tab: Tab


class Undo(Asked):
    """A rater takes the last answer back."""

    id: EventId


class Verdicts(BaseModel):
    """What the scorers say of an image, a line each."""

    model_config = ConfigDict(frozen=True)

    lines: tuple[str, ...]


class Kept(BaseModel):
    """An answer is on the disk; `new` is False where it was before."""

    model_config = ConfigDict(frozen=True)

    new: bool


def build_app(session: Session, page: Page, guard: Guard) -> "FastAPI":
    """The application; raises Unavailable without FastAPI."""
    try:
        import uvicorn  # noqa: F401 (that `serve` will find it)
        from fastapi import FastAPI, Request, Response
        from fastapi.exceptions import RequestValidationError
        from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
    except ImportError as error:
        raise Unavailable("Labelling needs FastAPI and uvicorn: `pip install fastapi uvicorn`.") from error

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pictures = session.pictures
    read = lru_cache(KEPT_IMAGES)(as_png)

    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Any]) -> Response:
        query = request.url.query
        refusal = guard.refusal(request.method, request.headers, query)
        if refusal is None and request.method == "POST":
            refusal = misfit_of(request.headers)
        answer: Response
        if refusal is not None:
            answer = PlainTextResponse(refusal, 403)
        elif guard.token is not None and "token" in parse_qs(query):
            # The token leaves the address bar, where others might read or copy it.
            rest = [(key, value) for key, value in request.query_params.multi_items() if key != "token"]
            answer = RedirectResponse(request.url.path + (f"?{urlencode(rest)}" if rest else ""), 303)
            answer.set_cookie(COOKIE, guard.token, httponly=True, samesite="lax")
        else:
            answer = await call_next(request)
        answer.headers.update(HEADERS)
        return answer

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 404)

    @app.exception_handler(RequestValidationError)
    async def misfit(_: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
        return PlainTextResponse(f"This is not an answer: {first.get('msg', 'it does not fit')}.", 422)

    @app.exception_handler(HafError)
    async def failed(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 503)

    @app.get("/", response_class=HTMLResponse)
    def show(rater: str | None = None) -> str:
        name = rater if rater is not None else session.raters[0] if len(session.raters) == 1 else None
        if name is not None:
            session.check(name)
        return page_for(session, page, name)

    @app.post("/api/next")
    def following(asked: Asked) -> State:
        return session.next(asked.rater, asked.tab)

    @app.post("/api/labels")
    def label(given: Given) -> Kept:
        return Kept(new=session.give(given))

    @app.post("/api/undo")
    def undo(asked: Undo) -> State:
        return session.undo(asked.id, asked.rater)

    @app.get("/api/verdicts/{sha256}")
    def verdicts(sha256: str) -> Verdicts:
        if page.verdicts is None or sha256 not in pictures:
            raise Refused("what the scorers say is not shown here; start with --review.")
        return Verdicts(lines=page.verdicts.get(sha256, ()))

    @app.get("/images/{sha256}")
    def image(sha256: str) -> Response:
        if sha256 not in pictures:
            raise Refused("this image is not one of those to be labelled here.")
        return Response(
            read(pictures[sha256]), media_type="image/png", headers={"Cache-Control": "private, max-age=3600"}
        )

    return app


def misfit_of(headers: Mapping[str, str]) -> str | None:
    """Why the body of a request is not read, by its headers; None if it is."""
    length = headers.get("content-length", "")
    if not length.isdecimal() or int(length) > MOST_BYTES:
        return "This is too large for an answer."
    return None if headers.get("content-type", "").startswith("application/json") else "Answers are sent as JSON."


HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def as_png(picture: Picture) -> bytes:
    """An image as every scorer saw it, without what else its file holds; raises HafError if it is another file now."""
    found = read_place(picture.place)
    if isinstance(found, Content) and found.sha256 != picture.sha256:
        raise HafError(f"{picture.image} is not the image that was scored any more; score the run again.")
    try:
        buffer = io.BytesIO()
        load_image(found).save(buffer, format="PNG", compress_level=1)
    except (BadImage, OSError) as error:
        raise HafError(f"{picture.image} cannot be read any more; label it as unsure.") from error
    return buffer.getvalue()


def page_for(session: Session, page: Page, rater: str | None) -> str:
    """The page of a rater, or where there are several the choice of one."""
    settings = {
        "rater": rater,
        "pairs": page.pairs,
        "settling": page.settling,
        "review": page.verdicts is not None,
        "store": session.plan,
    }
    return render_page(
        "label",
        "label.js",
        folder=TEMPLATES,
        raters=session.raters,
        rater=rater,
        pairs=page.pairs,
        settling=page.settling,
        review=page.verdicts is not None,
        settings=json.dumps(settings),
        regions=tuple(enumerate(get_args(Region), 1)),
        kinds=tuple(zip(KIND_KEYS, get_args(Kind), strict=True)),
    )


KIND_KEYS = ("m", "x", "c", "o", "p")
"""The keys of the kinds of error, in the order of the taxonomy."""


def listen(address: str, port: int) -> socket.socket:
    """A socket at an address; raises HafError where that is taken or not of this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((address, port))
        found.listen()  # so that whoever opens the address now is served when all is ready
    except OSError as error:
        found.close()
        raise HafError(
            f"{address}:{port} cannot be used ({error.strerror}); choose another --host or --port."
        ) from error
    return found


def address_of(bound: socket.socket, guard: Guard, rater: str | None = None) -> str:
    """What to open in a browser."""
    host, port = bound.getsockname()[:2]
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 (it is compared, not bound)
    query = {"rater": rater, "token": guard.token}
    words = urlencode({key: value for key, value in query.items() if value is not None})
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/" + (f"?{words}" if words else "")


def serve(app: "FastAPI", bound: socket.socket) -> None:
    """Serve until the command is stopped."""
    import uvicorn

    # No access log: addresses may hold a token.
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
    server.run(sockets=[bound])
