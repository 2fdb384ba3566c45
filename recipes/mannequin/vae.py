"""Train the built-in world's small autoencoder.

    python recipes/mannequin/vae.py --data TRAIN --out DIR --minutes 10 --threads 3

Writes what AutoencoderKL.from_pretrained loads (16-bit weights), log.jsonl, and held_out.png: pictures never trained
on above what the autoencoder makes of them.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from common import agreed, append, average_gradients, in_parallel
from diffusers import AutoencoderKL
from muon import MuonAdamW
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import avg_pool2d, l1_loss

HELD_OUT = 256
"""The last pictures of the set."""
CHANNELS, LATENTS = (16, 32, 64, 128), 8
BATCH, CROP, KL = 12, 64, 1e-6
WARM_UP_STEPS = 50
EVERY = 300
"""Seconds between checkpoints, OUT/latest."""


def build() -> AutoencoderKL:
    """Eight-fold reduction, 128 pixels to 16 x 16; convolutions only, so that crops train it."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(CHANNELS),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
    )


def loss_of(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 of the pixels at three scales, and of their differences to the right and down, which keeps edges sharp."""
    total = torch.zeros(())
    for _ in range(3):
        dx = l1_loss(made.diff(dim=-1), wanted.diff(dim=-1))
        dy = l1_loss(made.diff(dim=-2), wanted.diff(dim=-2))
        total = total + l1_loss(made, wanted) + dx + dy
        made, wanted = avg_pool2d(made, 2), avg_pool2d(wanted, 2)
    return total


def as_input(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (n, h, w, 3) as float (n, 3, h, w) in -1..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def crops(images: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    """A batch of random square crops."""
    span = images.shape[1] - CROP + 1
    corners = zip(rng.integers(0, len(images), BATCH), *rng.integers(0, span, (2, BATCH)), strict=True)
    return as_input(np.stack([images[i, y : y + CROP, x : x + CROP] for i, y, x in corners]))


def split(vae: AutoencoderKL) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The filters between hidden layers, and all other weights."""
    filters, others = [], []
    for name, weight in vae.named_parameters():
        outer = any(word in name for word in ("conv_in", "conv_out", "quant"))
        (filters if weight.ndim == 4 and not outer else others).append(weight)
    return filters, others


def rate(peak: float, step: int, spent: float) -> float:
    """The learning rate: a warm-up by steps, then half a cosine over the share of the time that is spent."""
    return peak * min(1.0, (step + 1) / WARM_UP_STEPS) * (1 + math.cos(math.pi * spent)) / 2


def train(data: Path, minutes: float, out: Path, peak: float, start: Path | None) -> None:
    """Train by the clock, as one of several processes."""
    everything = np.load(data / "images.npy", mmap_mode="r")
    images, held_out = everything[:-HELD_OUT], everything[-HELD_OUT:]
    rank = dist.get_rank()
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(start).float() if start else build()
    vae.train()
    mean = copy.deepcopy(vae).requires_grad_(False)
    optimizer = MuonAdamW(*split(vae), lr=peak, weight_decay=1e-4)
    torch.manual_seed(rank)
    rng = np.random.default_rng(rank)
    started = kept = time.monotonic()
    step, recent = 0, 0.0
    while (spent := agreed((time.monotonic() - started) / (60 * minutes))) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate(peak, step, spent)
        wanted = crops(images, rng)
        posterior = vae.encode(wanted).latent_dist
        loss = loss_of(vae.decode(posterior.sample()).sample, wanted) + KL * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        average_gradients(vae.parameters())
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            forget = 1 - min(0.998, step / (step + 10))
            torch._foreach_lerp_(list(mean.parameters()), list(vae.parameters()), forget)
        recent += loss.item()
        if step % 100 == 0 and rank == 0:
            seconds = time.monotonic() - started
            pictures = step * BATCH * dist.get_world_size()
            append(out / "log.jsonl", step=step, crops=pictures, loss=round(recent / 100, 4), seconds=round(seconds))
            recent = 0.0
        if rank == 0 and time.monotonic() - kept > EVERY:
            mean.save_pretrained(out / "latest")
            kept = time.monotonic()
    if rank == 0:
        finish(mean.eval(), images, held_out, out)


@torch.no_grad()  # type: ignore[untyped-decorator]
def normalise(vae: AutoencoderKL, images: NDArray[np.uint8]) -> None:
    """Make every channel of the latents have mean 0 and standard deviation 1 over `images`.

    Both factors go into the 1 x 1 convolutions around the latents, so that no picture changes: the pipeline itself
    knows one scale and one shift for all channels, which are 1 and 0 from now on.
    """
    latents = vae.encode(as_input(images)).latent_dist.mean
    centre, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    into, back = vae.quant_conv, vae.post_quant_conv
    back.bias += (back.weight[:, :, 0, 0] * centre).sum(1)
    back.weight *= spread[None, :, None, None]
    # The first half of the channels are means, the second logarithms of variances.
    into.weight[:LATENTS] /= spread[:, None, None, None]
    into.bias[:LATENTS] = (into.bias[:LATENTS] - centre) / spread
    into.bias[LATENTS:] -= 2 * spread.log()
    vae.register_to_config(scaling_factor=1.0, shift_factor=0.0)


@torch.no_grad()  # type: ignore[untyped-decorator]
def finish(vae: AutoencoderKL, images: NDArray[np.uint8], held_out: NDArray[np.uint8], out: Path) -> None:
    """Normalise the latents, save, and measure and draw held-out pictures."""
    normalise(vae, np.array(images[:: max(1, len(images) // 512)]))
    # What is measured is what is saved.
    vae.half().save_pretrained(out)
    vae = AutoencoderKL.from_pretrained(out, torch_dtype=torch.float32)
    wanted = as_input(np.array(held_out))
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in wanted.split(16)])
    made = torch.cat([vae.decode(part).sample.clamp(-1, 1) for part in latents.split(16)])
    errors = ((made - wanted) / 2).square().mean((1, 2, 3))
    append(
        out / "log.jsonl",
        held_out_pictures=len(held_out),
        held_out_psnr=round(float(-10 * errors.log10().mean()), 2),
        held_out_l1=round(float((made - wanted).abs().mean() / 2), 4),
        latent_mean=round(float(latents.mean()), 3),
        latent_std_of_channels=[round(float(s), 3) for s in latents.std((0, 2, 3))],
        parameters=sum(p.numel() for p in vae.parameters()),
    )
    both = torch.cat([wanted[:16], made[:16]]).permute(0, 2, 3, 1).add(1).mul(127.5).round().byte().numpy()
    Image.fromarray(np.vstack([np.hstack(both[i : i + 8]) for i in (0, 16, 8, 24)])).save(out / "held_out.png")


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--rate", type=float, default=2e-3, help="the highest learning rate; lower it with --start")
    parser.add_argument("--start", type=Path, help="go on from this autoencoder, such as OUT/latest of a run cut off")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    in_parallel(given.threads, train, given.data, given.minutes, given.out, given.rate, given.start)


if __name__ == "__main__":
    main()
