"""The questions of the audit, each a file with its scenarios."""

from collections.abc import Mapping

from analysis.simulations import (
    accuracies,
    attacks,
    auc_intervals,
    every_cell,
    family,
    low_fpr,
    mixed_model,
    most_cells,
    shadows,
    ties,
    units,
)
from analysis.simulations.scenario import Scenario

QUESTIONS: Mapping[str, tuple[Scenario, ...]] = {
    "attacks": attacks.SCENARIOS,
    "shadows": shadows.SCENARIOS,
    "ties": ties.SCENARIOS,
    "every-cell": every_cell.SCENARIOS,
    "most-cells": most_cells.SCENARIOS,
    "units": units.SCENARIOS,
    "accuracies": accuracies.SCENARIOS,
    "family": family.SCENARIOS,
    "low-fpr": low_fpr.SCENARIOS,
    "auc-intervals": auc_intervals.SCENARIOS,
    "mixed-model": mixed_model.SCENARIOS,
}
"""The scenarios of each question by its name."""
