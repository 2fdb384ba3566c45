"""What --offline and its two environment variables mean, for the hub and for all else."""

import os
import socket

import pytest

from hafbench import hub


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variable set, and whatever a test sets undone."""
    for name in ("HAFBENCH_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub._is_reachable.cache_clear()


def test_offline_by_request_holds_for_the_hub_its_client_and_child_processes() -> None:
    import huggingface_hub

    assert not hub.asked_offline()
    hub.go_offline()
    assert hub.asked_offline()
    assert hub.offline()
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert os.environ["HAFBENCH_OFFLINE"] == os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_hub_out_of_reach_leaves_other_servers_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert hub.offline()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert not hub.asked_offline()


@pytest.mark.parametrize(
    ("own", "client", "asked", "offline"),
    [("", "1", True, True), ("0", "1", False, True), ("1", "", True, True), ("true", "0", True, True)],
)
def test_the_own_variable_comes_before_the_one_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, own: str, client: str, asked: bool, offline: bool
) -> None:
    monkeypatch.setenv("HAFBENCH_OFFLINE", own)
    monkeypatch.setenv("HF_HUB_OFFLINE", client)
    assert hub.asked_offline() is asked
    assert hub.offline() is offline
