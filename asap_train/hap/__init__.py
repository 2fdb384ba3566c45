"""The HAP data set: pairs (x_w, x_l, c, M) as rows of Parquet shards. Its columns are described in docs/hap.md.

`write.py` writes it and survives kill -9, `read.py` streams it, `validate.py` finds what is broken, `card.py` says what
is in it, `exchange.py` brings pairs in and out in the format of Diffusion-DPO.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from asap_train.types import SPLITS, Candidate, Photo, Split
from hafbench.errors import BadImage, HafError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from asap_train.data.similarity import Measures
    from asap_train.types import Mask
    from hafbench.types import Kind, Pixels, Region

FORMAT = 1
Row = dict[str, Any]
Rejection = tuple[str, str]
"""The gate's name, and the sentence of what it refused."""
SHARES: Mapping[str, float] = {"train": 0.9, "validation": 0.05, "test": 0.05}

COLUMNS: dict[str, str] = {
    "id": "string",
    **dict.fromkeys(("winner", "loser", "mask"), "image"),
    **dict.fromkeys(("caption", "region", "kind", "detail", "family", "split", "source", "name"), "string"),
    **dict.fromkeys(("width", "height"), "int32"),
    **dict.fromkeys(("area", "ssim_in", "ssim_out", "lpips_in", "lpips_out"), "float64"),
    **dict.fromkeys(("skipped", "settings", "fingerprint"), "string"),
}
IMAGES = tuple(name for name, kind in COLUMNS.items() if kind == "image")


@dataclass(frozen=True)
class Pair:
    """One row, decoded. `region` and `kind` are None where an imported pair does not say.

    `source` is the SHA-256 of the photo, `name` what a user would look for; `skipped` gives the gates that could not be
    applied, with the reason; `fingerprint` is that of gates.py; `split` is None until the pair is written.
    """

    id: str
    winner: Pixels
    loser: Pixels
    mask: Mask
    caption: str
    region: Region | None
    kind: Kind | None
    detail: str
    family: str
    source: str
    name: str
    measures: Measures
    fingerprint: str
    skipped: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None


def make_pair(
    photo: Photo, candidate: Candidate, caption: str, measures: Measures, fingerprint: str, skipped: Mapping[str, str]
) -> Pair:
    """A candidate that the gates kept, as a pair."""
    return Pair(
        id=pair_id(photo.pixels, candidate.pixels, candidate.mask),
        winner=photo.pixels,
        loser=candidate.pixels,
        mask=candidate.mask,
        caption=caption,
        region=candidate.region,
        kind=candidate.kind,
        detail=candidate.detail,
        family=candidate.family,
        source=photo.sha256,
        name=photo.name,
        measures=measures,
        fingerprint=fingerprint,
        skipped=skipped,
        settings=candidate.settings,
    )


def pair_id(winner: Pixels, loser: Pixels, mask: Mask) -> str:
    """The SHA-256 of what a pair shows: of its height and width, the pixels of both images, and M as 0 and 1.

    It is of pixels, not of PNG files, so that another encoder gives the same id.
    """
    total = hashlib.sha256(f"{winner.shape[0]} {winner.shape[1]}\n".encode())
    for array in (winner, loser, mask.astype(np.uint8)):
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def split_of(source: str, seed: int, shares: Mapping[str, float] = SHARES) -> Split:
    """The split of a photo and so of all its pairs: by a hash of its SHA-256 and the seed, so that it never moves.

    `shares` gives each split's share of the photos; they sum to 1.
    """
    digest = hashlib.sha256(f"{seed}/{source}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for split in SPLITS:
        place -= shares.get(split, 0.0)
        if place < 0:
            return cast("Split", split)
    return "train"


def encode_png(array: NDArray[Any]) -> bytes:
    """An RGB image or a mask as a lossless PNG; a mask is grey, 0 and 255."""
    import cv2

    stored = 255 * array.astype(np.uint8) if array.dtype == np.bool_ else array[..., ::-1]
    # Of OpenCV's ways the fastest, a twentieth larger than the smallest that is five times slower.
    how = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG]
    return bytes(cv2.imencode(".png", stored, how)[1])


def decode_image(data: bytes) -> Pixels:
    """Any image file's bytes as RGB (height, width, 3); raises BadImage if they are none."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if image is None:
        raise BadImage("The bytes are not a whole image.")
    return np.asarray(image)


def decode_mask(data: bytes) -> Mask:
    """A mask's PNG as booleans (height, width), True from 128 up; raises BadImage if the bytes are no image."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if image is None:
        raise BadImage("The bytes are not a whole image.")
    return np.asarray(image >= 128)


def to_row(pair: Pair, winner_png: bytes | None = None) -> Row:
    """A pair as a row, to be made in a worker process. `winner_png` saves encoding a photo's winner once more."""
    return {
        "id": pair.id,
        "winner": {"bytes": winner_png or encode_png(pair.winner), "path": f"{pair.id}-winner.png"},
        "loser": {"bytes": encode_png(pair.loser), "path": f"{pair.id}-loser.png"},
        "mask": {"bytes": encode_png(pair.mask), "path": f"{pair.id}-mask.png"},
        **{name: getattr(pair, name) for name in ("caption", "region", "kind", "detail", "family", "source", "name")},
        "split": pair.split,
        "width": pair.winner.shape[1],
        "height": pair.winner.shape[0],
        **asdict(pair.measures),
        "skipped": json.dumps(dict(pair.skipped), ensure_ascii=False),
        "settings": json.dumps(dict(pair.settings), ensure_ascii=False, sort_keys=True),
        "fingerprint": pair.fingerprint,
    }


def from_row(row: Mapping[str, Any]) -> Pair:
    """A row, decoded; raises BadImage if one of its images is none."""
    from asap_train.data.similarity import Measures

    return Pair(
        winner=decode_image(row["winner"]["bytes"]),
        loser=decode_image(row["loser"]["bytes"]),
        mask=decode_mask(row["mask"]["bytes"]),
        measures=Measures(**{name: row[name] for name in ("ssim_in", "ssim_out", "lpips_in", "lpips_out", "area")}),
        skipped=json.loads(row["skipped"]),
        settings=json.loads(row["settings"]),
        **{name: row[name] for name in ("id", "caption", "region", "kind", "detail", "family", "source", "name")},
        fingerprint=row["fingerprint"],
        split=row["split"],
    )


@cache
def arrow_schema() -> pa.Schema:
    """The columns, with the `huggingface` metadata by which `datasets` and hub viewers know the images."""
    import pyarrow as pa

    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    types = {"image": image, "string": pa.string(), "int32": pa.int32(), "float64": pa.float64()}
    features = {
        name: {"_type": "Image"} if kind == "image" else {"dtype": kind, "_type": "Value"}
        for name, kind in COLUMNS.items()
    }
    schema = pa.schema({name: types[kind] for name, kind in COLUMNS.items()})
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """hap.json; None if there is none. Raises HafError for one that cannot be read, or of another format."""
    path = folder / "hap.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HafError(f"{path}: this cannot be read ({error}); take another folder.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise HafError(f"{path} is not a HAP data set of format {FORMAT}, which this version of asap-train reads.")
    return manifest
