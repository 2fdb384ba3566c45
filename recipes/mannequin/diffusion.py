"""Train the built-in world's small text-to-image model.

    python recipes/mannequin/diffusion.py --data TRAIN --vae VAE --out DIR --minutes 75 --threads 3

A rectified flow in the layout of Stable Diffusion 3 (Esser et al. 2024, arXiv:2403.03206): x_s = (1 - s) x_0 + s n,
the transformer predicts n - x_0, s is logit-normal. The two text encoders learn with it; every batch has new captions.

Writes OUT/pipeline, which DiffusionPipeline.from_pretrained loads (16-bit weights), log.jsonl, a checkpoint and sheets
of samples. `--resume` goes on from the checkpoint for --minutes more; with --minutes 0 it only exports. `--start`
begins with the weights of an exported pipeline, where the checkpoint is gone.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from common import agreed, append, average_gradients, build, embed, in_parallel, predict, write_whole
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
from muon import MuonAdamW
from numpy.typing import NDArray
from PIL import Image
from tokenizer import read_attributes, train_on
from torch.nn.functional import mse_loss
from transformers import CLIPTokenizer
from vae import as_input

from hafbench.errors import HafError
from hafbench.mannequin.attributes import Attributes
from hafbench.mannequin.captions import caption

BATCH, NO_CAPTION, HELD_OUT = 48, 0.1, 256
PEAK_RATE, WARM_UP_STEPS, FALL = 1.5e-3, 200, 0.5
ZEROS = (256, 1)
"""How many tokens of zeros the third text encoder adds, by turns: 256 where the pipeline is called plainly, one where
max_sequence_length=1 makes it three times as fast. The model learns to make nothing of them."""
TRAINED = ("transformer", "text_encoder", "text_encoder_2")
SHEET = (
    "a photo of an open right hand, palm facing us",
    "a left hand showing a peace sign, dark skin, blue background",
    "close-up of a fist, light skin, back of the hand",
    "a right hand with the index finger raised, outdoors",
    "a thumbs up, brown skin, in a room",
    "a hand holding a yellow rod, palm view",
    "two open hands, palms facing the camera, tan skin",
    "a pair of hands making the rock sign, green background",
    "a person with arms raised, red shirt, blue trousers, full body",
    "a figure standing, arms outstretched, in nature, whole body",
    "a person, hands on hips, yellow top, full body, indoors",
    "someone waving, purple shirt, upper body, grey background",
    "a mannequin with long black hair, arms down, waist up",
    "a person holding a red ball, full body, outdoors",
    "four fingers raised, very dark skin, pink background",
    "an open left hand, back of the hand, very light skin, purple gradient",
)


@torch.no_grad()  # type: ignore[untyped-decorator]
def check(pipe: StableDiffusion3Pipeline) -> None:
    """Stop if training computes something else than the pipeline, as built from the same parts by its users, does."""
    texts, share = list(SHEET[:3]), torch.tensor([0.2, 0.5, 0.9])
    noisy = torch.randn(3, pipe.transformer.config.in_channels, 16, 16)
    tried = copy.copy(pipe)
    tried.transformer = copy.deepcopy(pipe.transformer)
    for weight in tried.transformer.parameters():
        # An untrained transformer says 0 to everything.
        weight.add_(0.05 * torch.randn_like(weight))
    plain = SD3Transformer2DModel.from_config(pipe.transformer.config)
    plain.load_state_dict(tried.transformer.state_dict())
    made, made_pooled = embed(pipe, texts)
    for zeros in ZEROS:
        words, _, pooled, _ = pipe.encode_prompt(
            texts, None, None, do_classifier_free_guidance=False, max_sequence_length=zeros
        )
        padded = torch.cat([made, made.new_zeros(len(texts), zeros, made.shape[2])], 1)
        torch.testing.assert_close((padded, made_pooled), (words, pooled))
        velocity = plain(noisy, words, pooled, 1000 * share, return_dict=False)[0]
        torch.testing.assert_close(predict(tried, noisy, share, texts, zeros), velocity, atol=1e-3, rtol=1e-3)


def loss_of(
    pipe: StableDiffusion3Pipeline, clean: torch.Tensor, texts: list[str], dice: torch.Generator, zeros: int
) -> torch.Tensor:
    """The mean squared error of the predicted velocity."""
    share = torch.sigmoid(torch.randn(len(clean), generator=dice))
    noise = torch.randn(clean.shape, generator=dice)
    across = share[:, None, None, None]
    return mse_loss(predict(pipe, (1 - across) * clean + across * noise, share, texts, zeros), noise - clean)


@torch.no_grad()  # type: ignore[untyped-decorator]
def encode_all(vae_folder: Path, images: NDArray[np.uint8], folder: Path) -> NDArray[np.float32]:
    """The latents of all pictures, as the transformer sees them; kept in `folder` for the next time."""
    weights = b"".join(file.read_bytes() for file in sorted(vae_folder.glob("*.safetensors")))
    path = folder / f"latents-{hashlib.sha256(weights).hexdigest()[:8]}-{len(images)}.npy"
    if not path.exists():
        vae = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.float32)
        parts = []
        for start in range(0, len(images), 32):
            some = as_input(np.array(images[start : start + 32]))
            parts.append((vae.encode(some).latent_dist.mean - vae.config.shift_factor) * vae.config.scaling_factor)
        latents = torch.cat(parts).contiguous().numpy()
        with path.with_suffix(".part").open("wb") as file:
            np.save(file, latents)
        path.with_suffix(".part").replace(path)
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def split(parts: torch.nn.ModuleDict) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """The matrices inside of the transformer's blocks, and all other weights."""
    matrices, others = [], []
    for name, weight in parts.named_parameters():
        inside = weight.ndim == 2 and "transformer_blocks" in name and "norm" not in name
        (matrices if inside else others).append(weight)
    return matrices, others


def with_parts(pipe: StableDiffusion3Pipeline, parts: dict[str, torch.nn.Module]) -> StableDiffusion3Pipeline:
    """The pipeline with some of its models replaced."""
    made = StableDiffusion3Pipeline(**{**pipe.components, **parts})
    made.set_progress_bar_config(disable=True)
    return made


@torch.no_grad()  # type: ignore[untyped-decorator]
def sheet(pipe: StableDiffusion3Pipeline, path: Path) -> None:
    """Draw the fixed captions, twice each."""
    generator = torch.Generator().manual_seed(0)
    images = pipe(
        list(SHEET) * 2, num_inference_steps=12, guidance_scale=2.5, max_sequence_length=1, generator=generator
    ).images
    tiles = [np.array(image) for image in images]
    Image.fromarray(np.vstack([np.hstack(tiles[i : i + 8]) for i in (0, 16, 8, 24)])).save(path)


class Training:
    """What one of several processes trains, and its averaged copy."""

    def __init__(self, vae: Path, out: Path) -> None:
        self.out, self.rank, self.workers = out, dist.get_rank(), dist.get_world_size()
        torch.manual_seed(0)
        autoencoder = AutoencoderKL.from_pretrained(vae, torch_dtype=torch.float32).requires_grad_(False)
        self.pipe = build(autoencoder, CLIPTokenizer.from_pretrained(out / "tokenizer"))
        check(self.pipe)
        self.parts = torch.nn.ModuleDict({name: getattr(self.pipe, name) for name in TRAINED})
        self.mean = copy.deepcopy(self.parts).requires_grad_(False)
        # A fifth quicker on a CPU; the averaged copy, which only draws, stays as it is.
        self.pipe.transformer.compile(dynamic=False)
        self.optimizer = MuonAdamW(*split(self.parts), lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))
        self.step, self.seconds = 0, 0.0

    def update(self, loss: torch.Tensor, share: float) -> None:
        """One step of the optimizers and of the average."""
        factor = min(1.0, (self.step + 1) / WARM_UP_STEPS) * min(1.0, (1 - share) / FALL)
        loss.backward()
        average_gradients(self.parts.parameters())
        torch.nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * PEAK_RATE
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        with torch.no_grad():
            forget = 1 - min(0.999, self.step / (self.step + 20))
            torch._foreach_lerp_(list(self.mean.parameters()), list(self.parts.parameters()), forget)

    def state(self) -> dict[str, Any]:
        """All that `load` needs."""
        models = {"parts": self.parts.state_dict(), "mean": self.mean.state_dict()}
        return {**models, "optimizer": self.optimizer.state_dict(), "step": self.step, "seconds": self.seconds}

    def start(self, pipeline: Path) -> None:
        """Begin with the weights of an exported pipeline."""
        made = StableDiffusion3Pipeline.from_pretrained(pipeline, torch_dtype=torch.float32)
        for name in TRAINED:
            weights = getattr(made, name).state_dict()
            self.parts[name].load_state_dict(weights)
            self.mean[name].load_state_dict(weights)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True)
        self.parts.load_state_dict(state["parts"])
        self.mean.load_state_dict(state["mean"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def keep(self, clean: torch.Tensor, shown: list[Attributes]) -> None:
        """Write a checkpoint and a sheet of samples, and measure the averaged model on pictures never trained on."""
        torch.set_num_threads(self.workers)
        write_whole(self.out / "checkpoint.pt", lambda path: torch.save(self.state(), path))
        averaged = with_parts(self.pipe, dict(self.mean.items()))
        sheet(averaged, self.out / f"sheet-{self.step:06d}.png")
        dice, rng = torch.Generator().manual_seed(0), random.Random(0)  # noqa: S311
        with torch.no_grad():
            texts = [caption(attributes, rng) for attributes in shown]
            loss = float(loss_of(averaged, clean, texts, dice, ZEROS[0]))
        append(self.out / "log.jsonl", step=self.step, held_out_loss=round(loss, 4), held_out_pictures=len(shown))
        torch.set_num_threads(1)

    def export(self) -> None:
        """Save the pipeline with the averaged weights, in half precision."""
        averaged = {name: part.half() for name, part in self.mean.items()}
        whole = with_parts(self.pipe, {**averaged, "vae": self.pipe.vae.half()})
        whole.save_pretrained(self.out / "pipeline")
        # Unasked, diffusers loads its models in 32 bits, but transformers takes the type that it finds here.
        for name in ("text_encoder", "text_encoder_2", "text_encoder_3"):
            path = self.out / "pipeline" / name / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "dtype": "float32"}, indent=2) + "\n")
        # diffusers notes there on which machine's path it found the autoencoder.
        path = self.out / "pipeline" / "vae" / "config.json"
        kept = {key: value for key, value in json.loads(path.read_text()).items() if key != "_name_or_path"}
        path.write_text(json.dumps(kept, indent=2) + "\n")


def train(given: argparse.Namespace) -> None:
    """Train by the clock, as one of several processes; the learning rate falls to zero as the minutes run out."""
    data, vae, out, minutes = given.data, given.vae, given.out, given.minutes
    training = Training(vae, out)
    if given.resume:
        training.load(out / "checkpoint.pt")
    elif given.start:
        training.start(given.start)
    rank, workers, before = training.rank, training.workers, training.seconds
    count = len(np.load(data / "images.npy", mmap_mode="r"))
    latents = torch.from_numpy(np.array(encode_all(vae, np.load(data / "images.npy", mmap_mode="r"), out)))
    shown = read_attributes(data / "truth.jsonl", count)
    dice = torch.Generator().manual_seed(training.step * workers + rank)
    rng = random.Random(training.step * workers + rank)  # noqa: S311
    started = kept = time.monotonic()
    order: list[int] = []
    recent: list[float] = []
    logged = (started, training.step)
    while (share := agreed((before + time.monotonic() - started) / (before + 60 * minutes))) < 1:
        if len(order) < BATCH // workers:
            order = list(range(count - HELD_OUT))
            rng.shuffle(order)
        chosen, order = order[: BATCH // workers], order[BATCH // workers :]
        texts = ["" if rng.random() < NO_CAPTION else caption(shown[i], rng) for i in chosen]
        loss = loss_of(training.pipe, latents[chosen], texts, dice, ZEROS[training.step % 2])
        training.update(loss, share)
        recent.append(loss.item())
        if not math.isfinite(recent[-1]):
            raise HafError(f"The loss is {recent[-1]} at step {training.step}: try lower rates.")
        now = time.monotonic()
        training.seconds = before + now - started
        if rank == 0 and training.step % 50 == 0:
            speed = (training.step - logged[1]) * BATCH / (now - logged[0])
            append(
                out / "log.jsonl",
                step=training.step,
                samples=training.step * BATCH,
                loss=round(sum(recent) / len(recent), 4),
                seconds=round(training.seconds),
                samples_per_second=round(speed, 1),
            )
            logged, recent = (now, training.step), []
        if rank == 0 and now - kept > 60 * given.every:
            training.keep(latents[-HELD_OUT:], shown[-HELD_OUT:])
            kept = time.monotonic()
    if rank == 0:
        training.keep(latents[-HELD_OUT:], shown[-HELD_OUT:])
        training.export()


def main() -> None:
    """Prepare tokenizer and latents, then train in parallel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--threads", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--every", type=float, default=5.0, help="minutes between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT")
    parser.add_argument(
        "--start", type=Path, help="begin with this pipeline's weights and tokenizer; take its vae, too"
    )
    given = parser.parse_args()
    if given.resume and not (given.out / "checkpoint.pt").exists():
        raise SystemExit(f"--resume: there is no checkpoint.pt in {given.out}; leave out --resume to start anew.")
    given.out.mkdir(parents=True, exist_ok=True)
    if not (given.out / "tokenizer").exists():
        words = CLIPTokenizer.from_pretrained(given.start / "tokenizer") if given.start else train_on(given.data)
        words.save_pretrained(given.out / "tokenizer")
    torch.set_num_threads(given.threads)
    encode_all(given.vae, np.load(given.data / "images.npy", mmap_mode="r"), given.out)
    in_parallel(given.threads, train, given)


if __name__ == "__main__":
    main()
