"""What is asked of hafbench, as one typed object: filled by the command line, read from YAML, kept in run.json.

    model: flux-dev                  or {model: sdxl, lora: [my.safetensors:0.8], arguments: {num_inference_steps: 30}}
    suite: haf-50
    seeds: 2
    scorers:                         or [hands, limbs]
      hands:
      limbs: {pose: yolo11n-pose.pt}

What is left out follows the model: see `RunSpec.resolved`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hafbench.errors import HafError
from hafbench.generators.quantize import Quantization
from hafbench.images import ImageFormat
from hafbench.registry import Home
from hafbench.scorers import SCORERS, default_scorers
from hafbench.settings import Components, ComponentSpec, KeyPath, Spec
from hafbench.suites import MAX_SEED
from hafbench.worlds import BUILT_IN, PHOTOGRAPHS, world_of

Count = Annotated[int, Field(ge=1, le=10**12)]
Place = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]

DIFFUSERS = "diffusers"
"""The generator that draws with the models of docs/guides/models.md."""


class ScorerSpec(ComponentSpec):
    """A scorer and its options."""

    registry = SCORERS


class GeneratorSpec(Spec):
    """A model and how it is sampled.

    model: a preset, a path, PRESET=PATH, or a hub id (docs/guides/models.md); the built-in model where none is named,
    and for a generator other than diffusers that generator's name. generator: what runs it, a name of the registry.
    lora: files or folders, each with :SCALE if need be. arguments: of the pipeline's call. dtype: of the weights; auto
    is the preset's, and fp32 on a CPU. quantization: of the denoiser's blocks, in 4 or 8 bits (see
    generators/quantize.py). offload: for small GPUs.
    """

    model: str = BUILT_IN
    generator: str = DIFFUSERS
    lora: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = Field(default_factory=dict)
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    quantization: Quantization = "none"
    offload: Literal["none", "model", "sequential", "group"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"model": value}
        if isinstance(value, Mapping) and value.get("generator", DIFFUSERS) != DIFFUSERS:
            return {"model": model_name({"model": value}), **value}
        return value


class EngineSpec(Spec):
    """Where pictures are drawn and scored.

    engine: a name of the registry, `local` or `ray`. The rest is for Ray. address: HOST:PORT of a cluster that this
    machine belongs to, or auto; None is what Ray finds, else Ray on this machine alone. generators, scorers: so many
    processes, each with so many GPUs; None fills the cluster. in_flight_mb: pictures that are drawn and not recorded
    yet, in MB.
    """

    engine: str = "local"
    address: str | None = None
    generators: Count | None = None
    scorers: Count | None = None
    gpus_per_generator: Share = 1.0
    gpus_per_scorer: Share = 0.0
    in_flight_mb: Count = 1024

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"engine": value} if isinstance(value, str) else value


class ScoringSpec(Spec):
    """How images are scored, wherever they come from.

    scorers: None takes those that suit the pictures. require: scorers without which nothing is begun. device: a torch
    device, or auto. workers: processes for the scorers that run on the CPU.
    """

    scorers: Components[ScorerSpec] | None = None
    require: tuple[str, ...] = ()
    device: str = "auto"
    workers: Count = 1
    engine: EngineSpec = EngineSpec()

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset({"require", "device", "workers", "engine"})
    """Fields that are not compared when a run is resumed; what they change of its model and scorers is."""

    @classmethod
    def default_components(cls, given: Mapping[str, Any], place: KeyPath) -> Sequence[str] | None:
        """No scorers: there are no pictures that they could suit."""
        return () if place == ("scorers",) else None

    def compared(self) -> dict[str, Any]:
        """What makes the numbers, as JSON values: a run folder is resumed with the same only."""
        return self.model_dump(mode="json", exclude=set(self.ELSEWHERE))

    def _scorers_for(self, home: Home) -> tuple[ScorerSpec, ...]:
        asked = self.scorers if self.scorers is not None else _named(default_scorers(home))
        there = {one.name for one in asked}
        required = [name for name in dict.fromkeys(self.require) if name not in there]
        if not asked and not required:
            raise HafError("scorers: there is none; name at least one, such as hands (`hafbench scorers`).")
        return tuple(one.at_home(home) for one in (*asked, *_named(required)))


def _named(names: Sequence[str]) -> tuple[ScorerSpec, ...]:
    return tuple(ScorerSpec(name=name) for name in names)


class RunSpec(ScoringSpec):
    """Images of a suite by a model, scored.

    suite: a packaged one, or a .jsonl file; None is the model's own. seeds: images a prompt, with the seeds first_seed
    and on. limit: at most so many prompts, over all categories. batch_size: images generated at once. image_format: how
    their files are written; png and webp-lossless keep every pixel. devices: draw on each of these by a process of its
    own: all (GPUs), 0,1 (their numbers), or torch devices; None draws on `device`.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {
        name: f"model.arguments.{name}" for name in ("num_inference_steps", "guidance_scale", "height", "width")
    }

    # The suite is compared by the SHA-256 of its file.
    ELSEWHERE: ClassVar[frozenset[str]] = ScoringSpec.ELSEWHERE | {"suite", "devices"}

    model: GeneratorSpec = GeneratorSpec()
    suite: str | None = None
    seeds: Count = 1
    first_seed: Place = 0
    limit: Count | None = None
    batch_size: Count | None = None
    devices: Annotated[str, Field(coerce_numbers_to_str=True)] | None = None
    image_format: ImageFormat = "png"

    @model_validator(mode="after")
    def _seeds_fit(self) -> Self:
        if self.first_seed + self.seeds - 1 > MAX_SEED:
            raise ValueError("first_seed: the last seed is over 2**63 - 1; begin with a smaller one")
        return self

    @classmethod
    def default_components(cls, given: Mapping[str, Any], place: KeyPath) -> Sequence[str] | None:
        """The scorers that suit the model."""
        return default_scorers(world_of(model_name(given)).home) if place == ("scorers",) else None

    def resolved(self) -> Self:
        """With suite, scorers, their options and the batch size where they follow the model.

        Raises HafError for no scorer at all.
        """
        world = world_of(self.model.model)
        return self.model_copy(
            update={
                "suite": self.suite or world.suite,
                "scorers": self._scorers_for(world.home),
                "batch_size": self.batch_size or world.batch_size,
            }
        )


class ScoreSpec(ScoringSpec):
    """Images made elsewhere, scored.

    images: a folder, shards, Parquet files or a data set, by a path or an address (docs/guides/images.md). prompts: a
    suite or a table that gives them prompts and seeds, in place of those that shards and tables hold.
    """

    # Images are compared by names and sizes, and where they were written again by their hashes; prompts by theirs.
    ELSEWHERE: ClassVar[frozenset[str]] = ScoringSpec.ELSEWHERE | {"images", "prompts"}

    images: str | Path
    prompts: Path | None = None

    @classmethod
    def default_components(cls, given: Mapping[str, Any], place: KeyPath) -> Sequence[str] | None:
        """The scorers of photographs."""
        return default_scorers(PHOTOGRAPHS.home) if place == ("scorers",) else None

    def resolved(self) -> Self:
        """With scorers and their options where they are not given: those for photographs."""
        return self.model_copy(update={"scorers": self._scorers_for(PHOTOGRAPHS.home)})


def model_name(given: Mapping[str, Any]) -> str:
    """The model that plain settings name, short or long; where they name none, as in GeneratorSpec."""
    model = given.get("model") or BUILT_IN
    if not isinstance(model, Mapping):
        return str(model)
    generator = model.get("generator", DIFFUSERS)
    return str(model.get("model", BUILT_IN if generator == DIFFUSERS else generator))
