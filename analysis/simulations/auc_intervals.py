"""How often does the interval of a mean AUC hold the true one, and is it as wide as the error is?

A member's score is higher by what its sample gives away, beside noise of its own; in small groups samples give away
differently much, and near 1 the scale of AUCs is short.
"""

from functools import partial

import numpy as np
from scipy import stats

from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Floats, Generator, halves
from study.mia.intervals import Interval, mean_auc

COVERED = Measure("coverage of the interval", 0.95, least=0.93)
VARIANCE = Measure("the interval's variance over the true one", 1.0, 0.8, 1.5)
OWN_NOISE = 1.0
"""The noise of a target on a sample in small groups, where samples differ by 1."""
WIDTH = 2 * float(stats.norm.isf(0.025))
"""The width of a 95% interval in standard errors."""


def _interval(generator: Generator, models: int, shifts: Floats, noise: float = 1.0) -> Interval:
    is_member = halves(generator, models, len(shifts))
    return mean_auc(noise * generator.normal(size=is_member.shape) + shifts * is_member, is_member)


def _against(true: float, found: Interval) -> tuple[bool, tuple[float, float]]:
    """Return whether an interval holds the true AUC, and its stated variance beside the squared error."""
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    return found.low <= true <= found.high, (((found.high - found.low) / WIDTH) ** 2, (found.mean - true) ** 2)


def _exposed(generator: Generator, models: int, samples: int, shift: float, share: float) -> tuple[Number, ...]:
    """Draw a D' of which a share of the samples gives away as much as it does, and the rest nothing."""
    true = float(share * stats.norm.cdf(shift / np.sqrt(2)) + (1 - share) / 2)
    return _against(true, _interval(generator, models, np.where(generator.random(samples) < share, shift, 0.0)))


def _differing(generator: Generator, models: int, samples: int, auc: float) -> Interval:
    """Draw a D' whose samples give away differently much, so that the true AUC is that."""
    shift = float(stats.norm.ppf(auc) * np.sqrt(1 + 2 * OWN_NOISE**2))
    return _interval(generator, models, generator.normal(shift, size=samples), OWN_NOISE)


def _small(generator: Generator, models: int, samples: int, auc: float) -> tuple[Number, ...]:
    return (_against(auc, _differing(generator, models, samples, auc))[0],)


def _separated(generator: Generator, models: int, samples: int, auc: float) -> tuple[Number, ...]:
    """Return whether the interval of a perfect separation has an extent; None where it isn't perfect."""
    found = _differing(generator, models, samples, auc)
    return (None if found.mean != 1 or found.low is None else found.low < 1,)


SCENARIOS = (
    Scenario(
        "16 models, 400 samples, half of which give themselves away",
        partial(_exposed, models=16, samples=400, shift=2.0, share=0.5),
        (COVERED, VARIANCE),
        500,
    ),
    Scenario(
        "16 models, 400 samples, the noise is of targets by samples alone",
        partial(_exposed, models=16, samples=400, shift=1.0, share=1.0),
        (COVERED, VARIANCE),
        500,
    ),
    *(
        Scenario(
            f"16 models, {samples} samples that differ, AUC {auc:g}",
            partial(_small, models=16, samples=samples, auc=auc),
            (COVERED,),
            1000,
        )
        for samples, auc in ((14, 0.7), (14, 0.99), (30, 0.9), (30, 0.99))
    ),
    Scenario(
        "6 models, 14 samples, AUC 0.999, perfectly separated by chance",
        partial(_separated, models=6, samples=14, auc=0.999),
        (Measure("intervals that have an extent", 1.0, least=1.0),),
        100,
    ),
)
