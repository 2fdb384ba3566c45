"""Train the built-in world's small open_clip model, and say how well it finds held-out pictures by held-out captions.

    python recipes/mannequin/clip.py --data TRAIN --test TEST --out hafbench/mannequin/weights/clip --minutes 20

Writes what open_clip loads as local-dir:OUT (configuration, tokenizer, 16-bit weights), training.json and
retrieval.json. Every batch has new captions.

Pictures in a batch are negatives of each other unless their captions are equal: a caption that leaves something out,
and is just as true of another picture, still counts that one as wrong, in training and in the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from statsmodels.stats.proportion import proportion_confint
from tokenizer import LENGTH, train_on
from torch.nn.functional import cross_entropy, interpolate

from hafbench.mannequin.attributes import Attributes
from hafbench.mannequin.captions import caption, draw, is_held_out

SIZE, BATCH, CANDIDATES = 64, 256, 100
MEAN, STD = 0.5, 0.25
PEAK_RATE, WARM_UP_STEPS, DECAY = 1.5e-3, 60, 0.1


def configuration(vocabulary: int) -> dict[str, Any]:
    """open_clip_config.json: a ViT of 8-pixel patches and a three-layer text transformer."""
    vision = {"image_size": SIZE, "patch_size": 8, "width": 128, "layers": 4, "head_width": 32, "pool_type": "avg"}
    text = {"context_length": LENGTH, "vocab_size": vocabulary, "width": 128, "heads": 4, "layers": 3}
    # The name only says that the tokenizer is one of transformers'; it is read from the model's own folder.
    model = {"embed_dim": 128, "vision_cfg": vision, "text_cfg": {**text, "hf_tokenizer_name": "mannequin"}}
    preprocess = {"mean": [MEAN] * 3, "std": [STD] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    return {"model_cfg": model, "preprocess_cfg": preprocess}


def read(folder: Path) -> tuple[torch.Tensor, list[Attributes]]:
    """A data set's pictures at SIZE x SIZE as uint8 (N, 3, SIZE, SIZE), and what they show."""
    whole = np.load(folder / "images.npy", mmap_mode="r")
    lines = (folder / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    shown = [Attributes(**json.loads(line)["attributes"]) for line in lines]
    small = torch.empty(len(shown), 3, SIZE, SIZE, dtype=torch.uint8)
    for start in range(0, len(shown), 1000):
        pixels = torch.from_numpy(np.array(whole[start : start + 1000])).permute(0, 3, 1, 2).float()
        scaled = interpolate(pixels, (SIZE, SIZE), mode="bicubic", antialias=True)
        small[start : start + 1000] = scaled.round().clamp(0, 255).to(torch.uint8)[: len(shown) - start]
    return small, shown


def seen(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pictures as the model's preprocessing hands them over."""
    return (pixels.float() / 255 - MEAN) / STD


def jittered(pixels: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
    """The pictures moved by up to 3 pixels and a little brighter or darker. Never mirrored: left is not right."""
    padded = torch.nn.functional.pad(pixels.float(), (3, 3, 3, 3), mode="replicate")
    x, y = (int(torch.randint(0, 7, (1,), generator=dice)) for _ in range(2))
    bright = 0.9 + 0.2 * torch.rand(len(pixels), 1, 1, 1, generator=dice)
    return (padded[:, :, y : y + SIZE, x : x + SIZE] * bright).clamp(0, 255)


def loss_of(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
    """CLIP's symmetric cross entropy, without the negatives whose caption is the same text."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(captions))}
    which = torch.tensor([numbers[text] for text in captions])
    same = (which[:, None] == which[None]) & ~torch.eye(len(which), dtype=torch.bool)
    logits = (scale * image @ text.T).masked_fill(same, -math.inf)
    target = torch.arange(len(which))
    loss: torch.Tensor = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    return loss


def rate(step: int, spent: float) -> float:
    """The learning rate: a warm-up by steps, then half a cosine over the share of the time that is spent."""
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * (0.02 + 0.98 * (1 + math.cos(math.pi * spent)) / 2)


def train(
    model: Any, tokenizer: Any, pixels: torch.Tensor, shown: Sequence[Attributes], minutes: float, seed: int
) -> int:
    """Train for that long; returns the number of steps."""
    rng, dice = random.Random(seed), torch.Generator().manual_seed(seed)  # noqa: S311
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))
    started, step, recent = time.monotonic(), 0, 0.0
    order = torch.empty(0, dtype=torch.long)
    while (spent := (time.monotonic() - started) / (60 * minutes)) < 1:
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(shown), generator=dice)])
        chosen, order = order[:BATCH], order[BATCH:]
        captions = [caption(shown[i], rng) for i in chosen.tolist()]
        for group in optimizer.param_groups:
            group["lr"] = rate(step, spent)
        image = model.encode_image(seen(jittered(pixels[chosen], dice)), normalize=True)
        text = model.encode_text(tokenizer(captions), normalize=True)
        loss = loss_of(image, text, model.logit_scale.exp(), captions)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        step += 1
        recent += float(loss.detach())
        if step % 25 == 0:
            print(f"step {step}, {time.monotonic() - started:.0f} s, loss {recent / 25:.3f}", flush=True)
            recent = 0.0
    return step


def held_out_caption(attributes: Attributes, rng: random.Random) -> str:
    """A caption that `caption` never gives."""
    while not is_held_out(text := draw(attributes, rng)):
        pass
    return text


def share(right: NDArray[np.bool_]) -> dict[str, float | int]:
    """How many were right, with Wilson's 95 % interval."""
    low, high = proportion_confint(int(right.sum()), len(right), method="wilson")
    return {"top1": float(right.mean()), "low": float(low), "high": float(high), "n": len(right)}


def retrieval(model: Any, tokenizer: Any, pixels: torch.Tensor, shown: Sequence[Attributes]) -> dict[str, Any]:
    """Top-1 among groups of CANDIDATES pictures and captions, both ways.

    Within a group queries share their candidates, so that the intervals, which take them as independent, are a little
    too narrow.
    """
    rng = random.Random(0)  # noqa: S311
    texts = [held_out_caption(attributes, rng) for attributes in shown]
    right: dict[str, list[NDArray[np.bool_]]] = {"text_to_image": [], "image_to_text": []}
    model.eval()
    for start in range(0, len(shown) - CANDIDATES + 1, CANDIDATES):
        group = slice(start, start + CANDIDATES)
        with torch.inference_mode():
            image = model.encode_image(seen(pixels[group]), normalize=True)
            text = model.encode_text(tokenizer(texts[group]), normalize=True)
        cosines = (image @ text.T).numpy()
        right["image_to_text"].append(cosines.argmax(1) == np.arange(CANDIDATES))
        right["text_to_image"].append(cosines.argmax(0) == np.arange(CANDIDATES))
    return {"candidates": CANDIDATES, **{way: share(np.concatenate(rows)) for way, rows in right.items()}}


def main() -> None:
    """Train, write, load again, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0, help="of training; 0 measures the model that is in OUT")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    if given.minutes:
        make(given)
    name = f"local-dir:{given.out}"
    model, _ = open_clip.create_model_from_pretrained(name)
    write(given.out / "retrieval.json", retrieval(model, open_clip.get_tokenizer(name), *read(given.test)))


def write(path: Path, facts: dict[str, Any]) -> None:
    """A small JSON file for people and machines, and the same on the terminal."""
    text = json.dumps(facts, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
    print(text)


def make(given: argparse.Namespace) -> None:
    """Train the model and write it to given.out."""
    pixels, shown = read(given.data)
    words = train_on(given.data)
    words.save_pretrained(given.out)
    settings = configuration(len(words))
    write(given.out / "open_clip_config.json", settings)
    name = f"local-dir:{given.out}"
    tokenizer = open_clip.get_tokenizer(name)
    model = open_clip.create_model(name, load_weights=False)
    steps = train(model.train(), tokenizer, pixels, shown, given.minutes, given.seed)
    weights = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, given.out / "open_clip_model.safetensors")
    (given.out / "open_clip_model.safetensors").chmod(0o644)
    facts = {"pictures": len(shown), "batch": BATCH, "steps": steps, "minutes": given.minutes, "threads": given.threads}
    write(given.out / "training.json", {**facts, "parameters": sum(p.numel() for p in model.parameters())})


if __name__ == "__main__":
    main()
