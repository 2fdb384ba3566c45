"""How fast a fit's step is, and what memory it takes: `python -m benchmarks.fit [--size true|small] [--batch 4]`.

1. SDXL, 1024 px: our step (`trainer.take_step`: latents and embeddings from a cache, encoders gone, the reference is
   the model with its adapter off) beside Diffusion-DPO's as published (arXiv 2311.12908), written out plainly here:
   autoencoder and text encoders in the loop, a second frozen U-Net. Both tune a LoRA, and both tune all weights. (Their
   script keeps all but the tuned U-Net on the CPU and moves it to and fro; here it stays, which is the faster way.)
2. FLUX.1 dev, 12 billion weights, 1024 px: our step with a LoRA, and its share of what the GPU can do.

What is measured needs a GPU for its memory; the computed memory is the planner's (`asap-train plan`), at any size,
on any machine. The aim is 2.5 times the plain step's pairs a second at half its memory.

Weights are random, at true size by default where there is a GPU, else tiny: then only the command is tried. Each
round builds a contestant alone in memory, warms it up and times its steps; rounds of all contestants alternate. Batch,
precision, gradient checkpointing and optimizer are the same for all. Images and captions are noise: reading and
tokenizing them is not timed, which favours the plain step.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import DDPMScheduler
from safetensors.torch import save_file
from torch.nn.functional import logsigmoid

from asap_train.backbones import Backbone
from asap_train.planning.memory import CONTEXT, weights_bytes
from asap_train.planning.passes import Case, autoencoder_peaks
from asap_train.planning.profiles import activations, traced
from asap_train.planning.speed import peak_of_device
from asap_train.training.cache import Cache
from asap_train.training.config import FitConfig
from asap_train.training.fit_log import FitLog
from asap_train.training.lora import add_lora, trained_parameters
from asap_train.training.optimizers import make_optimizer, rate_factor
from asap_train.training.residuals import Policy, frozen
from asap_train.training.setup import Training, make_accelerator
from asap_train.training.trainer import take_step
from asap_train.training.widening import widen
from benchmarks.random_models import SCHEDULE, SIZES, Sizes, encoders, flux, sdxl
from hafbench.generators.quantize import Quantization, quantize

Step = Callable[[int], object]
PAIRS = 16


@dataclass(frozen=True)
class Setting:
    """What is equal for all contestants."""

    sizes: Sizes
    batch: int
    precision: str
    checkpointing: bool
    folder: Path
    quantization: Quantization = "none"
    two_passes: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of frozen weights."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def config(self, lora: bool) -> FitConfig:
        """The settings of our trainer; plain steps take rate, clipping and precision from them, too."""
        given = {
            "model": "random",
            "pairs": "-",
            "out": self.folder / "fit",
            "score": None,
            "train_batch_size": self.batch,
            "mixed_precision": self.precision,
            "lr_warmup_steps": 0,
            "quantization": self.quantization,
            "two_passes": self.two_passes,
            "max_error_ratio": 1e9,
            "gradient_checkpointing": self.checkpointing,
            **({} if lora else {"lora": None}),
        }
        return FitConfig.model_validate(given)


def random_cache(setting: Setting, kind: str) -> Cache:
    """Files as `asap_train.training.cache` writes them, of noise; `kind` says which model they are for."""
    sizes, cells = setting.sizes, setting.sizes.cells
    texts: dict[str, tuple[int, ...]]
    if kind == "flux":
        channels = sizes.channels
        texts = {"words": (512, sizes.flux["joint_attention_dim"]), "pooled": (sizes.flux["pooled_projection_dim"],)}
    else:
        channels, width = 4, sizes.clips[1]["projection_dim"]
        texts = {"words": (77, sizes.unet["cross_attention_dim"]), "text_embeds": (width,), "time_ids": (6,)}
    captions = tuple(f"caption {number}" for number in range(PAIRS))
    buckets = ((sizes.side, sizes.side),) * PAIRS
    cache = Cache(setting.folder / kind, setting.folder, captions, captions, buckets, torch.float16)
    cache.folder.mkdir(parents=True, exist_ok=True)
    shapes = {"winner": (channels, cells, cells), "loser": (channels, cells, cells), "mask": (1, cells, cells)}
    for name, one, rows in (("pairs", shapes, PAIRS), ("texts", texts, PAIRS + 1)):
        save_file({key: torch.rand(rows, *shape).half() for key, shape in one.items()}, cache.path(name, 0))
    return cache


def our_step(setting: Setting, kind: str, lora: bool) -> tuple[Step, Backbone]:
    """`trainer.take_step` with the objective asap, as `training.prepare` makes it ready."""
    config = setting.config(lora)
    accelerator = make_accelerator(config)
    dtype = setting.dtype if lora else torch.float32
    backbone = {"sdxl": sdxl, "flux": flux}[kind](setting.sizes, accelerator.device, dtype)
    if setting.quantization != "none":
        quantize(backbone.network, setting.quantization, accelerator.device)
    half = setting.precision != "no"
    refer = frozen(backbone, lora, accelerator.autocast, widened=half)
    if config.lora:
        add_lora(backbone, config.lora, 0)
    if half:
        widen(backbone.network)
    parameters = trained(setting, backbone)
    policy, optimizer = accelerator.prepare(
        Policy(backbone), make_optimizer([value for _, value in parameters], config)
    )
    cache, factor = random_cache(setting, kind), rate_factor(config)
    training = Training(config, accelerator, cache, backbone, policy, refer, parameters, optimizer, factor, None)
    log = FitLog(setting.folder / "log.jsonl", writes=False)
    return lambda step: take_step(training, step, log, None), backbone


def two_passes(setting: Setting, kind: str, lora: bool) -> tuple[Step, Backbone]:
    """Our step, winners and losers one after the other."""
    return our_step(replace(setting, two_passes=True), kind, lora)


def trained(setting: Setting, backbone: Backbone) -> list[tuple[str, Any]]:
    """Ready for training; what is tuned, by name."""
    if setting.checkpointing:
        backbone.network.enable_gradient_checkpointing()
    backbone.network.train()
    return trained_parameters(backbone)


def plain_step(setting: Setting, kind: str, lora: bool) -> tuple[Step, Backbone]:
    """Diffusion-DPO's step for SDXL, after train.py of SalesforceAIResearch/DiffusionDPO."""
    config, sizes = setting.config(lora), setting.sizes
    accelerator = make_accelerator(config)
    device = accelerator.device
    vae, one, two = encoders(sizes, device, setting.dtype)
    ref_unet = sdxl(sizes, device, setting.dtype).network.requires_grad_(False).eval()
    backbone = sdxl(sizes, device, setting.dtype if lora else torch.float32)
    if config.lora:
        add_lora(backbone, config.lora, 0)
    values = [value for _, value in trained(setting, backbone)]
    unet, optimizer = accelerator.prepare(backbone.network, make_optimizer(values, config))
    scheduler = DDPMScheduler(**SCHEDULE)
    size = torch.tensor([[sizes.side, sizes.side, 0, 0, sizes.side, sizes.side]] * 2 * setting.batch, device=device)
    pixels = torch.rand(setting.batch, 6, sizes.side, sizes.side) * 2 - 1
    tokens = torch.randint(0, sizes.clips[0]["vocab_size"], (setting.batch, 77))

    def step(number: int) -> None:
        with torch.no_grad():
            both = torch.cat(pixels.to(device, setting.dtype).chunk(2, dim=1))
            latents = vae.encode(both).latent_dist.sample() * vae.config.scaling_factor
            asked = tokens.to(device)
            first, second = one(asked, output_hidden_states=True), two(asked, output_hidden_states=True)
            words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1).repeat(2, 1, 1)
            added = {"text_embeds": second.text_embeds.repeat(2, 1), "time_ids": size}
        noise = torch.randn_like(latents[: setting.batch]).repeat(2, 1, 1, 1)
        timesteps = torch.randint(0, 1000, (setting.batch,), device=device).repeat(2)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with accelerator.autocast():
            made = unet(noisy, timesteps, words, added_cond_kwargs=added).sample
            model_w, model_l = (made.float() - noise.float()).square().mean((1, 2, 3)).chunk(2)
            with torch.no_grad():
                known = ref_unet(noisy, timesteps, words, added_cond_kwargs=added).sample
                ref_w, ref_l = (known.float() - noise.float()).square().mean((1, 2, 3)).chunk(2)
        loss = -logsigmoid(-config.loss.beta * ((model_w - model_l) - (ref_w - ref_l))).mean()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(values, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step, backbone


@dataclass(frozen=True)
class Contestant:
    """One row: how its step is made, of which model, tuning what."""

    name: str
    make: Callable[[Setting, str, bool], tuple[Step, Backbone]]
    kind: str
    lora: bool


CONTESTANTS = (
    Contestant("SDXL, LoRA: plain", plain_step, "sdxl", True),
    Contestant("SDXL, LoRA: ours", our_step, "sdxl", True),
    Contestant("SDXL, LoRA: ours, two passes", two_passes, "sdxl", True),
    Contestant("SDXL, all weights: plain", plain_step, "sdxl", False),
    Contestant("SDXL, all weights: ours", our_step, "sdxl", False),
    Contestant("FLUX, LoRA: ours", our_step, "flux", True),
)


@dataclass
class Timed:
    """Of one contestant: seconds of each step by round, peak bytes, the computed ones, weights, operations a step."""

    rounds: list[list[float]]
    peak: int = 0
    computed: int = 0
    weights: int = 0
    operations: float = 0.0
    failed: str = ""

    @property
    def seconds(self) -> float:
        """The median of all steps."""
        return median(one for steps in self.rounds for one in steps)


def measure(
    one: Contestant,
    setting: Setting,
    steps: int,
    timed: Timed,
    within: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """One round: build, warm up, time, and let go; steps are taken within `within`, as memory is counted from there."""
    torch.manual_seed(0)
    step, backbone = one.make(setting, one.kind, one.lora)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    found = []
    with within():
        for number in range(2):
            step(number)
        for number in range(2, 2 + steps):
            synchronize()
            began = time.perf_counter()
            step(number)
            synchronize()
            found.append(time.perf_counter() - began)
    timed.rounds.append(found)
    timed.peak = max(timed.peak, torch.cuda.max_memory_allocated())
    if not timed.weights:
        timed.weights = sum(value.numel() for name, value in backbone.network.named_parameters() if "lora_" not in name)
        timed.operations = operations(backbone, setting, one)


def computed(one: Contestant, setting: Setting) -> int:
    """The bytes that a contestant's tensors take at the most, by the planner; as max_memory_allocated counts them."""
    config, sizes = setting.config(one.lora), setting.sizes
    architecture, ours = sizes.architectures[one.kind], one.make is not plain_step
    case = Case(sizes.side, architecture.words[0], setting.precision, ours, config.lora)
    profile = traced(architecture, case)
    images = setting.batch * (1 if one.make is two_passes else 2)
    passing = activations(profile, images, setting.checkpointing)
    trained = profile.tuned * (4 + 4 + 8)  # weights, gradients, AdamW's state
    if ours:
        frozen = weights_bytes(profile, config) if one.lora else 4 * profile.weights
    else:
        width = 4 if setting.precision == "no" else 2
        frozen = width * ((2 if one.lora else 1) * profile.weights + _encoder_weights(sizes))
        vae = encoders(sizes, torch.device("meta"), setting.dtype)[0]
        passing = max(passing, setting.batch * autoencoder_peaks(vae, architecture, case)[0])
    return int(frozen + trained + passing)


def _encoder_weights(sizes: Sizes) -> int:
    """Of the autoencoder and both text encoders."""
    return sum(
        one.numel() for part in encoders(sizes, torch.device("meta"), torch.float32) for one in part.parameters()
    )


def operations(backbone: Backbone, setting: Setting, one: Contestant) -> float:
    """Floating-point operations that a step needs: both branches through reference and policy, and back.

    Back is as much as forward for a LoRA, which needs the gradient by activations alone, and twice that for all
    weights. What gradient checkpointing computes again does not count, nor do encoders.
    """
    from torch.utils.flop_counter import FlopCounterMode

    batch = random_cache(setting, one.kind).batch([0], [False]).to(next(backbone.network.parameters()).device)
    timesteps = torch.full((1,), 500, device=batch.winner.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.predict(batch.winner, timesteps, batch.conditions)
    return float(counter.get_total_flops()) * 2 * setting.batch * (3 if one.lora else 4)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(results: Mapping[Contestant, Timed], setting: Setting, peak: float | None) -> str:
    """Markdown: each contestant; speed and memory are ours over those of the plain step before it.

    What was not measured, without a GPU memory among it, has an empty cell.
    """
    columns = (
        *("step", "weights", "pairs/s (rounds), measured", "share of peak", "speed"),
        *("peak memory, GiB, measured", "ratio", "peak memory, GiB, computed", "ratio"),
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    before: Timed | None = None
    for one, timed in results.items():
        if timed.failed:
            lines.append(f"| {one.name} | {timed.failed} |{' |' * (len(columns) - 2)}")
            before = None if one.make is plain_step else before
            continue
        against = before if one.make is not plain_step and one.kind == "sdxl" else None
        fast = speed = share = weights = ""
        if timed.rounds:
            rounds = ", ".join(f"{setting.batch / median(steps):.3g}" for steps in timed.rounds)
            fast = f"{setting.batch / timed.seconds:.3g} ({rounds})"
            speed = f"{against.seconds / timed.seconds:.2f} x" if against and against.rounds else ""
            share = f"{100 * timed.operations / timed.seconds / peak:.0f} %" if peak and timed.operations else ""
            weights = f"{timed.weights / 1e6:,.3f} M"
        memory = (
            cell
            for held, theirs in ((timed.peak, against and against.peak), (timed.computed, against and against.computed))
            for cell in (f"{held / 2**30:.3g}" if held else "", f"{held / theirs:.2f} x" if held and theirs else "")
        )
        lines.append(f"| {' | '.join((one.name, weights, fast, share, speed, *memory))} |")
        before = timed if one.make is plain_step else before
    return "\n".join(lines)


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="true" if cuda else "small")
    parser.add_argument("--batch", type=int, default=4, help="pairs a step")
    parser.add_argument("--precision", choices=["bf16", "no"], default="bf16" if cuda else "no")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="timed in each round, after 2 that are not")
    parser.add_argument("--no-checkpointing", action="store_true", help="without gradient checkpointing")
    parser.add_argument("--computed", action="store_true", help="compute the memory only; measure nothing")
    parser.add_argument("--only", default="", help="contestants whose names have this in them")
    asked = parser.parse_args()
    chosen = [one for one in CONTESTANTS if asked.only in one.name]
    results = {one: Timed([]) for one in chosen}
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(SIZES[asked.size], asked.batch, asked.precision, not asked.no_checkpointing, Path(folder))
        for one in chosen:
            results[one].computed = computed(one, setting)
        for _ in range(0 if asked.computed else asked.rounds):
            run_round(results, setting, asked.steps)
    device = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} thread(s)"
    device = "nothing was measured" if asked.computed else device
    peak = peak_of_device(device) if asked.precision == "bf16" else None
    print(
        f"{device}; torch {torch.__version__}; {asked.precision}; size {asked.size}, {setting.sizes.side} px; "
        f"{asked.batch} pairs a step; gradient checkpointing {'off' if asked.no_checkpointing else 'on'}; medians; "
        f"memory without CUDA's context ({CONTEXT / 2**30} GiB, assumed)\n"
    )
    print(table(results, setting, peak))


def run_round(results: Mapping[Contestant, Timed], setting: Setting, steps: int) -> None:
    """Each contestant once; one that does not fit says so."""
    for one, timed in results.items():
        if not timed.failed:
            try:
                measure(one, setting, steps, timed)
            except torch.OutOfMemoryError:
                timed.failed = "does not fit"
            gc.collect()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
