"""Two or more runs side by side: what they share, and what differs on that."""

from hafbench.comparison.metrics import Comparison, MetricComparison, Versus, compare_runs
from hafbench.comparison.shared import Shared

__all__ = ["Comparison", "MetricComparison", "Shared", "Versus", "compare_runs"]
