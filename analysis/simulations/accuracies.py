"""What is the error of a test of accuracies near 0 and 1, each a share of a count, and can equal ones be told apart?"""

from functools import partial

import numpy as np

from analysis.metrics import select_metrics
from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import SAMPLES, Generator, effects, members, verdict
from analysis.statistics.accuracies import OWN, REFERENCE
from analysis.statistics.hypotheses import Effects, above
from analysis.statistics.paired import compare

MARGIN = 0.99
SIDES = ("greater", "less")
HELD = ("held", "exceeded")
METRIC = select_metrics(["mem_acc"])
FALSE = tuple(Measure(f'false "held", claimed {side}', 0.05, most=0.05) for side in SIDES)


def _at_margin(generator: Generator, samples: int, seeds: int, spread: float) -> tuple[Number, ...]:
    """Test accuracies whose mean is the margin; seeds vary by a beta distribution, if they have a spread."""
    means = generator.beta(MARGIN / spread, (1 - MARGIN) / spread, seeds) if spread else np.full(seeds, MARGIN)
    found = effects(generator.binomial(samples, means)[None] / samples, samples=samples)
    tested = [above(found, side, MARGIN) for side in SIDES]
    return tuple(verdict(finding) in HELD for finding in tested)


def _beyond(generator: Generator, samples: int, seeds: int, accuracy: float) -> tuple[Number, ...]:
    """Test accuracies that lie beyond the margin, on their own side."""
    found = effects(generator.binomial(samples, accuracy, seeds)[None] / samples, samples=samples)
    return (verdict(above(found, "greater" if accuracy > MARGIN else "less", MARGIN)) in HELD,)


def _spread_text(spread: float) -> str:
    deviation = np.sqrt(MARGIN * (1 - MARGIN) * spread / (1 + spread))
    return f" that vary by {deviation:.3f}" if spread else ""


def _all_or_nothing(_: Generator, seeds: int) -> tuple[Number, ...]:
    """Compare 1.0 with 0.0, on all seeds."""
    frame = effects(np.ones((1, seeds))).frame
    shares = dict(zip((*OWN, *REFERENCE), (1.0, SAMPLES, 0.0, SAMPLES), strict=True))
    finding = above(Effects(frame.assign(**shares)), "greater")
    return (verdict(finding) in HELD,)


def _without_spread(_: Generator, seeds: int, arm: float) -> tuple[Number, ...]:
    """Compare an arm of one accuracy with one of accuracy 1, on all seeds; return whether there is a p-value."""
    frame = members(
        {"norm": ("batch", "none")}, seeds, 1, lambda trial, *_: arm if trial.norm == "batch" else 1.0, "mem_acc"
    )
    (row,) = compare(frame, "norm", alternative="two-sided", metrics=METRIC).to_dict("records")
    return (bool(row["p"] > 0.05 if arm == 1 else row["p"] <= 2 * 0.5**seeds),)


SCENARIOS = (
    *(
        Scenario(
            f"accuracy {MARGIN:g} of {samples} samples, {seeds} seeds{_spread_text(spread)}",
            partial(_at_margin, samples=samples, seeds=seeds, spread=spread),
            FALSE,
            2000,
        )
        for samples, seeds, spread in ((50, 3, 0.0), (100, 5, 0.0), (500, 3, 0.0), (500, 3, 0.01), (2000, 5, 0.02))
    ),
    *(
        Scenario(
            f"accuracy {accuracy:g} of {samples} samples, 5 seeds, against {MARGIN:g}",
            partial(_beyond, samples=samples, seeds=5, accuracy=accuracy),
            (Measure('true "held"', 1.0, least=0.8),),
            500,
        )
        for accuracy, samples in ((0.95, 500), (0.999, 2000))
    ),
    Scenario(
        "difference of 1 on all of 5 seeds",
        partial(_all_or_nothing, seeds=5),
        (Measure('true "held"', 1.0, least=1.0),),
        10,
    ),
    *(
        Scenario(
            f"compare, {arm:g} against 1 on all of 6 seeds",
            partial(_without_spread, seeds=6, arm=arm),
            (Measure("told apart" if arm != 1 else "told alike", 1.0, least=1.0),),
            4,
        )
        for arm in (0.0, 1.0)
    ),
)
