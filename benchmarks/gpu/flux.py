"""FLUX.1 dev with LoRA on a part of the card: 24 GiB with weights in 4 bits, 80 GiB with weights in bf16."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from asap_train.planning.memory import CONTEXT
from asap_train.planning.settings import settings_for
from benchmarks.fit import CONTESTANTS, Setting, Timed, computed, measure
from benchmarks.gpu.results import Part, Row, Setup
from benchmarks.random_models import SIZES

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = ("card", "settings", "pairs/s", "peak memory, GiB", "computed, GiB")
CARDS = (24, 80)


def run(setup: Setup) -> Sequence[Row]:
    """With the settings that a fit chooses for such a card; the network is built before memory is limited."""
    (contestant,) = (one for one in CONTESTANTS if one.kind == "flux")
    rows: list[Row] = []
    for card in CARDS:
        chosen: dict[str, Any] = {"gradient_checkpointing": True, "train_batch_size": 1, "quantization": "none"}
        chosen |= {} if setup.tiny else settings_for("flux-dev", card)
        setting = Setting(
            SIZES["small" if setup.tiny else "true"],
            chosen["train_batch_size"],
            "no" if setup.tiny else "bf16",
            chosen["gradient_checkpointing"],
            setup.folder,
            chosen["quantization"],
            chosen.get("two_passes", False),
        )
        words = [
            f"batch {setting.batch}",
            setting.quantization if setting.quantization != "none" else setting.precision,
        ]
        words += ["checkpointing"] * setting.checkpointing + ["two passes"] * setting.two_passes
        row: dict[str, str | float | None] = {"card": f"{card} GiB", "settings": ", ".join(words)}
        row["computed, GiB"] = computed(contestant, setting) / 2**30
        timed = Timed([])
        try:
            measure(contestant, setting, 1 if setup.tiny else 4, timed, partial(limited, card))
            row["pairs/s"] = setting.batch / timed.seconds
            row["peak memory, GiB"] = timed.peak / 2**30 if torch.cuda.is_available() else None
        except torch.OutOfMemoryError:
            row["pairs/s"] = "does not fit"
        rows.append(row)
        gc.collect()
        torch.cuda.empty_cache()
    return rows


@contextmanager
def limited(gib: float) -> Iterator[None]:
    """Within it PyTorch may take as much of the GPU as a card of so many GiB has beside CUDA's context."""
    if not torch.cuda.is_available():
        yield
        return
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (gib * 2**30 - CONTEXT) / whole))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


PART = Part("flux", "FLUX.1 dev, LoRA, 1024 pixels", 6, COLUMNS, run)
