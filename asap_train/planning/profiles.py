"""What a model's step takes, by the size of its parts: traced on the meta device, or known for the presets.

profiles.json has the traces of the presets at their own size with LoRA's default layers; `python -m
asap_train.planning.profiles` makes it again. Other resolutions, layers and lengths of text are traced when they are
asked for, which takes up to some minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asap_train.planning.architectures import ARCHITECTURES, Architecture
from asap_train.planning.passes import (
    Case,
    autoencoder_peaks,
    build,
    forward_operations,
    make_autoencoder,
    peak_of,
    quantizable_weights,
    sampling_peak,
    shortened,
    tune,
)
from hafbench.files import write_whole

if TYPE_CHECKING:
    from asap_train.backbones import Backbone

TABLE = Path(__file__).with_name("profiles.json")
SEEN = (1, 2)
"""Images in one pass, of which the bytes of any number follow: they are so much, and so much more for each image."""


@dataclass(frozen=True)
class Profile:
    """Counts of one model in one case.

    weights, of the denoiser, with its buffers; quantizable, of these in the linear layers of its repeated blocks;
    largest, of one such layer. tuned: weights that are trained. operations: multiplications and additions of one
    image's forward pass. plain, checkpointed: the most bytes that live at once in a pass forward and back beside
    weights, gradients and optimizer, for SEEN images. sampling: in a forward pass of SAMPLED images alone. autoencoder:
    its weights, in single precision; encoding: the most bytes when it encodes a pair, decoding: an image.
    """

    weights: int
    quantizable: int
    largest: int
    tuned: int
    operations: float
    plain: tuple[int, int]
    checkpointed: tuple[int, int]
    sampling: int
    autoencoder: int
    encoding: int
    decoding: int


def activations(profile: Profile | Traced, images: int, checkpointing: bool) -> int:
    """Bytes of a pass of so many images, from those of SEEN."""
    seen = profile.checkpointed if checkpointing else profile.plain
    return seen[0] + (images - SEEN[0]) * (seen[1] - seen[0])


@cache
def known() -> Mapping[str, Profile]:
    """The profiles of the presets."""
    rows = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
    pairs = ("plain", "checkpointed")
    return {name: Profile(**{**row, **{key: tuple(row[key]) for key in pairs}}) for name, row in rows.items()}


def default_case(name: str, architecture: Architecture) -> Case:
    """The case that profiles.json has of a preset."""
    from asap_train.training.config import LoraSettings

    precision = "fp16" if name == "sd15" else "bf16"
    return Case(architecture.side, architecture.words[0], precision, lora=LoraSettings())


def profile_of(name: str, case: Case) -> Profile | Traced:
    """The profile of a preset's architecture in a case."""
    architecture = ARCHITECTURES[name]
    if case == default_case(name, architecture) and name in known():
        return known()[name]
    return traced(architecture, case)


@cache
def traced(architecture: Architecture, case: Case) -> Traced:
    """A profile, from steps on the meta device."""
    return Traced(architecture, case)


class Traced:
    """A profile whose numbers are counted when they are asked for, and then kept; names as in Profile."""

    def __init__(self, architecture: Architecture, case: Case) -> None:
        self._case, self._short = case, shortened(architecture)
        backbone = build(architecture, case)
        network: Any = backbone.network
        linear = quantizable_weights(network)
        self.weights = sum(one.numel() for one in (*network.parameters(), *network.buffers()))
        self.quantizable, self.largest = sum(linear), max(linear, default=0)
        self._depths = {name: len(getattr(network, name)) for name in architecture.blocks}
        tune(backbone, case)
        self.tuned = sum(one.numel() for one in network.parameters() if one.requires_grad)

    @cached_property
    def operations(self) -> float:
        """Of one image's forward pass."""
        return forward_operations(self._short, self._depths, self._case)

    @cached_property
    def plain(self) -> tuple[int, int]:
        """Bytes of passes without gradient checkpointing."""
        return self._peaks(checkpointing=False)

    @cached_property
    def checkpointed(self) -> tuple[int, int]:
        """Bytes of passes with it."""
        return self._peaks(checkpointing=True)

    @cached_property
    def sampling(self) -> int:
        """Bytes of a pass without gradient."""
        return sampling_peak(self._ready(), self._short, self._case)

    @cached_property
    def autoencoder(self) -> int:
        """Its weights."""
        return sum(one.numel() for one in make_autoencoder(self._short).parameters())

    @cached_property
    def _coding(self) -> tuple[int, int]:
        return autoencoder_peaks(make_autoencoder(self._short), self._short, self._case)

    @property
    def encoding(self) -> int:
        """Bytes of the autoencoder, encoding a pair."""
        return self._coding[0]

    @property
    def decoding(self) -> int:
        """Bytes of the autoencoder, decoding an image."""
        return self._coding[1]

    def profile(self) -> Profile:
        """All of it."""
        return Profile(**{one.name: getattr(self, one.name) for one in fields(Profile)})

    def _ready(self) -> Backbone:
        backbone = build(self._short, self._case)
        tune(backbone, self._case)
        return backbone

    def _peaks(self, checkpointing: bool) -> tuple[int, int]:
        backbone = self._ready()
        one, two = (peak_of(backbone, self._short, self._case, images, self._depths, checkpointing) for images in SEEN)
        return one, two


def write_table(names: tuple[str, ...] = tuple(ARCHITECTURES)) -> None:
    """Trace presets, and write their profiles among those that are known."""
    rows = {name: asdict(profile) for name, profile in known().items()}
    for name in names:
        architecture = ARCHITECTURES[name]
        try:
            rows[name] = asdict(traced(architecture, default_case(name, architecture)).profile())
        except (LookupError, RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
            print(f"{name}: {type(error).__name__}: {error}")
            continue
        ordered = {one: rows[one] for one in ARCHITECTURES if one in rows}
        write_whole(TABLE, json.dumps(ordered, indent=1) + "\n")
        print(f"{name}: {rows[name]}")


if __name__ == "__main__":
    import sys

    write_table(tuple(sys.argv[1:]) or tuple(ARCHITECTURES))
