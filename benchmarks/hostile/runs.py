"""Hostile run folders and leaderboard entries: damaged, and forged so that their figures would be false."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal

from benchmarks.hostile.cases import Case
from benchmarks.hostile.mutate import DEEP, at, content, copied, damaged, damaged_json, replaced

RECORDS = "records.parquet"
Forgery = Callable[[Any], None]
VALUES: Mapping[str, Any] = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "1e308": 1e308,
    "-5": -5.0,
    "2": 2.0,
}
"""What a probability of an error cannot be."""


def _run(
    name: str, words: tuple[str, ...], change: Callable[[Path], Any], must: Any = "either"
) -> Callable[[Path], Case]:
    """A case for the run folder that is given when it is made."""

    def of(base: Path) -> Case:
        def make(folder: Path) -> None:
            copied(base, folder / "run")
            change(folder / "run")

        put = tuple(str(base) if word == "BASE" else word for word in words)
        return Case("run folders", name, "hafbench", put, make, must)

    return of


READERS = (("report", "run"), ("compare", "run", "BASE", "--out", "page"), ("leaderboard", "add", "run", "--by", "me"))


def runs(rng: Random, base: Path) -> Iterator[Case]:
    """Each forged record by each command that reads records, and each part of run.json gone."""
    for words in READERS:
        for name, change in forgeries().items():
            yield _run(f"{name}: {words[0]}", words, at(RECORDS, forged(change)), "refuse")(base)
    for words in READERS[:2]:
        for key in json.loads((base / "run.json").read_text()):
            yield _run(f"run.json without {key}: {words[0]}", words, at("run.json", without(key)))(base)
        for name, text in (
            ("a list", "[]"),
            ("format only", '{"format": 2}'),
            ("100,000 brackets", DEEP),
            ("empty", ""),
        ):
            yield _run(f"run.json is {name}: {words[0]}", words, at("run.json", content(text)), "refuse")(base)
        for file in ("run.json", "records.parquet"):
            yield _run(f"no {file}: {words[0]}", words, at(file, Path.unlink))(base)


def without(key: str) -> Callable[[Path], Any]:
    """A change of a JSON file: the key is gone."""

    def change(path: Path) -> None:
        manifest = json.loads(path.read_text())
        del manifest[key]
        replaced(path, json.dumps(manifest))

    return change


def forgeries() -> dict[str, Callable[[Any], Any]]:
    """Changes of the table of records after which no figure of it is true."""

    def put(column: str, value: Any, as_type: str = "object") -> Callable[[Any], Any]:
        def change(records: Any) -> Any:
            records[column] = records[column].astype(as_type)
            records.at[0, column] = value
            return records

        return change

    return {
        **{f"value {name}": put("value", value, "float64") for name, value in VALUES.items()},
        "value is a text": lambda records: records.assign(value="much"),
        "status unheard of": put("status", "splendid"),
        "status null": put("status", None),
        "status a number": lambda records: records.assign(status=1),
        "scorer unheard of": put("scorer", "beauty"),
        "scorer null": put("scorer", None),
        "image null": put("image", None),
        "image a number": lambda records: records.assign(image=range(len(records))),
        "is_error a text": lambda records: records.assign(is_error="yes"),
        "a column gone": lambda records: records.drop(columns="is_error"),
        "a row twice": lambda records: records.iloc[[0, *range(len(records))]],
        "no row": lambda records: records.iloc[:0],
    }


def forged(change: Callable[[Any], Any]) -> Callable[[Path], Any]:
    """A change of the plain columns of a Parquet file; the nested ones go with their rows."""

    def change_file(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyarrow.types import is_nested

        table = pq.read_table(path)
        nested = [field.name for field in table.schema if is_nested(field.type)]
        plain = table.drop_columns(nested).to_pandas()
        rows = change(plain.assign(row=range(len(plain))))
        kept = table.select(nested).take(pa.array(rows.pop("row")))
        changed = pa.Table.from_pandas(rows, preserve_index=False)
        for name in nested:
            changed = changed.append_column(name, kept[name])
        path.unlink()
        pq.write_table(changed, path)

    return change_file


def run_at_random(rng: Random, base: Path) -> Case:
    """One file of a run folder, damaged, read by one of the commands."""
    words = rng.choice(READERS)
    if rng.random() < 0.5:
        name, text = damaged_json(json.loads((base / "run.json").read_text()), rng)
        return _run(f"run.json, {name}: {words[0]}", words, at("run.json", content(text)))(base)
    file = rng.choice(("run.json", "records.parquet"))
    name, data = damaged((base / file).read_bytes(), rng)
    return _run(f"{file} {name}: {words[0]}", words, at(file, content(data)))(base)


def resumed(rng: Random, base: Path, words: tuple[str, ...], count: int) -> Iterator[Case]:
    """The journal of a run that was interrupted, with a damaged line: the same command again."""
    first, *others = (base / "records.jsonl").read_bytes().splitlines(keepends=True)
    for number in range(count):
        if number % 2:
            name, data = damaged(first, rng)
        else:
            name, text = damaged_json(json.loads(first), rng)
            data = text.encode("utf-8", "surrogatepass") + b"\n"
        yield _run(f"{name}, in records.jsonl: resumed", words, _journal(data + b"".join(others[:2])))(base)


def _journal(data: bytes) -> Callable[[Path], Any]:
    def change(run: Path) -> None:
        replaced(run / "records.jsonl", data)
        (run / "records.parquet").unlink()

    return change


def _entry(
    name: str, content: str | bytes, must: Literal["refuse", "accept", "either"] = "either", build: bool = False
) -> Case:
    def make(folder: Path) -> None:
        (folder / "board").mkdir()
        replaced(folder / "board" / "entry.json", content)

    return Case("entries", name, "hafbench", ("leaderboard", "build" if build else "validate", "board"), make, must)


def entries(rng: Random, base: Path) -> Iterator[Case]:
    """Entries whose figures are false."""
    text = base.read_text()
    yield _entry("sound", text, "accept")
    for name, forge in entry_forgeries().items():
        entry = json.loads(text)
        try:
            forge(entry)
        except (KeyError, TypeError, AttributeError, StopIteration):
            continue  # this base has no such part
        yield _entry(name, json.dumps(entry), "refuse", rng.random() < 0.5)
    yield _entry("100,000 brackets", DEEP, "refuse")
    yield _entry("empty", "", "refuse")
    yield _entry("a list", "[]", "refuse")


def entry_forgeries() -> dict[str, Forgery]:
    """Changes of an entry after which it is false."""

    def first(entry: Any, role: str = "anatomy") -> Any:
        return next(iter(entry[role].values()))

    def carded(entry: Any) -> Any:
        return next(one for one in entry["anatomy"].values() if one["card"])

    def sound(entry: Any) -> None:
        own = entry["anatomy"][entry["ranked_by"]]["verdicts"]
        for prompt, word in own.items():
            own[prompt] = "s" * len(word)

    return {
        "all verdicts sound": sound,
        "a rate of 0": lambda entry: first(entry)["rate"].update(estimate=0.0),
        "a rate of -5": lambda entry: first(entry)["rate"].update(estimate=-5),
        "an interval the wrong way round": lambda entry: first(entry)["rate"].update(low=0.9, high=0.1),
        "a corrected rate of -5": lambda entry: carded(entry)["corrected"].update(estimate=-5),
        "a card's sensitivity of 7": lambda entry: carded(entry)["card"]["sensitivity"].update(estimate=7),
        "a quality mean of NaN": lambda entry: first(entry, "quality")["mean"].update(estimate=float("nan")),
        "a quality mean of infinity": lambda entry: first(entry, "quality")["mean"].update(estimate=float("inf")),
        "a category gone": lambda entry: entry["suite"]["categories"].popitem(),
        "an empty category": lambda entry: entry["suite"]["categories"].update(hands_and_feet=[]),
        "another scorer to rank by": lambda entry: entry.update(ranked_by="iqa"),
        "another number of images": lambda entry: entry["suite"].update(images=10_000),
        "a hash that is none": lambda entry: entry["made"].update(records_sha256="0"),
        "a suite's hash that is none": lambda entry: entry["suite"].update(sha256="0"),
        "a prompt without verdicts": lambda entry: first(entry)["verdicts"].popitem(),
        "a verdict unheard of": lambda entry: first(entry)["verdicts"].update(
            dict.fromkeys(first(entry)["verdicts"], "x")
        ),
    }


def entry_at_random(rng: Random, base: Path) -> Case:
    """A damaged entry."""
    build = rng.random() < 0.5
    if rng.random() < 0.7:
        name, text = damaged_json(json.loads(base.read_text()), rng)
        return _entry(name, text, build=build)
    name, data = damaged(base.read_bytes(), rng)
    return _entry(f"{name} bytes", data, build=build)
