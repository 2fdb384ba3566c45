"""Two or more runs side by side: what they share, and what differs on that."""

from hafbench.comparison.measured import Comparison, Measured, Versus, compare_runs
from hafbench.comparison.shared import Shared

__all__ = ["Comparison", "Measured", "Shared", "Versus", "compare_runs"]
