"""Protocols: the texts by which a judge is asked, one YAML file each, known by its SHA-256.

The built-in ones are in hafbench/judges/texts; `--judge-protocol FILE` takes one of your own (docs/guides/judges.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from hafbench.errors import HafError, nearest
from hafbench.files import read_whole
from hafbench.settings import Spec, parse_settings, parse_yaml
from hafbench.suites import ID_PATTERN

TEXTS = Path(__file__).parent / "texts"
Asks = Literal["image", "regions", "pair"]
PARTS = ("hands", "feet", "face", "person")
"""What a protocol of regions asks about, each in a question of its own."""
QUESTIONS: Mapping[Asks, tuple[str, ...]] = {"image": ("image",), "regions": PARTS, "pair": ("pair",)}

Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class JudgeProtocol(Spec):
    """The texts of a protocol.

    In `prompt` and `again` the words {prompt}, {reply} and {problem} are replaced; in questions {reply} by the text
    `reply`, and {place} by one of `places`: crop or whole. `sha256` is of the file.
    """

    format: Literal[1]
    name: Annotated[str, StringConstraints(pattern=ID_PATTERN)]
    version: int = Field(ge=1)
    asks: Asks
    system: Text
    prompt: Text
    questions: Mapping[str, Text]
    again: Text
    reply: str = ""
    places: Mapping[Literal["crop", "whole"], str] = {}
    sha256: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        known = QUESTIONS[self.asks]
        if (
            not self.questions
            or set(self.questions) - set(known)
            or (len(known) == 1 and set(self.questions) != {*known})
        ):
            raise ValueError(f"a protocol that asks about {self.asks} has questions of {', '.join(known)}")
        if "{prompt}" not in self.prompt or "{problem}" not in self.again:
            raise ValueError("the text of prompt holds {prompt}, and that of again {problem}")
        return self

    @cached_property
    def label(self) -> str:
        """Name and version, and the beginning of the hash where the file is not one of ours."""
        own = TEXTS / f"{self.name}.yaml"
        changed = not own.is_file() or hashlib.sha256(own.read_bytes()).hexdigest() != self.sha256
        return f"{self.name}-{self.version}" + (f"-{self.sha256[:8]}" if changed else "")

    def about(self, prompt: str | None) -> str:
        """What is said of a picture's prompt: its text as a JSON string, which cannot end the quotation; "" without."""
        return self.prompt.replace("{prompt}", json.dumps(prompt, ensure_ascii=False)) if prompt else ""

    def question(self, part: str, place: Literal["crop", "whole"] = "whole") -> str:
        """The text of a question."""
        return (
            self.questions[part]
            .replace("{place}", self.places.get(place, "the picture"))
            .replace("{reply}", self.reply)
        )

    def once_more(self, reply: str, problem: str) -> str:
        """What is added where a reply cannot be used."""
        quoted = json.dumps(reply[:2000], ensure_ascii=False)
        return self.again.replace("{problem}", problem).replace("{reply}", quoted)


def protocol_names() -> list[str]:
    """The built-in protocols."""
    return sorted(path.stem for path in TEXTS.glob("*.yaml"))


def read_protocol(name: str, asks: tuple[Asks, ...]) -> JudgeProtocol:
    """A built-in protocol by its name, or one of a YAML file; raises HafError for another, or one that asks else."""
    path = TEXTS / f"{name}.yaml" if name in protocol_names() else Path(name)
    try:
        content = read_whole(path)
        values = parse_yaml(content.decode("utf-8"))
    except FileNotFoundError as error:
        raise HafError(f"There is no judge's protocol '{name}': {nearest(name, protocol_names())}") from error
    except OSError as error:
        raise HafError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise HafError(f"{path} cannot be read as YAML ({error}).") from error
    if not isinstance(values, dict):
        raise HafError(f"{path} is not a judge's protocol; hafbench/judges/texts has examples.")
    values["sha256"] = hashlib.sha256(content).hexdigest()
    found = parse_settings(JudgeProtocol, values, str(path))
    if found.asks not in asks:
        raise HafError(
            f"The judge's protocol {name} asks about {found.asks}; one about {' or '.join(asks)} is needed here."
        )
    return found
