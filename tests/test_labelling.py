"""Labels by people: what is kept, who is shown what, who may talk to the server, and what labels say of a run."""

import json
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from commands import command
from hafbench import api
from hafbench.errors import HafError
from hafbench.labelling.answers import Given, Label, Mark
from hafbench.labelling.consensus import consensus, disputed
from hafbench.labelling.drawn import reached, weights_of
from hafbench.labelling.estimates import labels_of, people_figures
from hafbench.labelling.exchange import labels_for_calibration
from hafbench.labelling.frame import Item
from hafbench.labelling.guard import Guard, guard_for
from hafbench.labelling.sampling import PlanSpec, draw, draw_plan, inclusion
from hafbench.labelling.session import GAP, Refused, Session
from hafbench.labelling.start import Labelling, start
from hafbench.labelling.store import Entry, LabelStore, Picture
from hafbench.runs import Run, read_run
from hafbench.statistics import LabelledImages, error_rate, labelled_difference, labelled_rate, prediction_powered_rate
from labelling import labels_in, pictured_run, served
from small import not_none

WORDS = {f"p{number:02}": "ess" if number % 2 else "sse" for number in range(20)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """60 images of 20 prompts, a third of them errors."""
    return pictured_run(tmp_path_factory.mktemp("run") / "a", WORDS)


def answer(session: Session, rater: str, tab: str, number: int, said: str | None = None) -> str | None:
    """Give one answer as a page would; the item, or None where there is nothing left."""
    task = session.next(rater, tab).task
    if task is None:
        return None
    given = Given.model_validate(
        {"id": f"{rater}-{tab}-{number:05}", "item": task.item, "turn": task.turn, "rater": rater}
        | {"answer": said or "good", "seconds": 1}
    )
    assert session.give(given) and not session.give(given)
    return task.item


def label_as_the_scorer(session: Session, run: Run, rater: str, most: int = 1000) -> None:
    """Label what comes as the scorer sees it."""
    hands = run.records.query("scorer == 'hands'")
    truth = dict(zip(hands["sha256"], hands["is_error"], strict=True))
    for number in range(most):
        task = session.next(rater, "tab").task
        if task is None:
            return
        said = "error" if truth[task.item] else "good"
        marks = [{"region": "hands", "kind": "extra", "box": [1, 2, 10, 12]}] if said == "error" else []
        session.give(
            Given.model_validate(
                {"id": f"answer-{number:07}", "item": task.item, "turn": task.turn, "rater": rater}
                | {"answer": said, "seconds": 2.5, "marks": marks}
            )
        )


def test_each_image_once_the_shared_ones_by_everybody_and_some_again(run: Run, tmp_path: Path) -> None:
    asked = Labelling((run.folder,), store=tmp_path / "l.sqlite", raters=("a", "b"), shared=0.2, again=0.1)
    session, _ = start(asked)
    items: dict[str, list[str]] = {"a": [], "b": []}
    for number in range(200):
        for rater in items:
            item = answer(session, rater, "tab", number)
            if item is not None:
                items[rater].append(item)
    labels = session.store.labels()
    first = Counter(one.item for one in labels if one.turn == "first")
    assert Counter(first.values()) == {1: 48, 2: 12}
    again = [one for one in labels if one.turn == "again"]
    assert 6 <= len(again) <= 12  # six images, twice where both have them
    for one in again:
        places = [index for index, item in enumerate(items[one.rater]) if item == one.item]
        assert len(places) == 2 and (places[1] - places[0] > GAP or places[1] >= len(items[one.rater]) - len(again))
    assert session.progress("a").left == session.progress("b").left == 0


def test_the_order_is_random_and_the_same_after_a_restart(run: Run, tmp_path: Path) -> None:
    asked = Labelling((run.folder,), store=tmp_path / "l.sqlite")
    session, _ = start(asked)
    first = [answer(session, "rater", "tab", number) for number in range(5)]
    order = [entry.item for entry in session.store.entries(session.plan)]
    assert order[:5] == first and order != sorted(order)
    again, _ = start(asked)
    assert again.plan == session.plan and not_none(again.next("rater", "tab").task).item == order[5]


def test_undo_goes_back_one_by_one_and_keeps_every_line(run: Run, tmp_path: Path) -> None:
    session, _ = start(Labelling((run.folder,), store=tmp_path / "l.sqlite", again=0))
    one, two = (answer(session, "rater", "tab", number) for number in range(2))
    assert not_none(session.undo("undo-00000", "rater").task).item == two
    assert not_none(session.undo("undo-00000", "rater").task).item == two  # sent twice, undone once
    assert not_none(session.undo("undo-00001", "rater").task).item == one
    assert session.undo("undo-00002", "rater").task is None
    assert session.store.labels() == []
    assert len(session.store.rows("SELECT * FROM labels")) == 4


def test_the_same_answer_from_two_tabs_is_one_label_the_later_one(run: Run, tmp_path: Path) -> None:
    session, _ = start(Labelling((run.folder,), store=tmp_path / "l.sqlite"))
    item = not_none(session.next("rater", "one").task).item
    assert not_none(session.next("rater", "two").task).item != item
    for number, said in enumerate(("good", "error")):
        given = {"id": f"event-{number:04}", "item": item, "turn": "first", "rater": "rater", "answer": said}
        session.give(Given.model_validate({**given, "seconds": 1}))
    assert [one.answer for one in session.store.labels()] == ["error"]


def test_what_is_not_of_the_plan_is_refused(run: Run, tmp_path: Path) -> None:
    session, _ = start(Labelling((run.folder,), store=tmp_path / "l.sqlite"))
    given = {"id": "event-0000", "item": "0" * 64, "turn": "first", "rater": "rater", "answer": "good", "seconds": 1}
    with pytest.raises(Refused, match="not one of those"):
        session.give(Given.model_validate(given))
    with pytest.raises(Refused, match="no rater 'eve'"):
        session.next("eve", "tab")
    for broken in ({"answer": "left"}, {"marks": [{"region": "hands"}]}, {"item": "../etc/passwd"}, {"seconds": -1}):
        with pytest.raises(ValueError, match="validation error"):
            Given.model_validate({**given, **broken})
    with pytest.raises(ValueError, match="with an area"):
        Mark(box=(5, 5, 5, 9))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"number": 5}, "give --number N with them"),
        ({"choose": "random"}, "give --number N with them"),
        ({"choose": "active", "number": 5, "target": "difference"}, "give both"),
        ({"raters": ("\x1b[31m",)}, "printable"),
        ({"choose": "active", "number": 5, "scorer": "clip"}, "no verdicts of clip; known: hands"),
    ],
)
def test_what_cannot_be_asked_is_said(run: Run, tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    with pytest.raises(HafError, match=said):
        start(Labelling(**{"runs": (run.folder,), "store": tmp_path / "l.sqlite", **wrong}))  # type: ignore[arg-type]


def test_a_request_from_elsewhere_is_refused() -> None:
    local = guard_for("127.0.0.1")
    host = {"host": "127.0.0.1:8326"}
    own = {**host, "origin": "http://127.0.0.1:8326"}
    assert local.token is None
    assert local.refusal("GET", host, "") is None and local.refusal("POST", own, "") is None
    assert local.refusal("GET", {"host": "localhost:8326"}, "") is None
    for bad in ({"host": "evil.example:8326"}, {"host": "192.168.0.7:8326"}, {"host": "127.0.0.1.evil.example"}, {}):
        assert "does not go by that name" in not_none(local.refusal("GET", bad, ""))
    assert "which page" in not_none(local.refusal("POST", host, ""))
    assert "Another site" in not_none(local.refusal("POST", {**host, "origin": "http://evil.example"}, ""))
    assert "Another site" in not_none(local.refusal("POST", {**host, "origin": "null"}, ""))
    assert "Another site" in not_none(local.refusal("POST", {**host, "origin": "http://127.0.0.1:9"}, ""))
    picture = {**host, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert "Another site" in not_none(local.refusal("GET", picture, ""))


def test_elsewhere_a_token_is_asked_for() -> None:
    guard = guard_for("0.0.0.0")
    token = not_none(guard.token)
    host = {"host": "192.168.0.7:8326"}
    assert len(token) >= 32 and token != guard_for("0.0.0.0").token
    assert "with its token" in not_none(guard.refusal("GET", host, ""))
    assert "with its token" in not_none(guard.refusal("GET", host, "token=guess"))
    assert guard.refusal("GET", host, f"token={token}") is None
    assert guard.refusal("GET", {**host, "cookie": f"a=b; hafbench_token_8326={token}"}, "") is None
    # Another server of this machine has its own.
    assert guard.refusal("GET", {**host, "cookie": f"hafbench_token_8327=x; hafbench_token_8326={token}"}, "") is None
    assert guard.refusal("GET", {**host, "cookie": f"hafbench_token_8327={token}"}, "")
    # A name that was made to point here may not be used, token or not.
    assert "that name" in not_none(guard.refusal("GET", {"host": "evil.example"}, f"token={token}"))
    assert Guard(frozenset({"a"}), "x").refusal("GET", {"host": "a", "cookie": "hafbench_token_80=é"}, "")


def test_over_http_only_the_runs_images_and_only_from_its_own_page(run: Run, tmp_path: Path) -> None:
    with served(run.folder, "--store", tmp_path / "l.sqlite") as server:
        state = server.post("/api/next", {"rater": "rater", "tab": "t"}).json()
        sha256 = state["task"]["images"][0]["sha256"]
        picture = httpx.get(f"{server.base}/images/{sha256}")
        assert picture.status_code == 200 and picture.headers["content-type"] == "image/png"
        for path in (
            "/images/" + "0" * 64,
            "/images/..%2f..%2frun.json",
            "/api/verdicts/" + sha256,
            "/docs",
            "/run.json",
        ):
            assert httpx.get(server.base + path).status_code == 404, path
        assert httpx.get(server.base, headers={"Host": "evil.example"}).status_code == 403
        label = {"id": "event-0000", "item": state["task"]["item"], "turn": "first", "rater": "rater", "answer": "good"}
        label["seconds"] = 1
        assert server.post("/api/labels", label, Origin="http://evil.example").status_code == 403
        assert httpx.post(f"{server.base}/api/labels", json=label).status_code == 403
        plain = {"Origin": server.base, "Content-Type": "text/plain"}
        assert httpx.post(f"{server.base}/api/labels", content=json.dumps(label), headers=plain).status_code == 403
        assert server.post("/api/labels", {**label, "padding": "x" * 200_000}).status_code == 403
        assert server.post("/api/labels", {**label, "answer": "left"}).status_code == 422
        assert labels_in(tmp_path / "l.sqlite") == []
        assert server.post("/api/labels", label).json() == {"new": True}
        assert server.post("/api/labels", label).json() == {"new": False}
        headers = httpx.get(server.base).headers
        assert headers["x-frame-options"] == "DENY" and headers["referrer-policy"] == "no-referrer"
    assert len(labels_in(tmp_path / "l.sqlite")) == 1


def test_an_image_that_was_changed_is_not_served(tmp_path: Path) -> None:
    run = pictured_run(tmp_path / "a", {"p": "es"})
    with served(run.folder) as server:
        state = server.post("/api/next", {"rater": "rater", "tab": "t"}).json()
        for path in (run.folder / "images").rglob("*.png"):
            path.write_bytes(Path(sys.executable).read_bytes()[:100])
        found = httpx.get(f"{server.base}/images/{state['task']['images'][0]['sha256']}")
        assert found.status_code == 503 and "not the image that was scored" in found.text


def test_elsewhere_the_token_goes_from_the_address_into_a_cookie(run: Run, tmp_path: Path) -> None:
    with served(run.folder, "--store", tmp_path / "l.sqlite", "--host", "0.0.0.0") as server:
        address = re.sub(r"//[^:/]+:", "//127.0.0.1:", server.addresses[0])
        with httpx.Client() as client:
            assert client.get(address.split("?")[0]).status_code == 403
            first = client.get(address)
            assert first.status_code == 303 and "token" not in first.headers["location"]
            assert "httponly" in first.headers["set-cookie"].lower()
            assert client.get(address.split("?")[0]).status_code == 200


def test_kill_9_between_labels_loses_none(run: Run, tmp_path: Path) -> None:
    """Every answer that was acknowledged is there, whenever the server is killed."""
    store = tmp_path / "l.sqlite"
    kept = []
    for start_number in (0, 7):
        with served(run.folder, "--store", store) as server:
            for number in range(start_number, start_number + 7):
                task = server.post("/api/next", {"rater": "rater", "tab": "t"}).json()["task"]
                label = {"id": f"event-{number:04}", "item": task["item"], "turn": task["turn"], "rater": "rater"}
                assert server.post("/api/labels", {**label, "answer": "good", "seconds": 1}).json()["new"]
                kept.append(task["item"])
            server.kill()
    assert [one.item for one in labels_in(store)] == kept and len(set(kept)) == 14


def test_two_servers_of_one_store_share_the_images(tmp_path: Path) -> None:
    """Six tabs of three raters at two servers at once: every image once, the shared ones by everybody, nothing lost."""
    run = pictured_run(tmp_path / "a", {f"p{number}": "ess" for number in range(8)})
    store, raters = tmp_path / "l.sqlite", ("a", "b", "c")
    words: list[str | Path] = [run.folder, "--store", store, "--shared", "0.25", "--again", "0"]
    words += [word for rater in raters for word in ("--rater", rater)]
    with served(*words) as one, served(*words) as other:

        def label_all(place: int) -> int:
            server, rater, tab = (one, other)[place % 2], raters[place % 3], f"tab-{place}"
            for number in range(100):
                task = server.post("/api/next", {"rater": rater, "tab": tab}).json()["task"]
                if task is None:
                    return number
                label = {"id": f"event-{place}-{number:04}", "item": task["item"], "turn": task["turn"], "rater": rater}
                assert server.post("/api/labels", {**label, "answer": "good", "seconds": 1}).json()["new"]
            return 100

        with ThreadPoolExecutor(6) as pool:
            given = list(pool.map(label_all, range(6)))
    times = Counter(Counter(label.item for label in labels_in(store)).values())
    assert times == {1: 18, 3: 6}
    # At the very end two tabs of a rater may be shown the same image, which the later answer then labels.
    assert 36 <= sum(given) <= 42


def test_raters_who_disagree_settle_it(run: Run, tmp_path: Path) -> None:
    asked = Labelling((run.folder,), store=tmp_path / "l.sqlite", raters=("a", "b"), shared=1, again=0)
    session, _ = start(asked)
    for number in range(60):
        answer(session, "a", "tab", number, "good")
        answer(session, "b", "tab", number, "error" if number < 3 else "unsure" if number == 3 else "good")
    labels = session.store.labels()
    assert len(disputed(labels)) == 3
    agreed = consensus(labels)
    assert Counter(one.answer for one in agreed.values()) == {"good": 57, None: 3}
    settling, _ = start(Labelling(**{**asked.__dict__, "settling": True}))
    task = not_none(settling.next("a", "tab").task)
    assert task.turn == "settled" and {one.answer for one in task.others} == {"good", "error"}
    for number in range(3):
        answer(settling, "a", "settle", number, "error")
    assert settling.next("a", "tab").task is None
    agreed = consensus(session.store.labels())
    assert Counter(one.answer for one in agreed.values()) == {"good": 57, "error": 3}
    assert sum(one.settled for one in agreed.values()) == 3


def test_a_majority_counts_and_an_unsure_rater_does_not() -> None:
    def said(*answers: str) -> str | None:
        labels = [Label("0" * 64, f"r{place}", "first", one) for place, one in enumerate(answers)]
        return consensus(labels)["0" * 64].answer

    assert said("good", "error", "error") == "error"
    assert said("unsure", "unsure", "good") == "good"
    assert said("unsure", "unsure") == "unsure"
    assert said("good", "error", "unsure") is None


def test_chances_add_up_and_are_those_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    weights = np.r_[rng.random(50), 40.0]
    chances = inclusion(weights, 20)
    assert chances.sum() == pytest.approx(20) and chances.max() == 1
    assert np.allclose(chances[:-1] / chances[0], weights[:-1] / weights[0])
    drawn = np.array([np.isin(np.arange(51), draw(chances, rng)) for _ in range(8000)])
    assert set(drawn.sum(1)) == {20}
    error = np.sqrt(chances * (1 - chances) / len(drawn))
    assert np.all(np.abs(drawn.mean(0) - chances) <= 4.5 * error + 1e-12)


def test_every_run_gets_its_part_of_the_labels(run: Run, tmp_path: Path) -> None:
    other = pictured_run(tmp_path / "b", {f"q{number}": "es" for number in range(10)}, name="bb")
    asked = Labelling((run.folder, other.folder), store=tmp_path / "l.sqlite", choose="random", number=16)
    session, _ = start(asked)
    groups = Counter(item.pictures[0].run for item in session.items.values())
    assert groups == {"a model": 12, "bb": 4}


def test_labels_alone_and_with_verdicts_of_equal_chances_are_the_known_ones() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(400) < 0.3
    verdicts = np.where(rng.random(400) < 0.9, truth, ~truth)
    labels = np.where(np.arange(400) % 4 == 0, truth, np.nan)
    alone, rate = labelled_rate(LabelledImages(labels, range(400))), error_rate(labels, range(400))
    assert (alone.estimate, alone.low, alone.high, alone.effective) == (
        rate.estimate,
        rate.low,
        rate.high,
        rate.effective,
    )
    found = labelled_rate(LabelledImages(labels, range(400), verdicts, np.full(400, 0.25)))
    powered = prediction_powered_rate(labels, verdicts, range(400))
    assert (found.estimate, found.low, found.high) == pytest.approx((powered.estimate, powered.low, powered.high))
    assert not_none(found.effective) > 1.5 * not_none(alone.effective)


def test_unequal_chances_are_undone() -> None:
    """By hand: of four errors one in two, of eight good images one in four was labelled."""
    labels = [1, 1, None, None] + [0, 0] + [None] * 6
    chances = [0.5] * 4 + [0.25] * 8
    found = labelled_rate(LabelledImages(labels, range(12), None, chances))
    assert found.estimate == pytest.approx(4 / 12)
    naive = labelled_rate(LabelledImages(labels, range(12)))
    assert naive.estimate == 0.5


def test_images_without_labels_tell_nothing_where_there_are_no_verdicts() -> None:
    """Also not by the number of their prompts."""
    rng = np.random.default_rng(3)
    truth, chances, prompts = rng.random(400) < 0.3, rng.uniform(0.1, 0.9, 400), np.arange(400) // 2
    known = np.arange(400) < 24

    def sides(bad: np.ndarray) -> tuple[LabelledImages, LabelledImages]:
        every = LabelledImages(np.where(known, bad, np.nan), prompts, None, chances)
        return every, LabelledImages(bad[known], prompts[known], None, chances[known])

    (one, part), (other, other_part) = sides(truth), sides(~truth)
    assert labelled_rate(one) == labelled_rate(part)
    assert labelled_difference(one, other) == labelled_difference(part, other_part)


def test_the_difference_of_runs_uses_their_common_prompts() -> None:
    rng = np.random.default_rng(2)
    prompts = np.arange(200) // 2
    common = rng.random(100)[prompts]
    one, other = common < 0.4, common < 0.5
    paired = labelled_difference(LabelledImages(one, prompts), LabelledImages(other, prompts))
    apart = labelled_difference(LabelledImages(one, prompts), LabelledImages(other, prompts + 1000))
    assert paired.estimate == apart.estimate == pytest.approx(float(other.mean() - one.mean()))
    assert not_none(paired.high) - not_none(paired.low) < 0.6 * (not_none(apart.high) - not_none(apart.low))


def test_an_active_choice_is_undone_in_the_report_of_the_run(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "l.sqlite"
    session, _ = start(Labelling((run.folder,), store=store, choose="active", number=30, again=0))
    label_as_the_scorer(session, run, "rater")
    found = labels_of(run, [store])
    chances = {entry.item: entry.probability for entry in session.store.entries(session.plan)}
    assert len(chances) == 30 and len(set(chances.values())) > 1
    known = {sha: chance for sha, chance in zip(found.rows["sha256"], found.chances, strict=True) if sha in chances}
    assert known.keys() == chances.keys()
    assert np.ptp([known[sha] / chances[sha] for sha in chances]) == pytest.approx(0, abs=1e-9)
    figures = people_figures(run, [store])
    assert figures.clear == 30 and figures.raters == {"rater": 30}
    # Labels are the verdicts: what was not labelled is known, too.
    assert figures.powered["hands"].estimate == pytest.approx(1 / 3, abs=1e-6)
    assert figures.chosen == ("drawn more often where the scorers had doubts",)


def test_a_part_of_a_plan_stands_for_all_of_it(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "l.sqlite"
    session, _ = start(Labelling((run.folder,), store=store, again=0))
    label_as_the_scorer(session, run, "rater", most=20)
    found = labels_of(run, [store])
    assert np.allclose(found.chances, 20 / 60) and np.isfinite(found.bad).sum() == 20


def items_of(chances: list[float]) -> list[Item]:
    """Images of one run of which a scorer says these chances of an error."""
    keys = [f"{place:064x}" for place in range(len(chances))]
    facts = ("p", "a", None, None, None, None)
    pictures = [Picture(key, "run", "run", f"{key}.png", *facts) for key in keys]
    return [Item(one.sha256, "run", (one,), (chance,)) for one, chance in zip(pictures, chances, strict=True)]


def label_in_order(entries: list[Entry], answered: dict[str, int], plan: int, most: int) -> None:
    """As a session does: in the plan's order, passing over what was answered for another plan."""
    for entry in [one for one in entries if one.item not in answered][:most]:
        answered[entry.item] = plan


def test_plans_of_different_chances_are_undone_together() -> None:
    """Half of the images are sure to be good, of the others half are bad; raters stop before a plan's end, or not.

    The rates of the two halves differ most where the scorer's doubts choose, so a wrong weight shows at once: with the
    chance of an image taken as 0 in a plan that did not draw it, the mean estimate was 22 % in place of 25 %.
    """
    items = items_of([0.0, 0.5] * 100)
    keys = [one.key for one in items]
    rng = np.random.default_rng(0)
    plans = [("active", 40, 40), ("active", 80, 40), ("random", 60, 25), ("all", None, 10)]
    estimates, held, cards, simulations = [], 0, [], 400
    for seed in range(simulations):
        bad = (np.arange(200) % 2 == 1) & (rng.random(200) < 0.5)
        answered: dict[str, int] = {}
        drawn = []
        for place, (choose, number, most) in enumerate(plans):
            spec = PlanSpec.model_validate({"choose": choose, "number": number, "seed": seed, "frame": "x"})
            drawn.append(draw_plan(spec, items))
            label_in_order(drawn[place], answered, place, most)
        found = [
            reached(entries, {item for item, plan in answered.items() if plan == place}, answered.keys())
            for place, entries in enumerate(drawn)
        ]
        assert set().union(*found) == answered.keys()
        equal = found[2] | found[3]
        weights = weights_of(keys, np.ones(200), [dict.fromkeys(equal, 1.0), *found[:2]])
        labels = np.where(weights > 0, bad, np.nan)
        chances = 1 / np.where(weights > 0, weights, 1.0)
        rate = labelled_rate(LabelledImages(labels, keys, None, chances))
        estimates.append(not_none(rate.estimate))
        held += not_none(rate.low) <= 0.25 <= not_none(rate.high)
        # What a card is made of: those images alone are a random part, too.
        cards.append(np.mean([bad[keys.index(item)] for item in equal]))
    for values in (estimates, cards):
        assert abs(np.mean(values) - 0.25) < 3 * np.std(values) / simulations**0.5
    assert 0.92 <= held / simulations <= 0.985


def test_a_random_plan_after_an_active_one_is_a_random_part(run: Run, tmp_path: Path) -> None:
    """The session passes over what the active plan has: those images are of the random part, whoever asked for them."""
    store = tmp_path / "l.sqlite"
    active, _ = start(Labelling((run.folder,), store=store, choose="active", number=30, again=0))
    label_as_the_scorer(active, run, "rater")
    equal, _ = start(Labelling((run.folder,), store=store, choose="random", number=20, again=0))
    label_as_the_scorer(equal, run, "rater")
    wanted = {entry.item for entry in equal.store.entries(equal.plan)}
    mine = {label.item for label in equal.store.labels() if label.plan == equal.plan}
    assert mine < wanted  # some of the random ones were labelled before
    assert {not_none(one.sha256) for one in labels_for_calibration(equal.store, run)} == wanted
    found = labels_of(run, [store])
    assert np.isfinite(found.bad).sum() == 30 + len(mine) and len(found.plans) == 2
    # Labels are the verdicts.
    assert people_figures(run, [store]).powered["hands"].estimate == pytest.approx(1 / 3, abs=1e-6)


def test_the_report_and_its_summary_have_both_rates(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "l.sqlite"
    session, _ = start(Labelling((run.folder,), store=store, again=0, raters=("<b>anna</b>",)))
    label_as_the_scorer(session, run, "<b>anna</b>", most=30)
    page = api.report(run.folder, labels=[store])
    text = page.read_text()
    assert "images with an error, by their labels" in text and "prediction-powered" in text
    assert "30 of 60 images have a clear label" in text and "anna" not in text
    assert "By people: 30 of 60 images" in page.with_name("report.md").read_text()
    people = json.loads(page.with_name("summary.json").read_text())["people"]
    assert people["raters"] == 1 and people["clear"] == 30 and people["gained"] > 0
    assert people["powered"]["hands"]["estimate"] == pytest.approx(1 / 3, abs=0.01)
    assert "by their labels" not in api.report(run.folder).read_text()


def test_a_comparison_by_labels_and_by_pairs(tmp_path: Path) -> None:
    words = {f"p{number:02}": "es" for number in range(12)}
    baseline = pictured_run(tmp_path / "a", words, name="a")
    candidate = pictured_run(tmp_path / "b", {**dict.fromkeys(words, "ss"), "p00": "es", "p01": "ee"}, name="bb")
    store = tmp_path / "l.sqlite"
    session, runs = start(Labelling((baseline.folder, candidate.folder), store=store, again=0))
    both = [(one, run) for run in runs for one in run.records.query("scorer == 'hands'").to_dict("records")]
    truth = {one["sha256"]: bool(one["is_error"]) for one, _ in both}
    number = 0
    while (task := session.next("rater", "tab").task) is not None:
        given = {"id": f"event-{number:05}", "item": task.item, "turn": task.turn, "rater": "rater", "seconds": 1}
        session.give(Given.model_validate({**given, "answer": "error" if truth[task.item] else "good"}))
        number += 1
    pairs, _ = start(Labelling((baseline.folder,), candidate.folder, store=store, again=0))
    while (task := pairs.next("rater", "tab").task) is not None:
        bad = [truth[one.sha256] for one in task.images]
        said = "tie" if bad[0] == bad[1] else "right" if bad[0] else "left"
        given = {"id": f"event-{number:05}", "item": task.item, "turn": task.turn, "rater": "rater", "seconds": 1}
        pairs.give(Given.model_validate({**given, "answer": said}))
        number += 1
    found = api.compare([baseline.folder, candidate.folder], labels=[store], out=tmp_path / "page")
    (people,) = found.people
    assert people.human and people.powered and people.pairs
    # 12 errors of 24 become 3 of 24: 11 - 1 = 10 pairs won, one lost.
    assert people.human.estimate == pytest.approx(-9 / 24) and people.human.labels == (24, 24)
    assert (people.pairs.wins.win, people.pairs.wins.lose) == (10, 1)
    assert people.pairs.wins.mcnemar == pytest.approx(2 * (1 + 11) / 2**11)
    assert not_none(people.human.p_value) < 0.05
    text = not_none(found.page).read_text()
    assert (
        "By people" in text and "sign test" in text and "pairs (1 rater)" in text and "chose the left image in" in text
    )
    turned = api.compare([candidate.folder, baseline.folder], labels=[store], out=tmp_path / "turned")
    assert not_none(turned.people[0].pairs).wins.lose == 10


def test_a_store_without_labels_of_the_run_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(HafError, match="does not exist; give them with `hafbench label`"):
        api.report(run.folder, labels=[tmp_path / "none.sqlite"])
    LabelStore(tmp_path / "empty.sqlite").close()
    with pytest.raises(HafError, match="holds no label yet"):
        api.report(run.folder, labels=[tmp_path / "empty.sqlite"])
    (tmp_path / "other.sqlite").write_text("not a database, but long enough to be looked at" * 100)
    with pytest.raises(HafError, match="cannot be used"):
        api.report(run.folder, labels=[tmp_path / "other.sqlite"])


def test_the_command_says_what_is_wrong(run: Run) -> None:
    for words, said in (
        (["label", str(run.folder), "--choose", "some"], "--choose some: give one of all, random, active"),
        (["report", str(run.folder), "--labels"], "has no labels (labels.sqlite)"),
    ):
        done = command(*words)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_the_same_frame_is_the_same_plan_and_another_seed_another() -> None:
    spec = PlanSpec(frame="x")
    assert spec.name == PlanSpec(frame="x").name != PlanSpec(frame="x", seed=1).name
    assert draw_plan(spec, []) == []


def test_a_run_that_is_read_again_keeps_its_labels(run: Run, tmp_path: Path) -> None:
    session, _ = start(Labelling((run.folder,), store=tmp_path / "l.sqlite"))
    label_as_the_scorer(session, run, "rater", most=5)
    assert people_figures(read_run(run.folder), [tmp_path / "l.sqlite"]).clear == 5
