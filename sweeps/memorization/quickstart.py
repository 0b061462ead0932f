"""Does batch norm memorize flipped labels? The paper's first finding in two minutes, on real digits."""

from sweeps.memorization.grids import ARMS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="quickstart",
    question="Does a network with batch norm memorize flipped labels that the same network without it does not?",
    feeds="2026: Fig. 1 (A), two of its ratios",
    quick=(product(**QUICK, corruption="label", k=(0.1, 0.3), norm=ARMS),),
    paper=(product(dataset="mnist", architecture="lenet", corruption="label", k=(0.1, 0.3), norm=ARMS, seed=SEEDS),),
)
