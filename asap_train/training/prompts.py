"""Prompts of validation and scoring, encoded once, as arguments of a pipeline's call: CACHE/prompt-HASH.safetensors.

In training the text encoders are not in memory, and a fit that is resumed need not load them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from asap_train.files import tensor_errors
from hafbench.files import write_whole

if TYPE_CHECKING:
    from asap_train.backbones import Backbone

OWN = re.compile(r"\.?prompt-[0-9a-f]{16}(\.\d+\.partial)?\.safetensors")
"""Files of prompts, finished or not."""
PLACE = "--out or cache_dir"
"""The settings that say where a cache is."""
LIST = re.compile(r"(?P<name>\w+)/(?P<place>\d+)")
"""The key of a tensor in a list, which some pipelines take in place of a batch."""


@dataclass(frozen=True)
class Prompts:
    """The encoded prompts of a model in `folder`; `negative` is the negative prompt that goes with each."""

    folder: Path
    negative: str | None = None

    def path(self, text: str) -> Path:
        """The file of a prompt."""
        said = f"{text}\0{self.negative}" if self.negative is not None else text
        return self.folder / f"prompt-{hashlib.sha256(said.encode()).hexdigest()[:16]}.safetensors"

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Those of these texts that have no file that can be read, each once."""
        return [text for text in dict.fromkeys(texts) if not _is_whole(self.path(text))]

    def write(self, backbone: Backbone, texts: Sequence[str]) -> None:
        """Encode these texts, with the backbone's text encoders."""
        with tensor_errors(self.folder, PLACE):
            for text in texts:
                tensors: dict[str, torch.Tensor] = {}
                for name, value in backbone.encode_prompt(text, self.negative).items():
                    listed = isinstance(value, list)
                    parts = {f"{name}/{place}": one for place, one in enumerate(value)} if listed else {name: value}
                    tensors |= {key: one.cpu().contiguous() for key, one in parts.items() if one is not None}
                # Processes that share a cache may write the same file at once.
                write_whole(self.path(text), partial(save_file, tensors), shared=True)

    def read(self, text: str) -> Mapping[str, Any]:
        """The arguments of a pipeline's call for one text, on the CPU: tensors, or lists of them."""
        found: dict[str, Any] = {}
        for key, value in sorted(load_file(self.path(text)).items()):
            if listed := LIST.fullmatch(key):
                found.setdefault(listed["name"], []).append(value)
            else:
                found[key] = value
        return found

    def batch(self, texts: Sequence[str], device: Any) -> Mapping[str, Any] | None:
        """Those of several texts together; None where they have different lengths, and go one by one."""
        return _together([self.read(text) for text in texts], device)


@dataclass(frozen=True)
class LivePrompts:
    """Prompts that are encoded whenever they are drawn, since the text encoders are tuned."""

    backbone: Backbone
    negative: str | None = None

    def batch(self, texts: Sequence[str], device: Any) -> Mapping[str, Any] | None:
        """As `Prompts.batch`."""
        return _together([self.backbone.encode_prompt(text, self.negative) for text in texts], device)


def _together(read: Sequence[Mapping[str, Any]], device: Any) -> dict[str, Any] | None:
    made: dict[str, Any] = {}
    for name, first in read[0].items():
        values = [one[name] for one in read]
        if isinstance(first, list):
            made[name] = [tensor for value in values for tensor in value]
        elif all(value.shape == first.shape for value in values):
            made[name] = torch.cat(values)
        else:
            return None
    return dict(send_to_device(made, device))


def _is_whole(path: Path) -> bool:
    try:
        return bool(load_file(path))
    except (OSError, SafetensorError):
        return False
