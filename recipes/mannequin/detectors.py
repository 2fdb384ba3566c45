"""Train the detector of mannequins: `prepare` writes ultralytics' format, `train` fits it, `store` keeps the weights.

One pose model sees hands (21 points), people (17), digits (4, base to tip) and limbs (3), and malformed digits and
limbs as classes of their own. Pictures are as the judged model draws them, too: half of them may go through its
autoencoder (`artefacts`).
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from diffusers import AutoencoderKL
from muon import MuonAdamW
from PIL import Image, ImageFilter

from hafbench.detectors.mannequin import CLASSES, MIRRORED, SIDES

VALIDATION = 500  # the last pictures of the set: for thresholds, never trained on
ARTEFACTS = 0.25
"""The share of pictures that go through the autoencoder of the model that is judged."""
OFTEN = ("turned_hand", "missing_digit", "extra_digit", "bent_digit")
"""Errors that come twice as often as rendered: a first fit took most of its wrong counts from them."""


def objects(row: dict[str, Any]) -> list[tuple[str, list[float], list[list[float]]]]:
    """Class, box and points of everything that a picture's truth names."""
    found = []
    figure = bool(row["people"])
    for hand in row["hands"]:
        name = "hand_countable" if hand["countable"] else "hand_partial"
        name = "hand_turned" if hand.get("defect") == "turned_hand" else name
        found.append(("hand_small" if figure else name, hand["box"], hand["keypoints"]))
        for digit in [] if figure else hand["digits"]:
            if digit["visible"] >= 0.3 and digit["pixels"] >= 10:
                defect = digit["defect"] or ""
                plain = "thumb" if digit["name"] == "thumb" else "digit"
                known = "digit_" + defect.removesuffix("_digit").removesuffix("_digits")
                found.append((known if known in CLASSES else plain, digit["box"], digit["points"]))
    for person in row["people"]:
        full = row["attributes"]["framing"] == "full_body"
        found.append(("person_full" if full else "person_upper", person["box"], person["keypoints"]))
        for limb in person["limbs"]:
            kind = limb["name"].split("_")[1]
            if (kind == "leg" and not full) or limb["visible"] < 0.15:
                continue
            what = (limb["defect"] or "").removesuffix(f"_{kind}")
            found.append((f"{kind}_{what}" if f"{kind}_{what}" in CLASSES else kind, limb["box"], limb["points"]))
    return [item for item in found if item[1][2] - item[1][0] >= 2 and item[1][3] - item[1][1] >= 2]


def label(row: dict[str, Any], size: int, flip: bool) -> str:
    """A picture's objects in ultralytics' lines: class, centre and extent, 21 points, all as shares of the size."""
    lines = []
    for name, (x1, y1, x2, y2), points in objects(row):
        if flip:
            x1, x2 = size - x2, size - x1
            points = [[size - x, y, v] for x, y, v in points]
            if name.startswith("person"):
                points = [points[i] for i in MIRRORED]
        values = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
        shares = [f"{min(1.0, max(0.0, value / size)):.5f}" for value in values]
        for x, y, v in [*points, *([[0.0, 0.0, 0.0]] * 21)][:21]:
            inside = 0 <= x < size and 0 <= y < size and (x, y) != (0, 0) and (x, y) != (size, 0)
            shares += [f"{x / size:.5f}", f"{y / size:.5f}", "2" if v > 0 else "1"] if inside else ["0", "0", "0"]
        lines.append(" ".join([str(CLASSES.index(name)), *shares]))
    return "\n".join(lines) + "\n"


def worn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture blurred, noisy or compressed, or as it is."""
    what = rng.random()
    if what < 0.2:
        return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1)))
    if what < 0.4:
        noisy = np.array(image) + rng.normal(0, rng.uniform(2, 14), (*image.size[::-1], 3))
        return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if what < 0.5:
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=int(rng.integers(35, 90)))
        return Image.open(packed).convert("RGB")
    return image


def versions(row: dict[str, Any], rng: np.random.Generator) -> list[tuple[str, bool]]:
    """The name's ending of each version of a picture to train on, and whether it is mirrored: figures are learnt
    sooner than hands and come once, hands both ways, and hands with errors that are hard to see both ways twice."""
    if row["people"]:
        return [("", bool(rng.random() < 0.5))]
    both = [("", False), ("m", True)]
    often = row["error"] is not None and row["error"]["detail"] in OFTEN
    return [*both, ("-2", False), ("m-2", True)] if often else both


def prepare(sets: list[Path], out: Path) -> None:
    """Write pictures and labels in their versions; the last pictures of a set, as they are, are for validation."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (out / kind / part).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(sets):
        images = np.load(data / "images.npy", mmap_mode="r")
        rows = [json.loads(line) for line in (data / "truth.jsonl").open()]
        for i, row in enumerate(rows):
            part = "val" if i >= len(rows) - VALIDATION else "train"
            for ending, flip in versions(row, rng) if part == "train" else [("", False)]:
                image = Image.fromarray(np.array(images[i]))
                if flip:
                    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                if part == "train":
                    image = worn(image, rng)
                name = f"{number}-{i:06d}{ending}"
                image.save(out / "images" / part / f"{name}.png", compress_level=1)
                (out / "labels" / part / f"{name}.txt").write_text(label(row, images.shape[1], flip))
    names = dict(enumerate(CLASSES))
    about = {"path": str(out.resolve()), "train": "images/train", "val": "images/val", "names": names}
    about |= {"kpt_shape": [21, 3], "flip_idx": list(range(21))}
    (out / "data.yaml").write_text(yaml.safe_dump(about))


def artefacts(out: Path, vae_folder: Path) -> None:
    """Redraw a quarter of the training pictures by the autoencoder of the model that is judged, with noisy latents."""
    vae = AutoencoderKL.from_pretrained(vae_folder).float().eval()
    rng = np.random.default_rng(1)
    torch.manual_seed(1)
    files = [file for file in sorted((out / "images" / "train").glob("*.png")) if rng.random() < ARTEFACTS]
    for start in range(0, len(files), 16):
        some = files[start : start + 16]
        pixels = np.stack([np.array(Image.open(file)) for file in some])
        with torch.no_grad():
            latents = vae.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1).latent_dist.mean
            latents += torch.randn_like(latents) * latents.std() * float(rng.uniform(0, 0.25))
            made = vae.decode(latents).sample.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1)
        for file, image in zip(some, made.numpy(), strict=True):
            part = file.with_suffix(".part")
            Image.fromarray(image).save(part, "PNG", compress_level=1)
            part.replace(file)


def split(model: torch.nn.Module) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The filters between hidden layers, and all other weights: the first layer, depthwise filters, biases, outputs."""
    filters, others = [], []
    for layer in model.modules():
        hidden = isinstance(layer, torch.nn.Conv2d) and layer.groups == 1 and layer.bias is None
        for weight in layer.parameters(recurse=False):
            (filters if hidden and layer.in_channels > 3 else others).append(weight)
    return filters, others


def train(out: Path, architecture: Path, epochs: int, rate: float, weights: Path | None, resume: bool) -> None:
    """Fit the detector; `weights` starts from another fit, `resume` goes on with a fit that was cut off."""
    from hafbench.detectors.ultralytics import import_ultralytics

    ultralytics = import_ultralytics()
    from ultralytics.models.yolo.pose import PoseTrainer

    class Trainer(PoseTrainer):  # type: ignore[misc]
        def build_optimizer(self, model: torch.nn.Module, *_: Any, decay: float, **__: Any) -> MuonAdamW:
            return MuonAdamW(*split(model), lr=rate, weight_decay=decay)

    last = out / "fit" / "weights" / "last.pt"
    if resume:
        ultralytics.YOLO(last).train(trainer=Trainer, resume=True)
        return
    model = ultralytics.YOLO(weights or architecture, task="pose")
    model.train(
        trainer=Trainer, data=str(out / "data.yaml"), epochs=epochs, imgsz=SIDES[0], batch=16, nbs=16, workers=0,
        device="cpu", amp=False,
        plots=False, project=str(out.resolve()), name="fit", exist_ok=True, seed=0, lr0=rate, lrf=0.01,
        cos_lr=True, warmup_epochs=0.5, mosaic=0.0, fliplr=0.0, scale=0.08, translate=0.03, degrees=5.0, hsv_h=0.02,
        hsv_s=0.3, hsv_v=0.25, erasing=0.0, auto_augment=None, val=False, save_period=-1, verbose=False,
        pose=3.0, cls=1.0,
    )  # fmt: skip


def store(fitted: Path, path: Path) -> None:
    """Keep a fit's averaged weights in half precision, without its optimizer."""
    from hafbench.detectors.ultralytics import import_ultralytics

    import_ultralytics()
    from ultralytics.utils.torch_utils import strip_optimizer

    path.parent.mkdir(parents=True, exist_ok=True)
    strip_optimizer(fitted, str(path))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("prepare", "artefacts", "train", "store"))
    parser.add_argument("--data", type=Path, nargs="+", help="one or several sets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vae", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--to", type=Path, help="where `store` writes, detector.pt")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--rate", type=float, default=2e-3, help="the highest learning rate")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.what == "prepare":
        prepare(asked.data, asked.out)
    elif asked.what == "artefacts":
        artefacts(asked.out, asked.vae)
    elif asked.what == "store":
        store(asked.weights or asked.out / "fit" / "weights" / "last.pt", asked.to)
    else:
        yaml_file = Path(__file__).parents[2] / "hafbench" / "mannequin" / "detector.yaml"
        train(asked.out, yaml_file, asked.epochs, asked.rate, asked.weights, asked.resume)


if __name__ == "__main__":
    main()
