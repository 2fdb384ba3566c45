"""`asap-train fit` and `asap-train score`: tune a model on pairs, and say what came out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hafbench.cli.options import Clip, Device, Iqa, Json, Offline, Out, Pose, Quiet, ScorerNames, scorer_settings
from hafbench.errors import HafError

if TYPE_CHECKING:
    from asap_train.api import Fit
    from asap_train.choose import Scores

Model = Annotated[
    str | None, typer.Option("--model", "-m", metavar="MODEL", help="Preset, hub id, folder, or .safetensors file.")
]


def fit(
    model: Model = None,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", metavar="HAP", help="A data set of `asap-train synth`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The fit's folder; a fit in it is resumed.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings in YAML.")] = None,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting, such as loss.alpha=5 or score.every=200; may be repeated."
        ),
    ] = [],  # noqa: B006
    objective: Annotated[
        str | None, typer.Option("--objective", metavar="NAME", help="asap, dpo, sft ...; default: asap.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="Steps of the optimizer.")] = None,
    score: Annotated[bool, typer.Option("--score/--no-score", help="Run checkpoints through hafbench.")] = True,
    iqa: Iqa = None,
    clip: Clip = None,
    pose: Pose = None,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Tune a text-to-image model on preference pairs, score its checkpoints against the base, write the page.

    Settings come from the model's family and the GPU's memory, then --config, then --set, then the other options. Run
    again to resume.
    """
    from asap_train import api
    from asap_train.planning.card import card_memory, suited
    from asap_train.training.config import FitConfig
    from hafbench.hub import go_offline
    from hafbench.progress import progress_bars
    from hafbench.settings import given_settings, parse_settings

    if offline:
        go_offline()
    if config is None and None in (model, pairs, out):
        raise HafError("Give --model MODEL, --pairs HAP and --out DIR, or a --config FILE that has them.")
    options = {"model": model, "pairs": pairs, "out": out, "objective": objective, "max_train_steps": steps}
    if score:
        scorers = scorer_settings(clip=clip, iqa=iqa, pose=pose)
        options |= {f"score.{key}": value for key, value in scorers.items()}
    else:
        set_ = [*(text for text in set_ if not text.startswith("score.")), "score=null"]
    given, said = suited(given_settings(FitConfig, config, set_, options), card_memory())
    settings = parse_settings(FitConfig, given, str(config) if config else "The settings")
    first = api.is_main_process()
    if said and first and not (quiet or as_json):
        typer.echo(said, err=True)
    with progress_bars(quiet or as_json or not first) as progress:
        made = api.fit(settings, progress=progress)
    if first:
        _print_fit(made, quiet, as_json)


def score(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A fit, a checkpoint's folder, a LoRA file, or a pipeline.")
    ],
    model: Model = None,
    suite: Annotated[
        str | None, typer.Option("--suite", "-s", metavar="SUITE", help="A suite's name, or your own .jsonl file.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, metavar="N", help="Images per prompt.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="K", help="At most so many prompts, over all categories.")
    ] = None,
    scorers: ScorerNames = None,
    out: Out = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as selection=0.3; may be repeated."),
    ] = [],  # noqa: B006
    iqa: Iqa = None,
    clip: Clip = None,
    pose: Pose = None,
    device: Device = None,
    offline: Offline = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a checkpoint and its base through hafbench and compare them; of a fit, all checkpoints not yet scored.

    Within a fit, model and all that says how it is scored are the fit's unless they are given.
    """
    from asap_train import api
    from asap_train.training.config import ScoreSettings
    from asap_train.training.fit_folder import fit_of, read_fit
    from hafbench.hub import go_offline
    from hafbench.progress import progress_bars
    from hafbench.settings import read_settings

    if offline:
        go_offline()
    asked = {"suite": suite, "seeds": seeds, "limit": limit, "scorers": scorers, "device": device}
    asked |= scorer_settings(clip=clip, iqa=iqa, pose=pose)
    home = fit_of(checkpoint)
    if home is None:
        if model is None:
            raise HafError(f"{checkpoint} is not in a fit: give the model that was tuned as --model MODEL.")
        settings = read_settings(ScoreSettings, None, set_, {"model.model": model, **asked})
    else:
        within = {"model": model} | {f"score.{key}": value for key, value in asked.items()}
        config = read_fit(home, [f"score.{text}" for text in set_], within)
        settings = config.score or ScoreSettings()
        if home == checkpoint.resolve():
            if model or out:
                raise HafError(f"{checkpoint} is a fit, with its own model and folder: leave out --model and --out.")
            with progress_bars(quiet or as_json) as progress:
                made = api.score_fit(config, progress=progress)
            _print_fit(made, quiet, as_json)
            return
    with progress_bars(quiet or as_json) as progress:
        comparison = api.score_checkpoint(checkpoint, settings, out=out, progress=progress)
    from hafbench.comparison.tables import print_comparison, to_json

    if as_json:
        typer.echo(json.dumps(to_json(comparison) | {"page": str(comparison.page)}, indent=2))
    elif not quiet:
        print_comparison(comparison)


def _print_fit(made: Fit, quiet: bool, as_json: bool) -> None:
    """What came out, on stdout."""
    if as_json:
        scored = asdict(made.scores) if made.scores else {}
        typer.echo(json.dumps({"out": str(made.folder), "page": str(made.page), **scored}, indent=2))
    elif not quiet:
        if made.scores:
            _print_scores(made.scores)
        else:
            typer.echo(f"Tuned: {made.folder}; `asap-train score {made.folder}` scores what is not scored yet.")
        typer.echo(f"Page: {made.page}")


def _print_scores(scores: Scores) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from asap_train.choose import verdict_of
    from asap_train.reporting.model_card import written

    console = Console(highlight=False)
    step = scores.choice.step
    title = Text.assemble((f"step {step}", "bold"), f" against {scores.model}, held-out prompts")
    table = Table(box=None, pad_edge=False, title_justify="left", title=title)
    columns = ("metric", "base", "checkpoint", "difference", "p", "verdict")
    for column in columns:
        # In a narrow terminal cells are folded, but the verdict stays whole: it is the result.
        table.add_column(column, overflow="fold", no_wrap=column == "verdict")
    for figure in scores.reported:
        row = written(figure) | {"metric": figure.metric}
        style = {"worse": "red", "better": "green"}.get(figure.verdict, "")
        table.add_row(*(row[column] for column in columns), style=style)
    console.print(table)
    console.print(Text(verdict_of(step, scores.prompts, scores.reported)))
    console.print(Text(scores.choice.why, style="dim"))
