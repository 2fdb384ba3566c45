"""Persons: shapes from morph targets, with skin, hair, eyes and clothes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hafbench.people.assets import body_arrays, proxy_arrays
from hafbench.people.mesh import Floats, Indices, Kind, Layer, Mesh, Person, Skeleton
from hafbench.people.subdivision import catmull_clark, linear, triangles

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Sex = Literal["female", "male"]
Origin = Literal["african", "asian", "caucasian"]
Age = Literal["young", "middleage", "old"]
SEXES: tuple[Sex, ...] = get_args(Sex)
ORIGINS: tuple[Origin, ...] = get_args(Origin)
AGES: tuple[Age, ...] = get_args(Age)

OUTFITS: dict[Sex, tuple[str, ...]] = {
    "male": (
        "male_casualsuit02", "male_casualsuit03", "male_casualsuit04", "male_casualsuit05", "male_casualsuit06",
        "male_elegantsuit01", "male_worksuit01",
    ),
    "female": ("female_casualsuit01", "female_casualsuit02", "female_elegantsuit01", "female_sportsuit01"),
}  # fmt: skip
SHOES = ("shoes01", "shoes02", "shoes03", "shoes05", "shoes06")
HAIRS: dict[Sex, tuple[str, ...]] = {
    "male": ("short01", "short02", "short03", "short04", "afro01"),
    "female": ("bob01", "bob02", "long01", "ponytail01", "afro01", "short03"),
}
EYES = ("brown_eye", "brownlight_eye", "blue_eye", "green_eye", "grey_eye")
BROWS = ("eyebrow001", "eyebrow004", "eyebrow008", "eyebrow010")
# Linear RGB factors of the hair's textures.
HAIR_TINTS: dict[str, tuple[float, float, float]] = {
    "black": (0.25, 0.23, 0.24), "dark brown": (0.6, 0.5, 0.45), "brown": (1.0, 0.9, 0.8), "blond": (2.6, 2.1, 1.4),
    "red": (1.6, 0.8, 0.5), "grey": (2.2, 2.3, 2.5),
}  # fmt: skip


@dataclass(frozen=True)
class Attributes:
    """What a person looks like.

    years: 0 (about 20) to 1 (about 80). muscle, weight, height: 0..1, 0.5 is average. origin: shares that sum to one.
    details: weights in 0..1 of named morph targets. hair "" is bald. nails: the colour of
    painted nails. Tints are linear RGB factors.
    """

    sex: Sex
    origin: tuple[float, float, float]
    years: float
    muscle: float
    weight: float
    height: float
    details: dict[str, float]
    skin: str
    skin_tint: tuple[float, float, float]
    hair: str
    hair_tint: tuple[float, float, float]
    eyes: str
    brows: str
    outfit: str
    outfit_tint: tuple[float, float, float]
    shoes: str
    nails: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class _Template:
    """How a refined mesh comes from the base body's vertices (N, 3): matrix @ vertices + offsets."""

    matrix: csr_matrix
    offsets: Floats
    triangles: Indices
    uv: Floats
    uv_triangles: Indices
    bones: Indices
    weights: Floats
    hidden: Indices
    source: Indices


def _strongest(dense: csr_matrix) -> tuple[Indices, Floats]:
    """The four strongest bones (V, 4) of each row, with weights that sum to one."""
    full = dense.toarray().astype(np.float32)
    order = np.argsort(-full, axis=1, kind="stable")[:, :4]
    best = np.take_along_axis(full, order, 1)
    best[best < 0.004] = 0
    return order.astype(np.int32), (best / best.sum(1, keepdims=True)).astype(np.float32)


def _refine(matrix: csr_matrix, offsets: Floats, quads: Indices, uv: Floats, uv_quads: Indices) -> _Template:
    from scipy import sparse

    arrays = body_arrays()
    count = len(arrays.vertices)
    fine = catmull_clark(quads, matrix.shape[0])
    fine_uv, fine_uv_quads = linear(uv_quads, uv)
    rows = np.repeat(np.arange(count), 4)
    shape = (count, len(arrays.bone_names))
    base_weights = sparse.csr_matrix((arrays.weights.ravel(), (rows, arrays.bones.ravel())), shape)
    whole = (fine.matrix @ matrix).tocsr()
    bones, weights = _strongest(whole @ base_weights)
    return _Template(
        whole.astype(np.float32), np.asarray(fine.matrix @ offsets, np.float32), triangles(fine.quads), fine_uv,
        triangles(fine_uv_quads), bones, weights, np.empty(0, np.int32),
        np.repeat(np.arange(len(quads)), 8).astype(np.int32),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _body_template() -> _Template:
    from scipy import sparse

    arrays = body_arrays()
    count = len(arrays.vertices)
    body = int(arrays.quads.max()) + 1
    first = sparse.eye(count, format="csr")[:body]
    return _refine(first, np.zeros((body, 3), np.float32), arrays.quads, arrays.uv, arrays.uv_quads)


@lru_cache(maxsize=64)
def _proxy_template(name: str) -> _Template:
    from scipy import sparse

    proxy, count = proxy_arrays(name), len(body_arrays().vertices)
    rows = np.repeat(np.arange(len(proxy.references)), 3)
    shape = (len(proxy.references), count)
    fitted = sparse.csr_matrix((proxy.shares.ravel(), (rows, proxy.references.ravel())), shape)
    return _refine(fitted, proxy.offsets, proxy.quads, proxy.uv, proxy.uv_quads)


def _macro_weights(attributes: Attributes) -> Floats:
    """A weight for each macro target."""
    sexes = {"female": float(attributes.sex == "female"), "male": float(attributes.sex == "male")}
    ages = {"young": 1 - attributes.years, "old": attributes.years}
    origins = dict(zip(ORIGINS, attributes.origin, strict=True))

    def three(value: float) -> dict[str, float]:
        low, high = max(0.0, 1 - 2 * value), max(0.0, 2 * value - 1)
        return {"min": low, "average": 1 - low - high, "max": high}

    muscles, weights, heights = (three(v) for v in (attributes.muscle, attributes.weight, attributes.height))
    found = []
    for name in body_arrays().macro_names:
        words = name.removeprefix("height/").split("-")
        if name.startswith("height/"):
            found.append(sexes[words[0]] * ages[words[1]] * heights[words[4].removesuffix("height")])
        elif words[0] == "universal":
            build = muscles[words[3].removesuffix("muscle")] * weights[words[4].removesuffix("weight")]
            found.append(sexes[words[1]] * ages[words[2]] * build)
        else:
            found.append(origins[words[0]] * sexes[words[1]] * ages[words[2]])  # type: ignore[index]
    return np.array(found, np.float32)


def base_shape(attributes: Attributes) -> Floats:
    """The base body's vertices (N, 3) of a person, helpers included."""
    arrays = body_arrays()
    mix = _macro_weights(attributes) @ arrays.macro_mix
    vertices: Floats = arrays.vertices + np.tensordot(mix, arrays.macro_basis, 1).astype(np.float32)
    for name, weight in attributes.details.items():
        number = arrays.detail_names.index(name)
        span = slice(arrays.detail_bounds[number], arrays.detail_bounds[number + 1])
        vertices[arrays.detail_vertices[span]] += np.float32(weight) * arrays.detail_offsets[span]
    return vertices


def _mesh(template: _Template, base: Floats, keep: Indices | None = None) -> Mesh:
    vertices = (template.matrix @ base + template.offsets).astype(np.float32)
    some = slice(None) if keep is None else keep
    return Mesh(
        vertices, template.triangles[some], template.uv, template.uv_triangles[some], template.bones, template.weights
    )


def _skeleton(base: Floats) -> Skeleton:
    arrays = body_arrays()
    ends = base[arrays.joints].mean(2).astype(np.float64)
    return Skeleton(arrays.bone_names, arrays.bone_parents, ends[:, 0], ends[:, 1])


def _layers(attributes: Attributes) -> list[tuple[str, Kind, str, tuple[float, float, float], bool]]:
    plain = (1.0, 1.0, 1.0)
    brow = (*(0.8 * c for c in attributes.hair_tint),)
    found: list[tuple[str, Kind, str, tuple[float, float, float], bool]] = [
        ("HighPolyEyes", "eye", attributes.eyes, plain, True),
        ("eyelashes02", "hair", "eyelashes02", (0.3, 0.3, 0.3), True),
        (attributes.brows, "hair", attributes.brows, brow, True),  # type: ignore[list-item]
    ]
    if attributes.hair:
        found.append((attributes.hair, "hair", attributes.hair, attributes.hair_tint, True))
    if attributes.outfit:
        found.append((attributes.outfit, "cloth", attributes.outfit, attributes.outfit_tint, False))
    if attributes.shoes:
        found.append((attributes.shoes, "cloth", attributes.shoes, plain, False))
    return found


def build_person(attributes: Attributes) -> Person:
    """The person of these attributes, at rest, with the feet on y = 0."""
    base = base_shape(attributes)
    base[:, 1] -= base[: int(body_arrays().quads.max()) + 1, 1].min()
    layers = [
        Layer(name, kind, _mesh(_proxy_template(name), base), texture, tint, cutout)
        for name, kind, texture, tint, cutout in _layers(attributes)
    ]
    hidden = np.zeros(len(base), bool)
    for name in (attributes.outfit, attributes.shoes):
        if name:
            hidden |= proxy_arrays(name).hidden
    template = _body_template()
    covered: NDArray[np.bool_] = np.all(hidden[body_arrays().quads], axis=1)
    keep = np.nonzero(~covered[template.source])[0].astype(np.int32)
    mesh = _mesh(template, base, keep)
    return Person(mesh, _skeleton(base), attributes.skin, attributes.skin_tint, tuple(layers), attributes.nails)


def random_attributes(rng: np.random.Generator) -> Attributes:
    """A person drawn at random, 20 to 80 years old."""
    sex = SEXES[int(rng.integers(2))]
    main = int(rng.integers(3))
    shares = np.full(3, 0.04) + np.eye(3)[main] + rng.uniform(0, 0.25, 3)
    shares /= shares.sum()
    years = float(rng.beta(1.1, 1.8))
    age = AGES[0 if years < 0.3 else 1 if years < 0.62 else 2]
    details: dict[str, float] = {}
    for stem, most in (("hand-fingers-diameter", 0.6), ("hand-fingers-length", 0.6), ("hand-scale", 0.4),
                       ("foot-scale", 0.3)):  # fmt: skip
        value = float(np.clip(rng.normal(0, 0.45), -1, 1)) * most
        details[f"{stem}-{'incr' if value > 0 else 'decr'}"] = abs(value)
    faces = [name for name in body_arrays().detail_names if not name.startswith(("hand", "foot"))]
    for number in rng.choice(len(faces), 14, replace=False):
        details[faces[int(number)]] = float(np.clip(abs(rng.normal(0, 0.3)), 0, 0.8))
    light = 0.86 * float(np.exp(rng.normal(0, 0.14)))
    warm = float(rng.normal(0, 0.04))
    hair = "" if sex == "male" and rng.random() < 0.12 else HAIRS[sex][int(rng.integers(len(HAIRS[sex])))]
    if years > 0.7:
        names = ["grey", "grey", "dark brown"]
    else:
        names = ["black", "black", "dark brown"] if main != 2 else ["black", "dark brown", "brown", "blond", "red"]
    tint = np.array(HAIR_TINTS[names[int(rng.integers(len(names)))]]) * np.exp(rng.normal(0, 0.1))
    polish = None
    if rng.random() < (0.3 if sex == "female" else 0.02):
        shine = rng.choice([0.03, 0.2, 0.45]) * np.exp(rng.normal(0, 0.6, 3)) * np.array([1.6, 0.7, 0.8])
        polish = (float(min(shine[0], 0.8)), float(min(shine[1], 0.8)), float(min(shine[2], 0.8)))
    cloth = np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.18, 3))
    return Attributes(
        sex, (float(shares[0]), float(shares[1]), float(shares[2])), years,
        float(np.clip(rng.normal(0.5, 0.17), 0.05, 0.95)), float(np.clip(rng.normal(0.5, 0.17), 0.1, 0.95)),
        float(np.clip(rng.normal(0.5, 0.055), 0.36, 0.66)), details,
        f"{age}_{ORIGINS[main]}_{sex}", (light * (1 + warm), light, light * (1 - warm)),
        hair, (float(tint[0]), float(tint[1]), float(tint[2])),
        EYES[int(rng.integers(2 if main != 2 else len(EYES)))], BROWS[int(rng.integers(len(BROWS)))],
        OUTFITS[sex][int(rng.integers(len(OUTFITS[sex])))], (float(cloth[0]), float(cloth[1]), float(cloth[2])),
        SHOES[int(rng.integers(len(SHOES)))], polish,
    )  # fmt: skip


def make_person(rng: np.random.Generator, attributes: Attributes | None = None) -> Person:
    """A person of these attributes, or of random ones."""
    return build_person(random_attributes(rng) if attributes is None else attributes)
