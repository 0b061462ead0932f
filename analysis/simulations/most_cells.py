"""How often is a claim on most cells held though too few have the effect, where cells share their seeds' streams?"""

from functools import partial

import numpy as np

from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Generator, correlated, effects, verdict
from analysis.statistics.hypotheses import most_cells

CELLS, SEEDS, SHARE = 20, 5, 0.9
EFFECT = 4.0
HELD = ("held", "exceeded")
FALSE = Measure('false "held"', 0.05, most=0.05)
FALSE_NOT = Measure('false "not held"', 0.05, most=0.05)


def _verdict(generator: Generator, with_effect: int, correlation: float) -> str:
    shift = np.where(np.arange(CELLS) < with_effect, EFFECT, 0.0)[:, None]
    finding = most_cells(effects(shift + correlated(generator, CELLS, SEEDS, correlation)), "greater", "lr", SHARE)
    return verdict(finding)


def _too_few(generator: Generator, with_effect: int, correlation: float) -> tuple[Number, ...]:
    return (_verdict(generator, with_effect, correlation) in HELD,)


def _nowhere(generator: Generator, correlation: float) -> tuple[Number, ...]:
    found = _verdict(generator, 0, correlation)
    return found in HELD, found == "not held"


def _all(generator: Generator, correlation: float) -> tuple[Number, ...]:
    found = _verdict(generator, CELLS, correlation)
    return found in HELD, found == "not held"


SCENARIOS = (
    *(
        Scenario(
            f"18 of {CELLS} cells claimed, {SEEDS} seeds, no effect at all, correlation {correlation:g}",
            partial(_nowhere, correlation=correlation),
            (FALSE, FALSE_NOT),
            500,
        )
        for correlation in (0.0, 0.3, 0.5)
    ),
    *(
        Scenario(
            f"18 of {CELLS} cells claimed, {SEEDS} seeds, an effect in 17, correlation {correlation:g}",
            partial(_too_few, with_effect=17, correlation=correlation),
            (FALSE,),
            500,
        )
        for correlation in (0.0, 0.5)
    ),
    Scenario(
        f"18 of {CELLS} cells claimed, {SEEDS} seeds, an effect in all, correlation 0.5",
        partial(_all, correlation=0.5),
        (Measure('true "held"', 1.0, least=0.8), Measure('false "not held"', 0.0, most=0.05)),
        600,
    ),
)
