"""A denoiser's linear layers in 4 or 8 bits: what they are rounded to is what the model then is.

These are the layers that diffusers' quantization settings of the same names convert (BitsAndBytesConfig with nf4,
TorchAoConfig with Float8WeightOnlyConfig), but only those within the repeated blocks, which have nearly all weights.
They are converted after loading, so that single files can be quantized, too, and machines without a GPU.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from hafbench.errors import HafError, Unavailable

if TYPE_CHECKING:
    from torch.nn import Linear, Module

Quantization = Literal["none", "nf4", "fp8"]
PACKAGES: dict[Quantization, str] = {"nf4": "bitsandbytes", "fp8": "torchao"}


def check_quantization(kind: Quantization) -> None:
    """Raise Unavailable where the package that it needs is not installed."""
    package = PACKAGES.get(kind)
    if package and find_spec(package) is None:
        raise Unavailable(f"quantization {kind} needs `pip install {package}`.")


def quantize(network: Any, kind: Quantization, device: Any) -> None:
    """Bring a network to a device, the linear layers of its repeated blocks quantized: one layer after the other.

    nf4: 4-bit NormalFloat in groups of 64 with one scale each, the scales in 8 bits (Dettmers et al., arXiv
    2305.14314); fp8: e4m3 with a scale for each row. Products are computed in the dtype that the weights had. Raises
    Unavailable without the package, and HafError for a network that does not say which its blocks are.
    """
    check_quantization(kind)
    if kind != "none":
        names = block_layers(network)
        {"nf4": _to_nf4, "fp8": _to_fp8}[kind](network, names, device)
    network.to(device)


def blocks(network: Any) -> list[Module]:
    """The repeated blocks of a network of diffusers, which its class names; raises HafError for one that names none.

    Those that diffusers compiles as regions; of a class without such a list, as SD 3's, those that it does not split.
    """
    kinds = getattr(network, "_repeated_blocks", None) or getattr(network, "_no_split_modules", None) or ()
    found = [module for module in network.modules() if type(module).__name__ in kinds]
    if not found:
        raise HafError(f"{type(network).__name__} of this diffusers does not say which its repeated blocks are.")
    return found


def block_layers(network: Any) -> list[str]:
    """The names of the linear layers within the blocks."""
    from torch.nn import Linear

    own = {id(layer) for block in blocks(network) for layer in block.modules() if isinstance(layer, Linear)}
    return [name for name, module in network.named_modules() if id(module) in own]


def _to_nf4(network: Any, names: list[str], device: Any) -> None:
    # It warns on every start that an optional kernel is not installed.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for name in names:
        layer = network.get_submodule(name)
        network.set_submodule(name, _nf4(layer, device))
    network.is_loaded_in_4bit = True  # by which peft knows its layers


def _nf4(layer: Linear, device: Any) -> Any:
    from bitsandbytes import nn

    made: Any = nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=layer.weight.dtype,
        quant_type="nf4",
        device="meta",
    )
    made.weight = nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4").to(device)
    made.bias = layer.bias
    # On some CPUs it would repack its weights for inference, and could not be trained through any more.
    made.support_avx512bf16_for_cpu = False
    made.train(layer.training)
    made.register_forward_pre_hook(_as_autocast)
    return made


def _as_autocast(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Under autocast these layers give what they are given: without this, single precision behind a normalization."""
    import torch

    kind = given[0].device.type
    return (given[0].to(torch.get_autocast_dtype(kind)), *given[1:]) if torch.is_autocast_enabled(kind) else given


def _to_fp8(network: Any, names: list[str], device: Any) -> None:
    from torchao.quantization import Float8WeightOnlyConfig, quantize_

    network.requires_grad_(False)
    wanted = set(names)
    chosen: Callable[[Any, str], bool] = lambda module, name: name in wanted  # noqa: E731
    quantize_(network, Float8WeightOnlyConfig(), filter_fn=chosen, device=device)
    # Its layers cannot be merged with LoRA, which nobody here does.
    warnings.filterwarnings("ignore", "TorchaoLoraLinear was instantiated without")
