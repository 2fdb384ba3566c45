"""How far bf16 moves delta at true size: against the same weights in float32, and the estimate that the log has."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch

from asap_train.backbones import Backbone
from asap_train.training.config import LoraSettings
from asap_train.training.lora import add_lora, reference, trained_parameters
from asap_train.training.losses import Residuals, errors_of
from asap_train.training.precision import dithered
from asap_train.training.widening import widen
from benchmarks.gpu.results import Part, Row, Setup
from benchmarks.random_models import SIZES, flux, sdxl

COLUMNS = ("network", "delta, rms", "error, plain", "error, residual_in_fp32", "estimate, plain", "estimate, residual")
PAIRS = 8


def run(setup: Setup) -> Sequence[Row]:
    """Random weights, LoRA with random B, M on a quarter of the image, localized with alpha 10."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = SIZES["small" if setup.tiny else "true"]
    rows = []
    for kind, make in (("SDXL", sdxl), ("FLUX.1 dev", flux)):
        torch.manual_seed(0)
        backbone = make(sizes, device, torch.bfloat16)
        add_lora(backbone, LoraSettings(), 0)
        for _, value in trained_parameters(backbone):
            torch.nn.init.normal_(value, std=0.02)
        given = _inputs(setup, sizes.architectures[kind[:4].lower()], device)
        exact = make(sizes, torch.device("meta"), torch.float32)
        exact.network = deepcopy(backbone.network).float()
        exact.pipeline.register_modules(**{"unet" if kind == "SDXL" else "transformer": exact.network})
        truth = _gaps(exact, given, autocast=False)
        found: dict[str, torch.Tensor] = {}
        for name in ("plain", "residual"):
            if name == "residual":
                widen(backbone.network)
            found[name] = _gaps(backbone, given, autocast=True)
            found[f"estimate, {name}"] = _gaps(backbone, given, autocast=True, dither=True)
        row: dict[str, str | float | None] = {"network": kind, "delta, rms": _rms(truth)}
        for name, column in (("plain", "error, plain"), ("residual", "error, residual_in_fp32")):
            row[column] = _rms(found[name] - truth)
            row[f"estimate, {name}"] = _rms(found[f"estimate, {name}"] - found[name]) / 2**0.5
        rows.append(row)
        del backbone, exact
        gc.collect()
        torch.cuda.empty_cache()
    return rows


def _inputs(setup: Setup, architecture: Any, device: torch.device) -> list[tuple[Any, Any, Any, Any]]:
    """Of each pair noisy latents, timestep, conditions and mask."""
    dice = torch.Generator().manual_seed(1)
    cells = architecture.side // architecture.cell
    made = []
    for number in range(PAIRS):
        draw = partial(torch.randn, generator=dice)
        conditions = {"words": draw(1, *architecture.words).to(device)}
        name = "text_embeds" if architecture.network == "UNet2DConditionModel" else "pooled"
        conditions[name] = draw(1, architecture.pooled).to(device)
        for key, shape in architecture.conditions.items():
            conditions[key] = torch.full((1, *shape), float(architecture.side), device=device)
        mask = torch.zeros(1, 1, cells, cells, device=device)
        mask[..., : cells // 2, : cells // 2] = 1
        noisy = draw(2, 1, architecture.channels, cells, cells).to(device)
        made.append((noisy, torch.tensor([100.0 + 100 * number], device=device), conditions, mask))
    return made


@torch.no_grad()  # type: ignore[untyped-decorator]
def _gaps(backbone: Backbone, given: Any, autocast: bool, dither: bool = False) -> torch.Tensor:
    """Localized deltas (pairs,), with noise as the target of both branches."""
    predict = dithered(torch.bfloat16, backbone.predict) if dither else backbone.predict
    gaps = []
    for noisy, times, conditions, mask in given:

        def residual(one: torch.Tensor, times: Any = times, conditions: Any = conditions) -> torch.Tensor:
            with torch.autocast(one.device.type, torch.bfloat16, enabled=autocast):
                return predict(one, times, conditions).float() - one

        own = [residual(one) for one in noisy]
        with reference(backbone):
            other = [residual(one) for one in noisy]
        gaps.append(errors_of(Residuals(own[0], own[1], mask, other[0], other[1]), 10.0).delta)
    return torch.cat(gaps)


def _rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


PART = Part("rounding", "Rounding of delta", 4, COLUMNS, run)
