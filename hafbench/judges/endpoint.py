"""A judge behind an OpenAI-compatible endpoint: vLLM, SGLang, Ollama, or a hosted one.

The key is taken from the environment only: HAFBENCH_JUDGE_API_KEY, or OPENAI_API_KEY for api.openai.com.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_serializer

from hafbench import registry
from hafbench.errors import HafError, RunStopped, causes, first_problem, one_line
from hafbench.judges.completion import Completion
from hafbench.judges.questions import Picture, Question, Reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI_HOST = "api.openai.com"
FATAL = frozenset((401, 403, 404, 405))
"""Statuses that every other question would get, too: of a wrong key, model or address."""
OF_ONE = frozenset((400, 413, 422))
"""Statuses that may be of one question alone, such as of a picture that a filter refuses."""
PATIENCE = 8
"""Questions refused with such a status, none of any kind answered, before all are taken to be."""
ENCODED = 128
"""Pictures that are kept encoded."""
OPTIONAL: Mapping[str, Mapping[str, Any]] = {
    "logprobs": {"logprobs": None, "top_logprobs": None},
    "response_format": {"response_format": None},
    "json_schema": {"response_format": None},
    "max_tokens": {"max_completion_tokens": 0},
}
"""What an endpoint may refuse by its name, and what is sent then: None leaves a parameter out."""


class Options(registry.Options):
    """`url` is the base URL, such as http://localhost:8000/v1; `model` the name there.

    `timeout` in seconds is of one try, `max_retries` how often a try is repeated that is refused for now, breaks or
    stalls. `logprobs` is whether to ask for log-probabilities.
    """

    url: str = ""
    model: str = ""
    timeout: Annotated[float, Field(gt=0)] = 120.0
    max_retries: Annotated[int, Field(ge=0)] = 6
    logprobs: bool = True

    @field_serializer("url", when_used="json")
    def _shown(self, url: str) -> str:
        return shown_url(url)


def shown_url(url: str) -> str:
    """The URL without what may be secret: user, password and query."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
    except ValueError:
        return "(a URL that cannot be read)"


class EndpointJudge:
    """Asks an endpoint for chat completions; the client library retries, and keeps to Retry-After."""

    def __init__(self, options: Options, client: AsyncOpenAI, key: str) -> None:
        self.name, self.version = options.model, "1"
        # Of the address nothing: the same model at another port gives the same answers.
        self.settings: Mapping[str, Any] = {"model": options.model, "logprobs": options.logprobs}
        self.host = shown_url(options.url)
        self._client, self._key = client, key
        self._refused: set[str] = set() if options.logprobs else {"logprobs"}
        self._answered, self._turned_down = False, 0
        self._encoded: dict[str, str] = {}

    async def prepare(self, question: Question) -> None:
        """Encode the pictures. The last ones are kept: pairs and examples show the same ones again."""
        for picture in question.pictures:
            url = self._encoded.pop(picture.sha256, "") or await asyncio.to_thread(data_url, picture)
            self._encoded[picture.sha256] = url
        while len(self._encoded) > ENCODED:
            self._encoded.pop(next(iter(self._encoded)))

    async def answer(self, question: Question) -> Reply:
        """The reply; raises HafError where it stays without one, RunStopped where others would, too."""
        import openai

        messages: list[dict[str, Any]] = [
            {"role": "system", "content": question.system},
            {"role": "user", "content": [self._content(part) for part in question.parts]},
        ]
        try:
            reply = await self._create(question, messages)
        except openai.APIConnectionError as error:
            # The library calls a connection that was closed a timeout, too.
            if any(isinstance(one, TimeoutError) for one in causes(error)):
                said = f"The judge's endpoint {self.host} gives no answer in time"
                raise self._error(said, "start it, or set a longer timeout", error) from error
            said = f"The judge's endpoint {self.host} cannot be reached ({self._said(list(causes(error))[-1])})"
            raise RunStopped(f"{said}; start it, and run the same command again.") from error
        except openai.APIStatusError as error:
            said = f"The judge's endpoint {self.host} answers {error.status_code} ({self._said(error)})"
            raise self._error(said, "see --judge, --judge-model and the key in the environment", error) from error
        except (openai.OpenAIError, ValueError) as error:
            said = first_problem(error) if isinstance(error, ValidationError) else self._said(error)
            raise HafError(f"The judge's endpoint {self.host} gave no usable answer ({said}).") from error
        self._answered = True
        return reply

    async def _create(self, question: Question, messages: Sequence[dict[str, Any]]) -> Reply:
        import openai

        schema = {"name": "reply", "strict": True, "schema": dict(question.schema)}
        while True:
            before = frozenset(self._refused)
            asked: dict[str, Any] = {
                "messages": messages,
                "max_tokens": question.max_tokens,
                "temperature": question.temperature,
                "seed": question.seed + question.sample,
                "response_format": {"type": "json_schema", "json_schema": schema},
                "logprobs": True,
                "top_logprobs": 20,
            }
            for name in before:
                asked |= OPTIONAL[name]
            if "max_completion_tokens" in asked:
                asked["max_completion_tokens"] = asked.pop("max_tokens")
            if asked["response_format"] is None:  # then the schema is at least told
                told = {"type": "text", "text": f"The JSON schema of the reply: {json.dumps(question.schema)}"}
                asked["messages"] = [*messages[:-1], {**messages[-1], "content": [*messages[-1]["content"], told]}]
            asked = {name: value for name, value in asked.items() if value is not None}
            try:
                # Plain JSON: the library's own types cost more CPU than all else that a question takes here.
                got = await self._client.post("/chat/completions", body={"model": self.name, **asked}, cast_to=object)
                return Completion.model_validate(got).reply()
            except openai.BadRequestError as error:
                refused = {name for name in OPTIONAL if name in str(error)} - before
                if not refused:
                    raise
                self._refused |= refused

    def _content(self, part: str | Picture) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        return {"type": "image_url", "image_url": {"url": self._encoded.get(part.sha256) or data_url(part)}}

    def _error(self, said: str, advice: str, error: Exception) -> HafError:
        """Of one question where others were answered or may be, else of all."""
        status = getattr(error, "status_code", None)
        self._turned_down += status in OF_ONE
        hopeful = self._answered or (status in OF_ONE and self._turned_down < PATIENCE)
        if hopeful and status not in FATAL:
            return HafError(f"{said}.")
        return RunStopped(f"{said}; {advice}, and run the same command again.")

    def _said(self, error: BaseException) -> str:
        text = one_line(error)
        return (text.replace(self._key, "…") if self._key else text) or type(error).__name__

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def data_url(picture: Picture) -> str:
    """The picture as PNG, without loss, in a data URL."""
    from PIL import Image

    file = io.BytesIO()
    # The lowest compression: at 1024 pixels the others take longer than the network does.
    Image.fromarray(picture.pixels).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def load(options: Options, device: str) -> EndpointJudge:
    """The judge; nothing is asked yet. Raises HafError for an address or a model that is not named."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    try:
        parts = urlsplit(options.url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise HafError(
            f"--judge {shown_url(options.url)} is not an endpoint; give its base URL, such as http://localhost:8000/v1."
        )
    if not options.model:
        raise HafError(f"Name the model at {shown_url(options.url)} by --judge-model, as the endpoint calls it.")
    key = os.environ.get("HAFBENCH_JUDGE_API_KEY", "")
    if not key and parts.hostname == OPENAI_HOST:
        key = os.environ.get("OPENAI_API_KEY", "")
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    client = AsyncOpenAI(
        api_key=key or "none",
        base_url=parts._replace(query="", fragment="").geturl(),
        default_query=query or None,
        timeout=options.timeout,
        max_retries=options.max_retries,
        http_client=DefaultAioHttpClient(),
    )
    return EndpointJudge(options, client, key)
