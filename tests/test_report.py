"""The report: what it says, that it needs no network, and that nothing in it runs but its own script."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hafbench
from hafbench.cards import SHIPPED, read_card, write_card
from hafbench.errors import HafError, Unavailable
from hafbench.evaluate import evaluate
from hafbench.figures import count_alike, count_rates, metrics_of
from hafbench.records import Sample
from hafbench.reports import build_report
from hafbench.reports.gallery import make_gallery
from hafbench.reports.overlays import THUMBNAIL, box_names, draw, thumbnails
from hafbench.reports.summary import print_summary, read_summary
from hafbench.runs import Run, open_run
from hafbench.sources.folder import Folder
from hafbench.suites import Category, Expect, Prompt
from hafbench.types import Finding, Score
from small import Brightness, Returns, folder_manifest

EVIL = "<script>document.title='pwned'</script>\"><img src=x onerror=\"document.title='pwned'\">{{ 7 * 7 }}"


def make_run(
    folder: Path,
    names: list[str],
    scorers: dict[str, Any],
    *,
    prompts: dict[str, Prompt] | None = None,
    name: str = "a model",
    broken: tuple[str, ...] = (),
) -> Run:
    """A real run of small scorers over random images."""
    rng = np.random.default_rng(0)
    images = folder / "pictures"
    images.mkdir(parents=True)
    for image in names:
        if image in broken:
            (images / image).write_bytes(b"nonsense")
        else:
            Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(images / image)
    samples = [Sample(image, (prompts or {}).get(image), 0 if prompts else None) for image in names]
    with open_run(folder / "run", folder_manifest(scorers, images, name)) as run:
        return evaluate(run, samples, scorers)


def page_of(run: Run) -> str:
    return build_report(run).read_text()


def test_headline_figures_coverage_and_reasons_are_on_the_page(tmp_path: Path) -> None:
    scorers = {
        "hands": Brightness(),
        "limbs": Returns("limbs", Score("unknown", reason="nobody was found")),
        "clip": Unavailable("no weights here; pull them"),
        "iqa": Returns("iqa", Score("scored", 12.5)),
    }
    names = [f"{i}.png" for i in range(8)]
    run = make_run(tmp_path, names, scorers, broken=("7.png",))
    page, text = page_of(run), (run.folder / "report" / "report.md").read_text()
    errors = int(run.records["is_error"].sum())
    rate = f"{100 * errors / 7:.1f} %"
    for content in (page, text):
        assert rate in content
        assert "no weights here; pull them" in content
        assert "12.5" in content
    assert "Judged 7 of 8 images (87.5 %); 1 failed." in page
    assert "7 × nobody was found" in page
    assert "1 × 7.png: this is damaged, or not an image" in page
    assert "If all that were not judged were correct" in page


def test_a_rate_without_a_card_is_uncalibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scorers = {"hands": Brightness(), "iqa": Returns("iqa", Score("scored", 12.5))}
    run = make_run(tmp_path, [f"{i}.png" for i in range(4)], scorers)

    def said() -> tuple[list[int], list[bool | None]]:
        page, text = page_of(run), (run.folder / "report" / "report.md").read_text()
        summary = read_summary(run.folder)
        print_summary(summary)
        texts = [text, capsys.readouterr().out]
        badges = page.count('<span class="verdict">uncalibrated</span>')
        hints = [one.count("hafbench calibrate LABELS") for one in (page, *texts)]
        words = [one.count(" %, uncalibrated") + one.count("0%, uncalibrated") for one in texts]
        return [badges, *words, *hints], [one.calibrated for one in summary.scorers]

    assert said() == ([1] * 6, [False, None])
    write_card(
        read_card(SHIPPED / "digits.json").model_copy(
            update={"scorer": "hands", "scorer_version": "1", "identity": None}
        ),
        run.folder / "cards" / "hands.json",
    )
    assert said() == ([0] * 6, [True, None])


def test_where_only_the_rate_of_all_together_has_no_card_none_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Anatomy(Returns):
        role = "anatomy"

    sound = Score("scored", 0.0, is_error=False)
    scorers = {name: Anatomy(name, sound) for name in ("hands", "digits")}
    run = make_run(tmp_path, [f"{i}.png" for i in range(4)], scorers)
    version = run.manifest.scorers["hands"].version

    def said() -> list[str]:
        page, text = page_of(run), (run.folder / "report" / "report.md").read_text()
        print_summary(read_summary(run.folder))
        return [" ".join(one.split()) for one in (page, text, capsys.readouterr().out)]

    for name, advised in (("hands", True), ("digits", False)):
        card = read_card(SHIPPED / "digits.json")
        card = card.model_copy(update={"scorer": name, "scorer_version": version, "identity": None})
        write_card(card, run.folder / "cards" / f"{name}.json")
        for text in said():
            assert ("hafbench calibrate LABELS" in text) is advised
            assert ("so the rate of all together (anatomy) has none" in text) is not advised


def test_cards_and_labels_may_be_named_by_text(tmp_path: Path) -> None:
    run = make_run(tmp_path, [f"{i}.png" for i in range(4)], {"hands": Brightness()})
    card = read_card(SHIPPED / "digits.json")
    card = card.model_copy(update={"scorer": "hands", "scorer_version": "1", "identity": None})
    write_card(card, tmp_path / "hands.json")
    hafbench.report(str(run.folder), cards=[str(tmp_path / "hands.json")])
    assert read_card(run.folder / "cards" / "hands.json") == card
    with pytest.raises(HafError, match=r"There are no labels yet: none\.sqlite"):
        hafbench.report(str(run.folder), labels=["none.sqlite"])
    with pytest.raises(HafError, match=r"There are no labels yet: none\.sqlite"):
        hafbench.calibrate(None, "hands", store="none.sqlite", run=str(run.folder))


def test_a_rate_of_nothing_is_not_called_uncalibrated(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a.png"], {"hands": Brightness()}, broken=("a.png",))
    assert "ncalibrated" not in page_of(run) + (run.folder / "report" / "report.md").read_text()


def test_the_page_is_whole_in_itself(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, ["a.png"], {"hands": Brightness()}))
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?!data:)[a-z]*:?//""", page)
    assert "default-src 'none'" in page


def test_what_is_missing_is_said_before_any_figure(tmp_path: Path) -> None:
    class Anatomy(Returns):
        role = "anatomy"

    scorers = {
        "hands": Anatomy("hands", Score("unknown", reason="No hand was found.")),
        "clip": Unavailable("no weights here; pull them"),
    }
    page = page_of(make_run(tmp_path, ["a.png", "b.png", "c.png"], scorers, broken=("c.png",)))
    first = page[: page.index('class="card"')]
    assert re.search(r"<strong>hands, clip</strong>: failed on 1 of 3 images: c\.png: ", first)
    assert re.search(r"<strong>clip</strong>: not scored on 2 of 3 images: no weights here; pull them", first)
    assert "No hand was found" not in first
    assert page.count("not judged</div>") == 1


def test_a_run_of_no_image_has_a_page(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, [], {"hands": Brightness()}))
    assert "Judged 0 of 0 images" in page
    assert "Images, worst first" not in page


def test_reasons_that_differ_in_numbers_are_one() -> None:
    reasons = ["hand of 53 pixels; below 56 no", "nobody", "hand of 9 pixels; below 56 no", "a 1b", "a 2b"]
    counted = (("hand of 9 to 53 pixels; below 56 no", 2), ("nobody", 1), ("a 1b", 1), ("a 2b", 1))
    assert count_alike(reasons) == counted


def test_the_page_does_not_say_where_the_images_lie(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a.png", "b.png"], {"hands": Brightness()}, broken=("b.png",))
    assert str(run.records["reason"][1]).startswith("b.png: ")
    page = page_of(run)
    assert str(tmp_path) not in page
    assert str(tmp_path) not in (run.folder / "report" / "report.md").read_text()
    assert "<dd>pictures</dd>" in page


def test_a_run_without_prompts_has_no_empty_tables(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, ["a.png", "b.png"], {"iqa": Returns("iqa", Score("scored", 1.0))}))
    assert "By category" not in page
    assert "What was found" not in page
    assert "<tbody>\n</tbody>" not in page


def test_categories_have_a_plot_and_a_table(tmp_path: Path) -> None:
    categories: tuple[Category, ...] = ("full_body", "basic_anatomy") * 2
    prompts = {
        f"{i}.png": Prompt(id=f"p{i}", text="a hand", category=category) for i, category in enumerate(categories)
    }
    run = make_run(tmp_path, list(prompts), {"hands": Brightness()}, prompts=prompts)
    page = page_of(run)
    assert 'aria-label="Error rates by category"' in page
    assert page.index("<td>basic anatomy</td>") < page.index("<td>full body</td>")
    assert (run.folder / "report" / "by_category.png").stat().st_size > 1000


def test_the_worst_images_come_first(tmp_path: Path) -> None:
    run = make_run(tmp_path, [f"{i}.png" for i in range(6)], {"hands": Brightness()})
    rows = run.records.sort_values(["is_error", "value"], ascending=[False, False])
    shown = re.findall(r'<p class="prompt">(\d\.png)</p>', page_of(run))
    assert shown == rows["image"].tolist()


def test_the_gallery_is_filtered_by_the_headline_as_by_each_scorer(tmp_path: Path) -> None:
    class NotShown(Brightness):
        left_out = "it is not shown to see errors"

    sound = Returns("hands", Score("scored", 0.1, False))
    sound.role = "anatomy"
    scorers = {"hands": sound, "digits": Brightness(), "limbs": NotShown()}
    run = make_run(tmp_path, [f"{i}.png" for i in range(6)], scorers)
    rows = metrics_of(run)["anatomy"].rows.set_index("image")
    for item in make_gallery(run).items:
        (said,) = [label for label in item.labels if label.startswith("anatomy:")]
        assert said == f"anatomy:{'error' if rows['is_error'][item.image] else 'sound'}"
    assert set(rows["is_error"]) == {True, False}


def test_the_gallery_is_bounded_and_says_how_many_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, [f"{i}.png" for i in range(6)], {"hands": Brightness()})
    whole = make_gallery(run)
    assert (len(whole.items), whole.drawn, whole.left_out) == (6, 0, 0)
    few = make_gallery(run, size=2)
    assert ([item.image for item in few.items], few.left_out) == ([item.image for item in whole.items[:2]], 4)
    sizes = [item.pictures.characters for item in whole.items if item.pictures]
    light = make_gallery(run, limit=sum(sizes[:3]))
    assert (len(light.items), light.left_out) == (3, 3)


def test_a_gallery_of_too_many_images_has_the_worst_and_a_sample_of_the_others(tmp_path: Path) -> None:
    run = make_run(tmp_path, [f"{i:02}.png" for i in range(30)], {"hands": Brightness()})
    order = [item.image for item in make_gallery(run).items]
    gallery = make_gallery(run, size=12)
    shown = [item.image for item in gallery.items]
    assert (shown[:9], gallery.drawn, gallery.left_out) == (order[:9], 3, 18)
    assert shown == sorted(shown, key=order.index)
    assert gallery == make_gallery(run, size=12)


def test_findings_are_drawn_where_they_are(tmp_path: Path) -> None:
    grey = Image.new("RGB", (100, 80), (128, 128, 128))
    hand = tuple((20.0 + k, 30.0 + k, 1.0) for k in range(21))
    finding = Finding("hands", "configuration", "detectability", 0.9, (10, 20, 60, 70), hand)
    drawn = np.asarray(draw(grey, [finding], 1.0)).astype(int)
    changed = np.abs(drawn - 128).sum(-1) > 30
    assert changed[68:72, 20:55].any()  # the box's lower edge
    assert changed[30:50, 20:42].any()  # the keypoints
    assert not changed[75:, 70:].any()


def test_an_unsure_body_point_is_not_drawn() -> None:
    grey = Image.new("RGB", (100, 80), (128, 128, 128))
    body = [(50.0, 10.0 + 4 * k, 0.9) for k in range(17)]
    body[10] = (5.0, 75.0, 0.1)
    finding = Finding("limbs", "missing", "left_wrist", 0.9, None, tuple(body))
    drawn = np.asarray(draw(grey, [finding], 1.0)).astype(int)
    changed = np.abs(drawn - 128).sum(-1) > 30
    assert changed[10:75, 48:53].any()
    assert not changed[:, :40].any()


def test_findings_of_one_box_have_one_label() -> None:
    one, other = (0.0, 0.0, 9.0, 9.0), (5.0, 5.0, 9.0, 9.0)
    findings = [
        Finding("limbs", "proportion", "left_arm_too_long", 0.5, one),
        Finding("limbs", "extra", "second_wrist", 0.75, one),
        Finding("hands", "configuration", "detectability", 0.4, other),
        Finding("hands", "configuration", "nowhere", 0.9),
    ]
    assert list(box_names(findings).values()) == ["second wrist 0.75 +1", "detectability 0.40"]


def decoded(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_thumbnails_keep_their_shape_and_are_bounded(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1000), "red").save(tmp_path / "wide.png")
    pictures = thumbnails(Folder(str(tmp_path)), "wide.png", [])
    assert pictures is not None
    assert decoded(pictures.plain).size == (THUMBNAIL, round(THUMBNAIL / 3))
    assert (pictures.marked, pictures.closeup) == (None, None)


def test_the_closeup_shows_the_worst_finding(tmp_path: Path) -> None:
    image = Image.new("RGB", (1000, 1000), "red")
    image.paste((0, 0, 255), (600, 600, 800, 800))
    image.save(tmp_path / "a.png")
    near = Finding("hands", "extra", "x", 0.9, (650, 650, 750, 750))
    far = Finding("hands", "extra", "x", 0.2, (0, 0, 100, 100))
    pictures = thumbnails(Folder(str(tmp_path)), "a.png", [far, near])
    assert pictures is not None
    red, _, blue = np.asarray(decoded(pictures.closeup)).reshape(-1, 3).mean(0)
    assert (red < 10, blue > 245) == (True, True)


def test_the_report_of_a_run_is_the_same_when_it_is_made_again(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a.png", "b.png"], {"hands": Brightness()})
    assert page_of(run) == page_of(run)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def opened(page: Path, profile: Path) -> str:
    """The page's document after headless Chromium has run it."""
    switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    switches += " --disable-component-update --disable-sync --virtual-time-budget=4000"
    words = [str(BROWSER), *switches.split(), f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_a_script_in_a_prompt_a_path_a_reason_or_a_name_does_not_run(tmp_path: Path) -> None:
    name = "<img src=x onerror=document.title='pwned'>.png"
    prompts = {name: Prompt(id="evil", text=EVIL, category="full_body", tags=(EVIL,))}
    scorers = {
        "hands": Brightness(),
        "clip": Unavailable(EVIL),
        "iqa": Returns("iqa", Score("unknown", reason=EVIL)),
    }
    run = make_run(tmp_path, [name], scorers, prompts=prompts, name=EVIL)
    page = build_report(run)
    # Once as it is, and once without the policy that forbids foreign scripts: escaping has to hold alone.
    bare = tmp_path / "bare.html"
    bare.write_text(re.sub(r"<meta http-equiv[^>]*>", "", page.read_text()))
    assert "Content-Security-Policy" not in bare.read_text()
    for file in (page, bare):
        document = opened(file, tmp_path / "profile")
        assert 'data-ready="yes"' in document  # the page's own script ran
        title = re.search(r"<title>(.*?)</title>", document, re.S)
        assert title is not None
        assert "HAF-Bench" in title[1]
        assert "49" not in title[1]
        assert document.count("<script>") == 1
        assert not re.search(r'<img[^>]*src="x"', document)
    assert "<script" not in (run.folder / "report" / "report.md").read_text()


FILTERS = [
    ({}, {"0.png", "1.png", "2.png", "3.png", "4.png"}),
    ({"judgement": "error"}, "errors"),
    ({"judgement": "sound"}, "sound"),
    ({"judgement": "failed"}, {"4.png"}),
    ({"scorer": "hands"}, {"0.png", "1.png", "2.png", "3.png"}),
    ({"scorer": "clip"}, set()),
    ({"scorer": "clip", "judgement": "unscored"}, {"0.png", "1.png", "2.png", "3.png"}),
    ({"words": "3.PNG"}, {"3.png"}),
    ({"kind": "hands configuration"}, {"0.png", "1.png", "2.png", "3.png"}),
]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_the_filters_show_what_they_name(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(5)]
    run = make_run(tmp_path, names, {"hands": Brightness(), "clip": Unavailable("none")}, broken=("4.png",))
    hands = run.records[run.records["scorer"] == "hands"]
    groups = {"errors": set(hands["image"][hands["is_error"].eq(True)])}
    groups["sound"] = set(hands["image"][hands["is_error"].eq(False)])
    assert all(groups.values())
    # The page's policy forbids any script but its own; for this test a user's hand is let in.
    page = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", build_report(run).read_text())
    hand = """
    document.body.dataset.shown = JSON.stringify(CASES.map((wanted) => {
      for (const id of ["scorer", "judgement", "kind", "words"]) {
        document.getElementById(id).value = wanted[id] ?? (id === "scorer" ? "any" : "");
        document.getElementById(id).dispatchEvent(new Event("input"));
      }
      return [...document.querySelectorAll(".item:not([hidden]) .prompt")].map((p) => p.textContent);
    }));
    document.querySelector(".open").click();
    const large = document.querySelector("dialog .sheet > img");
    const marked = large.src;
    document.querySelector("dialog .toggle").click();
    document.body.dataset.toggled = String(large.src !== marked && large.src.startsWith("data:"));
    """.replace("CASES", json.dumps([case for case, _ in FILTERS]))
    (tmp_path / "page.html").write_text(page.replace("</body>", f"<script>{hand}</script></body>"))
    document = opened(tmp_path / "page.html", tmp_path / "profile")
    found = re.search(r'data-shown="([^"]*)"', document)
    assert found is not None
    for (case, expected), shown in zip(FILTERS, json.loads(html.unescape(found[1])), strict=True):
        assert set(shown) == (groups[expected] if isinstance(expected, str) else expected), case
    assert 'data-toggled="true"' in document


def test_what_a_scorer_counts_is_held_against_the_prompt(tmp_path: Path) -> None:
    counted = Returns("limbs", Score("scored", 0.1, False, measures={"people": 2.0}))
    counted.role = "anatomy"
    wanted = {"a.png": 1, "b.png": 2, "c.png": 3, "d.png": None}
    prompts = {
        name: Prompt(id=name[0], text="people", expect=Expect() if people is None else Expect(people=people, digits=5))
        for name, people in wanted.items()
    }
    run = make_run(tmp_path, list(wanted), {"limbs": counted}, prompts=prompts)
    measures = run.measures.groupby("image").apply(lambda own: dict(zip(own["name"], own["value"], strict=True)))
    assert measures["a.png"] == {"people": 2.0, "people_expected": 1.0}
    assert measures["d.png"] == {"people": 2.0}
    (row,) = count_rates(run)
    assert (row.scorer, row.what, row.wrong.errors, row.wrong.scored, row.more, row.fewer) == (
        "limbs",
        "people",
        1,
        3,
        1,
        1,
    ), "more may be in the background"
    assert "Counts against the prompts" in page_of(run)
    assert "Counts against the prompts" not in page_of(make_run(tmp_path / "bare", ["a.png"], {"limbs": counted}))
