"""The report: what it says, that it needs no network, and that nothing in it runs but its own script."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hafbench.errors import Unavailable
from hafbench.evaluate import describe, evaluate
from hafbench.records import Sample
from hafbench.report import build_report
from hafbench.report.overlays import THUMBNAIL, draw
from hafbench.runs import Run, open_run
from hafbench.suites import Prompt
from hafbench.types import Finding, Score
from small import Brightness, Returns

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
    described = describe(scorers)
    samples = [Sample(image, (prompts or {}).get(image), 0 if prompts else None) for image in names]
    request = {"images": {"folder": str(images), "sha256": "0"}, "prompts": None, "scorers": described}
    with open_run(
        folder / "run",
        command="score",
        name=name,
        request=request,
        details={"scorers": described, "image_root": str(images)},
    ) as run:
        return evaluate(run, samples, scorers, image_root=images)


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
    assert "8 × nobody was found" in page or "7 × nobody was found" in page
    assert "If all that were not judged were sound" in page


def test_the_page_is_whole_in_itself(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, ["a.png"], {"hands": Brightness()}))
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(?!data:)[a-z]*:?//""", page)
    assert "default-src 'none'" in page


def test_a_run_without_prompts_has_no_empty_tables(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path, ["a.png", "b.png"], {"iqa": Returns("iqa", Score("scored", 1.0))}))
    assert "By category" not in page
    assert "What was found" not in page
    assert "<tbody>\n</tbody>" not in page


def test_categories_have_a_plot_and_a_table(tmp_path: Path) -> None:
    prompts = {
        f"{i}.png": Prompt(id=f"p{i}", text="a hand", category=category)
        for i, category in enumerate(["full_body", "basic_anatomy", "full_body", "basic_anatomy"])
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


def test_findings_are_drawn_where_they_are(tmp_path: Path) -> None:
    grey = Image.new("RGB", (100, 80), (128, 128, 128))
    hand = tuple((20.0 + k, 30.0 + k, 1.0) for k in range(21))
    finding = Finding("hands", "configuration", "detectability", 0.9, (10, 20, 60, 70), hand)
    drawn = np.asarray(draw(grey, [json.loads(json.dumps(finding.__dict__))], 1.0)).astype(int)
    changed = np.abs(drawn - 128).sum(-1) > 30
    assert changed[68:72, 20:55].any()  # the box's lower edge
    assert changed[30:50, 20:42].any()  # the keypoints
    assert not changed[75:, 70:].any()


def test_thumbnails_keep_their_shape_and_are_bounded(tmp_path: Path) -> None:
    from hafbench.report.overlays import thumbnails

    Image.new("RGB", (3000, 1000), "red").save(tmp_path / "wide.png")
    plain, marked = thumbnails(tmp_path / "wide.png", []) or ("", None)
    import base64
    import io

    image = Image.open(io.BytesIO(base64.b64decode(plain.partition(",")[2])))
    assert image.size == (THUMBNAIL, round(THUMBNAIL / 3))
    assert marked is None


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
    document = opened(page, tmp_path / "profile")
    assert 'data-ready="yes"' in document  # the page's own script ran
    title = re.search(r"<title>(.*?)</title>", document, re.S)
    assert title is not None
    assert "HAF-Bench" in title[1]
    assert "49" not in title[1]
    assert document.count("<script>") == page.read_text().count("<script>") == 1
    assert "<script" not in (run.folder / "report" / "report.md").read_text()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_the_filters_count_what_is_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path, [f"{i}.png" for i in range(5)], {"hands": Brightness()})
    assert "5 of 5 shown" in opened(build_report(run), tmp_path / "profile")
