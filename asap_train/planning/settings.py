"""The settings of a fit that suit a card: the first row of a ladder that has room, from the fastest to the leanest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asap_train.planning.architectures import ARCHITECTURES
from asap_train.planning.memory import GIB, Estimate, estimate
from asap_train.planning.profiles import default_case, profile_of
from hafbench.errors import HafError

if TYPE_CHECKING:
    from asap_train.training.config import FitConfig

PAIRS = 8
"""Of one step, whatever the batch: as the defaults of the large families have them."""
BATCHES = (8, 4, 2, 1)
QUANTIZATIONS = ("none", "nf4")
HEADROOM = 0.95
"""The share of a card's memory that a plan may fill: the counts have been found to be right within a tenth."""
OFFLOADS = ("none", "model", "sequential")
SIZES = (8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 141, 192)
"""Memory of the cards that there are, in GiB."""


@dataclass(frozen=True)
class Plan:
    """What a fit would take on a card of `memory` GiB: the settings, the config that they make, and its memory.

    `chosen` are those that suit the card, apart from what was given.
    """

    name: str
    memory: float
    chosen: Mapping[str, Any]
    config: FitConfig
    estimate: Estimate

    @property
    def fits(self) -> bool:
        """Whether the largest phase has room."""
        return self.estimate.worst.bytes <= HEADROOM * self.memory * GIB


def architecture_of(model: str) -> str | None:
    """The name of the architecture in the table: of a preset, its copy, or its repository; None for another model."""
    from hafbench.generators.presets import PRESETS
    from hafbench.generators.sources import find_source

    source = find_source(model)
    if source.preset:
        name = source.preset.name
    else:
        name = next((one.name for one in PRESETS.values() if one.hub_id and one.hub_id == source.hub_id), "")
    return name if name in ARCHITECTURES else None


def settings_for(model: str, memory: float, given: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """Settings of FitConfig that suit a card of `memory` GiB, apart from those that are `given`.

    Where nothing has room, the leanest; nothing for a model whose sizes are unknown, among them the built-in one.
    """
    if architecture_of(model) is None:
        return {}
    return make_plan(model, memory, given or {}).chosen


def make_plan(model: str, memory: float, given: Mapping[str, Any]) -> Plan:
    """The first of the ladder that has room on a card of `memory` GiB, or else its last.

    Raises HafError for a model whose sizes are unknown.
    """
    from asap_train.training.config import FitConfig

    name = architecture_of(model)
    if name is None:
        raise HafError(
            f"The sizes of {model} are not known, so that nothing can be planned for it; "
            f"known: {', '.join(ARCHITECTURES)}."
        )
    plan = None
    fixed = {key: value for key, value in given.items() if key not in ("model", "pairs", "out")}
    packs = profile_of(name, default_case(name, ARCHITECTURES[name])).quantizable > 0
    for rung in ladder(fixed, packs):
        config = FitConfig.of(model, "pairs", "out", **merged(rung, fixed))
        plan = Plan(name, memory, rung, config, estimate(name, config))
        if plan.fits:
            break
    assert plan is not None  # noqa: S101 (the ladder has a row)
    return plan


def ladder(given: Mapping[str, Any], packs: bool = True) -> Iterator[Mapping[str, Any]]:
    """Settings, from the fastest to the leanest, apart from those that are given.

    Weights stay as they are as long as there is room: 4 bits change the model. Gradient checkpointing costs a third of
    the time, the second pass as much again, a smaller batch less; scoring moves its pipeline in and out where it must.
    `packs`: whether the network's layers can be quantized at all.
    """
    tried = set()
    full = "lora" in given and given["lora"] is None
    for quantization in QUANTIZATIONS[: 1 if full or not packs else None]:
        for checkpointing, two_passes in ((False, False), (True, False), (True, True)):
            for batch in BATCHES:
                for offload in OFFLOADS:
                    row = {
                        "quantization": quantization,
                        "gradient_checkpointing": checkpointing,
                        "two_passes": two_passes,
                        "train_batch_size": batch,
                        "gradient_accumulation_steps": PAIRS // batch,
                        "score": {"model": {"offload": offload}},
                    }
                    own = _without(row, given)
                    if repr(own) not in tried:
                        tried.add(repr(own))
                        yield own


def _without(row: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row without what is given; a given batch or accumulation leaves the other alone, too."""
    gone = set(given)
    if gone & {"train_batch_size", "gradient_accumulation_steps"}:
        gone |= {"train_batch_size", "gradient_accumulation_steps"}
    own = {key: value for key, value in row.items() if key not in gone or key == "score"}
    score = given.get("score", {})
    model = score.get("model", {}) if isinstance(score, Mapping) else None
    if not isinstance(model, Mapping) or "offload" in model:
        del own["score"]
    return own


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings over others."""
    both = {
        key: merged(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(below[key], Mapping) and isinstance(above[key], Mapping)
    }
    return {**below, **above, **both}


def smallest_card(model: str, given: Mapping[str, Any]) -> int | None:
    """GiB of the smallest card on which something has room; None where no card has it."""
    return next((size for size in SIZES if make_plan(model, size, given).fits), None)


def refusal(plan: Plan, given: Mapping[str, Any]) -> str:
    """One sentence for a plan that has no room: what is too large, and the smallest card that would do."""
    worst = plan.estimate.worst
    size = smallest_card(plan.config.model, given)
    card = f"the smallest card that would do has {size} GiB" if size else "no single card has enough"
    return (
        f"{plan.config.model} does not fit in {plan.memory:g} GiB: {worst.name} needs {worst.bytes / GIB:.1f} GiB, "
        f"most of it for {worst.largest.name} ({worst.largest.bytes / GIB:.1f} GiB); {card}."
    )
