"""The HAP data set: pairs (x_w, x_l, c, M) as rows of Parquet shards. For its columns see docs/reference/pairs.md.

`columns.py` defines the rows and `manifest.py` hap.json; `write.py` writes a data set and survives kill -9, `read.py`
streams it, `validate.py` finds what is broken, `card.py` says what is in it, `exchange.py` brings pairs in and out in
the format of Diffusion-DPO.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from asap_train.hap.columns import Row
from asap_train.types import Candidate, Photo, Split
from hafbench.errors import BadImage
from hafbench.images import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from asap_train.data.similarity import Similarity
    from asap_train.types import Mask
    from hafbench.types import Kind, Pixels, Region

Rejection = tuple[str, str]
"""The gate's name, and the sentence of what it refused."""


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
    similarity: Similarity
    fingerprint: str
    skipped: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    split: Split | None = None


def make_pair(
    photo: Photo,
    candidate: Candidate,
    caption: str,
    similarity: Similarity,
    fingerprint: str,
    skipped: Mapping[str, str],
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
        similarity=similarity,
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


def encode_png(array: NDArray[Any]) -> bytes:
    """An RGB image or a mask as a lossless PNG; a mask is grey, 0 and 255."""
    import cv2

    stored = 255 * array.astype(np.uint8) if array.dtype == np.bool_ else array[..., ::-1]
    # Of OpenCV's ways the fastest, a twentieth larger than the smallest that is five times slower.
    how = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG]
    return bytes(cv2.imencode(".png", stored, how)[1])


def decode_image(data: bytes) -> Pixels:
    """Any image file's bytes as RGB (height, width, 3); raises BadImage if they are not a whole one, or a huge one."""
    return _decoded(data, "RGB")


def decode_mask(data: bytes) -> Mask:
    """A mask's PNG as booleans (height, width), True from 128 up; raises BadImage as `decode_image` does."""
    return np.asarray(_decoded(data, "L") >= 128)


def _decoded(data: bytes, mode: str) -> NDArray[Any]:
    """Strictly by Pillow: OpenCV fills up a file that is cut short."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Our own bound below speaks instead of Pillow's warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data))
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(f"The image has over {MAX_PIXELS // 1_000_000} megapixels.")
            return np.array(image.convert(mode))
    except BadImage:
        raise
    except Exception as error:  # whatever a decoder raises, the bytes are to blame
        raise BadImage("The bytes are not a whole image.") from error


def to_row(pair: Pair, winner_png: bytes | None = None) -> Row:
    """A pair as a row, to be made in a worker process. `winner_png` saves encoding a photo's winner once more."""
    height, width = pair.mask.shape
    return {
        "id": pair.id,
        "winner": {"bytes": winner_png or encode_png(pair.winner), "path": f"{pair.id}-winner.png"},
        "loser": {"bytes": encode_png(pair.loser), "path": f"{pair.id}-loser.png"},
        "mask": {"bytes": encode_png(pair.mask), "path": f"{pair.id}-mask.png"},
        "caption": pair.caption,
        "region": pair.region,
        "kind": pair.kind,
        "detail": pair.detail,
        "family": pair.family,
        "split": pair.split,
        "source": pair.source,
        "name": pair.name,
        "width": width,
        "height": height,
        "area": pair.similarity.area,
        "ssim_in": pair.similarity.ssim_in,
        "ssim_out": pair.similarity.ssim_out,
        "lpips_in": pair.similarity.lpips_in,
        "lpips_out": pair.similarity.lpips_out,
        "skipped": json.dumps(dict(pair.skipped), ensure_ascii=False),
        "settings": json.dumps(dict(pair.settings), ensure_ascii=False, sort_keys=True),
        "fingerprint": pair.fingerprint,
    }


def from_row(row: Row) -> Pair:
    """A row, decoded; raises BadImage if the bytes of one of its images are not an image."""
    from asap_train.data.similarity import Similarity

    return Pair(
        id=row["id"],
        winner=decode_image(row["winner"]["bytes"]),
        loser=decode_image(row["loser"]["bytes"]),
        mask=decode_mask(row["mask"]["bytes"]),
        caption=row["caption"],
        region=cast("Region | None", row["region"]),
        kind=cast("Kind | None", row["kind"]),
        detail=row["detail"],
        family=row["family"],
        source=row["source"],
        name=row["name"],
        similarity=Similarity(row["ssim_in"], row["ssim_out"], row["lpips_in"], row["lpips_out"], row["area"]),
        fingerprint=row["fingerprint"],
        skipped=json.loads(row["skipped"]),
        settings=json.loads(row["settings"]),
        split=cast("Split | None", row["split"]),
    )
