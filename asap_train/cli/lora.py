"""`asap-train export-lora`: a LoRA in the format that ComfyUI and kohya's tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hafbench.cli.options import Json


def export_lora(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A fit, a checkpoint's folder, or a LoRA file of asap-train.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Default: kohya_lora_weights.safetensors beside the LoRA."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a LoRA under the names of kohya's sd-scripts and ComfyUI; the model itself is not needed."""
    from asap_train import api

    made = api.export_lora(checkpoint, out)
    typer.echo(json.dumps({"out": str(made)}) if as_json else f"{made}")
