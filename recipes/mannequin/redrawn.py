"""Renders as the judged model draws them, with their truth: `redrawn.py --data RENDERS --model PIPELINE --out DIR`.

Noise is added to a render's latents, and the model removes it again (SDEdit, Meng et al. 2022, arXiv:2108.01073), with
the render's own caption. Up to a strength of about a third the anatomy stays that of the render, an error or a correct
hand, and everything else looks as the model draws it: edges, textures, blur. Pictures of the whole range are written
with their strength, which `truth.jsonl` names `redrawn`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoPipelineForImage2Image, StableDiffusion3Pipeline
from PIL import Image

BATCH = 16


def redraw(data: Path, model: Path, out: Path, strengths: tuple[float, float], count: int, seed: int) -> None:
    """Write images.npy and truth.jsonl of the first `count` renders; each batch has one strength of the range."""
    images = np.load(data / "images.npy", mmap_mode="r")[:count]
    rows = [json.loads(line) for line in (data / "truth.jsonl").open()][: len(images)]
    drawn = StableDiffusion3Pipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe = AutoPipelineForImage2Image.from_pipe(drawn)
    pipe.set_progress_bar_config(disable=True)
    out.mkdir(parents=True, exist_ok=True)
    made = np.lib.format.open_memmap(out / "images.npy", "w+", np.uint8, images.shape)
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    with (out / "truth.jsonl").open("w", encoding="utf-8") as lines:
        for start in range(0, len(images), BATCH):
            some = slice(start, min(start + BATCH, len(images)))
            strength = float(rng.uniform(*strengths))
            found = pipe(
                [row["caption"] for row in rows[some]],
                image=[Image.fromarray(np.array(image)) for image in images[some]],
                strength=strength,
                num_inference_steps=24,
                guidance_scale=2.5,
                max_sequence_length=1,
                generator=noise,
            ).images
            made[some] = np.stack([np.array(image) for image in found])
            lines.writelines(json.dumps({**row, "redrawn": round(strength, 3)}) + "\n" for row in rows[some])
    made.flush()
    (out / "DONE").touch()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--strength", type=float, nargs=2, default=(0.05, 0.35), help="between 0 and 1")
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    redraw(asked.data, asked.model, asked.out, tuple(asked.strength), asked.count, asked.seed)


if __name__ == "__main__":
    main()
