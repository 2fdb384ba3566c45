"""How fast a fit of the built-in model is on the GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median

from benchmarks.gpu.results import Part, Row, Setup

COLUMNS = ("fit", "pairs/s", "peak memory, GiB")


def run(setup: Setup) -> Sequence[Row]:
    """With LoRA and with all weights, on pairs of the built-in world; the median over the steps after the fifth."""
    import asap_train
    from asap_train.data.spec import SynthSpec
    from asap_train.training.config import FitConfig
    from asap_train.training.trainer import train

    hap = setup.folder / "hap"
    if not hap.exists():
        asap_train.synth(SynthSpec(source="mannequin", count=4 if setup.tiny else 64, licence="Apache-2.0"), out=hap)
    rows: list[Row] = []
    for name, lora in (("LoRA", {}), ("all weights", {"lora": None})):
        out = setup.folder / name.replace(" ", "-")
        steps = {"max_train_steps": 2 if setup.tiny else 100, "train_batch_size": 2 if setup.tiny else 32}
        config = FitConfig.of(
            "mannequin", hap, out, score=None, validation=None, checkpointing_steps=10000, **steps, **lora
        )
        train(config)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        late = lines[5:] or lines[-1:]
        memory = max(line["memory"] for line in lines)
        rows.append(
            {"fit": name, "pairs/s": median(line["pairs_per_second"] for line in late), "peak memory, GiB": memory}
        )
    return rows


PART = Part("world", "A fit of the built-in model", 3, COLUMNS, run)
