"""Does batch norm still memorize more at ten times the learning rate?"""

from sweeps.memorization.grids import ARMS, DATASETS, KS, NETWORKS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="learning_rate",
    question="Does batch norm memorize more at other learning rates as well?",
    feeds="2026: Fig. 13",
    quick=(product(**{**QUICK, "lr": (1e-4, 1e-3, 1e-2)}, corruption="label", k=(0.1, 0.3), norm=ARMS),),
    paper=(product(dataset=DATASETS, architecture=NETWORKS, corruption="label", k=KS, norm=ARMS, lr=1e-3, seed=SEEDS),),
)
