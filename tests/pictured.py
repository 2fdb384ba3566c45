"""The same five pictures as a folder, as shards and as Parquet files, and their records by a scorer known by hand."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hafbench.api import samples_of, score_manifest
from hafbench.evaluate import evaluate
from hafbench.runs import Run, open_run
from hafbench.sources import ImageSource, identity_of, read_images
from hafbench.sources.unchanged import check_unchanged
from hafbench.specs import ScoreSpec
from small import Brightness, painted

NAMES = ["sit_0", "wave_0", "wave_1", "plain", "sit_1"]
ROWS: dict[str, dict[str, Any]] = {
    "wave_0": {"prompt": "a waving hand", "prompt_id": "wave", "seed": 0, "category": "basic_anatomy"},
    "wave_1": {"prompt": "a waving hand", "prompt_id": "wave", "seed": 1, "category": "basic_anatomy"},
    "sit_0": {"caption": "a sitting woman", "seed": 0, "category": "furniture", "id": "x/1"},
    "sit_1": {"caption": "a sitting woman", "seed": 1},
    "plain": {},
}


def png(name: str) -> bytes:
    buffer = io.BytesIO()
    painted(name, 0).save(buffer, format="PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_shards(folder: Path) -> Path:
    """Two shards; prompts as .json, and one as .txt."""
    for shard, names in (("000", NAMES[:3]), ("001", NAMES[3:])):
        members: dict[str, bytes] = {}
        for name in names:
            row = dict(ROWS[name])
            members[f"{name}.png"] = png(name)
            if name == "sit_0":
                members[f"{name}.txt"] = row.pop("caption").encode()
            if row:
                members[f"{name}.json"] = json.dumps(row).encode()
        write_tar(folder / f"{shard}.tar", members)
    return folder


def write_parquet(folder: Path, paths: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    for file, names in (("000", NAMES[:3]), ("001", NAMES[3:])):
        columns: dict[str, Any] = {
            "image": pa.array([{"bytes": png(name), "path": f"{name}.png" if paths else None} for name in names], image)
        }
        rows = [{"prompt": ROWS[name].get("caption"), **ROWS[name]} for name in names]
        for column in ("prompt", "prompt_id", "seed", "category"):
            columns[column] = [row.get(column) for row in rows]
        pq.write_table(pa.table(columns), folder / f"{file}.parquet", row_group_size=2)
    return folder


def write_folder(folder: Path) -> Path:
    for shard, names in (("000", NAMES[:3]), ("001", NAMES[3:])):
        (folder / shard).mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / shard / f"{name}.png").write_bytes(png(name))
    return folder


EXPECTED = [*(f"000/{name}.png" for name in NAMES[:3]), *(f"001/{name}.png" for name in NAMES[3:])]


def spec_of(source: ImageSource) -> ScoreSpec:
    return ScoreSpec(images=source.address, scorers=())


def scored(source: ImageSource, folder: Path) -> Run:
    """What `hafbench score` does, by a scorer that is known by hand."""
    images = read_images(source)
    scorers = {"hands": Brightness()}
    manifest, samples = score_manifest(spec_of(source), source, images, scorers), samples_of(images)
    with open_run(folder, manifest) as run:
        check_unchanged(run, samples, identity_of(images))
        return evaluate(run, samples, scorers)
