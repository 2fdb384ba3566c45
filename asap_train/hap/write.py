"""Write a HAP data set that survives kill -9: run again, the same work ends with the same rows.

Work comes in items: a photo, a seed. The rows that an item gave are first appended to the shard that is growing, then
one line of the journal makes them count:

    .growing/train-00003.rows   what the journal does not speak of is cut off on resume
    journal.jsonl               a line for each item (its ids, rejections, place) and for each closed shard
    data/train-00003.parquet    a closed shard, written whole

A shard without its line in the journal is adopted if it has the very rows that the journal speaks of; otherwise the
folder is refused. Files that are not shards are left alone.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from asap_train.hap import Rejection
from asap_train.hap.columns import Row
from asap_train.hap.growing import append_rows, batches_of, is_growing, write_shard
from asap_train.hap.journal import ClosedLine, ItemLine, Line, append_line, as_text, read_journal, sync_journal
from asap_train.hap.manifest import (
    JOURNAL,
    LAYOUT,
    NO_LICENCE,
    Details,
    HapManifest,
    Request,
    Shard,
    SplitRule,
    read_manifest,
    split_of_shard,
    write_manifest,
)
from asap_train.types import SPLITS, Split
from hafbench import provenance
from hafbench.errors import HafError
from hafbench.files import disk_errors, locked, write_whole
from hafbench.images import sha256_of
from hafbench.mirrors import Mirror, changing, writing
from hafbench.runs import differences
from hafbench.stores import shown

SHARD_BYTES = 256 * 2**20
SYNC_SECONDS = 1.0
"""How much of the work a power failure may cost; a killed process costs only the item it was at."""


@dataclass
class Hap:
    """A data set that this process is writing. Made by `open_hap`, which holds the folder's lock.

    `mirror` uploads `folder` to the store where the data set is.
    """

    folder: Path
    manifest: HapManifest
    shard_bytes: int = SHARD_BYTES
    mirror: Mirror | None = None
    _items: set[str] = field(default_factory=set)
    _ids: set[str] = field(default_factory=set)
    _begun: dict[str, set[str]] = field(default_factory=dict)
    _rejected: dict[str, Sequence[Rejection]] = field(default_factory=dict)
    _shards: dict[str, Shard] = field(default_factory=dict)
    _numbers: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    _synced: float = 0.0

    def done(self, item: str) -> bool:
        """Is the work of this item finished, by this process or one before it?"""
        return item in self._items

    def begun(self, item: str) -> Collection[str]:
        """The ids of the rows that are there of an item that is not done."""
        return self._begun.get(item, ())

    @property
    def pairs(self) -> int:
        """How many pairs it holds."""
        return len(self._ids)

    def add(self, item: str, rows: Sequence[Row], rejections: Sequence[Rejection] = (), *, whole: bool = True) -> int:
        """Everything that one item gave, from `to_row`: kept whole or not at all. Returns how many pairs are new.

        All rows are of one photo, by which they get their split. A row whose id is there already is counted as
        rejected by the gate `duplicate`. `whole` is False for an item of which rows are left out for now: it is not
        done, and is to be added again, with or without those that are there. Raises ValueError for an item that is
        done, and for rows of several photos.
        """
        if item in self._items or len({row["source"] for row in rows}) > 1:
            raise ValueError(f"{item} is done already, or its rows are of several photos")
        new: dict[str, Row] = {}
        rejected = [(gate, reason) for gate, reason in rejections]
        begun = self.begun(item)
        for row in rows:
            if row["id"] in begun:
                continue
            if row["id"] in self._ids or row["id"] in new:
                rejected.append(("duplicate", "the very same pair is there already"))
            else:
                new[row["id"]] = row
        line = ItemLine(item, tuple(new), tuple(rejected), whole=whole)
        with changing(self.mirror), disk_errors(self.folder):
            if new:
                split = self.manifest.split.split_of(rows[0]["source"])
                growing = self._growing(split)
                line = replace(line, shard=growing.stem, end=self._append(growing, split, new.values()))
            append_line(self.folder, line)
            self._count(line)
            if new and line.end >= self.shard_bytes:
                self._close(growing, split)
        return len(new)

    def finish(self) -> HapManifest:
        """Close the last shards, write the card README.md and hap.json's end, and return hap.json.

        A data set that had ended, and of which nothing has changed, stays as it is.
        """
        from asap_train.hap.card import describe, write_card

        with changing(self.mirror), disk_errors(self.folder):
            for split in SPLITS:
                if self._growing(split).exists():
                    self._close(self._growing(split), split)
            # Where a shard was lost, its items, which are there again, lie in another.
            changed = (self.manifest.counts.items, self.manifest.shards) != (len(self._items), self._shards)
            if not self.manifest.ended or changed:
                rejected = chain.from_iterable(self._rejected.values())
                found = describe(self.folder, self._shards, rejected, len(self._items))
                ended = {"ended": provenance.now(), "shards": dict(sorted(self._shards.items()))}
                self.manifest = self.manifest.model_copy(update={**ended, **found})
                write_card(self.folder, self.manifest)
                write_manifest(self.folder, self.manifest)
        return self.manifest

    def fingerprints(self) -> Iterator[str]:
        """Those of all pairs that are there: what NearDuplicates starts with on resume."""
        from asap_train.hap.read import table_of

        for name in self._shards:
            yield from table_of(self.folder / name, ["fingerprint"])["fingerprint"]
        for split in SPLITS:
            if self._growing(split).exists():
                for batch in batches_of(self._growing(split)):
                    yield from batch.column("fingerprint").to_pylist()

    def _growing(self, split: Split) -> Path:
        return self.folder / ".growing" / f"{split}-{self._numbers[split]:05}.rows"

    def _append(self, growing: Path, split: Split, rows: Iterable[Row]) -> int:
        durable = time.monotonic() - self._synced > SYNC_SECONDS
        if durable:
            self._synced = time.monotonic()
        return append_rows(growing, ({**row, "split": split} for row in rows), durable)

    def _close(self, growing: Path, split: Split) -> None:
        name = f"data/{growing.stem}.parquet"
        # Synced before and after: even a power failure leaves no shard that the journal cannot account for.
        sync_journal(self.folder)
        rows = write_shard(growing, self.folder / name)
        line = ClosedLine(name, split, rows, sha256_of(self.folder / name))
        append_line(self.folder, line)
        sync_journal(self.folder)
        self._count(line)
        growing.unlink()

    def _count(self, line: Line) -> None:
        """Take a line of the journal into account."""
        if isinstance(line, ClosedLine):
            self._shards[line.closed] = Shard(line.split, line.rows, line.sha256)
            self._grown_to(Path(line.closed).stem, 1)
        else:
            if line.whole:
                self._items.add(line.item)
            else:
                self._begun.setdefault(line.item, set()).update(line.rows)
            self._ids.update(line.rows)
            self._rejected[line.item] = line.rejected
            if line.shard is not None:
                self._grown_to(line.shard, 0)

    def _grown_to(self, stem: str, more: int) -> None:
        """The shard that grows has this one's number and so many more, or a higher one, whichever were lost."""
        split = split_of_shard(stem)
        if split is not None:
            self._numbers[split] = max(self._numbers[split], int(stem.rpartition("-")[2]) + more)

    def _resume(self) -> None:
        """Count what the journal says, and cut off what it does not speak of."""
        before = read_journal(self.folder)
        lines = [*before, *_adopted(self.folder, before)]
        # A store that was left in the middle of an upload may lack shards, too.
        lines = [line for line in lines if isinstance(line, ItemLine) or (self.folder / line.closed).exists()]
        closed = {Path(line.closed).stem for line in lines if isinstance(line, ClosedLine)}
        growing = {path.stem: path for path in (self.folder / ".growing").glob("*.rows") if split_of_shard(path.stem)}
        length = {stem: path.stat().st_size for stem, path in growing.items()}

        # After a power failure the journal may know of rows that the disk does not: their items are made again.
        def lost(line: Line) -> bool:
            if isinstance(line, ClosedLine) or line.shard is None or line.shard in closed:
                return False
            return line.end > length.get(line.shard, 0)

        again = {line.item for line in lines if isinstance(line, ItemLine) and lost(line)}
        kept = [
            replace(line, whole=False) if isinstance(line, ItemLine) and line.item in again else line
            for line in lines
            if not lost(line)
        ]
        ends = {line.shard: line.end for line in kept if isinstance(line, ItemLine) and line.shard is not None}
        for stem, file in growing.items():
            if stem not in ends and not is_growing(file):
                raise HafError(f"{file} was not written by asap-train; move it away, or choose another --out.")
        path, text = self.folder / JOURNAL, as_text(kept)
        if path.exists() and path.read_bytes() != text.encode():
            write_whole(path, text)
        for line in kept:
            self._count(line)
        for stem, file in growing.items():
            if stem in closed or stem not in ends:
                file.unlink()
                continue
            os.truncate(file, ends[stem])
            split = split_of_shard(stem)
            # Of a shard that was closed, and is lost, the rows may still be there after a short upload.
            if split and (file != self._growing(split) or ends[stem] >= self.shard_bytes):
                self._close(file, split)


def _adopted(folder: Path, lines: Sequence[Line]) -> Iterator[ClosedLine]:
    """The missing lines of shards that were written when the process was killed; HafError for shards of anyone else."""
    from asap_train.hap.read import table_of

    closed = {line.closed for line in lines if isinstance(line, ClosedLine)}
    for path in sorted((folder / "data").iterdir()):
        name, split = f"data/{path.name}", split_of_shard(path.stem)
        if name in closed or path.suffix != ".parquet" or split is None:
            continue
        rows = [one for line in lines if isinstance(line, ItemLine) and line.shard == path.stem for one in line.rows]
        if not rows or table_of(path, ["id"])["id"].tolist() != rows:
            raise HafError(
                f"{folder}: {JOURNAL} has no line for {name}; restore {JOURNAL}, move the shard away, or choose "
                "another --out."
            )
        yield ClosedLine(name, split, len(rows), sha256_of(path))


@contextmanager
def open_hap(
    where: str | Path,
    request: Request,
    *,
    facts: Mapping[str, Any] | None = None,
    details: Details | None = None,
    split: SplitRule | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Iterator[Hap]:
    """Start or resume the data set in a folder or at an address of a store, and hold its lock.

    `request` and `facts` (JSON values) decide the pairs: a folder that was started with others is refused, with the
    difference. `details` are for the card; of a data set that is there only the licence may be another. Raises
    HafError, too, for a folder with other files and for one that another process is writing.
    """
    asked = HapManifest(
        request=request,
        facts=provenance.without_folders(json.loads(json.dumps(facts or {}))),
        split=split or SplitRule(),
        details=details or Details(),
        **provenance.made_with(),
    )
    with writing(where, LAYOUT) as (folder, mirror), locked(folder, "data set"):
        hap = Hap(folder, _start(folder, asked), shard_bytes, mirror)
        with changing(mirror), disk_errors(folder):
            for name in (".growing", "data"):
                (folder / name).mkdir(exist_ok=True)
            hap._resume()
        yield hap


def _start(folder: Path, asked: HapManifest) -> HapManifest:
    """The manifest to go on with: what the folder holds, if it was started with the same, or the new one, written."""
    there, name = read_manifest(folder), shown(folder)
    if there is not None:
        if isinstance(there.request, Mapping) and not isinstance(asked.request, Mapping):
            raise HafError(f"{name} was started by an earlier version of asap-train; choose another --out.")
        changes = differences(there.compared(), asked.compared())
        if changes:
            raise HafError(f"{name} was started with other settings ({'; '.join(changes)}); choose another --out.")
        kept = there.model_copy(update={"request": asked.request})
        if asked.details.licence in (NO_LICENCE, there.details.licence):
            return kept
        # The card and hap.json are to be written again, even where all of the pairs are there.
        details = replace(there.details, licence=asked.details.licence)
        return kept.model_copy(update={"details": details, "ended": None})
    strangers = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if strangers:
        raise HafError(f"{name} holds other files ({strangers[0]}, ...), not a data set; choose another --out.")
    with disk_errors(folder):
        write_manifest(folder, asked)
    return asked
