"""What is asked of `asap-train synth` and `redraw`, as typed objects: from the command line, from YAML, in hap.json.

    photos: my_photos                or source: mannequin, or people
    count: 1000
    families:                        or [image, inpaint]
      image:
      inpaint: {model: sd15-inpaint, arguments: {strength: 0.9}}
    gates: {inside_ssim: 0.6}
    scorers: {hands: {card: my_card.json}}

What is left out follows the pictures: see `SynthSpec.resolved`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from asap_train.degrade import FAMILIES
from hafbench.errors import HafError
from hafbench.provenance import without_folders
from hafbench.registry import Home
from hafbench.scorers import SCORERS
from hafbench.settings import Components, ComponentSpec, KeyPath, Spec
from hafbench.specs import EngineSpec, ScorerSpec
from hafbench.types import Region

AtLeastOne = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Ssim = Annotated[float, Field(ge=-1, le=1)]
Lpips = Annotated[float, Field(ge=0)]


SOURCES: Mapping[str, tuple[Home, int]] = {"mannequin": ("mannequins", 128), "people": ("photographs", 256)}
"""The built-in worlds by name: what their pictures are like, and how many pixels they are wide and high."""


class Thresholds(Spec):
    """Bounds that a pair keeps. SSIM and LPIPS as reported (docs/reference/pairs.md); areas are shares of the picture.

    `hash_distance` is the number of 64 bits of a perceptual hash up to which two pictures count as the same.
    """

    inside_ssim: Ssim = 0.65
    inside_lpips: Lpips = 0.25
    outside_ssim: Ssim = 0.95
    outside_lpips: Lpips = 0.02
    least_area: Share = 0.0005
    most_area: Share = 0.5
    hash_distance: Annotated[int, Field(ge=0, le=64)] = 4


class FamilySpec(ComponentSpec):
    """A family of degradations and its options."""

    registry = FAMILIES


def _split(value: Any) -> Any:
    """`hands, feet` as a list, without repetitions."""
    names = [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value
    if isinstance(names, Sequence) and all(isinstance(name, str) for name in names):
        return tuple(dict.fromkeys(names))
    return names


class SynthSpec(Spec):
    """A HAP data set that is to be made, of photos or of a built-in world.

    count: pairs. photos: a folder with good images of people, or else source. home: what the photos show. families: how
    errors are made in photos, and regions: where. per_photo: pairs of one photo before the next one's turn. tries:
    candidates for one part before it is given up. gates: the thresholds of a pair. scorers: which must see the error,
    and none in the photo; None takes the gate scorers of such pictures. segmenter, text_boxes: SAM 2 and Grounding DINO
    on this machine. captions: a table of images and captions; captioner: the model for those without one. size: of
    renders, in pixels; None is the world's own. seed: of all that is drawn. workers: processes; None is one a core.
    engine: local, or ray; photos must then lie where all machines see them.
    """

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset({"count", "licence", "device", "workers", "engine"})
    """Fields with which a data set may be resumed whatever they were."""
    ALIASES: ClassVar[Mapping[str, str]] = {
        **{
            name: f"families.inpaint.arguments.{name}"
            for name in ("num_inference_steps", "guidance_scale", "strength", "negative_prompt")
        },
        "controlnet_conditioning_scale": "families.skeleton.arguments.controlnet_conditioning_scale",
    }

    count: AtLeastOne
    photos: Path | None = None
    source: Literal["mannequin", "people"] | None = None
    home: Home = "photographs"
    families: Components[FamilySpec] = Field(default=("image",), min_length=1, validate_default=True)
    regions: Annotated[tuple[Region, ...], BeforeValidator(_split)] = Field(default=get_args(Region), min_length=1)
    per_photo: AtLeastOne = 4
    tries: AtLeastOne = 6
    gates: Thresholds = Thresholds()
    scorers: Components[ScorerSpec] | None = None
    segmenter: str | None = None
    text_boxes: str | None = None
    captions: Path | None = None
    captioner: str | None = None
    size: Annotated[int, Field(ge=32)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    licence: str = "unknown"
    device: str = "auto"
    workers: AtLeastOne | None = None
    engine: EngineSpec = EngineSpec()

    @field_validator("scorers")
    @classmethod
    def _see_errors(cls, scorers: tuple[ScorerSpec, ...] | None) -> tuple[ScorerSpec, ...] | None:
        for name in (one.name for one in scorers or ()):
            entry = SCORERS.get(name)
            if entry.role != "anatomy":
                raise HafError(f"the scorer {name} gives a quality score; only anatomy scorers see errors.")
            if not entry.regions:
                raise HafError(f"the scorer {name} names no regions that it can judge, so no gate can ask it.")
        return scorers

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.photos is None) == (self.source is None):
            raise ValueError("give either --photos DIR, or --source mannequin or people")
        if self.engine.engine not in ("local", "ray"):
            raise ValueError(f"engine: pairs are made by local or ray, not by {self.engine.engine}")
        if self.engine.engine == "ray" and (alone := self._alone):
            raise ValueError(f"--engine ray: the workers have no GPU for the family {alone[0]}; use --engine local")
        if self.engine.engine == "local" and self.engine.address is not None:
            raise ValueError(f"--address {self.engine.address} is for --engine ray")
        return self

    @property
    def _alone(self) -> list[str]:
        """The families that need a GPU, and so the process of their own that has it."""
        return [one.name for one in self.families if not FAMILIES.get(one.name).parallel]

    @property
    def parallel(self) -> bool:
        """Whether several processes may work at once."""
        return self.source is not None or not self._alone

    @classmethod
    def default_components(cls, given: Mapping[str, Any], place: KeyPath) -> Sequence[str] | None:
        """Families and scorers where none are given."""
        if place == ("families",):
            return ("image",)
        if place == ("scorers",):
            # Whoever renders a pair knows its error.
            return () if given.get("source") else gate_scorers(given.get("home", "photographs"))
        return None

    def resolved(self) -> Self:
        """With home, scorers, all options and the photos' seed where they follow from the rest."""
        home, size = SOURCES[self.source] if self.source else (self.home, 128)
        usual = () if self.source else gate_scorers(home)
        asked = self.scorers if self.scorers is not None else tuple(map(_scorer, usual))
        seed = self.seed if self.source else self.seed or 0
        scorers = tuple(one.at_home(home) for one in asked)
        families = tuple(one.at_home(home) for one in self.families)
        found = {"home": home, "size": self.size or size, "seed": seed, "scorers": scorers, "families": families}
        return self.model_copy(update=found)

    def as_request(self) -> Self:
        """As hap.json holds it: paths by their last names, since data sets are shared and folders name people."""
        names = {name: path.resolve().name for name in ("photos", "captions") if (path := getattr(self, name))}
        return type(self).model_validate({**without_folders(self.model_dump(mode="json")), **names})

    def compared(self) -> dict[str, Any]:
        """What shapes the pairs, as JSON values: a data set is resumed with the same only."""
        return self.model_dump(mode="json", exclude=set(self.ELSEWHERE))


class RedrawSpec(Spec):
    """Pairs that are there, as a model draws them.

    pairs: a data set. model: as `fit` is given it. strength: the share of the sampler's steps that are done again; up
    to about a third the anatomy stays. arguments: of the pipeline's call. size: pixels of the longer side at which it
    draws; None is the preset's, or else the images' own. seed: of the noise. batch_size: pairs drawn at once.
    """

    ELSEWHERE: ClassVar[frozenset[str]] = frozenset({"pairs", "device", "offload"})
    """Fields with which a data set may be resumed whatever they were; of the pairs their shards decide."""

    pairs: Path
    model: str
    strength: Annotated[float, Field(gt=0, le=1)] = 0.3
    arguments: Mapping[str, Any] = {}
    size: Annotated[int, Field(ge=32)] | None = None
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    offload: Literal["none", "model", "sequential", "group"] = "none"
    device: str = "auto"
    batch_size: AtLeastOne = 8
    seed: Annotated[int, Field(ge=0)] = 0

    def as_request(self) -> Self:
        """As hap.json holds it: paths by their last names."""
        return type(self).model_validate({**without_folders(self.model_dump(mode="json")), "pairs": self.pairs.name})

    def compared(self) -> dict[str, Any]:
        """What shapes the pairs, as JSON values: a data set is resumed with the same only."""
        return self.model_dump(mode="json", exclude=set(self.ELSEWHERE))


def gate_scorers(home: Home) -> tuple[str, ...]:
    """The scorers that judge the pairs of pictures of `home`, unless others are asked for."""
    return tuple(row.name for row in SCORERS.built_in.values() if row.gate and row.home in (None, home))


def _scorer(name: str) -> ScorerSpec:
    return ScorerSpec(name=name)
