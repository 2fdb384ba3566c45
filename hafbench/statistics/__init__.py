"""Rates, corrections, comparisons and power, with intervals that account for the dependence of images of one prompt.

No torch. Everywhere `clusters` are prompt ids, one an image; None or NaN is a cluster of its own. How each method was
chosen and how often its intervals hold the truth: docs/studies/statistics.md.
"""

from hafbench.statistics.agreement import Kappa, cohen_kappa
from hafbench.statistics.corrected import Accuracy, Corrected, corrected_rate, prediction_powered_rate
from hafbench.statistics.distance import Distance, kernel_distance
from hafbench.statistics.labelled import (
    LabelledDifference,
    LabelledImages,
    LabelledRate,
    labelled_difference,
    labelled_rate,
)
from hafbench.statistics.paired import (
    Difference,
    Equivalence,
    WinTieLoss,
    compare_means,
    compare_wins,
    equivalence,
    holm,
)
from hafbench.statistics.power import Power, power_of
from hafbench.statistics.rates import Mean, Rate, error_rate, mean_interval
from hafbench.statistics.unjudged import Unjudged, compare_unjudged

__all__ = [
    "Accuracy",
    "Corrected",
    "Difference",
    "Distance",
    "Equivalence",
    "Kappa",
    "LabelledDifference",
    "LabelledImages",
    "LabelledRate",
    "Mean",
    "Power",
    "Rate",
    "Unjudged",
    "WinTieLoss",
    "cohen_kappa",
    "compare_means",
    "compare_unjudged",
    "compare_wins",
    "corrected_rate",
    "equivalence",
    "error_rate",
    "holm",
    "kernel_distance",
    "labelled_difference",
    "labelled_rate",
    "mean_interval",
    "power_of",
    "prediction_powered_rate",
]
