"""Is a difference of AUCs one of leakage, where the arms' shadows estimate it differently well?

In both arms a member's score is one and the same number of standard deviations higher, so that the best attack has the
same AUC on both. But in the one arm each sample has a standard deviation of its own, which shadows must estimate.
"""

from functools import partial

import numpy as np

from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Generator, halves
from study.mia.audit import MAIN_ATTACK, attack_scores
from study.mia.intervals import mean_auc_difference

SAMPLES = 200
SHIFT = 1.5
"""How many standard deviations a member's score is higher."""


def _difference(generator: Generator, models: int) -> tuple[Number, ...]:
    is_member = halves(generator, models, SAMPLES)
    own = np.exp(1.5 * generator.normal(size=SAMPLES))
    noise = generator.normal(size=is_member.shape) + SHIFT * is_member
    alike, apart = (attack_scores(MAIN_ATTACK, noise * spread, is_member) for spread in (1.0, own))
    found = mean_auc_difference(alike, apart, is_member)
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    return found.mean, not found.low <= 0 <= found.high


SCENARIOS = tuple(
    Scenario(
        f"{models} models, the same best attack",
        partial(_difference, models=models),
        (
            Measure("difference of AUCs", 0.0, -0.005, 0.005),
            Measure("intervals without 0", 0.05, most=0.07),
        ),
        draws,
    )
    for models, draws in ((8, 300), (16, 300), (32, 300))
)
