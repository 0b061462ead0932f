"""Does penalizing gamma/sigma undo what batch norm memorizes, and what does it cost in accuracy?

The paper gives neither the network nor the values of alpha of its Fig. 8. The grid here is even in the logarithm of
1 - alpha; `log` is Eq. 12 as written and `hinge` penalizes only ratios above 1.
"""

from sweeps.memorization.grids import ARMS, DATASETS, QUICK, SEEDS
from sweeps.sweep import Axes, Sweep, product

ALPHAS = (0.5, 0.9, 0.99, 0.999)


def _grids(**common: object) -> tuple[Axes, ...]:
    return (
        product(**common, norm=ARMS),
        product(**common, norm="batch", regularizer=("log", "hinge"), alpha=ALPHAS),
    )


SWEEP = Sweep(
    name="regularizer",
    question="Does the gamma/sigma regularizer memorize less than no batch norm at all, and what does it cost?",
    feeds="2026: Fig. 8",
    quick=_grids(**QUICK, corruption="label", k=0.1),
    paper=_grids(dataset=DATASETS, architecture="lenet", corruption="label", k=0.1, seed=SEEDS),
)
