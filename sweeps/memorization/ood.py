"""Do networks with batch norm memorize more of the out-of-distribution images in their training set?

The paper takes added images "from other datasets" and names none for CIFAR-10; SVHN is our choice.
"""

from sweeps.memorization.grids import ARMS, KS, NETWORKS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="ood",
    question="Do networks with batch norm memorize more of the out-of-distribution images in their training set?",
    feeds="2026: Fig. 3 and 11",
    quick=(product(**QUICK, corruption="ood", k=KS, norm=ARMS),),
    paper=(product(dataset="cifar10", architecture=NETWORKS, corruption="ood", k=KS, norm=ARMS, seed=SEEDS),),
)
