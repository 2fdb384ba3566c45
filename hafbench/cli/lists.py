"""What there is: `hafbench models`, `suites`, `scorers`, `weights`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hafbench.cli.options import (
    USER_ERROR,
    Clip,
    Device,
    Iqa,
    Json,
    Pose,
    ScorerNames,
    Set,
    print_rows,
    scorer_settings,
)
from hafbench.errors import HafError
from hafbench.files import write_whole

scorers_app = typer.Typer(invoke_without_command=True, help="List the scorers, or check their stability.")
weights_app = typer.Typer(invoke_without_command=True, help="List, fetch and verify the detectors' weights.")


def models(as_json: Json = False) -> None:
    """List the model presets. Any diffusers hub id, folder or .safetensors file works as well."""
    from hafbench.generators import preset_rows

    print_rows(preset_rows(), as_json)


def suites(as_json: Json = False) -> None:
    """List the prompt suites. Any .jsonl file of the same format works as well."""
    from hafbench.suites import load_suite, suite_names

    loaded = [load_suite(name) for name in suite_names()]
    rows = [
        {
            "suite": suite.name,
            "prompts": len(suite.prompts),
            "categories": len({prompt.category for prompt in suite.prompts}),
            "sha256": suite.sha256[:12],
        }
        for suite in loaded
    ]
    print_rows(rows, as_json)


@scorers_app.callback()
def scorers_list(context: typer.Context, as_json: Json = False) -> None:
    """List the scorers."""
    if context.invoked_subcommand is None:
        from hafbench.scorers import SCORERS

        rows = [
            {"scorer": row.name, "role": row.role, "for": row.home or "both", "about": row.about} for row in SCORERS
        ]
        print_rows(rows, as_json)


@scorers_app.command("check")
def scorers_check(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    scorers: ScorerNames = None,
    set_: Set = [],  # noqa: B006
    device: Device = None,
    iqa: Iqa = None,
    clip: Clip = None,
    pose: Pose = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the table to this .md file.")] = None,
    as_json: Json = False,
) -> None:
    """Measure how much a score moves with order, repetition, JPEG, size, flip and brightness."""
    from hafbench.images import find_images
    from hafbench.scorers import robustness
    from hafbench.scorers.loading import load_scorers
    from hafbench.settings import read_settings
    from hafbench.specs import ScoreSpec

    asked = {"images": images[0], "scorers": scorers, "device": device}
    shortcuts = scorer_settings(clip=clip, iqa=iqa, pose=pose)
    spec = read_settings(ScoreSpec, None, set_, {**asked, **shortcuts}).resolved()
    paths = [path for given in images for path in (find_images(given) if given.is_dir() else [given])]
    if not paths:
        raise HafError(f"There is no image in {', '.join(map(str, images))}.")
    rows = []
    for name, scorer in load_scorers(spec.scorers or (), spec.device).items():
        if isinstance(scorer, HafError):
            print(f"{name}: not checked: {scorer}", file=sys.stderr)
            continue
        rows += robustness.check(scorer, paths)
    text = robustness.to_json(rows) if as_json else robustness.to_markdown(rows)
    if out is not None:
        write_whole(out, text + "\n")
    print(text)


@weights_app.callback()
def weights_list(context: typer.Context, as_json: Json = False) -> None:
    """List the weights: where they come from, their licence, and whether they are here."""
    if context.invoked_subcommand is None:
        from hafbench import weights

        print_rows(weights.rows(), as_json)


weights_app.command("list")(weights_list)


@weights_app.command("pull")
def weights_pull(
    names: Annotated[list[str] | None, typer.Argument(help="Names of weights; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch weights into the cache and check them."""
    from hafbench import weights

    print_rows([{"file": path.name, "path": str(path)} for path in weights.pull(names or [])], as_json)


@weights_app.command("verify")
def weights_verify(as_json: Json = False) -> None:
    """Compare the SHA-256 of every file that is here with the table's."""
    from hafbench import weights

    rows = weights.verify()
    print_rows(rows, as_json)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(USER_ERROR)
