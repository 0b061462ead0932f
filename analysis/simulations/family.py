"""How many false verdicts has a ledger of claims of which none is so, and does a part of it say the same?"""

from functools import partial

import numpy as np

from analysis.claims.ledger import Entry, _with_verdicts
from analysis.claims.memorization import CLAIMS
from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Generator, correlated, effects
from analysis.statistics.hypotheses import above

SEEDS, TESTED = 5, 37
PART = 5
"""How many claims a sweep decides by itself."""
REAL = 2.5
"""The effect, in standard deviations over seeds, where a part of the ledger is held against all of it."""
HELD = ("held", "exceeded")


def _ledger(generator: Generator, shift: float, correlation: float) -> tuple[list[str], list[str]]:
    """Return the verdicts of a ledger, and those of its first claims where these alone are asked for.

    The others are decided all the same, as `ledger` does.
    """
    table = shift + correlated(generator, TESTED, SEEDS, correlation)
    findings = [above(effects(row[None]), "greater") for row in table]
    entries = [Entry(claim, "", finding) for claim, finding in zip(CLAIMS[:TESTED], findings, strict=True)]
    whole = [entry.verdict for entry in _with_verdicts(entries)]
    return whole, [entry.verdict for entry in _with_verdicts(entries)[:PART]]


def _null(generator: Generator, correlation: float) -> tuple[Number, ...]:
    verdicts, _ = _ledger(generator, 0.0, correlation)
    held = sum(verdict in HELD for verdict in verdicts)
    refuted = sum(verdict == "not held" for verdict in verdicts)
    return held, refuted, held > 0, refuted > 0


def _parts(generator: Generator) -> tuple[Number, ...]:
    verdicts, alone = _ledger(generator, REAL, 0.0)
    return (float(np.mean([one != other for one, other in zip(verdicts[:PART], alone, strict=True)])),)


SCENARIOS = (
    *(
        Scenario(
            f"{TESTED} null claims, {SEEDS} seeds, correlation {correlation:g}",
            partial(_null, correlation=correlation),
            (
                Measure('false "held" a ledger', 0.05, most=0.05),
                Measure('false "not held" a ledger', 0.05, most=0.05),
                Measure('ledgers with a false "held"', 0.05, most=0.05),
                Measure('ledgers with a false "not held"', 0.05, most=0.05),
            ),
            400,
        )
        for correlation in (0.0, 0.5)
    ),
    Scenario(
        f"{TESTED} true claims, {SEEDS} seeds, {PART} of them also by themselves",
        _parts,
        (Measure("verdicts that differ by what was asked for", 0.0, most=0.0),),
        100,
    ),
)
