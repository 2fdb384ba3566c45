"""Commands that the pages show can be typed as they stand; the recipes' memory is what `plan` computes."""

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

import asap_train.cli
import hafbench.cli
from asap_train.planning.memory import GIB
from asap_train.planning.settings import make_plan
from asap_train.training.config import FitConfig
from hafbench.settings import read_settings
from hafbench.specs import RunSpec

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "docs" / "guides" / "recipes"
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "research" / "experiment" / "README.md", *(ROOT / "docs").rglob("*.md"))
)
PROGRAMS = {
    name: typer.main.get_command(module.app)
    for name, module in (("asap-train", asap_train.cli), ("hafbench", hafbench.cli))
}
EXTENDING = "docs/extending.md"
"""Whose components are of a package that is not installed here (tests/test_extending.py)."""
FREE = {"config", "count", "licence", "workers", "engine", "address", "device", "offline", "quiet", "as_json"}
"""Options of `synth` with which one data set can be made larger, or made elsewhere."""


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command of ours in the page's indented blocks."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        for command in re.split(r"&&|;", line.strip()):
            plain = re.sub(r"^([A-Z_]+=\S* +|accelerate launch .*\$\(which (?=asap-train\)))", "", command.strip())
            plain = plain.replace("asap-train)", "asap-train")
            if line.startswith("    ") and plain.startswith(tuple(f"{name} " for name in PROGRAMS)):
                yield shlex.split(plain, comments=True)


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command's name and its options, parsed and not run; raises a UsageError for what cannot be."""
    command: Any = PROGRAMS[words[0]]
    context, rest = command.context_class(command, info_name=words[0]), words[1:]
    while hasattr(command, "resolve_command") and rest:
        name, command, rest = command.resolve_command(context, rest)
        context = command.context_class(command, info_name=name, parent=context)
    made = command.make_context(command.name, rest, parent=context.parent)
    return f"{words[0]} {command.name}", made.params


def asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a `fit` that its options give."""
    options = {"objective": given["objective"], "max_train_steps": given["steps"]}
    return {**options, "model": given["model"], "pairs": given["pairs"] or "hap", "out": given["out"] or "fit"}


def rows_of_recipes() -> list[list[str]]:
    """The cells of each line of the recipes' tables of memory."""
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for path in RECIPES.glob("*.md")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| [\w-]+ \| \d+ \|", line)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_typed(page: str) -> None:
    for words in commands(page):
        assert not {"|", "..."} & set(words), f"a shell reads {shlex.join(words)} otherwise than it is meant"
        name, given = parsed(words)
        if page == EXTENDING:
            continue
        if name == "hafbench run" and not given["config"]:
            chosen = {"model.model": given["model"], "suite": given["suite"], "scorers": given["scorers"]}
            read_settings(RunSpec, None, given["set_"] or (), chosen)
        if name == "asap-train fit" and given["model"]:
            read_settings(FitConfig, None, given["set_"] or (), asked(given))


@pytest.mark.parametrize("page", PAGES)
def test_data_sets_of_a_page_have_folders_of_their_own(page: str) -> None:
    made: dict[object, dict[str, Any]] = {}
    for name, given in map(parsed, commands(page)):
        if name == "asap-train synth":
            settings = {key: value for key, value in given.items() if key not in FREE}
            assert made.setdefault(given["out"], settings) == settings, f"{given['out']} would be refused"


def test_plans_are_of_cards_with_room() -> None:
    fits = {(model, float(card)): settings != "does not fit" for model, card, settings, *_ in rows_of_recipes()}
    for page in PAGES:
        for name, given in map(parsed, commands(page)):
            if name == "asap-train plan" and given["gpu_memory"]:
                assert fits[given["model"], given["gpu_memory"]], page


def test_every_recipe_has_the_commands_of_every_step() -> None:
    for page in (path for path in PAGES if "guides/recipes/" in path and not path.endswith("index.md")):
        steps = [words[1] for words in commands(page)]
        assert set(steps) == {"synth", "validate", "plan", "fit", "compare", "export-lora"}, page


def test_the_memory_in_the_recipes_is_what_is_computed() -> None:
    rows = rows_of_recipes()
    assert len(rows) >= 20
    for model, card, settings, step, largest, time in rows:
        plan = make_plan(model, float(card), {})
        assert plan.fits == (settings != "does not fit"), (model, card)
        assert float(largest.split()[0]) == pytest.approx(plan.estimate.worst.bytes / GIB, abs=0.06)
        if plan.fits:
            assert float(step) == pytest.approx(plan.estimate.step.bytes / GIB, abs=0.06)
            assert settings.startswith("nf4" if plan.config.quantization == "nf4" else plan.config.mixed_precision)
        assert time == "", "no GPU has measured it"
