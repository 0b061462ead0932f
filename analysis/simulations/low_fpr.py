"""Is the true positive rate at a low false positive rate that which a threshold of this rate has?

Non-members' scores are standard normal, and members' are shifted, so that the true curve is known.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import stats

from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Generator
from study.mia.intervals import mean_roc
from study.mia.roc import attack_metrics

RATES = {0.01: "tpr_at_1e2fpr", 0.001: "tpr_at_1e3fpr"}


def _tpr(generator: Generator, non_members: int, rates: Sequence[float], shift: float) -> tuple[Number, ...]:
    is_member = np.arange(2 * non_members) < non_members
    found = attack_metrics(generator.normal(size=2 * non_members) + shift * is_member, is_member)
    return tuple(getattr(found, RATES[rate]) for rate in rates)


def _roc(generator: Generator, non_members: int) -> tuple[Number, ...]:
    """Return the true positive rates of the mean curve of four targets, where there is nothing to find."""
    is_member = np.tile(np.arange(2 * non_members) < non_members, (4, 1))
    curve = mean_roc(generator.normal(size=is_member.shape), is_member, points=4)
    return tuple(float(np.interp(rate, curve.fpr, curve.tpr)) for rate in (0.01, 0.001))


def _scenario(non_members: int, rates: Sequence[float], shift: float, replicates: int) -> Scenario:
    world = "nothing to find" if not shift else f"members shifted by {shift:g}"
    draw = partial(_tpr, non_members=non_members, rates=rates, shift=shift)
    measures = tuple(_measure(rate, float(stats.norm.sf(stats.norm.isf(rate) - shift))) for rate in rates)
    return Scenario(f"{non_members:,} non-members, {world}", draw, measures, replicates)


def _measure(rate: float, true: float) -> Measure:
    """Return the measure of a true positive rate; a threshold that lies on a sample may be a tenth off."""
    return Measure(f"TPR at {rate:.1%} FPR", true, 0.9 * true, 1.1 * true)


SCENARIOS = (
    _scenario(100, (0.01,), 0.0, 20_000),
    _scenario(1000, (0.01, 0.001), 0.0, 20_000),
    _scenario(5000, (0.001,), 0.0, 8_000),
    _scenario(1000, (0.001,), 1.5, 3_000),
    Scenario(
        "1,000 non-members, nothing to find, the mean curve of 4 targets",
        partial(_roc, non_members=1000),
        tuple(_measure(rate, rate) for rate in (0.01, 0.001)),
        5_000,
    ),
)
