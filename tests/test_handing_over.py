"""A checkpoint is scored while training goes on, by an engine with machines of its own: here one that is as `local`."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from asap_train import api
from asap_train.training.checkpoints import steps
from hafbench.engines import ENGINES
from hafbench.errors import HafError
from scored_fits import Seen, fit_config, make_parts

ENGINE = """
from hafbench.registry import Entry

AWAY = Entry("away", "another machine", "hafbench.engines.local:start")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, pairs and a suite."""
    return make_parts(tmp_path_factory.mktemp("made"))


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an engine that another package adds."""
    site = tmp_path / "site"
    (site / "away-1.dist-info").mkdir(parents=True)
    (site / "away-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: away\nVersion: 1\n")
    (site / "away-1.dist-info" / "entry_points.txt").write_text("[hafbench.engines]\naway = away_engine:AWAY\n")
    (site / "away_engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(site)
    ENGINES.__dict__.pop("_outside", None)
    yield "away"
    ENGINES.__dict__.pop("_outside", None)


@pytest.mark.slow
def test_training_goes_on_and_an_interrupted_fit_has_its_checkpoints_scored(
    made: Path, away: str, tmp_path: Path, one_thread: None
) -> None:
    local = api.fit(fit_config(made, tmp_path / "fits" / "local", "local"))
    config = fit_config(made, tmp_path / "fits" / "away", away)
    with pytest.raises(KeyboardInterrupt):
        api.fit(config, progress=Seen(config.out, stop=4))
    assert not [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]
    # The third is the newest, and the second, which was being scored, is not deleted.
    assert [path.name for path in steps(config.out / "checkpoints")] == ["000002", "000003"]
    seen = Seen(config.out)
    remote = api.fit(config, progress=seen)
    assert seen.scored == {4: set()}
    assert seen.tasks[-1] == "images", "that the last one is waited for is told"
    for step in ("000002", "000004"):
        records = [fit.folder / "scores" / step / "records.csv" for fit in (local, remote)]
        assert records[0].read_bytes() == records[1].read_bytes()
    assert remote.scores == local.scores
    assert [path.name for path in steps(config.out / "checkpoints")] == ["000004"]


@pytest.mark.slow
def test_what_stops_a_scoring_elsewhere_is_one_sentence_and_the_fit_is_resumed(
    made: Path, away: str, tmp_path: Path, one_thread: None
) -> None:
    config = fit_config(made, tmp_path / "fits" / "away", away, limit=8)
    blocked = config.out / "scores" / "000002"
    blocked.mkdir(parents=True)
    (blocked / "strange.txt").write_text("")
    with pytest.raises(HafError, match=r"000002 holds other files \(strange.txt"):
        api.fit(config)
    (blocked / "strange.txt").unlink()
    assert {point.step for point in (api.fit(config).scores or pytest.fail()).points} == {0, 2, 4}
