"""`asap-train plan`: what a fit would take of a card, before there is one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hafbench.cli.options import Json
from hafbench.errors import HafError

if TYPE_CHECKING:
    from asap_train.planning.settings import Plan


def plan(
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="A preset, its copy, or its hub id.")],
    gpu_memory: Annotated[
        float | None, typer.Option("--gpu-memory", min=1, metavar="GIB", help="Memory of the card.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="NAME", help="A card by name, such as 'RTX 4090': memory and time.")
    ] = None,
    resolution: Annotated[int | None, typer.Option("--resolution", min=64, metavar="PIXELS", help="Of a side.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="Steps of the optimizer.")] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of fit, such as lora.rank=64; may be repeated."),
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Print the settings that `fit` takes on such a card, the memory by part, and the time, without a GPU or weights.

    Memory is computed from the model's configuration, not measured. Exits with 2 where nothing has room.
    """
    from asap_train.planning.settings import make_plan, refusal
    from asap_train.planning.speed import CARDS
    from hafbench.errors import nearest
    from hafbench.settings import given_settings

    if gpu is not None and gpu not in CARDS:
        raise HafError(f"There is no card '{gpu}': {nearest(gpu, list(CARDS))}")
    memory = gpu_memory or (CARDS[gpu].memory if gpu else None)
    if memory is None:
        raise HafError("Give the card's memory in GiB as --gpu-memory, or the card as --gpu.")
    from asap_train.training.config import FitConfig

    options = {"model": model, "resolution": resolution, "max_train_steps": steps}
    given = given_settings(FitConfig, None, set_, options)
    made = make_plan(model, memory, given)
    if as_json:
        typer.echo(json.dumps(_to_json(made, gpu), indent=2))
    else:
        _print(made, gpu)
    if not made.fits:
        raise HafError(refusal(made, given))


def _to_json(plan: Plan, gpu: str | None) -> dict[str, Any]:
    from asap_train.planning.speed import CARDS, operations_of_step, seconds_of_step

    phases = [
        {
            "phase": phase.name,
            "bytes": phase.bytes,
            "parts": [{"part": part.name, "bytes": part.bytes, "source": part.source} for part in phase.parts],
        }
        for phase in plan.estimate.phases
    ]
    seconds = seconds_of_step(plan.name, plan.config, CARDS[gpu].peak) if gpu else None
    return {
        "model": plan.config.model,
        "memory_gib": plan.memory,
        "fits": plan.fits,
        "settings": plan.chosen,
        "needs_bytes": plan.estimate.worst.bytes,
        "phases": phases,
        "operations_a_step": operations_of_step(plan.name, plan.config),
        "steps": plan.config.max_train_steps,
        "seconds_a_step": {"measured": None, "computed": seconds},
    }


def _print(plan: Plan, gpu: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from asap_train.planning.memory import GIB

    console = Console(highlight=False)
    verdict = "fits" if plan.fits else "does not fit"
    console.print(
        f"[bold]{plan.config.model}[/bold] {verdict} in {plan.memory:g} GiB: it needs "
        f"{plan.estimate.worst.bytes / GIB:.1f} GiB ({plan.estimate.worst.name})."
    )
    settings = "\n".join(f"  {line}" for line in lines_of(plan.chosen))
    console.print(f"\nSettings that suit the card:\n{settings}\n", soft_wrap=True)
    table = Table(box=None, pad_edge=False, title_justify="left")
    for column, justify in (("phase", "left"), ("part", "left"), ("memory, GiB", "right"), ("", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for phase in plan.estimate.phases:
        table.add_row(phase.name, "", f"{phase.bytes / GIB:.2f}", "", style="bold")
        for part in phase.parts:
            table.add_row("", part.name, f"{part.bytes / GIB:.2f}", part.source)
    console.print(table)
    console.print("\n".join(["", *time_lines(plan, gpu)]), soft_wrap=True)


def lines_of(settings: Any, place: str = "") -> list[str]:
    """Nested settings as KEY=VALUE."""
    lines = []
    for key, value in settings.items():
        name = f"{place}{key}"
        lines += lines_of(value, f"{name}.") if isinstance(value, dict) else [f"{name}={json.dumps(value)}"]
    return lines


def time_lines(plan: Plan, gpu: str | None) -> list[str]:
    """What is known of the time: nothing measured; of a named card the range that its peak allows."""
    from asap_train.planning.speed import CARDS, UTILISATION, operations_of_step, seconds_of_step

    steps = plan.config.max_train_steps
    operations = operations_of_step(plan.name, plan.config) / 1e12
    lines = [
        f"Time of {steps} steps: not measured on any GPU. A step has {operations:,.0f} x 10^12 operations (computed)."
    ]
    if gpu:
        least, most = seconds_of_step(plan.name, plan.config, CARDS[gpu].peak)
        low, high = (f"{100 * share:.0f}" for share in UTILISATION)
        lines.append(
            f"On {gpu} between {least:.2g} and {most:.2g} s a step, {steps * least / 3600:.2g} to "
            f"{steps * most / 3600:.2g} h in all: computed, at {high} to {low} % of its {CARDS[gpu].peak / 1e12:.0f} "
            "x 10^12 a second (data sheet); without encoding, validation images and scoring."
        )
    else:
        lines.append("Name the card by --gpu for a range that is computed from its peak.")
    return lines
