"""`make gpu` at tiny size: parts run, are kept one by one, are not run twice, and stay within the budget."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.fit import CONTESTANTS, Setting, Timed, computed, table
from benchmarks.gpu.__main__ import PAGE, PARTS, main, run_parts
from benchmarks.gpu.results import Part, Results, Row, Setup, load
from benchmarks.gpu.tables import BEGIN, END, tables, write
from benchmarks.random_models import SIZES

ROOT = Path(__file__).parents[1]


def test_a_part_runs_at_tiny_size_and_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    main(["--size", "tiny", "--only", "flux", "--out", str(out)])
    (part,) = json.loads(out.read_text())["parts"].values()
    assert [row["card"] for row in part["rows"]] == ["24 GiB", "80 GiB"]
    assert all(row["pairs/s"] > 0 and row["computed, GiB"] > 0 for row in part["rows"])
    capsys.readouterr()
    main(["--size", "tiny", "--only", "flux", "--out", str(out)])
    assert capsys.readouterr().out == ""


def test_what_does_not_fit_the_budget_or_fails_says_why_and_is_tried_again(tmp_path: Path) -> None:
    ran: list[str] = []

    def part(name: str, minutes: float, fails: bool = False) -> Part:
        def run(setup: Setup) -> Sequence[Row]:
            ran.append(name)
            if fails:
                raise RuntimeError("no such kernel\nand more")
            return [{"x": 1.25}]

        return Part(name, name, minutes, ("x",), run)

    parts = [part("a", 1), part("b", 1, fails=True), part("c", 30), part("d", 1)]
    out, setup = tmp_path / "gpu.json", Setup("true", tmp_path)
    run_parts(parts, Results("card", "2", "true"), out, setup, budget=25)
    kept = load(out, "card", "2", "true")
    assert {name: one.skipped for name, one in kept.parts.items() if one.skipped} == {
        "b": "RuntimeError: no such kernel",
        "c": "it takes 30 minutes, and 25.0 were left",
    }
    run_parts(parts, kept, out, setup, budget=60)
    assert ran == ["a", "b", "d", "b", "c"]
    assert load(out, "another card", "2", "true").parts == {}
    said = tables(parts, load(out, "card", "2", "true"))
    assert "Measured on card" in said and "| 1.25 |" in said and "Not measured: RuntimeError" in said


def test_the_page_has_a_table_for_every_part_and_says_that_none_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    text = (ROOT / PAGE).read_text()
    page.write_text(text)
    write(page, PARTS, None)
    assert page.read_text() == text, "python -m benchmarks.gpu writes the page"
    assert text.count(BEGIN) == text.count(END) == 1
    if not (ROOT / PAGE).with_suffix(".json").exists():
        assert "No GPU has measured" in text


def test_memory_is_computed_where_none_is_measured(tmp_path: Path) -> None:
    setting = Setting(SIZES["small"], 2, "no", True, tmp_path)
    plain, ours, _ = (one for one in CONTESTANTS if one.name.startswith("SDXL, LoRA"))
    results = {one: Timed([], computed=computed(one, setting)) for one in (plain, ours)}
    assert results[ours].computed < results[plain].computed, "no second network and no encoders"
    lines = table(results, setting, None).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[-1].endswith(f"{results[ours].computed / results[plain].computed:.2f} x |")
