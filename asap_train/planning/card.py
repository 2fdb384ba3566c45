"""The settings of a fit on the GPU of this machine, where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asap_train.planning.settings import architecture_of, make_plan, merged, refusal

CHOSEN = ("quantization", "gradient_checkpointing", "two_passes", "train_batch_size", "gradient_accumulation_steps")
"""The settings that a card decides, beside score.model.offload."""


def card_memory() -> float | None:
    """GiB of the GPU that this process has, or None."""
    import torch

    if not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory) / 2**30


def suited(given: Mapping[str, Any], memory: float | None) -> tuple[dict[str, Any], str]:
    """What was given, over settings that suit a card of `memory` GiB, and a sentence on them; without a card, nothing.

    A fit that is resumed keeps what was chosen for it, whatever the card is now. Where nothing has room, the sentence
    says so, and the settings are the leanest.
    """
    model, out = given.get("model"), given.get("out")
    if memory is None or not isinstance(model, str) or architecture_of(model) is None:
        return dict(given), ""
    if out is not None and (before := _begun(Path(str(out)))):
        return merged(before, given), ""
    plan = make_plan(model, memory, given)
    what = ", ".join(_written(plan.chosen)) or "nothing: all was given"
    said = f"Chosen for this card of {memory:.1f} GiB (computed, see `asap-train plan`): {what}."
    if not plan.fits:
        said += f" {refusal(plan, given)}"
    return merged(plan.chosen, given), said


def _begun(out: Path) -> dict[str, Any]:
    """What a fit in this folder has of the settings that a card decides."""
    from asap_train.training.config import FitConfig
    from asap_train.training.fit_folder import SETTINGS
    from hafbench.settings import read_settings

    if not (out / SETTINGS).is_file():
        return {}
    before = read_settings(FitConfig, out / SETTINGS)
    score = {"score": {"model": {"offload": before.score.model.offload}}} if before.score else {}
    return {**{name: getattr(before, name) for name in CHOSEN}, **score}


def _written(settings: Mapping[str, Any]) -> list[str]:
    return [
        f"score.model.offload={value['model']['offload']}" if key == "score" else f"{key}={value}"
        for key, value in settings.items()
    ]
