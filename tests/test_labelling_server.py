"""The server of labels: who may talk to it, what it gives, and that no answer is lost, whoever asks or kills it."""

import json
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from hafbench.labelling.guard import Guard, guard_for
from hafbench.runs import Run
from labelling import WORDS, labels_in, pictured_run, served
from small import not_none


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pictured_run(tmp_path_factory.mktemp("run") / "a", WORDS)


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
