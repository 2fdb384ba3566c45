"""ASAP: tune a text-to-image model on localized anatomical preferences (arXiv 2605.25759).

import asap_train
fit = asap_train.fit(asap_train.FitConfig.of("mannequin", pairs="hap", out="fits/a"))
fit.scores.choice
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asap_train.api import Fit, fit, score_checkpoint, score_fit
    from asap_train.data.spec import SynthSpec
    from asap_train.data.synthesis import synth
    from asap_train.training.config import FitConfig, LoraSettings, ScoreSettings

# By module, so that `import asap_train` imports none of them.
_PUBLIC = {
    "asap_train.api": ("Fit", "fit", "score_checkpoint", "score_fit"),
    "asap_train.data.spec": ("SynthSpec",),
    "asap_train.data.synthesis": ("synth",),
    "asap_train.training.config": ("FitConfig", "LoraSettings", "ScoreSettings"),
}
_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [
    "Fit",
    "FitConfig",
    "LoraSettings",
    "ScoreSettings",
    "SynthSpec",
    "fit",
    "score_checkpoint",
    "score_fit",
    "synth",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'asap_train' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
