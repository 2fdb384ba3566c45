"""run.json as a typed value: what was asked, what was found to answer it, and with what it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import from_json

from hafbench.errors import HafError, first_problem, one_line
from hafbench.files import RUN, write_whole
from hafbench.provenance import Machine
from hafbench.settings import Spec
from hafbench.sources.source import SourceName
from hafbench.specs import RunSpec, ScoreSpec
from hafbench.suites import ID_PATTERN, MAX_SEED
from hafbench.types import Role

if TYPE_CHECKING:
    from hafbench.types import Generator

FORMATS = (1, 2)
FILE = RUN
ScorerName = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
"""Names files, too."""
Number = Annotated[int, Field(ge=0, le=10**12)]


class SuiteFacts(Spec):
    """The suite as it was found: `sha256` is of its file, `limit` the most prompts that were taken of it."""

    name: str
    sha256: str
    limit: Number | None
    seeds: Number
    first_seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0


class GeneratorFacts(Spec):
    """The generator as it was loaded: everything that shapes its images, as JSON values."""

    name: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, generator: Generator) -> Self:
        """What a loaded generator says of itself."""
        return cls(name=generator.name, settings=generator.settings)


class ImagesFacts(Spec):
    """A source of images: its name, a hash over the names and sizes of all, and that of the file of prompts.

    `kind` is a name of `hafbench.sources.SOURCES`. `stamp` is a hash over what changes when a file is written again,
    `prompted` one over the images' prompts and seeds; earlier versions kept none.
    """

    folder: str
    sha256: str
    prompts: str | None
    kind: SourceName = "folder"
    stamp: str | None = None
    prompted: str | None = None


class ScorerFacts(Spec):
    """A scorer as it was loaded, or why it is unavailable; `weights` maps file names to SHA-256.

    `left_out` says why the rate of all anatomy scorers together leaves it out; None for those that count.
    """

    role: Role
    about: str
    version: str | None = None
    higher_is_better: bool | None = None
    weights: Mapping[str, str] = {}
    settings: Mapping[str, Any] = {}
    unavailable: str | None = None
    left_out: str | None = None

    def identity(self) -> dict[str, Any]:
        """What scorers of the same scores have in common, as JSON values; why one is unavailable does not count."""
        facts = self.model_dump(mode="json", include={"version", "settings", "weights"})
        return {**facts, "unavailable": bool(self.unavailable)}


class Counts(Spec):
    """Images, and rows of each status."""

    images: Number = 0
    scored: Number = 0
    unknown: Number = 0
    unscored: Number = 0
    failed: Number = 0


class Manifest(Spec):
    """run.json. `image_root` is seen from its folder.

    `request` is None for a run of format 1, which kept none, and for one that this installation cannot read, as where
    the package of a scorer is missing: such a run opens, and is not resumed.
    """

    format: Literal[2] = 2
    command: Literal["run", "score"]
    name: str
    request: RunSpec | ScoreSpec | None
    suite: SuiteFacts | None = None
    generator: GeneratorFacts | None = None
    images: ImagesFacts | None = None
    scorers: Mapping[ScorerName, ScorerFacts]
    image_root: str
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str]
    machine: Machine
    git: str | None
    started: str
    ended: str | None = None
    counts: Counts = Counts()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        found = {"run": (self.suite, self.generator), "score": (self.images,)}[self.command]
        if None in found:
            needed = {"run": "suite and generator", "score": "images"}[self.command]
            raise ValueError(f"a run of the command {self.command} has {needed}")
        return self

    def pictures(self) -> dict[str, Any]:
        """What the pictures come from, as JSON values: for saying how two runs differ."""
        # Files that were written again may be the same: `check_unchanged` looks at them, and at prompts.
        left_out = {"images": {"stamp", "prompted"}}
        found = self.model_dump(mode="json", include={"suite", "generator", "images"}, exclude=left_out)
        generator = found["generator"]
        return {**found, "generator": generator and {"name": generator["name"], **generator["settings"]}}

    def identity(self) -> dict[str, Any]:
        """All that makes the numbers, as JSON values: a folder is resumed with the same only."""
        asked = self.request.compared() if self.request else {}
        asked.pop("scorers", None)  # their settings and weights say more
        found = self.pictures()
        if found["suite"]:
            found["suite"] = {key: found["suite"][key] for key in ("name", "sha256")}
        return {**asked, **found, "scorers": {name: one.identity() for name, one in self.scorers.items()}}


def read_manifest(folder: Path) -> Manifest | None:
    """The run.json of a folder, None if there is none; raises HafError for one that cannot be read."""
    path = folder / FILE
    try:
        values = from_json(path.read_bytes(), allow_inf_nan=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HafError(f"{path}: this cannot be read ({one_line(error)}); choose another --out.") from error
    if not isinstance(values, dict) or values.get("format") not in FORMATS:
        raise HafError(f"{path} is not a run of format 1 or 2, which this version of hafbench reads.")
    try:
        if values["format"] == 1:
            values = _from_format_1(_Format1.model_validate(values))
        if isinstance(values.get("request"), dict):
            values["request"] = _request(values["request"])
        return Manifest.model_validate(_with_left_out(values))
    except ValidationError as error:
        raise HafError(
            f"{path} is damaged ({first_problem(error)}); copy it again, or choose another --out."
        ) from error


def _with_left_out(values: dict[str, Any]) -> dict[str, Any]:
    """Runs made before it was said: of the scorers of that time, limbs is left out."""
    from hafbench.scorers.limbs import LEFT_OUT

    limbs = values["scorers"].get("limbs") if isinstance(values.get("scorers"), dict) else None
    if isinstance(limbs, dict):
        limbs.setdefault("left_out", LEFT_OUT)
    return values


def _request(asked: Mapping[str, Any]) -> RunSpec | ScoreSpec | None:
    """The request, None where this installation cannot read it."""
    try:
        return (ScoreSpec if "images" in asked else RunSpec).model_validate(asked)
    except (HafError, ValidationError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write run.json, whole or not at all."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / FILE, text + "\n")


class _Request1(BaseModel):
    """What run.json of format 1 says of the request."""

    suite: Mapping[str, Any] | None = None
    generator: Mapping[str, Any] | None = None
    images: Mapping[str, Any] | None = None
    prompts: Any = None
    seeds: Any = None
    first_seed: Any = 0


class _Format1(BaseModel):
    """run.json of format 1, as far as it is not the same today."""

    model_config = ConfigDict(extra="allow")

    request: _Request1


def _from_format_1(old: _Format1) -> dict[str, Any]:
    """What runs of earlier versions say, in the fields of today."""
    asked = old.request
    shared = ("command", "name", "scorers", "image_root", "versions", "machine", "git", "started", "ended")
    kept = {key: value for key, value in (old.model_extra or {}).items() if key in (*shared, "notes", "counts")}
    generator = asked.generator
    return {
        **kept,
        "request": None,
        "suite": asked.suite and {**asked.suite, "seeds": asked.seeds, "first_seed": asked.first_seed},
        "generator": generator
        and {"name": generator.get("name"), "settings": {k: v for k, v in generator.items() if k != "name"}},
        "images": asked.images and {**asked.images, "prompts": asked.prompts},
    }
