"""The page on which people label, in a real browser: keys, boxes, blind, undo, several raters, a killed server."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from hafbench.runs import Run, read_run
from labelling import Served, labels_in, pictured_run, served
from small import not_none

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

RED = """() => {
  const image = document.querySelector(".stage img");
  const drawn = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  drawn.drawImage(image, 0, 0, 1, 1);
  const [red, green] = drawn.getImageData(0, 0, 1, 1).data;
  return red > green;
}"""
DESK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """60 images of 20 prompts; the red ones are errors."""
    words = {f"p{number:02}": "ess" if number % 2 else "sse" for number in range(20)}
    return pictured_run(tmp_path_factory.mktemp("run") / "a", words)


class Rater:
    """Somebody at a page, who sees red as an error."""

    def __init__(self, browser: Browser, address: str, size: ViewportSize = DESK) -> None:
        self.page = browser.new_page(viewport=size)
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]")

    @property
    def item(self) -> str:
        """What is shown."""
        return str(self.page.evaluate("document.documentElement.dataset.shown"))

    def sees_red(self) -> bool:
        """Whether the (left) image on the page is red."""
        return bool(self.page.evaluate(RED))

    def press(self, *keys: str) -> None:
        """Keys, the last of which answers; waits until the next image is there."""
        before = self.page.evaluate("document.documentElement.dataset.turn")
        for key in keys:
            self.page.keyboard.press(key)
        self.page.wait_for_selector(f"html[data-turn]:not([data-turn='{before}'])")

    def drag(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Draw a box, in parts of the image."""
        box = not_none(self.page.locator(".canvas img").first.bounding_box())
        self.page.mouse.move(box["x"] + x1 * box["width"], box["y"] + y1 * box["height"])
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + x2 * box["width"], box["y"] + y2 * box["height"], steps=4)
        self.page.mouse.up()


@pytest.mark.slow
def test_fifty_images_by_keys_and_boxes(browser: Browser, run: Run, tmp_path: Path) -> None:
    store = tmp_path / "labels.sqlite"
    with served(run.folder, "--store", store, "--rater", "anna") as server:
        rater = Rater(browser, server.addresses[0])
        for _ in range(50):
            if rater.sees_red():
                rater.drag(0.25, 0.25, 0.75, 0.5)
                rater.press("5", "x", "Enter")
            else:
                rater.press("g")
        assert rater.page.inner_text("#done") == "50"
        assert not rater.faults
    labels = labels_in(store)
    first = [one for one in labels if one.turn == "first"]
    hands = run.records.query("scorer == 'hands'")
    truth = dict(zip(hands["sha256"], hands["is_error"], strict=True))
    assert len(labels) == 50 and len({one.item for one in first}) == len(first)
    assert all(one.bad == bool(truth[one.item]) for one in labels)
    marks = [mark for one in labels for mark in one.marks]
    assert len(marks) == sum(one.answer == "error" for one in labels) > 5
    assert {(mark.region, mark.kind) for mark in marks} == {("face", "extra")}
    # In pixels of an image of 48 x 32, whatever its size on the page.
    assert all(mark.box == pytest.approx((12, 8, 36, 16), abs=0.3) for mark in marks)
    assert all(0 < not_none(one.seconds) < 60 and one.blind for one in labels)
    assert [one.item for one in first] != sorted(one.item for one in first)


def test_nothing_on_the_page_tells_what_the_scorers_said_or_whose_image_it_is(
    browser: Browser, run: Run, tmp_path: Path
) -> None:
    with served(run.folder, "--store", tmp_path / "labels.sqlite") as server:
        rater = Rater(browser, server.addresses[0])
        content = rater.page.content()
        assert (
            run.manifest.name not in content
            and str(run.folder) not in content
            and "red" not in rater.page.inner_text("body")
        )
        assert server.post("/api/verdicts/x", {}).status_code in (404, 405)
    with served(run.folder, "--store", tmp_path / "labels.sqlite", "--review") as server:
        rater = Rater(browser, server.addresses[0])
        assert "hands" not in rater.page.inner_text(".panel").replace("1", "").split("hands", 2)[-1]
        rater.page.keyboard.press("v")
        rater.page.wait_for_selector("#verdicts li")
        assert "hands: " in rater.page.inner_text("#verdicts")
        rater.press("u")
    assert [one.blind for one in labels_in(tmp_path / "labels.sqlite")] == [False]


def test_undo_shows_the_image_with_its_answer_again(browser: Browser, run: Run, tmp_path: Path) -> None:
    store = tmp_path / "labels.sqlite"
    with served(run.folder, "--store", store) as server:
        rater = Rater(browser, server.addresses[0])
        item = rater.item
        rater.drag(0.1, 0.1, 0.4, 0.4)
        rater.press("3", "Enter")
        other = rater.item
        assert other != item and len(labels_in(store)) == 1
        rater.press("z")
        assert rater.item == item and labels_in(store) == []
        assert rater.page.inner_text("#marks li") == "feet, boxed"
        rater.press("g")
        assert rater.item == other
    assert [(one.item, one.answer) for one in labels_in(store)] == [(item, "good")]


def test_a_killed_server_loses_nothing(browser: Browser, run: Run, tmp_path: Path) -> None:
    """Killed between two labels: the answer given meanwhile waits in the page, and is kept once when it is back."""
    store = tmp_path / "labels.sqlite"
    with served(run.folder, "--store", store) as server:
        rater = Rater(browser, server.addresses[0])
        rater.press("g")
        port, item = server.port, rater.item
        server.kill()
        rater.page.keyboard.press("u")
        rater.page.wait_for_selector("#problem:not([hidden])")
        assert "cannot be reached" in rater.page.inner_text("#problem")
        assert len(labels_in(store)) == 1
    with served(run.folder, "--store", store, port=port):
        rater.page.wait_for_selector("#done:text-is('2')")
        rater.page.wait_for_selector(f"html:not([data-shown='{item}'])")
        rater.press("g")
    assert [one.answer for one in labels_in(store)] == ["good", "unsure", "good"]
    assert labels_in(store)[1].item == item


def test_an_answer_waits_for_the_new_token(browser: Browser, run: Run, tmp_path: Path) -> None:
    """Beyond this machine a server has a new token after a restart: an open tab's answers wait until it is known."""
    store = tmp_path / "labels.sqlite"
    words = (run.folder, "--store", store, "--host", "0.0.0.0", "--again", "0")
    context = browser.new_context(viewport=DESK)

    def local(server: Served) -> str:
        return re.sub(r"//[^:/]+:", "//127.0.0.1:", server.addresses[0])

    with served(*words) as server:
        port = server.port
        page = context.new_page()
        page.goto(local(server))
        page.wait_for_selector("html[data-ready]")
    with served(*words, port=port) as server:
        page.keyboard.press("u")
        page.wait_for_selector("#problem:text('with its token')")
        assert "are kept in this browser" in page.inner_text("#problem") and labels_in(store) == []
        # Opened anywhere in this browser, the new address lets the old tab go on.
        context.new_page().goto(local(server))
        page.wait_for_selector("#done:text-is('1')")
        assert page.is_hidden("#problem")
    assert [one.answer for one in labels_in(store)] == ["unsure"]


def test_a_closed_tab_loses_nothing(browser: Browser, run: Run, tmp_path: Path) -> None:
    """An answer that could not be sent before the tab was closed is sent by the next one."""
    store = tmp_path / "labels.sqlite"
    context = browser.new_context(viewport=DESK)
    with served(run.folder, "--store", store) as server:
        page = context.new_page()
        page.goto(server.addresses[0])
        page.wait_for_selector("html[data-ready]")
        port = server.port
        server.kill()
        page.keyboard.press("g")
        page.wait_for_selector("#problem:not([hidden])")
        page.close()
    with served(run.folder, "--store", store, port=port) as server:
        page = context.new_page()
        page.goto(server.addresses[0])
        page.wait_for_selector("#done:text-is('1')")
    assert [one.answer for one in labels_in(store)] == ["good"]


@pytest.mark.slow
def test_two_raters_at_once_share_the_work(browser: Browser, run: Run, tmp_path: Path) -> None:
    """Both label the shared images, and only one of them each other; two tabs of one rater show different images."""
    store = tmp_path / "labels.sqlite"
    words = ("--store", store, "--rater", "anna", "--rater", "ben", "--shared", "0.2", "--again", "0")
    with served(run.folder, *words) as server:
        raters = [Rater(browser, address) for address in server.addresses]
        tab = Rater(browser, server.addresses[0])
        assert len({raters[0].item, raters[1].item, tab.item}) >= 2 and raters[0].item != tab.item
        tab.press("g")
        tab.page.close()
        for turn in range(200):
            rater = raters[turn % 2]
            if rater.page.is_hidden("#end"):
                rater.press("e", "e") if rater.sees_red() else rater.press("g")
            if all(one.page.is_visible("#end") for one in raters):
                break
            if rater.page.is_visible("#end"):
                rater.page.click("#more")
                rater.page.wait_for_load_state("networkidle")
        assert [one.page.is_visible("#end") for one in raters] == [True, True]
    times = Counter(Counter(one.item for one in labels_in(store)).values())
    assert times == {1: 48, 2: 12}
    assert {one.rater for one in labels_in(store)} == {"anna", "ben"}


@pytest.mark.slow
def test_raters_who_disagree_settle_it_on_a_page(browser: Browser, run: Run, tmp_path: Path) -> None:
    store = tmp_path / "labels.sqlite"
    words = (run.folder, "--store", store, "--rater", "anna", "--rater", "ben", "--shared", "1", "--again", "0")
    with served(*words) as server:
        anna, ben = (Rater(browser, address) for address in server.addresses)
        assert anna.item == ben.item
        anna.drag(0.2, 0.2, 0.6, 0.6)
        anna.press("4", "e")
        ben.press("g")
    with served(*words, "--settle") as server:
        settler = Rater(browser, server.addresses[1])
        assert settler.page.inner_text("#others").split("\n") == ["anna: error (hands)", "ben: good"]
        assert settler.page.locator("rect.other").count() == 1
        settler.press("g")
        assert settler.page.is_visible("#end")
    assert [(one.rater, one.turn, one.answer) for one in labels_in(store)][-1] == ("ben", "settled", "good")


def test_pairs_are_shown_on_sides_drawn_by_chance(browser: Browser, tmp_path: Path) -> None:
    words = {f"p{number}": "es" for number in range(6)}
    baseline = pictured_run(tmp_path / "a", words, name="a")
    candidate = pictured_run(tmp_path / "b", dict.fromkeys(words, "ss"), name="b")
    with served(baseline.folder, "--pairs", candidate.folder, "--again", "0") as server:
        rater = Rater(browser, server.addresses[0])
        for _ in range(12):
            left = rater.page.locator(".stage img").first.get_attribute("src")
            red = rater.sees_red()
            assert left is not None
            rater.press("ArrowRight" if red else "ArrowLeft")
        assert rater.page.is_visible("#end") and not rater.faults
    labels = labels_in(baseline.folder / "labels.sqlite")
    reds = set(read_run(baseline.folder).records.query("is_error == True")["sha256"])
    # Where the baseline's image is red the candidate's wins; where both are green the left one was chosen.
    assert all(one.answer == "candidate" for one in labels if one.item.split("-")[0] in reds)
    assert len(labels) == 12 and {one.swapped for one in labels} == {True, False}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_everything_is_within_reach(
    browser: Browser, run: Run, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    with served(run.folder, "--store", tmp_path / "labels.sqlite") as server:
        context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True, color_scheme=scheme)
        page = context.new_page()
        page.goto(server.addresses[0])
        page.wait_for_selector("html[data-ready]")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for selector in (
            "[data-answer=good]",
            "[data-answer=error]",
            "[data-region=hands]",
            "[data-kind=extra]",
            "#undo",
        ):
            box = not_none(page.locator(selector).bounding_box())
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844, selector
            assert box["height"] >= 28
        page.tap("[data-region=hands]")
        page.tap("[data-kind=extra]")
        page.tap("#save")
        page.wait_for_selector("#done:text-is('1')")
    (label,) = labels_in(tmp_path / "labels.sqlite")
    assert [(mark.region, mark.kind) for mark in label.marks] == [("hands", "extra")]


def test_the_wheel_zooms_where_the_pointer_is(browser: Browser, run: Run, tmp_path: Path) -> None:
    with served(run.folder, "--store", tmp_path / "labels.sqlite") as server:
        rater = Rater(browser, server.addresses[0])
        image = rater.page.locator(".canvas img").first
        before = not_none(image.bounding_box())
        x, y = before["x"] + 0.75 * before["width"], before["y"] + 0.25 * before["height"]
        rater.page.mouse.move(x, y)
        rater.page.mouse.wheel(0, -500)
        rater.page.wait_for_selector("html[data-zoom]:not([data-zoom='1'])")
        after = not_none(image.bounding_box())
        assert after["width"] > 1.5 * before["width"]
        assert (x - after["x"]) / after["width"] == pytest.approx(0.75, abs=0.01)
        assert (y - after["y"]) / after["height"] == pytest.approx(0.25, abs=0.01)
        rater.page.keyboard.press("f")
        assert not_none(image.bounding_box()) == pytest.approx(before)


def test_names_that_look_like_markup_are_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    evil = "<img src=x onerror=\"document.title='pwned'\">"
    run = pictured_run(tmp_path / "a", {"p": "es"}, text=evil)
    with served(run.folder, "--rater", evil, "--rater", "ben") as server:
        rater = Rater(browser, server.addresses[0])
        assert evil in rater.page.inner_text("#prompt") and evil in rater.page.inner_text(".rater")
        rater.page.goto(server.base)
        assert evil in rater.page.inner_text("main")
        assert "pwned" not in rater.page.title()
