"""The built-in model's images and their scores a second, by `hafbench run` and by the bare loops that it is made of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

import torch

import hafbench
from benchmarks.gpu.results import Part, Row, Setup
from hafbench.generators.diffusion import noise_seed
from hafbench.generators.pipelines import load_pipeline
from hafbench.generators.sources import find_source
from hafbench.suites import load_suite

COLUMNS = ("what", "images/s, hafbench", "images/s, bare loop", "ratio")
BATCH = 8


def run(setup: Setup) -> Sequence[Row]:
    """Sampling alone, by the generator and by the pipeline; then a whole run with scorers, beside the sampling."""
    count = 2 if setup.tiny else 64
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    pipeline, _ = load_pipeline(find_source("mannequin"), dtype)
    pipeline.to(device)
    prompts = [prompt.text for prompt in load_suite("mannequin").prompts[:count]]
    arguments = {
        "num_inference_steps": 12,
        "guidance_scale": 2.5,
        "height": 128,
        "width": 128,
        "max_sequence_length": 1,
    }

    def bare() -> None:
        for first in range(0, len(prompts), BATCH):
            some = prompts[first : first + BATCH]
            dice = [torch.Generator().manual_seed(noise_seed(prompt, 0)) for prompt in some]
            pipeline(some, generator=dice, **arguments)

    pipeline.set_progress_bar_config(disable=True)
    rows: list[Row] = []
    loop = count / _seconds(bare)
    for what, scorers in (
        ("sampling", "iqa"),
        ("sampling and scoring: digits, limb_count, clip", "digits,limb_count,clip"),
    ):
        out = setup.folder / "run"
        model = {"model": "mannequin", "dtype": "bf16" if device == "cuda" else "fp32"}
        spec = hafbench.RunSpec.model_validate(
            {"model": model, "limit": count, "scorers": scorers, "batch_size": BATCH, "device": device}
        )
        ours = count / _seconds(lambda spec=spec, out=out: _fresh(spec, out), warm=False)
        rows.append({"what": what, "images/s, hafbench": ours, "images/s, bare loop": loop, "ratio": ours / loop})
    return rows


def _fresh(spec: hafbench.RunSpec, out: Path) -> None:
    hafbench.run(spec, out=out)
    rmtree(out)


def _seconds(call: object, warm: bool = True) -> float:
    assert callable(call)
    if warm:
        call()
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


PART = Part("sampling", "Sampling and scoring", 3, COLUMNS, run)
