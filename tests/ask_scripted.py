"""Questions to a scripted judge by OpenAI's client, about pictures of noise."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import openai
from openai import AsyncOpenAI
from PIL import Image

from benchmarks.scripted_judge import Server

if TYPE_CHECKING:
    from hafbench.types import Pixels

T = TypeVar("T")
FINDING = {
    "type": "object",
    "properties": {
        "region": {"enum": ["hands", "feet"]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "box": {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
        "note": {"anyOf": [{"type": "string", "minLength": 12}, {"type": "null"}]},
    },
    "required": ["region", "score", "box", "note"],
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "$defs": {"Finding": FINDING},
    "properties": {
        "reasoning": {"type": "string"},
        "error": {"type": "string", "enum": ["yes", "no", "unclear"]},
        "findings": {"type": "array", "items": {"$ref": "#/$defs/Finding"}},
        "people": {"type": "integer", "minimum": 1},
    },
    "required": ["reasoning", "error", "findings", "people"],
    "additionalProperties": False,
}


def noise(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def part(content: str | Pixels) -> dict[str, Any]:
    if isinstance(content, str):
        return {"type": "text", "text": content}
    buffer = io.BytesIO()
    Image.fromarray(content).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


async def ask(client: AsyncOpenAI, *parts: str | Pixels, schema: Any = SCHEMA, **more: Any) -> Any:
    """The choice in the answer."""
    messages: Any = [
        {"role": "system", "content": "You are a judge."},
        {"role": "user", "content": [part(p) for p in parts]},
    ]
    if schema:
        wanted = {"name": "answer", "strict": True, "schema": schema}
        more |= {"response_format": {"type": "json_schema", "json_schema": wanted}}
    answer = await client.chat.completions.create(model="some-model", messages=messages, **more)
    assert answer.model == "some-model"
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    return answer.choices[0]


async def verdict(client: AsyncOpenAI, *parts: str | Pixels, field: str = "error", **more: Any) -> Any:
    return json.loads((await ask(client, *parts, **more)).message.content)[field]


def asking(server: Server, work: Callable[[AsyncOpenAI], Awaitable[T]], retries: int = 0, **more: Any) -> T:
    async def inside() -> T:
        # Reading the authorities' certificates would take most of the time.
        plain = openai.DefaultAsyncHttpxClient(verify=False)
        more.update(api_key="key", max_retries=retries, http_client=plain)
        async with AsyncOpenAI(base_url=server.url, **more) as client:
            return await work(client)

    return asyncio.run(inside())


async def for_each(images: Sequence[Pixels], one: Callable[[Pixels], Awaitable[T]]) -> list[T]:
    places = asyncio.Semaphore(32)

    async def in_turn(image: Pixels) -> T:
        async with places:
            return await one(image)

    return await asyncio.gather(*(in_turn(image) for image in images))
