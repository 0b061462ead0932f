"""Is the true positive rate at a low false positive rate that which a threshold of this rate has?

Non-members' scores are standard normal, and members' are shifted, so that the true curve is known.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import stats

from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Generator, halves
from study.mia.intervals import mean_roc, mean_tpr
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


def _interval(generator: Generator, models: int, samples: int, rate: float, shift: float) -> tuple[Number, ...]:
    """Return whether the interval of a mean rate over targets holds the true one; half of the samples are exposed."""
    is_member = halves(generator, models, samples)
    exposed = generator.random(samples) < 0.5
    found = mean_tpr(generator.normal(size=is_member.shape) + shift * exposed * is_member, is_member, rate)
    assert found.low is not None
    assert found.high is not None
    true = (rate + float(stats.norm.sf(stats.norm.isf(rate) - shift))) / 2
    return (found.low <= true <= found.high,)


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
    *(
        Scenario(
            f"16 models, {samples:,} samples, half of which give themselves away, {rate:.1%}",
            partial(_interval, models=16, samples=samples, rate=rate, shift=3.0),
            (Measure("coverage of the TPR's interval", 0.95, least=0.93),),
            400,
        )
        for samples, rate in ((400, 0.01), (2000, 0.001))
    ),
)
