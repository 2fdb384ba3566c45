"""The `asap-train` command: parse, call, print. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

from typing import Annotated

import typer

import hafbench
from asap_train.cli import fit, lora, plan, redraw, schema, sets, synth
from hafbench.cli.options import run_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Make localized anatomical preference pairs (ASAP, arXiv 2605.25759), and tune text-to-image models on them. "
    "`hafbench` measures.",
)

app.command(short_help="Make preference pairs from photos or a built-in world.")(synth.synth)
app.command(short_help="Draw the pairs of a data set as a model does.")(redraw.redraw)
app.command(short_help="Say which settings and how much memory a fit takes.")(plan.plan)
app.command(short_help="Tune a model on pairs; its checkpoints are scored.")(fit.fit)
app.command(short_help="Score a checkpoint against its base.")(fit.score)
app.command(name="export-lora", short_help="Write a LoRA for ComfyUI and kohya's tools.")(lora.export_lora)
app.command(short_help="Say what a data set holds; write its contact sheet.")(sets.audit)
app.command(short_help="Find what is broken in a data set.")(sets.validate)
app.command(name="export", short_help="Write pairs in the format of Diffusion-DPO.")(sets.export_)
app.command(name="import", short_help="Take over pairs in the format of Diffusion-DPO.")(sets.import_)


app.command(short_help="Print the JSON schemas of settings and data sets.")(schema.schema)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"asap-train {hafbench.__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point."""
    run_app(app, "asap-train")
