"""The packed assets: arrays and textures from hafbench/people/assets, read once in a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hafbench.people.mesh import Floats, Indices

FOLDER = Path(__file__).with_name("assets")


@dataclass(frozen=True)
class BodyArrays:
    """The base mesh: vertices (N, 3), quads and their uv (Q, 4), uv (U, 2), weights (N, 4), bones and morph targets.

    joints (B, 2, 8): the vertices whose mean is a bone's head and tail. macro_mix (M, K) turns weights of the M macro
    targets into weights of the basis (K, N, 3). A detail moves `vertices[bounds[i]:bounds[i + 1]]` by its offsets.
    """

    vertices: Floats
    uv: Floats
    quads: Indices
    uv_quads: Indices
    bone_names: tuple[str, ...]
    bone_parents: Indices
    joints: Indices
    bones: Indices
    weights: Floats
    macro_names: tuple[str, ...]
    macro_mix: Floats
    macro_basis: Floats
    detail_names: tuple[str, ...]
    detail_bounds: Indices
    detail_vertices: Indices
    detail_offsets: Floats


@dataclass(frozen=True)
class ProxyArrays:
    """A mesh fitted to the body: vertex i is sum_k shares[i, k] * body[references[i, k]] + offsets[i].

    hidden (N,): the body's vertices that it covers.
    """

    references: Indices
    shares: Floats
    offsets: Floats
    quads: Indices
    uv: Floats
    uv_quads: Indices
    hidden: NDArray[np.bool_]


def _load(name: str) -> dict[str, NDArray[np.generic]]:
    with np.load(FOLDER / name, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


@lru_cache(maxsize=1)
def body_arrays() -> BodyArrays:
    """The base body and its targets."""
    a = _load("body.npz")

    def floats(key: str) -> Floats:
        return a[key].astype(np.float32)

    def whole(key: str) -> Indices:
        return a[key].astype(np.int32)

    return BodyArrays(
        floats("vertices"), floats("uv"), whole("quads"), whole("uv_quads"),
        tuple(str(name) for name in a["bone_names"]), whole("bone_parents"), whole("joints"),
        whole("bones"), floats("weights") / 65535,
        tuple(str(name) for name in a["macro_names"]), floats("macro_mix"),
        floats("macro_basis") * floats("macro_scales")[:, None, None],
        tuple(str(name) for name in a["detail_names"]), whole("detail_bounds"), whole("detail_vertices"),
        floats("detail_offsets") * np.float32(1e-5),
    )  # fmt: skip


@lru_cache(maxsize=64)
def proxy_arrays(name: str) -> ProxyArrays:
    """A garment, hair, eyes, eyebrows or eyelashes."""
    a = _load(f"{name}.npz")
    hidden = np.unpackbits(a["hidden"].astype(np.uint8))[: len(body_arrays().vertices)].astype(bool)
    return ProxyArrays(
        a["references"].astype(np.int32), a["shares"].astype(np.float32), a["offsets"].astype(np.float32),
        a["quads"].astype(np.int32), a["uv"].astype(np.float32), a["uv_quads"].astype(np.int32), hidden,
    )  # fmt: skip


def to_linear(values: Floats) -> Floats:
    """Linear light of sRGB values, both in 0..1."""
    low = values <= 0.04045
    light: Floats = np.where(low, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return light


@lru_cache(maxsize=64)
def texture(name: str) -> Floats:
    """A texture (H, W, 4) as linear RGB and alpha in 0..1."""
    from PIL import Image

    with Image.open(FOLDER / f"{name}.webp") as image:
        values = np.asarray(image.convert("RGBA"), np.float32) / 255
    return np.concatenate([to_linear(values[..., :3]), values[..., 3:]], -1)


@lru_cache(maxsize=1)
def marks() -> Floats:
    """Where the body has fingernails, toenails and lips (H, W, 3), 0..1, in its uv layout."""
    from PIL import Image

    with Image.open(FOLDER / "marks.webp") as image:
        values: Floats = np.asarray(image.convert("RGB"), np.float32) / 255
    return values


def light_names() -> tuple[str, ...]:
    """The names of the panoramas."""
    return tuple(sorted(path.stem.removeprefix("view_") for path in FOLDER.glob("view_*.webp")))


@lru_cache(maxsize=4)
def light(name: str) -> Floats:
    """The radiance of a panorama (64, 128, 3): rows from the top, columns once round."""
    with np.load(FOLDER / "lights.npz", allow_pickle=False) as arrays:
        radiance: Floats = arrays[name].astype(np.float32)
    return radiance


@lru_cache(maxsize=4)
def view(name: str) -> Floats:
    """The same panorama to look at (256, 512, 3): radiance, of which the brightest is limited."""
    from PIL import Image

    with Image.open(FOLDER / f"view_{name}.webp") as image:
        seen = np.asarray(image.convert("RGB"), np.float32) / 255
    compressed = np.minimum(seen**2.2, 0.985)
    radiance: Floats = (compressed / (1 - compressed)).astype(np.float32)
    return radiance
