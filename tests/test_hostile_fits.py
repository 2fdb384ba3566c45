"""Damaged and foreign files in fits, or a full disk: one sentence or success, and nobody's files are deleted."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import fits
from asap_train.autoscore import publish
from asap_train.training import checkpoints
from asap_train.training.config import FitConfig
from asap_train.training.fit_log import FitLog
from asap_train.training.setup import make_accelerator, prepare
from asap_train.training.state import restore_state
from asap_train.training.trainer import train
from damaging import BRACKETS, OBJECTS, files, made, mutations, sentence, some
from test_hap import png, rewritten


def checkpoint(folder: Path, step: int) -> Path:
    import torch

    state = checkpoints.State({"weights.a": torch.ones(2)}, {"step": step})

    def write(path: Path) -> None:
        (path / "pytorch_lora_weights.safetensors").write_bytes(b"w")

    return checkpoints.save(folder, state, write)


def test_pruning_leaves_what_is_no_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint(tmp_path, step)
    (tmp_path / "000001" / "notes.txt").write_text("mine")
    (tmp_path / "000002" / "kohya_lora_weights.safetensors").write_bytes(b"of `asap-train export-lora`")
    for name in ("2024", "1²", "000000", ".mine.partial", ".000007.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.png").write_bytes(b"mine")
    (tmp_path / "000005").write_bytes(b"mine")
    (tmp_path / ".000008.partial").mkdir()
    (tmp_path / ".000008.partial" / "state.safetensors").write_bytes(b"half")
    checkpoints.prune(tmp_path, 1)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".000007.partial", ".mine.partial", "000000", "000001", "000003", "000005", "1²", "2024"]
    assert checkpoints.newest(tmp_path, lambda note: None) == tmp_path / "000003"


@pytest.mark.parametrize("name", ["000001", ".000001.partial"])
def test_a_checkpoint_does_not_replace_what_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "photo.png").write_bytes(b"mine")
    assert f"{name} holds files of another origin; move it away" in sentence(lambda: checkpoint(tmp_path, 1))
    assert (tmp_path / name / "photo.png").read_bytes() == b"mine"


def test_a_published_pipeline_is_replaced_only_by_its_own_kind(tmp_path: Path) -> None:
    for step in (1, 2):
        whole = tmp_path / "checkpoints" / f"{step:06d}" / "pipeline" / "unet"
        whole.mkdir(parents=True)
        (whole / "config.json").write_text(str(step))
    publish(tmp_path, 1)
    publish(tmp_path, 2)
    assert files(tmp_path / "pipeline") == {"unet/config.json": b"2"}
    (tmp_path / "pipeline" / "notes.txt").write_text("mine")
    assert "pipeline holds files of another origin" in sentence(lambda: publish(tmp_path, 1))
    assert files(tmp_path / "pipeline") == {"unet/config.json": b"2", "notes.txt": b"mine"}


def test_only_stale_caches_go(tmp_path: Path) -> None:
    import torch

    from asap_train.training.cache import Cache, digest_of, forget_others

    key = {"format": 1, "size": 16}
    for name in (digest_of(key), "mine", "0123456789abcdef"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key.json").write_text(json.dumps(key))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key.json").write_text(BRACKETS)
    (tmp_path / digest_of(key) / "texts-00000.safetensors").write_bytes(b"")
    own = Cache(tmp_path / "own", tmp_path, (), (), (), torch.float32)
    (tmp_path / digest_of(key) / "photo.png").write_bytes(b"mine")
    forget_others(own)
    assert len(list(tmp_path.iterdir())) == 4
    (tmp_path / digest_of(key) / "photo.png").unlink()
    forget_others(own)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0123456789abcdef", "mine", "secrets"]


def test_an_edited_state_is_passed_over(tmp_path: Path) -> None:
    good, bad = checkpoint(tmp_path, 1), checkpoint(tmp_path, 2)
    plain = json.loads((bad / "state.json").read_text())
    texts = [json.dumps(changed) for changed in mutations(plain)]
    notes: list[str] = []
    for text in [*texts, BRACKETS, OBJECTS, "", "[]", "5", '{"files": {"/dev/zero": ""}, "step": 2}']:
        (bad / "state.json").write_text(text)
        assert checkpoints.newest(tmp_path, notes.append) in (good, bad)
    assert len(notes) > 20
    assert all("\n" not in note for note in notes)


@pytest.mark.parametrize("line", ["5", "{}", "", BRACKETS, '{"step": 1}', '{"step": "1", "loss": 1}', "\udcff"])
def test_a_foreign_line_in_the_log_is_a_sentence(tmp_path: Path, line: str) -> None:
    good = '{"step": 1, "loss": 1, "norm": 1, "winner": 1, "loser": 1}\n'
    (tmp_path / "log.jsonl").write_bytes(good.encode() + line.encode(errors="surrogateescape") + b"\n")
    assert "log.jsonl, line 2 is not a step" in sentence(lambda: FitLog(tmp_path / "log.jsonl", writes=False).read(5))


@pytest.fixture
def hap(tmp_path: Path) -> Path:
    made(tmp_path / "hap")
    return tmp_path / "hap"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fits.tiny_model(tmp_path_factory.mktemp("model") / "sd3")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, model: Path) -> FitConfig:
    folder = tmp_path_factory.mktemp("tuned")
    made(folder / "hap", 10)
    config = fits.settings(model, folder / "hap", folder / "fit", cache_dir=str(folder / "cache"))
    train(config)
    return config


def test_a_fit_refuses_a_mask_of_another_size_and_a_shard_that_has_changed(
    tmp_path: Path, hap: Path, model: Path
) -> None:
    config = fits.settings(model, hap, tmp_path / "fit")
    shard = hap / "data" / "train-00000.parquet"
    whole = shard.read_bytes()
    rewritten(hap, lambda rows: rows[2].update(mask=png(np.ones((96, 56), np.bool_))))
    assert "The mask has 56 x 96 pixels and the image 56 x 48" in sentence(lambda: train(config))
    shard.write_bytes(whole[:-3000] + bytes([whole[-3000] ^ 1]) + whole[-2999:])
    assert "is not the file that was written: its SHA-256 is another" in sentence(lambda: train(config))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses what a file would have beyond so many bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


FULL = {"log": 2000, "state": 20_000, "cache": 20_000}
"""What is written when the disk is full, and the size of file that it exceeds."""


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_is_one_sentence_and_the_fit_is_resumed(tmp_path: Path, tuned: FitConfig, what: str) -> None:
    config = tuned.model_copy(update={"out": tmp_path / "fit", **({"cache_dir": None} if what == "cache" else {})})
    if what != "cache":
        train(config, on_checkpoint=lambda checkpoint, step: step == 2)
        before = files(config.out / "checkpoints" / "000002")
    with files_of_at_most(FULL[what]):
        assert "cannot be written: a file grew over" in sentence(lambda: train(config))
    if what != "cache":
        assert files(config.out / "checkpoints" / "000002") == before
    train(config)
    assert fits.log_of(config.out) == fits.log_of(tuned.out)
    last = "checkpoints/000004/state.safetensors"
    assert (config.out / last).read_bytes() == (tuned.out / last).read_bytes()


def test_another_state_than_the_fits_is_a_sentence(tuned: FitConfig) -> None:
    training = prepare(tuned, make_accelerator(tuned))
    state = checkpoints.load(tuned.out / "checkpoints" / "000002")
    assert restore_state(training, state) == 2
    plains = [plain for plain in mutations(dict(state.plain)) if isinstance(plain.get("step"), int)]
    states = [checkpoints.State(state.tensors, plain) for plain in some(iter(plains), 20)]
    for name, tensor in state.tensors.items():
        rest = {key: value for key, value in state.tensors.items() if key != name}
        states += [
            checkpoints.State(rest, state.plain),
            checkpoints.State({**rest, name: tensor[..., None]}, state.plain),
        ]
    states += [checkpoints.State({**state.tensors, "optimizer/x/y": tensor}, state.plain)]
    said = [sentence(lambda one=one: restore_state(training, one)) for one in states]  # type: ignore[misc]
    assert sum("has another state than this fit" in one for one in said) > 10


def test_a_folder_with_other_files_is_no_fit(tmp_path: Path, tuned: FitConfig) -> None:
    config = tuned.model_copy(update={"out": tmp_path / "mine"})
    (config.out / "pipeline").mkdir(parents=True)
    (config.out / "pipeline" / "model.safetensors").write_bytes(b"mine")
    assert "mine holds other files (pipeline), not a fit" in sentence(lambda: train(config))
    assert files(config.out) == {"pipeline/model.safetensors": b"mine"}
