"""Leaderboards: entries by hand, what shares a table, rank ranges, what is refused, and the page."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hafbench.calibration import make_card
from hafbench.cards import write_card
from hafbench.cli import app
from hafbench.comparison import compare_runs
from hafbench.errors import HafError
from hafbench.evaluate import evaluate
from hafbench.leaderboard import Entry, make_entry, tables, validate, write_entry
from hafbench.leaderboard.entries import sha256_of_prompts
from hafbench.leaderboard.ranking import compare_entries
from hafbench.manifest import GeneratorFacts
from hafbench.records import Sample
from hafbench.reports.board import build_board
from hafbench.runs import Run, open_run
from hafbench.schemas import schema_of
from hafbench.suites import load_suite
from hafbench.types import Scorer
from hafbench.verdicts import Judged
from small import Blueness, Painted, coloured_run, folder_manifest, not_none, painted

REPOSITORY = Path(__file__).parent.parent
EVIL = "<script>document.title='pwned'</script>\"><img src=x onerror=\"document.title='pwned'\">{{ 7 * 7 }}"


def entry_of(folder: Path, verdicts: dict[str, str], name: str, **options: Any) -> Entry:
    return make_entry(coloured_run(folder / name, verdicts, name=name, **options), "me")


def words(rates: float, seed: int, prompts: int = 40) -> dict[str, str]:
    rng = np.random.default_rng(seed)
    return {f"p{i}": "".join("es"[int(rng.random() > rates)] for _ in range(2)) for i in range(prompts)}


def test_an_entry_by_hand(tmp_path: Path) -> None:
    run = coloured_run(tmp_path / "run", {"a": "ees", "b": "ssu", "c": "sss"}, first_seed=5)
    entry = make_entry(run, "me", link="https://example.org", licence="Apache-2.0")
    hands = entry.anatomy["hands"]
    assert entry.ranked_by == "hands"
    assert entry.suite.seeds == (5, 6, 7)
    assert hands.verdicts == {"a": "ees", "b": "ssu", "c": "sss"}
    assert (hands.rate.errors, hands.rate.scored, hands.rate.total) == (2, 8, 9)
    assert (hands.rate.estimate, hands.rate.lowest, hands.rate.highest) == (2 / 8, 2 / 9, 3 / 9)
    assert entry.suite.categories == {"basic_anatomy": ("a", "c"), "full_body": ("b",)}
    assert hands.by_category["basic_anatomy"].estimate == 2 / 6
    assert entry.quality["iqa"].mean.n == 9
    # The name is the painted run's only setting that is no setting.
    assert entry.model.settings == {"steps": 10}


def test_a_written_entry_is_read_back_the_same_and_only_once(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, {"a": "es", "b": "ss"}, "one")
    path = write_entry(entry, tmp_path / "board")
    assert validate(tmp_path / "board") == ({path: entry}, [])
    with pytest.raises(HafError, match="already"):
        write_entry(entry, tmp_path / "board")


def test_the_published_schema_is_that_of_the_code() -> None:
    published = REPOSITORY / "leaderboards" / "schema" / "entry.json"
    assert json.loads(published.read_text()) == schema_of("entry")


def test_the_repositorys_own_entries_hold() -> None:
    entries, problems = validate(REPOSITORY / "leaderboards")
    assert problems == []
    assert entries


def test_another_suite_or_scorer_is_another_table(tmp_path: Path) -> None:
    verdicts = {"a": "es", "b": "ss"}
    base = entry_of(tmp_path, verdicts, "base")
    alike = [
        entry_of(tmp_path, {"a": "ss", "b": "ee"}, "other verdicts"),
        entry_of(tmp_path, verdicts, "other seeds", first_seed=9),
        entry_of(tmp_path, verdicts, "without quality", scorers={"hands": Painted()}),
    ]
    strangers = [
        entry_of(tmp_path, verdicts, "other texts", text="two feet"),
        entry_of(tmp_path, {"a": "es"}, "fewer prompts"),
        entry_of(tmp_path, verdicts, "other version", scorers={"hands": Painted("2")}),
        entry_of(tmp_path, verdicts, "other threshold", scorers={"hands": Painted("1", 0.7)}),
    ]
    assert {one.table for one in alike} == {base.table}
    assert len({one.table for one in [base, *strangers]}) == 5
    assert [len(table.places) for table in tables([base, *alike, *strangers])] == [4, 1, 1, 1, 1]


def test_models_that_cannot_be_told_apart_share_ranks(tmp_path: Path) -> None:
    # Two good models that differ by chance, and a bad one: by hand 1-2, 1-2, 3.
    entries = [
        entry_of(tmp_path, words(0.9, 0), "bad"),
        entry_of(tmp_path, words(0.2, 1), "good"),
        entry_of(tmp_path, words(0.2, 2), "good too"),
    ]
    (table,) = tables(entries)
    ranks = {place.entry.model.name: place.ranks for place in table.places}
    assert ranks == {"good": "1–2", "good too": "1–2", "bad": "3"}
    rates = [not_none(entry.anatomy["hands"].rate.estimate) for entry in table.entries]
    assert rates == sorted(rates)


def test_ranks_of_nearly_alike_models_overlap_and_every_rank_is_taken(tmp_path: Path) -> None:
    entries = [entry_of(tmp_path, words(rate, i), f"m{i}") for i, rate in enumerate((0.1, 0.3, 0.5, 0.7))]
    (table,) = tables(entries)
    for rank in range(1, 5):
        assert any(place.best <= rank <= place.worst for place in table.places)
    for better, worse in combinations(table.places, 2):
        assert better.best <= worse.best
        assert better.worst <= worse.worst


@pytest.mark.parametrize("first_seed", [0, 1, 7])
def test_entries_are_compared_as_their_runs(tmp_path: Path, first_seed: int) -> None:
    """On the same seeds, on some shared ones, and by prompt: with what cannot be judged left out alike."""
    one = coloured_run(tmp_path / "one", {"a": "ees", "b": "eus", "c": "sse", "d": "esu"}, name="old")
    other = coloured_run(
        tmp_path / "two", {"a": "sse", "b": "sss", "c": "uue", "d": "ees"}, name="new", first_seed=first_seed
    )
    by_runs = compare_runs([one, other]).versus[0].metrics[0]
    by_entries = compare_entries(make_entry(one, "me"), make_entry(other, "me"))
    assert by_entries == (replace(by_runs.difference, low=None, high=None), by_runs.unjudged)


def test_a_model_whose_errors_cannot_be_judged_is_not_shown_to_be_better(tmp_path: Path) -> None:
    verdicts = words(0.6, 0)
    hidden = {prompt: word.replace("e", "u", 1) for prompt, word in verdicts.items()}
    (table,) = tables([entry_of(tmp_path, verdicts, "seen"), entry_of(tmp_path, hidden, "hidden")])
    assert [(place.entry.model.name, place.ranks) for place in table.places] == [("hidden", "1–2"), ("seen", "1–2")]


def changed(entry: Entry, change: Any, folder: Path, name: str = "changed.json") -> Path:
    """An entry written to a folder after a change by hand."""
    values = json.loads(entry.model_dump_json())
    change(values)
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(values))
    return folder / name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["anatomy"]["hands"]["rate"].update(estimate=0.1), "estimate is 0.1, but its verdicts give 0.25"),
        (lambda v: v["anatomy"]["hands"]["rate"].update(low=0.0), "low is 0.0, but"),
        (lambda v: v["anatomy"]["hands"]["by_category"]["full_body"].update(errors=1), "in full_body: errors is 1"),
        (lambda v: v["anatomy"]["hands"]["verdicts"].update(a="ss"), "errors is 1, but its verdicts give 0"),
        (lambda v: v["anatomy"]["hands"]["verdicts"].pop("a"), "verdicts of 2 images of 1 prompts"),
        (lambda v: v["suite"].update(seeds=[0]), "words of other lengths"),
        (lambda v: v.update(ranked_by="beauty"), "ranked by beauty"),
    ],
)
def test_figures_that_do_not_follow_from_the_verdicts_are_found(tmp_path: Path, change: Any, said: str) -> None:
    entry = entry_of(tmp_path, {"a": "es", "b": "ss"}, "one")
    changed(entry, change, tmp_path / "board")
    entries, problems = validate(tmp_path / "board")
    assert entries == {}
    assert said in " ".join(problems)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.update(format=3), "format"),
        (lambda v: v["made"].update(records_sha256="../../etc/passwd"), "records_sha256"),
        (lambda v: v["model"].update(link="javascript:alert(1)"), "model.link"),
        (lambda v: v["anatomy"]["hands"]["verdicts"].update(a="xx"), "verdicts"),
        (lambda v: v.update(beauty=1), "beauty"),
        (lambda v: v.pop("suite"), "suite"),
    ],
)
def test_what_does_not_fit_the_schema_is_named(tmp_path: Path, change: Any, said: str) -> None:
    changed(entry_of(tmp_path, {"a": "es", "b": "ss"}, "one"), change, tmp_path / "board")
    _, problems = validate(tmp_path / "board")
    assert len(problems) == 1
    assert said in problems[0]


def test_the_same_run_twice_is_found(tmp_path: Path) -> None:
    path = write_entry(entry_of(tmp_path, {"a": "es", "b": "ss"}, "one"), tmp_path / "board")
    shutil.copy(path, path.with_name("two.json"))
    entries, problems = validate(tmp_path / "board")
    assert list(entries) == [path]
    assert "a second time" in problems[0]


def test_a_folder_of_images_with_a_packaged_suites_prompts_knows_its_suite(tmp_path: Path) -> None:
    prompts = load_suite("haf-50").prompts
    images = tmp_path / "pictures"
    images.mkdir()
    samples = [Sample(f"{prompt.id}.png", prompt) for prompt in prompts]
    for sample in samples:
        painted(sample.image, 0).save(images / sample.image)
    scorers: dict[str, Scorer] = {"hands": Painted(), "iqa": Blueness()}
    with open_run(tmp_path / "run", folder_manifest(scorers, images)) as run:
        entry = make_entry(evaluate(run, samples, scorers), "me", model="somebody's model")
    assert (entry.suite.name, entry.suite.seeds, entry.suite.prompts) == ("haf-50", None, 50)
    assert entry.suite.sha256 == sha256_of_prompts({prompt.id: prompt.text for prompt in prompts})
    assert entry.model.settings == {}
    assert tables([entry])[0].places[0].ranks == "1"


def test_runs_that_cannot_be_ranked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HafError, match="no anatomy scorer"):
        entry_of(tmp_path, {"a": "es"}, "quality", scorers={"iqa": Blueness()})
    with pytest.raises(HafError, match="no image could be judged"):
        entry_of(tmp_path, {"a": "uu"}, "dark")
    with pytest.raises(HafError, match=r"made\.by"):
        make_entry(coloured_run(tmp_path / "run", {"a": "es"}), "  ")


def test_a_place_on_this_machine_does_not_leave_it(tmp_path: Path) -> None:
    run = coloured_run(tmp_path / "run", {"a": "es"})
    here = GeneratorFacts(name="sdxl", settings={"model": "sdxl=/home/somebody/models/xl"})
    model = "/home/some body/models/qwen"
    judge = run.manifest.scorers["hands"].model_copy(
        update={
            "version": f"{model}, regions-1",
            "settings": {"judges": [{"name": model, "model": model}], "protocol": "regions-1", "url": "http://a/b"},
        }
    )
    scorers = {**run.manifest.scorers, "hands": judge}
    run = replace(run, manifest=run.manifest.model_copy(update={"generator": here, "scorers": scorers}))
    values = [Judged(str(n), n % 2 == 0, None, str(n), 0.9 - 0.8 * (n % 2), n % 2 == 0, 9, 1) for n in range(4)]
    write_card(make_card(values, "hands", judge, made_on="-"), run.folder / "cards" / "hands.json")
    entry = make_entry(run, "me")
    assert entry.model.settings["model"] == "sdxl=xl"
    assert entry.anatomy["hands"].version == "qwen, regions-1" == not_none(entry.anatomy["hands"].card).scorer_version
    assert entry.anatomy["hands"].settings["judges"] == [{"name": "qwen", "model": "qwen"}]
    assert entry.anatomy["hands"].settings["url"] == "http://a/b"
    assert "/home" not in entry.model_dump_json()


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    coloured_run(tmp_path / "one", {"a": "es", "b": "ss"}, name="../one")
    coloured_run(tmp_path / "two", {"a": "ee", "b": "es"}, name="two")
    invoke = CliRunner().invoke
    for run in ("one", "two"):
        added = invoke(app, ["leaderboard", "add", run, "--by", "me"])
        assert added.exit_code == 0, added.output
        assert Path(added.output.strip()).parent == Path("leaderboards")
    assert invoke(app, ["leaderboard", "validate"]).exit_code == 0
    assert invoke(app, ["leaderboard", "build"]).exit_code == 0
    assert (tmp_path / "leaderboards" / "index.html").exists()
    (tmp_path / "leaderboards" / "broken.json").write_text("{")
    assert invoke(app, ["leaderboard", "validate"]).exit_code == 2
    refused = invoke(app, ["leaderboard", "build"])
    assert isinstance(refused.exception, HafError)
    assert "broken.json" in str(refused.exception)
    assert "no entry" in str(invoke(app, ["leaderboard", "build", "nowhere"]).exception)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    runs: list[Run] = [
        coloured_run(tmp_path / "one", words(0.9, 0), name=EVIL),
        coloured_run(tmp_path / "two", words(0.2, 1), name="good"),
        coloured_run(tmp_path / "three", words(0.3, 1), name="other", text="a foot"),
    ]
    entries = [make_entry(run, EVIL[:200], licence=EVIL[:100]) for run in runs]
    return build_board(tables(entries), tmp_path / "page")


def opened(page: Path, profile: Path) -> str:
    """The page as Chromium has it after its script ran."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *(f"--user-data-dir={profile}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def without_policy(page: Path, more: str = "") -> None:
    text = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page.read_text(encoding="utf-8"))
    page.write_text(text.replace("</body>", f"{more}</body>"), encoding="utf-8")


@pytest.mark.parametrize("policy", [True, False])
def test_the_page_runs_nothing_but_its_script(board: Path, tmp_path: Path, policy: bool) -> None:
    if not policy:  # what is escaped must be harmless without it, too
        without_policy(board)
    dom = opened(board, tmp_path / "profile")
    assert 'data-ready="yes"' in dom
    assert "<title>Leaderboard · HAF-Bench</title>" in dom
    assert "3 of 3 entries" in dom
    assert "{{ 7 * 7 }}" in dom


def test_the_tables_are_sorted_and_filtered(board: Path, tmp_path: Path) -> None:
    act = """<script>
      const rows = () => [...document.querySelector(".sortable").tBodies[0].rows].filter((row) => !row.hidden);
      const names = () => rows().map((row) => row.cells[1].textContent.trim().slice(0, 4)).join(" ");
      const said = [names()];
      document.querySelectorAll(".sort")[2].click();
      document.querySelectorAll(".sort")[2].click();
      said.push(names());
      const words = document.getElementById("words");
      words.value = "GOOD";
      words.dispatchEvent(new Event("input"));
      said.push(names(), document.getElementById("shown").textContent);
      document.title = said.join(" | ");
    </script>"""
    without_policy(board, act)
    title = re.search(r"<title>(.*?)</title>", opened(board, tmp_path / "profile"))
    assert title is not None
    assert title[1] == "good &lt;scr | &lt;scr good | good | 1 of 3 entries"
