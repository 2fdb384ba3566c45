"""ASAP: tune a text-to-image model on localized anatomical preferences (arXiv 2605.25759).

import asap_train
fit = asap_train.fit(asap_train.FitConfig.of("mannequin", pairs="hap", out="fits/a"))
fit.scores.choice
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hafbench.lazy import exported

if TYPE_CHECKING:
    from asap_train.api import Fit, export_lora, fit, score_checkpoint, score_fit
    from asap_train.data.redrawing import redraw_pairs
    from asap_train.data.spec import RedrawSpec, SynthSpec
    from asap_train.data.synthesis import synth
    from asap_train.training.config import FitConfig, LoraSettings, ScoreSettings

# By module, so that `import asap_train` imports none of them.
_PUBLIC = {
    "asap_train.api": ("Fit", "export_lora", "fit", "score_checkpoint", "score_fit"),
    "asap_train.data.redrawing": ("redraw_pairs",),
    "asap_train.data.spec": ("RedrawSpec", "SynthSpec"),
    "asap_train.data.synthesis": ("synth",),
    "asap_train.training.config": ("FitConfig", "LoraSettings", "ScoreSettings"),
}

__all__ = [
    "Fit",
    "FitConfig",
    "LoraSettings",
    "RedrawSpec",
    "ScoreSettings",
    "SynthSpec",
    "export_lora",
    "fit",
    "redraw_pairs",
    "score_checkpoint",
    "score_fit",
    "synth",
]

__getattr__ = exported(__name__, _PUBLIC)
