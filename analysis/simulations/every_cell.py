"""How often is a claim on every cell held though one cell has no effect, and refuted though all have one?"""

from functools import partial

import numpy as np
from scipy import stats

from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Generator, correlated, effects, verdict
from analysis.statistics.hypotheses import every_cell, mean_of_intervals

SEEDS = 5
EFFECT = 3.0
"""The effect of a cell that has one, in standard deviations over seeds."""
Z = float(stats.norm.isf(0.025))
HELD = ("held", "exceeded")
FALSE = Measure('false "held"', 0.05, most=0.05)


def _verdict(generator: Generator, cells: int, without: int, correlation: float) -> str:
    shift = np.where(np.arange(cells) < without, 0.0, EFFECT)[:, None]
    finding = every_cell(effects(shift + correlated(generator, cells, SEEDS, correlation)), "greater")
    return verdict(finding)


def _one_without(generator: Generator, cells: int, correlation: float) -> tuple[Number, ...]:
    return (_verdict(generator, cells, 1, correlation) in HELD,)


def _all_null(generator: Generator, cells: int, correlation: float) -> tuple[Number, ...]:
    found = _verdict(generator, cells, cells, correlation)
    return found in HELD, found == "not held"


def _all_with(generator: Generator, cells: int, correlation: float) -> tuple[Number, ...]:
    found = _verdict(generator, cells, 0, correlation)
    return found in HELD, found == "not held"


def _intervals(generator: Generator, cells: int) -> tuple[Number, ...]:
    """Return whether effects that come with 95% intervals, as an attack's do, are held though one is nothing."""
    estimates = np.where(np.arange(cells) < 1, 0.0, 2 * EFFECT) + generator.normal(size=cells)
    intervals = [(estimate, estimate - Z, estimate + Z) for estimate in estimates.tolist()]
    finding = mean_of_intervals(intervals, 16, "greater", each=True)
    return (verdict(finding) in HELD,)


SCENARIOS = (
    *(
        Scenario(
            f"{cells} cells, {SEEDS} seeds, one cell without effect, correlation {correlation:g}",
            partial(_one_without, cells=cells, correlation=correlation),
            (FALSE,),
            1000,
        )
        for cells, correlation in ((4, 0.0), (4, 0.5), (20, 0.5))
    ),
    Scenario("an attack's AUCs in 4 cells, one without effect", partial(_intervals, cells=4), (FALSE,), 2000),
    Scenario(
        f"4 cells, {SEEDS} seeds, no effect at all, correlation 0.5",
        partial(_all_null, cells=4, correlation=0.5),
        (FALSE, Measure('false "not held"', 0.05, most=0.05)),
        1000,
    ),
    Scenario(
        f"4 cells, {SEEDS} seeds, an effect in all, correlation 0.5",
        partial(_all_with, cells=4, correlation=0.5),
        (Measure('true "held"', 1.0, least=0.8), Measure('false "not held"', 0.0, most=0.05)),
        1000,
    ),
)
