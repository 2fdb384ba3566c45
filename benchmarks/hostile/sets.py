"""Hostile data sets of pairs, and weights that are damaged, incomplete or would run code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.hostile.cases import ROOT, Case
from benchmarks.hostile.mutate import DEEP, at, content, copied, damaged, damaged_json, replaced

MODEL = ROOT / "hafbench" / "mannequin" / "weights" / "diffusion"
RUN = (
    *("run", "--suite", "mannequin", "--limit", "1", "--seeds", "1", "--scorers", "iqa", "--quiet", "--out", "out"),
    *("--set", "model.arguments.num_inference_steps=1"),
)
PROOF = "code-has-run"


def _set(name: str, command: str, change: Callable[[Path], Any], must: Any = "either") -> Callable[[Path], Case]:
    def of(base: Path) -> Case:
        def make(folder: Path) -> None:
            copied(base, folder / "hap")
            change(folder / "hap")

        return Case("data sets", name, "asap-train", (command, "hap"), make, must)

    return of


def _shard(hap: Path) -> Path:
    return next(iter(sorted((hap / "data").glob("*.parquet"))))


def column_forgeries() -> dict[str, Callable[[Any], Any]]:
    """Changes of the table of a shard after which it is no data set."""

    def every(column: str, value: Any) -> Callable[[Any], Any]:
        return lambda rows: rows.assign(**{column: [value] * len(rows)})

    numbers = {"NaN": float("nan"), "infinity": float("inf"), "null": None, "a text": "much"}
    return {
        **{
            f"{column} is {name}": every(column, value)
            for column in ("ssim_in", "area")
            for name, value in numbers.items()
        },
        "caption null": every("caption", None),
        "id null": every("id", None),
        "one id for all": every("id", "x"),
        "source null": every("source", None),
        "split unheard of": every("split", "elsewhere"),
        "winner and loser the same": lambda rows: rows.assign(loser=rows["winner"]),
        "mask and winner changed places": lambda rows: rows.assign(mask=rows["winner"]),
        "width of 0": every("width", 0),
        "a column gone": lambda rows: rows.drop(columns="mask"),
    }


def rows_changed(change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    """Another table in a shard, whose sum in hap.json is right, so that only the rows can be found wrong."""

    def change_set(hap: Path) -> None:
        import hashlib

        import pandas as pd

        path = _shard(hap)
        rows = change(pd.read_parquet(path))
        path.unlink()
        rows.to_parquet(path)
        manifest = json.loads((hap / "hap.json").read_text())
        manifest["shards"][f"data/{path.name}"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        replaced(hap / "hap.json", json.dumps(manifest))

    return change_set


def sets(rng: Random, base: Path) -> Iterator[Case]:
    """Each once."""
    yield _set("sound", "validate", lambda hap: None, "accept")(base)
    for name, change in column_forgeries().items():
        yield _set(name, "validate", rows_changed(change), "refuse")(base)
        yield _set(name, "audit", rows_changed(change))(base)
    manifest = json.loads((base / "hap.json").read_text())
    for command in ("validate", "audit"):
        for key in manifest:
            text = json.dumps({name: value for name, value in manifest.items() if name != key})
            yield _set(f"hap.json without {key}: {command}", command, at("hap.json", content(text)))(base)
        for name, text in (("a list", "[]"), ("100,000 brackets", DEEP), ("empty", "")):
            yield _set(f"hap.json is {name}: {command}", command, at("hap.json", content(text)), "refuse")(base)
    yield _set("a shard gone", "validate", lambda hap: _shard(hap).unlink(), "refuse")(base)
    yield _set("a shard empty", "validate", lambda hap: replaced(_shard(hap), b""), "refuse")(base)


def set_at_random(rng: Random, base: Path) -> Case:
    """hap.json or a shard, damaged."""
    command = rng.choice(("validate", "audit"))
    if rng.random() < 0.6:
        name, text = damaged_json(json.loads((base / "hap.json").read_text()), rng)
        return _set(f"hap.json, {name}: {command}", command, at("hap.json", content(text)))(base)
    name, data = damaged(_shard(base).read_bytes(), rng)
    return _set(f"a shard {name}: {command}", command, lambda hap: replaced(_shard(hap), data))(base)


class _RunsCode:
    """What leaves a file behind when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(PROOF),))


def _pickled(path: Path) -> None:
    """Weights as PyTorch writes them, which run code when they are loaded without care."""
    import torch

    torch.save({"weight": torch.zeros(2), "evil": _RunsCode()}, path)


def _no_code(folder: Path) -> str | None:
    return "code of the weights has run" if (folder / PROOF).exists() else None


def _model(name: str, change: Callable[[Path], Any], must: Any = "either") -> Case:
    def make(folder: Path) -> None:
        copied(MODEL, folder / "model")
        change(folder / "model")

    return Case("weights", name, "hafbench", (*RUN, "--model", "model"), make, must, _no_code)


def weights(rng: Random) -> Iterator[Case]:
    """Model folders and single files, each once."""
    yield _model("sound", lambda model: None, "accept")
    for part in ("transformer", "vae"):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        yield _model(f"{part}: a tensor missing", at(file, _without_a_tensor), "refuse")
        yield _model(f"{part}: no weights", at(file, Path.unlink), "refuse")
        yield _model(f"{part}: empty weights", at(file, content(b"")), "refuse")
        yield _model(f"{part}: weights of NaN", at(file, _of_nan))
        yield _model(f"{part}: a pickle", at(file, _as_pickle), "refuse")
        yield _model(f"{part}: a huge header", at(file, content(b"\xff" * 64)), "refuse")
    for name, text in (("a list", "[]"), ("100,000 brackets", DEEP), ("empty", ""), ("no class", "{}")):
        yield _model(f"model_index.json is {name}", at("model_index.json", content(text)), "refuse")
    contents = {"a pickle": _pickled, "a bare pickle": _bare, "zeros": content(bytes(99))}
    for option, suffix in (
        ("--lora", "safetensors"),
        ("--lora", "bin"),
        ("--model", "safetensors"),
        ("--model", "ckpt"),
    ):
        for name, write in contents.items():
            file = f"evil.{suffix}"
            words = (*RUN, option, file, *(("--model", "mannequin") if option == "--lora" else ()))
            yield Case("weights", f"{option} {name} .{suffix}", "hafbench", words, at(file, write), "refuse", _no_code)


def _bare(path: Path) -> None:
    path.write_bytes(pickle.dumps(_RunsCode()))


def _as_pickle(path: Path) -> None:
    path.unlink()
    _pickled(path.with_suffix(".bin"))


def _without_a_tensor(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    tensors.pop(sorted(tensors)[len(tensors) // 2])
    path.unlink()
    save_file(tensors, path)


def _of_nan(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor * float("nan") for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(tensors, path)


def weights_at_random(rng: Random) -> Case:
    """One file of a model folder, damaged."""
    files = [path.relative_to(MODEL) for path in sorted(MODEL.rglob("*")) if path.is_file()]
    file = rng.choice(files)
    data = (MODEL / file).read_bytes()
    if file.suffix == ".json" and len(data) < 20_000 and rng.random() < 0.5:
        name, text = damaged_json(json.loads(data), rng)
        return _model(f"{file}, {name}", at(str(file), content(text)))
    # Damage to the numbers is no damage that could be seen: only to the header.
    name, head = damaged(data[:2000], rng)
    return _model(f"{file} {name}", at(str(file), content(head + data[2000:])))
