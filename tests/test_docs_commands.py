"""Commands that the guides show can be typed as they stand; the recipes' memory is what `plan` computes."""

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

DOCS = Path(__file__).parents[1] / "docs"
RECIPES = DOCS / "guides" / "recipes"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / "guides").rglob("*.md"))
PROGRAMS = {"asap-train": asap_train.cli.app, "hafbench": hafbench.cli.app}


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command in the page's indented blocks; what has an ellipsis in it is no whole command."""
    text = (DOCS / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        for command in re.split(r"&&|;", line.strip()):
            if line.startswith("    ") and command.strip().startswith(tuple(f"{name} " for name in PROGRAMS)):
                words = shlex.split(command, comments=True)
                if "..." not in words and "|" not in words:
                    yield words


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The command's name and its options, parsed and not run; raises a UsageError for what cannot be."""
    command: Any = typer.main.get_command(PROGRAMS[words[0]])
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


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_guides_parse(page: str) -> None:
    for words in commands(page):
        name, given = parsed(words)
        if name == "asap-train fit" and given["model"]:
            read_settings(FitConfig, None, given["set_"] or (), asked(given))


def test_every_recipe_has_the_commands_of_every_step() -> None:
    for page in (path for path in PAGES if path.startswith("guides/recipes/") and not path.endswith("index.md")):
        steps = [words[1] for words in commands(page)]
        assert set(steps) == {"synth", "validate", "plan", "fit", "compare", "export-lora"}, page


def test_the_memory_in_the_recipes_is_what_is_computed() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for path in RECIPES.glob("*.md")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| [\w-]+ \| \d+ \|", line)
    ]
    assert len(rows) >= 20
    for model, card, settings, step, largest, time in rows:
        plan = make_plan(model, float(card), {})
        assert plan.fits == (settings != "does not fit"), (model, card)
        assert float(largest.split()[0]) == pytest.approx(plan.estimate.worst.bytes / GIB, abs=0.06)
        if plan.fits:
            assert float(step) == pytest.approx(plan.estimate.step.bytes / GIB, abs=0.06)
            assert settings.startswith("nf4" if plan.config.quantization == "nf4" else plan.config.mixed_precision)
        assert time == "", "no GPU has measured it"
