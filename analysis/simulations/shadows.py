"""Is a difference of AUCs one of leakage, where the arms' shadows estimate it differently well?

In both arms a member's score is one and the same number of standard deviations higher, so that the best attack has the
same AUC on both. But in the one arm each sample has a standard deviation of its own, which shadows must estimate.
"""

from functools import partial

import numpy as np

from analysis.cells import CELL_SETTINGS
from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Floats, Generator, Mask, halves
from analysis.statistics.membership import CellAudit, auc_differences, difference_limits
from study.mia.audit import MAIN_ATTACK, STEADY_ATTACK
from study.trial import Trial

SAMPLES = 200
SHIFT = 1.5
"""How many standard deviations a member's score is higher."""


def _audited(norm: str, scores: Floats, is_member: Mask) -> CellAudit:
    settings = Trial(norm=norm).settings()
    shown = {**{name: settings[name] for name in CELL_SETTINGS}, "seed": 0}
    models, groups = np.arange(len(scores)), np.full(scores.shape[1], "clean")
    return CellAudit(shown, models, scores[None], is_member, is_member, groups, 0)


def _differences(generator: Generator, models: int) -> tuple[Number, ...]:
    """Return the difference of arms that leak alike, whether its interval lacks 0, and its limits of many shadows."""
    is_member = halves(generator, models, SAMPLES)
    own = np.exp(1.5 * generator.normal(size=SAMPLES))
    noise = generator.normal(size=is_member.shape) + SHIFT * is_member
    arms = [_audited("batch", noise, is_member), _audited("none", noise * own, is_member)]
    (row,) = auc_differences(arms, [MAIN_ATTACK]).to_dict("records")
    limits = difference_limits(arms).set_index("attack")["limit"]
    return row["difference"], not row["low"] <= 0 <= row["high"], limits[MAIN_ATTACK], limits[STEADY_ATTACK]


SCENARIOS = tuple(
    Scenario(
        f"{models} models, the same best attack",
        partial(_differences, models=models),
        (
            # It has a bias, which the limits are there to show.
            Measure("difference of AUCs", 0.0),
            Measure("intervals without 0", 0.05),
            Measure("difference in the limit of many shadows", 0.0, -0.01, 0.01),
            Measure(f"difference of {STEADY_ATTACK} in the limit", 0.0, -0.01, 0.01),
        ),
        draws,
    )
    for models, draws in ((8, 300), (16, 200), (32, 100))
)
