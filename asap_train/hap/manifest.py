"""hap.json: what a data set was asked for, with what it was made, and what is in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import from_json

from asap_train.data.spec import RedrawSpec, SynthSpec, Thresholds
from asap_train.types import SPLITS, Split
from hafbench.errors import HafError, first_problem
from hafbench.files import write_whole
from hafbench.provenance import Machine, without_folders
from hafbench.settings import Spec
from hafbench.stores import Layout

FORMAT: Literal[1] = 1
NAME = "hap.json"
JOURNAL = "journal.jsonl"
LAYOUT = Layout("data set", NAME, first=(JOURNAL,), last=(NAME,))
"""In a store. Items whose rows the journal knows and the shards lack are made again, so the journal is the first; then
come data/ and .growing/, by name."""


class ImportSpec(Spec):
    """Pairs of Diffusion-DPO's format that were imported: the files, by their paths below the folder that was
    given, and their rows; `gates` is None without gates.
    """

    files: tuple[str, ...]
    rows: tuple[int, ...]
    gates: Thresholds | None

    def compared(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        return self.model_dump(mode="json")


def split_of_shard(stem: str) -> Split | None:
    """The split of a shard by its stem, such as train-00003; None if no shard is called so."""
    split, dash, number = stem.partition("-")
    named = dash and len(number) >= 5 and number.isascii() and number.isdigit()
    return next((one for one in SPLITS if named and one == split), None)


def _shard_name(name: str) -> str:
    path = PurePosixPath(name)
    if name != f"data/{path.stem}.parquet" or split_of_shard(path.stem) is None:
        raise ValueError(f"{name[:60]!r} is not the name of a shard, such as data/train-00000.parquet")
    return name


ShardName = Annotated[str, AfterValidator(_shard_name)]
"""A shard's path below the data set."""


def _as_spec(value: Any) -> Any:
    """Plain values as the spec that they are; unchanged if they are of an earlier version, or name what is unknown."""
    if not isinstance(value, Mapping | Spec):
        raise ValueError("it is not a mapping")
    for kind in (SynthSpec, ImportSpec, RedrawSpec):
        try:
            return kind.model_validate(value)
        except (ValidationError, HafError):
            continue
    return value


Request = SynthSpec | ImportSpec | RedrawSpec | Mapping[str, Any]
"""Plain values stand in hap.json of earlier versions, and where a component is not installed on this machine."""


Number = Annotated[int, Field(ge=0)]


NO_LICENCE = "unknown"
"""The licence of a data set of which none was given."""


@dataclass(frozen=True)
class Details:
    """What the card tells: `about` are sentences, `weights` the SHA-256 of each file by its name."""

    title: str | None = None
    licence: str = NO_LICENCE
    about: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """A Parquet file of one split."""

    split: Split
    rows: Number
    sha256: str


@dataclass(frozen=True)
class Counts:
    """How many there are: items of work, pairs, photos with pairs, rejections, and pairs by value of a column."""

    items: Number = 0
    pairs: Number = 0
    photos: Number = 0
    rejected: Number = 0
    split: Mapping[str, Number] = field(default_factory=dict)
    region: Mapping[str, Number] = field(default_factory=dict)
    kind: Mapping[str, Number] = field(default_factory=dict)
    detail: Mapping[str, Number] = field(default_factory=dict)
    family: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """Pairs to which a gate was not applied, and how often each reason was given."""

    pairs: Number
    reasons: Mapping[str, Number]


@dataclass(frozen=True)
class Rejected:
    """Candidates that a gate rejected, and how often each reason was given."""

    count: Number
    reasons: Mapping[str, Number]


@dataclass(frozen=True)
class SplitRule:
    """How photos are split: each split's share of them (they sum to 1), and the seed of the hash that decides."""

    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=lambda: {"train": 0.9, "validation": 0.05, "test": 0.05})

    def split_of(self, source: str) -> Split:
        """The split of a photo, and so of all its pairs: by its SHA-256 and the seed, so that it never moves."""
        digest = hashlib.sha256(f"{self.seed}/{source}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        for split in SPLITS:
            place -= self.shares.get(split, 0.0)
            if place < 0:
                return split
        return "train"


class HapManifest(BaseModel):
    """hap.json. `facts` is what the request led to and what also decides the pairs: versions, checksums of weights.

    Shards, counts, skipped gates and rejections (by the gate's name) are those of the time when it `ended`.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = FORMAT
    request: Annotated[Request, PlainValidator(_as_spec)]
    facts: Mapping[str, Any] = Field(default_factory=dict)
    split: SplitRule = SplitRule()
    details: Details = Details()
    versions: Mapping[str, str]
    machine: Machine
    git: str | None
    started: str
    ended: str | None = None
    shards: Mapping[ShardName, Shard] = Field(default_factory=dict)
    counts: Counts = Counts()
    skipped: Mapping[str, Skipped] = Field(default_factory=dict)
    rejections: Mapping[str, Rejected] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _split_of_earlier_versions(cls, values: Any) -> Any:
        """They had it in the request."""
        request = values.get("request") if isinstance(values, Mapping) else None
        if isinstance(request, Mapping) and "split" in request and "split" not in values:
            return {**values, "split": request["split"]}
        return values

    @model_validator(mode="after")
    def _shards_of_their_splits(self) -> Self:
        for name, shard in self.shards.items():
            if not name.startswith(f"data/{shard.split}-"):
                raise ValueError(f"{name} is said to be of the split {shard.split}")
        return self

    def compared(self) -> dict[str, Any]:
        """What decides the pairs and their splits, as JSON values: a data set is resumed with the same only.

        Paths are compared by their last names: earlier versions wrote whole ones.
        """
        own = dict(self.request) if isinstance(self.request, Mapping) else self.request.compared()
        rest = self.model_dump(mode="json", include={"facts", "split"})
        found: dict[str, Any] = without_folders({**own, **rest})
        return found


def read_manifest(folder: Path) -> HapManifest | None:
    """hap.json; None if there is none. Raises HafError for one that cannot be read, or of another format."""
    path = folder / NAME
    try:
        values = from_json(path.read_bytes(), allow_inf_nan=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HafError(f"{path} cannot be read ({error}); choose another folder.") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise HafError(f"{path} is not a HAP data set of format {FORMAT}, which this version of asap-train reads.")
    try:
        return HapManifest.model_validate(values)
    except ValidationError as error:
        raise HafError(f"{path} is damaged ({first_problem(error)}); choose another folder.") from error


def write_manifest(folder: Path, manifest: HapManifest) -> None:
    """Write hap.json."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / NAME, text + "\n")
