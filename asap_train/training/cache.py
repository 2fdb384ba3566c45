"""Latents, masks and text embeddings of all pairs, computed once: in training, encoders need not be in memory.

    CACHE/0123456789abcdef/           a folder for each key: what the pairs, the model and the settings are
        key.json
        pairs-00000.safetensors       winner, loser (n, c, h, w) and mask (n, 1, h, w), on the latents' grid, and
                                      crop.NAME, conditions of how the images were cut
        texts-00000.safetensors       conditions of the different captions, the empty one first
        prompt-HASH.safetensors       prompts of validation and scoring (see prompts.py)

Files are memory-mapped, and each is written whole or not at all, so that the work can be resumed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn.functional import max_pool2d

from asap_train.backbones import Backbone, Conditions, joined, mask_on_grid, trimmed
from asap_train.data.crops import crop_of, fit_pair
from asap_train.files import remove_own, tensor_errors
from asap_train.hap.read import pair_of, parquet_errors, read_hap, read_table, rows_by_id
from asap_train.training.prompts import OWN as PROMPT
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
    """What is there, or will be: `ids` of the pairs in the data set's order, and their captions."""

    folder: Path
    pairs: Path
    ids: tuple[str, ...]
    captions: tuple[str, ...]
    size: int
    stored: torch.dtype

    @cached_property
    def texts(self) -> Mapping[str, int]:
        """The rows of all different captions; the empty one, for dropped captions, is the first."""
        return {caption: row for row, caption in enumerate(dict.fromkeys(("", *self.captions)))}

    @property
    def files(self) -> dict[Path, int]:
        """All files of a complete cache, with their numbers of rows."""
        counts = {"pairs": len(self.ids), "texts": len(self.texts)}
        return {
            self.path(kind, row): min(ROWS, rows - row) for kind, rows in counts.items() for row in range(0, rows, ROWS)
        }

    def path(self, kind: str, row: int) -> Path:
        """The file that has a row of `pairs` or `texts`."""
        return self.folder / f"{kind}-{row // ROWS:05d}.safetensors"

    def batch(self, places: Sequence[int], dropped: Sequence[bool]) -> Batch:
        """The pairs at these places, those that are `dropped` with the empty caption; in float32 on the CPU."""
        pairs = [self._row("pairs", place) for place in places]
        rows = [0 if drop else self.texts[self.captions[place]] for place, drop in zip(places, dropped, strict=True)]
        texts = [self._row("texts", row) for row in rows]
        latents = {name: torch.stack([pair[name] for pair in pairs]).float() for name in ("winner", "loser", "mask")}
        conditions = trimmed(joined([{name: value[None] for name, value in text.items()} for text in texts]))
        cut = [name for name in pairs[0] if name.startswith(CROP)]
        conditions |= {name.removeprefix(CROP): torch.stack([pair[name] for pair in pairs]) for name in cut}
        return Batch(**latents, conditions=conditions)

    def _row(self, kind: str, row: int) -> dict[str, Tensor]:
        path = self.path(kind, row)
        if path not in self._opened:
            self._opened[path] = safe_open(path, "pt")
        file = self._opened[path]
        return {name: file.get_slice(name)[row % ROWS] for name in file.keys()}  # noqa: SIM118 (it is no mapping)

    @cached_property
    def _opened(self) -> dict[Path, Any]:
        return {}


def find_cache(root: Path, pairs: Path, backbone: Backbone, size: int, stored: torch.dtype) -> Cache:
    """The cache of these pairs at `size` pixels for this model, below `root`; `fill` makes it.

    Latents are kept in the dtype `stored`. Raises HafError for a folder that is not a data set, or has no training
    pairs.
    """
    table = read_table(pairs, ["id", "caption", "split"])
    own = table[table["split"] == SPLIT]
    if not len(own):
        raise HafError(f"{pairs} has no pairs of the split '{SPLIT}'; make more by `asap-train synth`.")
    key = key_of(pairs, backbone, size, stored)
    captions = tuple(caption or "" for caption in own["caption"])
    cache = Cache(root / digest_of(key), pairs, tuple(own["id"]), captions, size, stored)
    with disk_errors(root):
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
    with tensor_errors(cache.folder):
        for path in todo:
            _write(path, _texts(cache, backbone, path))


def fill_pairs(cache: Cache, backbone: Backbone, todo: Sequence[Path]) -> None:
    """Write these files of pairs, with the backbone's autoencoder.

    Raises HafError for a shard that is not the one that was written, and for a pair that is broken.
    """
    if todo:
        _check_shards(cache.pairs)
    with tensor_errors(cache.folder):
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
    whole = joined([backbone.encode_texts([caption]) for caption in captions])
    dtype = _text_dtype(backbone, cache.stored)
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in whole.items()}


def _text_dtype(backbone: Backbone, stored: torch.dtype) -> torch.dtype:
    """What texts are kept in: half precision where latents are; bfloat16, for its range, unless the encoders say."""
    own = next(backbone.network.parameters()).dtype
    return torch.bfloat16 if own == torch.float32 and stored != torch.float32 else own


def _pairs(cache: Cache, backbone: Backbone, todo: set[Path]) -> Iterator[tuple[Path, dict[str, Tensor]]]:
    """The tensors of each file in `todo`, in order, one file in memory at a time."""
    places = {one: cache.path("pairs", place) for place, one in enumerate(cache.ids)}
    wanted = {one for one, path in places.items() if path in todo}
    at_once = max(1, PIXELS_AT_ONCE // cache.size**2)
    for path, rows in groupby(rows_by_id(cache.pairs, wanted), lambda row: places[row["id"]]):
        parts, waiting = [], []
        for row in rows:
            pair = pair_of(row, cache.pairs)
            waiting.append((*fit_pair(pair, cache.size), crop_of(pair.mask, cache.size)))
            if len(waiting) == at_once:
                parts.append(_encode(waiting, backbone, cache.stored))
                waiting = []
        if waiting:
            parts.append(_encode(waiting, backbone, cache.stored))
        yield path, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


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
