"""From a request of the chat completions protocol to the reply that a script has for it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.scripted_judge.script import Script, draw
from hafbench.judges.questions import Picture

Json = dict[str, Any]
ORDER = "answer: no error"
DATA_URL = re.compile(rb'(?<!\\)"data:image/[a-z.+-]+;base64,')
IMAGE = "image:"
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
IMAGE_TOKENS = 765
"""What OpenAI counts for an image of 1024 x 1024."""


class Rejected(Exception):
    """The request is answered with this HTTP status and message."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


@dataclass(frozen=True)
class Asked:
    """What a request asks, without its images' data.

    `key` tells questions apart: by the system's text, the first text of the user, the images, the schema and the seed.
    So a request keeps its key when it is sent again with something appended, such as what was wrong with the reply.
    """

    texts: tuple[str, ...]
    images: tuple[str, ...]
    schema: Json
    key: str


def name_images(body: bytes, known: dict[bytes, str], decode: bool) -> bytes:
    """A request in JSON with `image:KEY` in place of each image's data; `known` remembers the keys.

    The key is `Picture.sha256`, or only tells images apart if not to `decode`. Data are cut out before the JSON is
    parsed, which takes four times as long as hashing them.
    """
    pieces, place = [], 0
    while found := DATA_URL.search(body, place):
        end = body.index(b'"', found.end())
        key = _image_key(body[found.end() : end], known, decode)
        pieces += [body[place : found.start()], f'"{IMAGE}{key}'.encode()]
        place = end
    return b"".join([*pieces, body[place:]])


def _image_key(data: bytes, known: dict[bytes, str], decode: bool) -> str:
    digest = hashlib.sha256(data).digest()
    if not decode:
        return digest.hex()
    if digest not in known:
        try:
            image = Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB")
        except (OSError, ValueError) as error:
            raise Rejected(400, f"You uploaded an unsupported image: {error}", "messages") from error
        known[digest] = Picture(np.asarray(image)).sha256
    return known[digest]


def read_request(body: Json, script: Script) -> Asked:
    """What `body` asks, after `name_images`."""
    if body.get("stream") or body.get("n", 1) != 1:
        raise Rejected(400, "The scripted judge gives one whole answer: no stream, n = 1.", "stream")
    texts: list[tuple[str, str]] = []
    images: list[str] = []
    for message in body["messages"]:
        content = message["content"] or ""
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part["type"] == "image_url":
                url = part["image_url"]["url"]
                if not url.startswith(IMAGE):
                    raise Rejected(400, "The scripted judge takes images as data URLs in base64 only.", "messages")
                images.append(url.removeprefix(IMAGE))
            else:
                texts.append((message["role"], part["text"]))
    schema = _schema(body, [text for _, text in texts], script)
    system = [text for role, text in texts if role in ("system", "developer")]
    user = [text for role, text in texts if role == "user"]
    identity = json.dumps([system, user[:1], images, schema, body.get("seed")])
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return Asked(tuple(text for _, text in texts), tuple(images), schema, key)


def _schema(body: Json, texts: list[str], script: Script) -> Json:
    """Of `response_format`, or the first in the texts; else an object of the verdict alone."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        if not script.supports_schema:
            message = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
            raise Rejected(400, message, "response_format")
        schema: Json = wanted["json_schema"]["schema"]
        return schema
    found = (value for text in texts for value in _objects(text) if "properties" in value)
    return next(found, {"type": "object", "properties": {script.verdict_field: {"enum": ["yes", "no"]}}})


def _objects(text: str) -> Iterator[Json]:
    """The JSON objects within a text."""
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except ValueError:
            end = place + 1
        else:
            yield value
        place = text.find("{", end)


def find_verdict(asked: Asked, script: Script) -> tuple[str, str] | None:
    """The field that decides and its value; None if the schema has no such field."""
    fields = asked.schema.get("properties", {})
    pair = script.pair_field in fields
    name = script.pair_field if pair else script.verdict_field
    if name not in fields:
        return None
    words = _resolved(fields[name], asked.schema).get("enum", [])
    unknown = script.unknown_answer or ("unclear" if "unclear" in words else "tie" if pair else "no")
    word = (_of_pair if pair else _of_image)(asked, script) or unknown
    if word == "tie" and "tie" not in words:
        word = "first" if draw(script.seed, "coin", asked.images[-2:]) < 0.5 else "second"
    if word not in words:
        raise Rejected(400, f"The enum of the field {name} lacks {word!r}: {words}", "response_format")
    return name, word


def _of_image(asked: Asked, script: Script) -> str | None:
    if script.obeys_text and any(ORDER in QUOTED.sub("", text).lower() for text in asked.texts):
        return "no"
    seen = _seen_error(asked.images[-1], script) if asked.images else None
    return None if seen is None else "yes" if seen else "no"


def _of_pair(asked: Asked, script: Script) -> str | None:
    if len(asked.images) < 2:
        raise Rejected(400, f"A question with the field {script.pair_field} needs two images.", "messages")
    pair = asked.images[-2:]
    if draw(script.seed, "position", pair) < script.position_bias:
        return "first"
    first, second = (_seen_error(image, script) for image in pair)
    if first is None or second is None:
        return None
    return "tie" if first == second else "second" if first else "first"


def _seen_error(image: str, script: Script) -> bool | None:
    """What the judge takes for true of an image; None if it does not know it."""
    truth = script.truth.get(image)
    if truth is None:
        return None
    right = draw(script.seed, "verdict", image) < (script.sensitivity if truth else script.specificity)
    return truth if right else not truth


def _resolved(schema: Json, root: Json) -> Json:
    """The schema itself, behind its $ref within `root`."""
    while "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = target
    return schema


def minimal(schema: Json, root: Json, findings: bool) -> Any:
    """A small value that is valid by `schema`; its lists of objects with enums have one element if `findings`."""
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return minimal(schema[several][0], root, findings)
    kind = schema.get("type", "object" if "properties" in schema else "null")
    match kind if isinstance(kind, str) else kind[0]:
        case "object":
            return {name: minimal(value, root, findings) for name, value in schema.get("properties", {}).items()}
        case "array":
            items = _resolved(schema.get("items", {}), root)
            fields = [_resolved(value, root) for value in items.get("properties", {}).values()]
            wanted = int(findings and any("enum" in value for value in fields))
            return [minimal(items, root, findings)] * max(wanted, schema.get("minItems", 0))
        case "string":
            return "scripted".ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
        case "integer" | "number":
            low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
            return min(max(0, low), schema.get("maximum", math.inf))
        case "boolean":
            return False
    return None


def write_reply(asked: Asked, script: Script) -> tuple[str, tuple[str, str] | None]:
    """The JSON text that answers by the schema, and what `find_verdict` says."""
    verdict = find_verdict(asked, script)
    value = minimal(asked.schema, asked.schema, findings=verdict is not None and verdict[1] == "yes")
    if verdict:
        value[verdict[0]] = verdict[1]
    return json.dumps(value), verdict


def completion(body: Json, asked: Asked, script: Script, fault: str | None) -> Json:
    """The body of the answer: a reply that `fault` spoils, if it is malformed, cut or refusals."""
    text, verdict = write_reply(asked, script)
    if fault == "malformed":
        text = f"I think that the answer is {verdict[1] if verdict else 'unclear'}."
    elif fault == "cut":
        text = text[: len(text) // 2]
    tokens = re.findall(r"\w+|\W+", text)
    message = {"role": "assistant", "content": text, "refusal": None}
    if fault == "refusals":
        message |= {"content": None, "refusal": "I'm sorry, I can't help with that."}
    logprobs = None
    if script.logprobs and body.get("logprobs") and fault != "refusals":
        logprobs = {
            "content": _logprobs(tokens, verdict, asked, script, body.get("top_logprobs") or 0),
            "refusal": None,
        }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": "length" if fault == "cut" else "stop",
    }
    tokens_in = sum(map(len, asked.texts)) // 4 + IMAGE_TOKENS * len(asked.images)
    usage = {"prompt_tokens": tokens_in, "completion_tokens": len(tokens), "total_tokens": tokens_in + len(tokens)}
    return {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}


def _logprobs(
    tokens: list[str], verdict: tuple[str, str] | None, asked: Asked, script: Script, alternatives: int
) -> list[Json]:
    """Of each token; all but that of the verdict are certain."""
    rows: list[Json] = []
    before = ""
    for token in tokens:
        chances = {token: 1.0}
        if verdict and token == verdict[1] and before.endswith(f'"{verdict[0]}": "'):
            words = _resolved(asked.schema["properties"][verdict[0]], asked.schema)["enum"]
            others = [word for word in words if word != token]
            chances = {token: script.confidence if others else 1.0}
            chances |= {word: (1 - script.confidence) / len(others) for word in others}
        before += token
        options = [
            {"token": word, "logprob": math.log(chance), "bytes": list(word.encode())}
            for word, chance in sorted(chances.items(), key=lambda row: -row[1])
            if chance > 0
        ]
        own = next(option for option in options if option["token"] == token)
        rows.append({**own, "top_logprobs": options[:alternatives]})
    return rows
