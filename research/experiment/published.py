"""Diffusion-DPO's published training script on our model and pairs, and the trainer's own parts on the same batches.

    git clone https://github.com/SalesforceAIResearch/DiffusionDPO
    python research/experiment/published.py --script DiffusionDPO/train.py --pairs DIR/pairs/rendered --steps 20

The script runs as it is. It predicts noise with a U-Net; what it loads by name is replaced before it starts: its
scheduler mixes latents and noise as our rectified flow does, and its network gives velocity + latents, so that its
residual against the noise is the one of the velocity, (v + x_0) - n = v - (n - x_0). It tunes all weights and has the
reference as a second network. What it draws is recorded; then `residuals_of`, `compute`, AdamW and the schedule of
asap-train take the same steps, and losses and weights are compared. Both networks are in double precision: in single
precision beta times the rounding of delta would be all that is seen.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import tempfile
from copy import copy, deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from asap_train.backbones import Backbone, Conditions, load_backbone
from asap_train.hap.read import read_table, rows_by_id
from asap_train.training.cache import Batch
from asap_train.training.config import FitConfig
from asap_train.training.losses import compute
from asap_train.training.objectives import LossSettings
from asap_train.training.optimizers import make_optimizer, rate_factor, set_rate
from asap_train.training.residuals import residuals_of
from hafbench.errors import HafError


@dataclass
class Recorded:
    """The batches that the script took and its losses; `captions` in the order of their numbers."""

    backbone: Backbone
    captions: tuple[str, ...]
    conditions: Conditions
    latents: Tensor = field(default_factory=lambda: torch.empty(0))
    timesteps: Tensor = field(default_factory=lambda: torch.empty(0))
    batches: list[tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)
    """Latents, noise and timesteps of winners, then losers, and the numbers of the captions: each (2 b, ...)."""
    losses: list[float] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)


class Scheduler:
    """What the script takes for its noise schedule."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.config = SimpleNamespace(num_train_timesteps=1000, prediction_type="epsilon")

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t, with the script's uniform timesteps led on to the model's own distribution."""
        backbone = self.recorded.backbone
        self.recorded.timesteps = backbone.draw_timesteps((timesteps.double() + 0.5) / 1000)
        self.recorded.latents = latents
        self.recorded.batches.append((latents, noise, self.recorded.timesteps, torch.empty(0)))
        return backbone.noised(latents, noise, self.recorded.timesteps)


class Network(torch.nn.Module):
    """What the script takes for a U-Net."""

    def __init__(self, recorded: Recorded) -> None:
        super().__init__()
        self.network = deepcopy(recorded.backbone.network)
        self._recorded, self._backbone = recorded, copy(recorded.backbone)
        self._backbone.network = self.network

    def forward(self, noisy: Tensor, timesteps: Tensor, words: Tensor, added_cond_kwargs: None) -> Any:
        """Velocity + latents."""
        numbers = words[:, 0, 0].long()
        self._recorded.batches[-1] = (*self._recorded.batches[-1][:3], numbers)
        conditions = {name: value[numbers] for name, value in self._recorded.conditions.items()}
        velocity = self._backbone.predict(noisy, self._recorded.timesteps, conditions)
        return SimpleNamespace(sample=velocity + self._recorded.latents)

    def enable_xformers_memory_efficient_attention(self) -> None:
        """The script insists on it."""

    def to(self, *_: Any, **__: Any) -> Network:
        """On the CPU and in double precision, whatever the script would have."""
        return self


class Autoencoder:
    """What the script takes for its autoencoder: our latents, the mean of the distribution, already scaled."""

    config = SimpleNamespace(scaling_factor=1.0)

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded

    def encode(self, pixels: Tensor) -> Any:
        """Latents."""
        latents = self.recorded.backbone.encode_images(pixels).double()
        return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda: latents))

    def requires_grad_(self, _: bool) -> None:
        """Frozen already."""

    def to(self, *_: Any, **__: Any) -> None:
        """On the CPU already."""


class Texts(Autoencoder):
    """What the script takes for tokenizer and text encoder: a caption is its number."""

    model_max_length = 1

    def __call__(self, given: Any, **_: Any) -> Any:
        """Numbers of captions, or what the text encoder makes of them."""
        if isinstance(given, Tensor):
            return (given[:, :, None].float(),)
        return SimpleNamespace(input_ids=torch.tensor([[self.recorded.captions.index(text)] for text in given]))


def loading(make: Any) -> Any:
    """A class whose from_pretrained gives `make()`."""
    return SimpleNamespace(from_pretrained=lambda *_, **__: make())


def script_module(path: Path, recorded: Recorded, dataset: Any) -> ModuleType:
    """The script, imported, with what it loads replaced."""
    xformers = ModuleType("xformers")
    xformers.__version__ = "0.0.20"  # type: ignore[attr-defined]
    sys.modules.setdefault("xformers", xformers)
    spec = importlib.util.spec_from_file_location("published_dpo", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise HafError(f"{path} is not the script: clone github.com/SalesforceAIResearch/DiffusionDPO first.")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    class Listening(module.Accelerator):  # type: ignore[misc]
        def log(self, values: dict[str, float], *_: Any, **__: Any) -> None:
            if "train_loss" in values:
                recorded.losses.append(values["train_loss"])

    class Tuned:
        def __init__(self, unet: Network) -> None:
            self.unet = unet

        def save_pretrained(self, _: str) -> None:
            recorded.weights.update({name: value.detach() for name, value in self.unet.network.named_parameters()})

    module.Accelerator = Listening
    module.is_xformers_available = lambda: True
    module.load_dataset = lambda *_, **__: dataset
    module.DDPMScheduler = loading(lambda: Scheduler(recorded))
    module.UNet2DConditionModel = loading(lambda: Network(recorded))
    module.AutoencoderKL = loading(lambda: Autoencoder(recorded))
    module.CLIPTokenizer = module.CLIPTextModel = loading(lambda: Texts(recorded))
    module.StableDiffusionPipeline = SimpleNamespace(from_pretrained=lambda *_, unet, **__: Tuned(unet))
    return module


def as_dataset(pairs: Path, count: int) -> Any:
    """The first pairs as the script's data set has them."""
    import datasets

    ids = list(read_table(pairs, ["id"])["id"][:count])
    rows = list(rows_by_id(pairs, set(ids)))
    columns = {
        "jpg_0": [row["winner"]["bytes"] for row in rows],
        "jpg_1": [row["loser"]["bytes"] for row in rows],
        "label_0": [1] * len(rows),
        "caption": [row["caption"] for row in rows],
    }
    return datasets.DatasetDict(train=datasets.Dataset.from_dict(columns))


def run_script(asked: argparse.Namespace) -> Recorded:
    """The script from end to end."""
    dataset = as_dataset(asked.pairs, asked.count)
    backbone = load_backbone(asked.model)
    captions = tuple(dict.fromkeys(dataset["train"]["caption"]))
    with torch.no_grad():
        conditions = {name: value.double() for name, value in backbone.encode_texts(captions).items()}
    backbone.network.double()
    recorded = Recorded(backbone, captions, conditions)
    with tempfile.TemporaryDirectory() as out:
        sys.argv = [
            *(str(asked.script), "--pretrained_model_name_or_path", "ours", "--dataset_name", "ours"),
            *("--output_dir", out, "--resolution", "128", "--no_hflip", "--proportion_empty_prompts", "0"),
            *("--train_batch_size", str(asked.batch), "--max_train_steps", str(asked.steps), "--seed", "0"),
            *("--learning_rate", str(asked.rate), "--lr_warmup_steps", str(asked.warmup)),
            *("--mixed_precision", "no", "--beta_dpo", str(2 * asked.beta)),
        ]
        script_module(asked.script, recorded, dataset).main()
    return recorded


def run_ours(recorded: Recorded, asked: argparse.Namespace) -> tuple[list[float], dict[str, Tensor]]:
    """The same steps by the trainer's parts: losses, and the weights after the last."""
    config = FitConfig.of(
        *(asked.model, asked.pairs, "unused"),
        lora=None,
        score=None,
        learning_rate=asked.rate,
        lr_warmup_steps=asked.warmup,
    )
    policy, reference = copy(recorded.backbone), copy(recorded.backbone)
    policy.network, reference.network = deepcopy(recorded.backbone.network), recorded.backbone.network
    policy.network.train().requires_grad_(True)
    values = list(policy.network.parameters())
    optimizer, factor = make_optimizer(values, config), rate_factor(config)
    losses = []

    def refer(*given: Any) -> Tensor:
        with torch.no_grad():
            return reference.predict(*given)

    for step, (latents, noise, timesteps, numbers) in enumerate(recorded.batches):
        winner, loser = latents.chunk(2)
        conditions = {name: value[numbers.chunk(2)[0]] for name, value in recorded.conditions.items()}
        batch = Batch(winner, loser, torch.zeros_like(winner[:, :1]), conditions)
        half = len(winner)
        made = residuals_of(policy, policy.predict, refer, batch, noise[:half, None], timesteps[:half, None])
        loss = compute("dpo", made, LossSettings(beta=asked.beta))
        losses.append(float(loss.total.detach()))
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(values, config.max_grad_norm)
        set_rate(optimizer, config.learning_rate * factor(step))
        optimizer.step()
        optimizer.zero_grad()
    return losses, dict(policy.network.named_parameters())


def main() -> None:
    """Run both, and say how far they are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, required=True, help="train.py of their repository")
    parser.add_argument("--pairs", type=Path, required=True, help="a HAP data set")
    parser.add_argument("--model", default="mannequin")
    parser.add_argument("--count", type=int, default=256, help="pairs of it")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-5)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--beta", type=float, default=5000.0, help="ours; the script's is twice as large")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    recorded = run_script(asked)
    losses, weights = run_ours(recorded, asked)
    start = dict(recorded.backbone.network.named_parameters())
    print("step        theirs          ours")
    for step, (theirs, ours) in enumerate(zip(recorded.losses, losses, strict=True), 1):
        print(f"{step:4d}  {theirs:.10f}  {ours:.10f}")
    far, moved = (
        sum(float((one - other[name]).square().sum()) for name, one in weights.items()) ** 0.5
        for other in (recorded.weights, start)
    )
    print(f"Weights moved by {moved:.3e}; theirs and ours are {far:.3e} apart, {far / moved:.2e} of it.")


if __name__ == "__main__":
    try:
        main()
    except HafError as error:
        raise SystemExit(f"Error: {error}") from None
