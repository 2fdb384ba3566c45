"""`asap-train redraw`: pairs as a model draws them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from asap_train.cli import app
from asap_train.data.redrawing import redraw_pairs
from asap_train.data.spec import RedrawSpec
from asap_train.hap import Pair
from asap_train.hap.read import read_hap, read_pairs
from asap_train.hap.validate import validate
from hafbench.errors import HafError
from hafbench.progress import Progress
from hap_pairs import mannequin, painted, write
from tiny_pipelines import BUILDERS


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs") / "hap"
    write(folder, [mannequin(seed) for seed in (700_000, 700_001, 700_003, 700_005)])
    return folder


@pytest.fixture(scope="module")
def made(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "hap"
    told = CliRunner().invoke(
        app, ["redraw", str(pairs), "--model", "mannequin", "--out", str(out), "--batch-size", "3"]
    )
    assert told.exit_code == 0, told.output
    assert f"4 pairs in {out}" in told.output
    return out


def by_source(folder: Path) -> dict[str, Pair]:
    return {pair.source: pair for pair in read_pairs(folder)}


def test_both_images_are_drawn_and_the_anatomy_and_all_that_is_known_stay(pairs: Path, made: Path) -> None:
    old, new = by_source(pairs), by_source(made)
    assert old.keys() == new.keys() and not validate(made)
    for source, pair in new.items():
        was = old[source]
        assert (pair.caption, pair.detail, pair.region, pair.split) == (was.caption, was.detail, was.region, was.split)
        for one, other in ((was.winner, pair.winner), (was.loser, pair.loser)):
            moved = np.abs(one.astype(int) - other).mean() / 255
            assert 0.002 < moved < 0.1, "drawn anew, and yet the same picture"
        assert (pair.winner == pair.loser)[~pair.mask].all() and pair.mask[was.mask].all()
        # What the images of the pair differed in, they differ in still.
        inside = pair.mask
        one, other = ((pair_.winner.astype(float) - pair_.loser)[inside].ravel() for pair_ in (was, pair))
        assert np.corrcoef(one, other)[0, 1] > 0.7


def test_the_images_of_a_pair_have_the_same_noise(made: Path, pairs: Path) -> None:
    """A loser that is its winner comes out as it: nothing but what the images differ in makes a difference."""
    from asap_train.data.redrawing import load_redrawer, redrawn

    redrawer = load_redrawer(RedrawSpec(pairs=pairs, model="mannequin"))
    pair = next(read_pairs(pairs))
    (same,) = redrawn(redrawer, [replace(pair, loser=pair.winner)], [5])
    np.testing.assert_array_equal(same.winner, same.loser)


class Stopped(Exception):
    pass


class StopAt(Progress):
    """Stops the work after so many pairs."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def update(self, task: str, done: int, note: str = "") -> None:
        if done >= self.pairs:
            raise Stopped


def test_a_stopped_command_goes_on_where_it_was(tmp_path: Path, pairs: Path, made: Path) -> None:
    spec = RedrawSpec(pairs=pairs, model="mannequin", batch_size=3)
    with pytest.raises(Stopped):
        redraw_pairs(spec, out=tmp_path / "hap", progress=StopAt(3))
    with pytest.raises(HafError, match="other settings"):
        redraw_pairs(spec.model_copy(update={"strength": 0.2}), out=tmp_path / "hap")
    assert redraw_pairs(spec, out=tmp_path / "hap").counts.pairs == 4
    assert set(by_source(tmp_path / "hap")) == set(by_source(made))
    first = by_source(tmp_path / "hap")
    assert sum(first[source].id == pair.id for source, pair in by_source(made).items()) >= 3


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux", "qwen-image", "z-image"])
def test_models_of_all_families_redraw_at_their_grid(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    write(tmp_path / "hap", [painted(60, side=60)])
    arguments = {"num_inference_steps": 4, "negative_prompt": "blurred"}
    spec = RedrawSpec(pairs=tmp_path / "hap", model=str(BUILDERS[name](tmp_path / name)), arguments=arguments)
    assert redraw_pairs(spec, out=tmp_path / "out").counts.pairs == 1
    (pair,) = read_pairs(tmp_path / "out")
    assert pair.winner.shape == (64, 64, 3) and (pair.winner == pair.loser)[~pair.mask].all()
    request = read_hap(tmp_path / "out").request
    assert isinstance(request, RedrawSpec) and request.pairs == Path("hap") and request.model == name


def test_in_a_large_image_the_whole_error_is_kept() -> None:
    """The seam is the rim that M grows by, however large the image is."""
    from asap_train.data.redrawing import Redrawer, redrawn

    class AsItIs(Redrawer):
        def redraw(self, images: Sequence[Any], captions: Sequence[str], seeds: Sequence[int]) -> list[Any]:
            return list(images)

    pair = painted(60, side=640)
    pair = replace(pair, winner=pair.winner[:, :640], loser=pair.loser[:, :640], mask=pair.mask[:, :640])
    (made,) = redrawn(AsItIs(None, {"strength": 0.3}, None, 8, {"model": "none"}), [pair], [0])
    assert (made.loser == pair.loser)[pair.mask].all() and (made.winner == made.loser)[~made.mask].all()
    assert 0 < made.mask.sum() - pair.mask.sum() < made.mask.size / 10


def test_less_than_a_step_is_refused(tmp_path: Path, pairs: Path) -> None:
    spec = RedrawSpec(pairs=pairs, model="mannequin", strength=0.2, arguments={"num_inference_steps": 4})
    with pytest.raises(HafError, match="of 4 steps is less than one step"):
        redraw_pairs(spec, out=tmp_path / "out")


def test_what_cannot_redraw_is_refused_in_a_sentence(tmp_path: Path, pairs: Path) -> None:
    spec = RedrawSpec(pairs=pairs, model=str(BUILDERS["flux2"](tmp_path / "flux2")))
    with pytest.raises(HafError, match="no image-to-image pipeline with a strength for Flux2Pipeline"):
        redraw_pairs(spec, out=tmp_path / "out")
    told = CliRunner().invoke(
        app, ["redraw", str(pairs), "--model", "mannequin", "--out", str(tmp_path / "o"), "--strength", "2"]
    )
    assert told.exit_code != 0 and "strength" in str(told.exception)
