"""Is the true positive rate at a low false positive rate that which a threshold of this rate has?

Non-members' scores are standard normal, and members' are shifted, so that the true curve is known.

One target's rate is that of a threshold which an attacker can set, whose own false positive rate varies: on the largest
of 1,000 non-members it has the Beta distribution of (1, 1000), whose mean is 0.1%. As the true curve is concave, the
mean of its values there lies below its value at the mean, by an eighth where members are shifted by 1.5. No other
threshold helps, for the next one's rate is twice as large. Nor can it be corrected for: where there is nothing to find,
half of all targets have a rate of 0, from which a correction leads below 0, and cut off there the mean would be some
15% too large. So one target is asked whether its rate is that of its threshold over this distribution. A mean over
targets needs no cutting off, and is asked for the curve itself.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy import integrate, stats

from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Generator, halves
from study.mia.intervals import mean_roc, mean_tpr
from study.mia.roc import attack_metrics

RATES = {0.01: "tpr_at_1e2fpr", 0.001: "tpr_at_1e3fpr"}


def _tpr(generator: Generator, non_members: int, rates: Sequence[float], shift: float) -> tuple[Number, ...]:
    is_member = np.arange(2 * non_members) < non_members
    found = attack_metrics(generator.normal(size=2 * non_members) + shift * is_member, is_member)
    return tuple(getattr(found, RATES[rate]) for rate in rates)


def _roc(generator: Generator, non_members: int, shift: float) -> tuple[Number, ...]:
    """Return the true positive rates of the mean curve of four targets."""
    is_member = np.tile(np.arange(2 * non_members) < non_members, (4, 1))
    curve = mean_roc(generator.normal(size=is_member.shape) + shift * is_member, is_member, points=4)
    return tuple(float(np.interp(rate, curve.fpr, curve.tpr)) for rate in RATES)


def _interval(generator: Generator, models: int, samples: int, rate: float, shift: float) -> tuple[Number, ...]:
    """Return whether the interval of a mean rate over targets holds the true one; half of the samples are exposed."""
    is_member = halves(generator, models, samples)
    exposed = generator.random(samples) < 0.5
    found = mean_tpr(generator.normal(size=is_member.shape) + shift * exposed * is_member, is_member, rate)
    assert found.low is not None
    assert found.high is not None
    return (found.low <= (rate + _on_curve(rate, shift)) / 2 <= found.high,)


def _on_curve(rate: float, shift: float) -> float:
    """Return the true positive rate of the threshold that has a false positive rate."""
    return float(stats.norm.sf(stats.norm.isf(rate) - shift))


def _of_threshold(rate: float, shift: float, non_members: int) -> float:
    """Return the mean true positive rate of the threshold on the non-member whose rank has a rate on average."""
    rank = int(rate * (non_members + 1) + 1e-9)
    false = stats.beta(rank, non_members + 1 - rank)
    return float(integrate.quad(lambda share: _on_curve(float(false.ppf(share)), shift), 0, 1)[0])


def _world(shift: float) -> str:
    return f"members shifted by {shift:g}" if shift else "nothing to find"


def _threshold(non_members: int, rates: Sequence[float], shift: float, replicates: int) -> Scenario:
    """Return the scenario of one target's thresholds."""
    draw = partial(_tpr, non_members=non_members, rates=rates, shift=shift)
    measures = [_measure(rate, rate) for rate in rates]
    if shift:
        true = {rate: _of_threshold(rate, shift, non_members) for rate in rates}
        measures = [
            Measure(f"TPR of the threshold at {rate:.1%} FPR", true[rate], 0.98 * true[rate], 1.02 * true[rate])
            for rate in rates
        ]
    return Scenario(f"{non_members:,} non-members, {_world(shift)}", draw, tuple(measures), replicates)


def _mean_curve(non_members: int, shift: float, replicates: int) -> Scenario:
    """Return the scenario of the mean curve of four targets."""
    return Scenario(
        f"{non_members:,} non-members, {_world(shift)}, the mean curve of 4 targets",
        partial(_roc, non_members=non_members, shift=shift),
        tuple(_measure(rate, _on_curve(rate, shift)) for rate in RATES),
        replicates,
    )


def _measure(rate: float, true: float) -> Measure:
    """Return the measure of a true positive rate; a threshold that lies on a sample may be a tenth off."""
    return Measure(f"TPR at {rate:.1%} FPR", true, 0.9 * true, 1.1 * true)


SCENARIOS = (
    _threshold(100, (0.01,), 0.0, 20_000),
    _threshold(1000, (0.01, 0.001), 0.0, 20_000),
    _threshold(5000, (0.001,), 0.0, 8_000),
    _threshold(1000, (0.001,), 1.5, 3_000),
    _mean_curve(1000, 0.0, 5_000),
    _mean_curve(1000, 1.5, 1_000),
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
