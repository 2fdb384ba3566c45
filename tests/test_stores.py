"""Run folders and data sets on an S3 server: the same files as here, for all that reads them, and on any machine."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

import hafbench
from asap_train.cli import app as asap_app
from asap_train.hap.manifest import LAYOUT as HAP
from asap_train.hap.read import read_hap, read_pairs
from asap_train.hap.validate import validate
from asap_train.training.config import FitConfig, as_plain
from asap_train.training.fit_folder import opened
from hafbench.cli import app
from hafbench.errors import BadImage, HafError, Unavailable
from hafbench.mirrors import check_out, writing
from hafbench.reports.gallery import make_gallery
from hafbench.runs import LAYOUT, read_run
from hafbench.stores import address_of, kept_copy, reading_copy, shown
from small import files_at
from stored import assert_same_pairs, assert_same_run, drawn, expire, made

pytestmark = pytest.mark.usefixtures("cache_of_its_own")


def test_a_run_in_a_store_has_the_files_of_one_here_a_report_and_a_comparison(
    tmp_path: Path, bucket: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "here")
    run, _ = drawn(f"{bucket}/seen/run")
    assert_same_run(f"{bucket}/seen/run", tmp_path / "here")
    assert (run.address, shown(run.folder)) == (f"{bucket}/seen/run",) * 2
    assert not any(path.suffix == ".png" for path in run.folder.rglob("*"))  # they are in the store, and not here
    elsewhere()
    monkeypatch.chdir(tmp_path)
    assert all(item.pictures for item in make_gallery(read_run(f"{bucket}/seen/run")).items)
    assert CliRunner().invoke(app, ["report", f"{bucket}/seen/run"]).exit_code == 0
    there = files_at(f"{bucket}/seen/run")
    assert json.loads(there["report/summary.json"])["run"] == f"{bucket}/seen/run"
    for name, content in there.items():
        if not name.endswith((".png", ".parquet")):
            assert str(tmp_path).encode() not in content, name
            assert b"-of-a-test" not in content, name  # the store's keys
    comparison = hafbench.compare(["here", f"{bucket}/seen/run"], out="page")
    assert {metric.verdict for metric in comparison.versus[0].metrics} == {"identical"}
    assert str(tmp_path) not in (tmp_path / "page" / "comparison.json").read_text()
    with pytest.raises(HafError, match="given twice"):
        hafbench.compare([f"{bucket}/seen/run", Path(f"{bucket}/seen/run/")])
    with pytest.raises(HafError, match="kept on a disk of this machine"):
        hafbench.compare(["here", f"{bucket}/seen/run"], out=f"{bucket}/page")


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:2]
from stored import drawn
uploads = []
def watch(mirror):
    uploads.append(mirror.upload())
    if len(uploads) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
drawn(sys.argv[2], watch)
"""


def test_a_killed_run_is_resumed_on_another_machine(tmp_path: Path, bucket: str, elsewhere: Callable[[], None]) -> None:
    address = f"{bucket}/killed/run"
    done = subprocess.run([sys.executable, "-c", KILLED, str(Path(__file__).parent), address], env=os.environ)
    assert done.returncode == -signal.SIGKILL
    elsewhere()
    with pytest.raises(HafError, match=r"another process \(\d+ on .*\) is writing this run, and was heard of"):
        drawn(address)
    with pytest.raises(HafError, match="is an unfinished run"):
        read_run(address)
    expire(address)
    assert drawn(address)[1] == 1  # of three batches
    drawn(tmp_path / "here")
    assert_same_run(address, tmp_path / "here")


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("hf://datasets/owner/name", HafError, "can only be read: the hub makes a commit of each file"),
        ("https://server/run", HafError, "can only be read: a web server takes no files"),
        ("nosuch://bucket/run", HafError, "Protocol not known: nosuch"),
        ("file:///tmp/run", HafError, "file:// is no store; give a path"),
        ("simplecache::s3://bucket/run", HafError, "is no store"),
        ("gs://bucket/run", Unavailable, "`pip install gcsfs`"),
        ("s3://user:secret@bucket/run", HafError, "may hold no password"),
        ("s3://bucket/run?X-Amz-Signature=secret", HafError, "may hold no password or signature"),
    ],
)
def test_addresses_that_cannot_be_written_are_one_sentence(address: str, kind: type[HafError], words: str) -> None:
    for where in (address, Path(address)):
        with pytest.raises(kind, match=words) as caught:
            check_out(where)
        assert "secret" not in str(caught.value)
    result = CliRunner().invoke(app, ["run", "--out", address])
    assert isinstance(result.exception, kind)


def test_a_bucket_that_is_not_there_and_missing_keys_are_one_sentence(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadImage), writing(f"{bucket}/nothing", LAYOUT):
        raise BadImage("before anything was begun")
    assert files_at(f"{bucket}/nothing") == {}
    assert not fsspec.filesystem("s3").exists("pictures/nothing/.lease.json")
    with pytest.raises(HafError, match=r"s3://no-such-bucket/run cannot be written .*bucket does not exist"):
        drawn("s3://no-such-bucket/run")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    system = type(fsspec.filesystem("s3"))
    system.clear_instance_cache()
    with pytest.raises(HafError, match=r"s3://pictures/run cannot be written .*locate credentials.; set them"):
        check_out(f"{bucket}/run")
    system.clear_instance_cache()


def test_a_path_that_has_lost_a_slash_is_the_same_address() -> None:
    for address in ("s3://bucket/a/b", "memory://x", "abfss://container@account/run"):
        assert address_of(address) == address_of(Path(address)) == shown(Path(address)) == address
    for path in ("runs/x", "/tmp/a:b", "C:/runs", "a/s3:/x"):
        assert address_of(path) is None
        assert shown(path) == path


def test_a_data_set_in_a_store_is_validated_audited_exported_and_fitted(
    tmp_path: Path, bucket: str, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{bucket}/sets/pairs"
    made(tmp_path / "here")
    made(address)
    assert_same_pairs(address, tmp_path / "here")
    elsewhere()
    monkeypatch.chdir(tmp_path)
    copy = reading_copy(address, HAP)
    assert read_hap(copy).counts == read_hap(tmp_path / "here").counts
    assert [pair.id for pair in read_pairs(copy)] == [pair.id for pair in read_pairs(tmp_path / "here")]
    assert validate(copy) == []
    runner = CliRunner()
    assert runner.invoke(asap_app, ["validate", address]).output == f"14 pairs in {address}: no problems.\n"
    assert runner.invoke(asap_app, ["audit", address, "--quiet"]).exit_code == 0
    assert (tmp_path / "audit.html").exists()
    assert runner.invoke(asap_app, ["export", address, "--out", "pairs.parquet"]).exit_code == 0
    assert (
        runner.invoke(asap_app, ["import", "pairs.parquet", "--out", f"{bucket}/sets/taken", "--no-gates"]).exit_code
        == 0
    )
    assert read_hap(reading_copy(f"{bucket}/sets/taken", HAP)).counts.pairs == 14
    config = FitConfig.of("mannequin", Path(address), "fit")
    assert as_plain(config)["pairs"] == address
    with pytest.raises(HafError, match="is not a data set folder: it has no"):
        reading_copy(f"{bucket}/sets/none", HAP)
    with pytest.raises(HafError, match="a fit is kept on a disk"), opened(config.model_copy(update={"out": address})):
        pass
    fsspec.filesystem("s3").rm("pictures/sets/pairs", recursive=True)
    assert kept_copy(address, HAP) == copy  # the store is not asked
    elsewhere()
    with pytest.raises(HafError, match="is not a data set folder"):
        kept_copy(address, HAP)
