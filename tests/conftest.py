"""What all tests share: no network, quiet libraries, one thread where tests run side by side."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest

os.environ.setdefault("HAFBENCH_OFFLINE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several test processes, each with threads for every core, would stand in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("hafbench", deadline=None)
hypothesis.settings.load_profile("hafbench")


def pytest_collection_finish() -> None:
    """Leave what the tests' modules have imported out of garbage collection.

    They are a million objects, which take 0.7 s to look through, and every fit and every comparison asks for that.
    """
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let them go as usual, or libraries in C++ tell of what they take for leaks."""
    gc.unfreeze()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums are the same from call to call, and threads do not wait for each other longer than small models compute."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 server on this machine, with an empty bucket."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # All servers of a process share their buckets.
    httpx.post(f"http://{host}:{port}/moto-api/reset").raise_for_status()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key-of-a-test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-a-test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        import fsspec

        # fsspec keeps the clients that it has made, with the address of the server that they were made for.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").mkdir("pictures")
        yield "s3://pictures"
    server.stop()


@pytest.fixture
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept on this machine begins empty."""
    monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Go on as another machine would: with nothing here."""
    numbers = iter(range(1000))
    return lambda: monkeypatch.setenv("HAFBENCH_CACHE", str(tmp_path / f"machine {next(numbers)}"))
