"""HAF-Bench: how often does a text-to-image model get human anatomy wrong?

import hafbench
run = hafbench.run(hafbench.RunSpec(model="sdxl", suite="haf-50", seeds=2))
run.records[run.records.scorer == "hands"].sort_values("value", ascending=False)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hafbench.lazy import exported

if TYPE_CHECKING:
    from hafbench.api import calibrate, compare, report, run, score, score_subfolders
    from hafbench.errors import HafError
    from hafbench.runs import Run, read_run
    from hafbench.specs import GeneratorSpec, RunSpec, ScorerSpec, ScoreSpec
    from hafbench.types import Finding, Score

__version__ = "0.1.0"

# By module, so that `import hafbench` imports none of them.
_PUBLIC = {
    "hafbench.api": ("run", "score", "score_subfolders", "report", "compare", "calibrate"),
    "hafbench.specs": ("RunSpec", "ScoreSpec", "ScorerSpec", "GeneratorSpec"),
    "hafbench.runs": ("Run", "read_run"),
    "hafbench.types": ("Finding", "Score"),
    "hafbench.errors": ("HafError",),
}

__all__ = [
    "Finding",
    "GeneratorSpec",
    "HafError",
    "Run",
    "RunSpec",
    "Score",
    "ScoreSpec",
    "ScorerSpec",
    "calibrate",
    "compare",
    "read_run",
    "report",
    "run",
    "score",
    "score_subfolders",
]

__getattr__ = exported(__name__, _PUBLIC)
