"""What is refused before anything is loaded: ways to launch and machines that a fit cannot use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib.util import find_spec

import torch

from asap_train.training.config import FitConfig
from hafbench.errors import HafError, Unavailable
from hafbench.generators.quantize import check_quantization

SHARDED: Mapping[str, str] = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}
"""By the variable that `accelerate launch` sets. They divide a model's weights among processes, and here the reference,
the checkpoints and the images of scoring each need all weights of one process."""


def check_launch(config: FitConfig) -> None:
    """Raise HafError for a launch that divides the weights or for what this machine cannot compute or compile.

    Raises Unavailable without the package that quantization or the tracker needs.
    """
    for variable, name in SHARDED.items():
        if _is_on(variable):
            raise HafError(
                f"accelerate launch is configured for {name}, by which asap-train cannot tune; use DDP: accelerate "
                "launch --multi_gpu, and for less memory LoRA with quantization, gradient_checkpointing or two_passes."
            )
    check_quantization(config.quantization)
    compilers = filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++"))
    if config.torch_compile and not any(map(shutil.which, compilers)):
        raise HafError("torch_compile needs a C++ compiler, and there is none here: install g++, or leave it out.")
    if config.report_to != "none" and find_spec(config.report_to) is None:
        raise Unavailable(
            f"report_to {config.report_to}: this package is not installed; `pip install {config.report_to}`."
        )
    if config.mixed_precision == "fp16" and (_is_on("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()):
        raise HafError("mixed_precision fp16 needs a GPU; use bf16 or no.")


def _is_on(variable: str) -> bool:
    """Whether `accelerate launch` has set it."""
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")
