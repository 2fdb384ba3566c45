"""Latents, masks and text embeddings of all pairs, computed once: in training, encoders need not be in memory.

    CACHE/0123456789abcdef/           a folder for each key: what the pairs, the model and the settings are
        key.json
        pairs-00000.safetensors       winner, loser (n, c, h, w) and mask (n, 1, h, w), on the latents' grid, and
                                      crop.NAME, conditions of how the images were cut; of one bucket each
        texts-00000.safetensors       conditions of the different captions, the empty one first
        prompt-HASH.safetensors       prompts of validation and scoring (see prompts.py)

Files are memory-mapped, and each is written whole or not at all, so that the work can be resumed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import max_pool2d

from asap_train.backbones import Backbone, Conditions, joined, mask_on_grid, trimmed
from asap_train.data.buckets import Size, bucket_of, bucket_sizes
from asap_train.data.crops import crop_of, fit_pair
from asap_train.files import remove_own, tensor_errors
from asap_train.hap.read import pair_of, parquet_errors, read_hap, read_table, rows_by_id
from asap_train.training.prompts import OWN as PROMPT
from asap_train.training.prompts import PLACE
from asap_train.training.texts import CAPTION
from hafbench.errors import HafError
from hafbench.files import disk_errors, write_whole
from hafbench.images import sha256_of
from hafbench.provenance import sha256_of_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
SPLIT = "train"
ROWS = 64
"""Of one file."""
OWN = re.compile(r"\.?(pairs|texts)-\d{5,}(\.\d+\.partial)?\.safetensors")
"""Files of tensors, finished or not."""
PIXELS_AT_ONCE = 2**20
PAIR = {"winner", "loser", "mask"}
"""The tensors of pairs, beside conditions, whose names begin with CROP."""
CROP = "crop."

NATIVE_SIZE = 1024
"""Of models whose files do not say it, as Z-Image's."""

Key = Mapping[str, Any]
Kind = Literal["texts", "pairs"]


@dataclass(frozen=True)
class Batch:
    """b pairs, ready for a backbone: latents (b, c, h, w), M (b, 1, h, w), and the captions' conditions."""

    winner: Tensor
    loser: Tensor
    mask: Tensor
    conditions: Conditions

    def to(self, device: Any) -> Batch:
        """The same on a device."""
        conditions = {name: value.to(device) for name, value in self.conditions.items()}
        return Batch(self.winner.to(device), self.loser.to(device), self.mask.to(device), conditions)

    def dilated(self, cells: int) -> Batch:
        """The same with M grown by so many cells of the latents' grid, corners included."""
        if not cells:
            return self
        return replace(self, mask=max_pool2d(self.mask, 2 * cells + 1, stride=1, padding=cells))


@dataclass(frozen=True)
class Cache:
    """What is there, or will be: `ids` of the pairs in the data set's order, their captions and buckets.

    Without `encodes_texts` captions are left to the step: see texts.py.
    """

    folder: Path
    pairs: Path
    ids: tuple[str, ...]
    captions: tuple[str, ...]
    buckets: tuple[Size, ...]
    stored: torch.dtype
    encodes_texts: bool = True

    @cached_property
    def texts(self) -> Mapping[str, int]:
        """The rows of all different captions; the empty one, for dropped captions, is the first."""
        return {caption: row for row, caption in enumerate(dict.fromkeys(("", *self.captions)))}

    @cached_property
    def files(self) -> dict[Path, int]:
        """All files of a complete cache, with their numbers of rows."""
        counts = Counter(self.path("pairs", place) for place in range(len(self.ids)))
        texts = range(len(self.texts) if self.encodes_texts else 0)
        return dict(counts + Counter(self.path("texts", row) for row in texts))

    def path(self, kind: str, place: int) -> Path:
        """The file that has a pair or a text."""
        return self.folder / f"{kind}-{self._place(kind, place)[0]:05d}.safetensors"

    def _place(self, kind: str, place: int) -> tuple[int, int]:
        """The number of the file, and the row in it, of a pair or a text."""
        return self._rows[place] if kind == "pairs" else divmod(place, ROWS)

    @cached_property
    def _rows(self) -> tuple[tuple[int, int], ...]:
        """Those of all pairs: a file is of one bucket, and files are numbered by their first pairs."""
        seen, files, rows = Counter[Size](), dict[tuple[Size, int], int](), []
        for bucket in self.buckets:
            part, row = divmod(seen[bucket], ROWS)
            seen[bucket] += 1
            rows.append((files.setdefault((bucket, part), len(files)), row))
        return tuple(rows)

    def batch(self, places: Sequence[int], dropped: Sequence[bool]) -> Batch:
        """The pairs at these places, those that are `dropped` with the empty caption; in float32 on the CPU."""
        pairs = [self._row("pairs", place) for place in places]
        rows = [0 if drop else self.texts[self.captions[place]] for place, drop in zip(places, dropped, strict=True)]
        latents = {name: torch.stack([pair[name] for pair in pairs]).float() for name in ("winner", "loser", "mask")}
        conditions = self._texts(rows) if self.encodes_texts else {CAPTION: torch.tensor(rows)}
        cut = [name for name in pairs[0] if name.startswith(CROP)]
        conditions |= {name.removeprefix(CROP): torch.stack([pair[name] for pair in pairs]) for name in cut}
        return Batch(**latents, conditions=conditions)

    def _texts(self, rows: Sequence[int]) -> dict[str, Tensor]:
        parts = [{name: value[None] for name, value in self._row("texts", row).items()} for row in rows]
        return trimmed(joined(parts))

    def _row(self, kind: str, row: int) -> dict[str, Tensor]:
        path = self.path(kind, row)
        if path not in self._opened:
            self._opened[path] = safe_open(path, "pt")
        file, index = self._opened[path], self._place(kind, row)[1]
        return {name: file.get_slice(name)[index] for name in file.keys()}  # noqa: SIM118 (it is no mapping)

    @cached_property
    def _opened(self) -> dict[Path, Any]:
        return {}


def find_cache(
    root: Path,
    pairs: Path,
    backbone: Backbone,
    size: int,
    stored: torch.dtype,
    bucketed: bool = False,
    encodes_texts: bool = True,
) -> Cache:
    """The cache of these pairs at `size` pixels for this model, below `root`; `fill` makes it.

    Pairs are cut to squares, or scaled to the nearest bucket of about size^2 pixels. Latents are kept in the dtype
    `stored`. Raises HafError for a folder that is not a data set, or has no training
    pairs.
    """
    table = read_table(pairs, ["id", "caption", "split", "height", "width"])
    own = table[table["split"] == SPLIT]
    if not len(own):
        raise HafError(f"{pairs} has no pairs of the split '{SPLIT}'; make more by `asap-train synth`.")
    sizes = bucket_sizes(size, backbone.multiple) if bucketed else ((size, size),)
    buckets = tuple(bucket_of(shape, sizes) for shape in zip(own["height"], own["width"], strict=True))
    key = {**key_of(pairs, backbone, size, stored), **({"buckets": sizes} if bucketed else {})}
    captions = tuple(caption or "" for caption in own["caption"])
    cache = Cache(root / digest_of(key), pairs, tuple(own["id"]), captions, buckets, stored, encodes_texts)
    with disk_errors(root, PLACE):
        cache.folder.mkdir(parents=True, exist_ok=True)
        write_whole(cache.folder / "key.json", json.dumps(key, indent=2) + "\n", shared=True)
    return cache


def key_of(pairs: Path, backbone: Backbone, size: int, stored: torch.dtype) -> Key:
    """What the tensors are a function of, as JSON values: checksums of shards and weights, and the settings."""
    shards = {name: shard.sha256 for name, shard in read_hap(pairs).shards.items() if shard.split == SPLIT}
    dtypes = {"text": str(_text_dtype(backbone, stored)), "latents": str(stored)}
    return {
        "format": FORMAT,
        "pairs": shards,
        "model": backbone.facts["weights"],
        "size": size,
        "tokens": backbone.text_tokens,
        "dtypes": dtypes,
    }


def digest_of(key: Any) -> str:
    """The name of the folder for a key."""
    return sha256_of_json(key)[:16]


def missing(cache: Cache, kind: Kind, share: tuple[int, int] = (0, 1)) -> list[Path]:
    """The files that are missing or broken; of n processes the k-th, share = (k, n), is asked for every n-th."""
    number, count = share
    own = list(cache.files.items())[number::count]
    return [path for path, rows in own if path.name.startswith(kind) and not is_whole(path, rows)]


def fill_texts(cache: Cache, backbone: Backbone, todo: Sequence[Path]) -> None:
    """Write these files of captions, with the backbone's text encoders."""
    with tensor_errors(cache.folder, PLACE):
        for path in todo:
            _write(path, _texts(cache, backbone, path))


def fill_pairs(cache: Cache, backbone: Backbone, todo: Sequence[Path]) -> None:
    """Write these files of pairs, with the backbone's autoencoder.

    Raises HafError for a shard that is not the one that was written, and for a pair that is broken.
    """
    if todo:
        _check_shards(cache.pairs)
    with tensor_errors(cache.folder, PLACE):
        for path, tensors in _pairs(cache, backbone, set(todo)):
            _write(path, tensors)


def _check_shards(pairs: Path) -> None:
    for name, shard in read_hap(pairs).shards.items():
        with parquet_errors(pairs / name):
            found = sha256_of(pairs / name) if shard.split == SPLIT else shard.sha256
        if found != shard.sha256:
            raise HafError(
                f"{pairs / name} is not the file that was written: its SHA-256 is another; copy it again, or see "
                "`asap-train validate`."
            )


def forget_others(cache: Cache) -> None:
    """Delete the caches beside this one, in a fit's own folder: they are stale. Folders of anyone else are kept."""
    for folder in cache.folder.parent.iterdir():
        if folder != cache.folder and _is_cache(folder):
            remove_own(folder, lambda name: name == "key.json" or bool(OWN.fullmatch(name) or PROMPT.fullmatch(name)))


def _is_cache(folder: Path) -> bool:
    """Whether the folder's name is that of the key within it."""
    try:
        return folder.name == digest_of(from_json((folder / "key.json").read_bytes()))
    except (OSError, ValueError):
        return False


def native_size(backbone: Backbone) -> int:
    """The side in pixels of the images that the model was made for."""
    pipeline = backbone.pipeline
    cells = getattr(pipeline, "default_sample_size", None) or getattr(backbone.network.config, "sample_size", None)
    return int(cells) * int(pipeline.vae_scale_factor) if cells else NATIVE_SIZE


def _texts(cache: Cache, backbone: Backbone, path: Path) -> dict[str, Tensor]:
    captions = [caption for caption, row in cache.texts.items() if cache.path("texts", row) == path]
    with torch.no_grad():
        whole = joined([backbone.encode_texts([caption]) for caption in captions])
    dtype = _text_dtype(backbone, cache.stored)
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in whole.items()}


def _text_dtype(backbone: Backbone, stored: torch.dtype) -> torch.dtype:
    """What texts are kept in: half precision where latents are; bfloat16, for its range, unless the encoders say."""
    own = next(backbone.network.parameters()).dtype
    return torch.bfloat16 if own == torch.float32 and stored != torch.float32 else own


def _pairs(cache: Cache, backbone: Backbone, todo: set[Path]) -> Iterator[tuple[Path, dict[str, Tensor]]]:
    """The tensors of each file in `todo`; in memory is one file of each bucket at a time."""
    places = {one: place for place, one in enumerate(cache.ids) if cache.path("pairs", place) in todo}
    waiting: dict[Path, list[Any]] = {}
    parts: dict[Path, list[dict[str, Tensor]]] = {}
    done = Counter[Path]()
    for row in rows_by_id(cache.pairs, places.keys()):
        place = places[row["id"]]
        path, size, pair = cache.path("pairs", place), cache.buckets[place], pair_of(row, cache.pairs)
        waiting.setdefault(path, []).append((*fit_pair(pair, size), crop_of(pair.mask, size)))
        done[path] += 1
        whole = done[path] == cache.files[path]
        if whole or len(waiting[path]) == max(1, PIXELS_AT_ONCE // (size[0] * size[1])):
            parts.setdefault(path, []).append(_encode(waiting.pop(path), backbone, cache.stored))
        if whole:
            own = parts.pop(path)
            yield path, {name: torch.cat([part[name] for part in own]) for name in own[0]}


def _encode(pairs: Sequence[Any], backbone: Backbone, stored: torch.dtype) -> dict[str, Tensor]:
    winners, losers, masks = (torch.stack([torch.from_numpy(pair[i]) for pair in pairs]) for i in range(3))
    pixels = torch.cat([winners, losers]).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = backbone.encode_images(pixels).cpu()
    winner, loser = latents.to(stored).chunk(2)
    crops = backbone.encode_crops([pair[3] for pair in pairs])
    return {
        "winner": winner,
        "loser": loser,
        "mask": mask_on_grid(masks[:, None], latents).to(stored),
        **{f"{CROP}{name}": value for name, value in crops.items()},
    }


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Fits that share a cache may write the same file at once.
    on_cpu = {name: value.cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, lambda partial: save_file(on_cpu, partial), durable=True, shared=True)


def is_whole(path: Path, rows: int) -> bool:
    """Is the file there, with all its bytes and so many rows of each tensor?"""
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            whole = names >= PAIR if path.name.startswith("pairs") else bool(names)
            return whole and all(file.get_slice(name).get_shape()[:1] == [rows] for name in names)
    except (OSError, SafetensorError):
        return False
