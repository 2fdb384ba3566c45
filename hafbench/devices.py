"""Which torch device to compute on: the same words for generators and scorers."""

from __future__ import annotations

from hafbench.errors import HafError


def pick_device(wanted: str) -> str:
    """A torch device that is there: `auto` takes CUDA, then MPS, then the CPU."""
    import torch

    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if found[name])
    kind, _, index = wanted.partition(":")
    if kind not in found or (index and not index.isdigit()):
        raise HafError(f"--device {wanted}: write auto, cpu, cuda, cuda:1 or mps.")
    if not found[kind] or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        raise HafError(f"--device {wanted}: torch sees no such device here; --device auto uses an available device.")
    return wanted
