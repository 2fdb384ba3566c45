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


def pick_devices(wanted: str) -> tuple[str, ...]:
    """The torch devices of `--devices`: `all` GPUs, their numbers such as `0,1`, or names such as `cuda:0,cpu`."""
    import torch

    if wanted == "all":
        found = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        if not found:
            raise HafError("--devices all: torch sees no GPU here; leave it out, or name devices, such as cpu,cpu.")
        return found
    names = [f"cuda:{name}" if name.isdigit() else name for name in map(str.strip, wanted.split(","))]
    try:
        return tuple(map(pick_device, names))
    except HafError as error:
        raise HafError(str(error).replace("--device ", f"--devices {wanted}: ", 1)) from error
