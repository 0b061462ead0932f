"""Do networks with batch norm memorize more of the flipped labels, and faster?"""

from sweeps.memorization.grids import ARMS, DATASETS, KS, NETWORKS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="label_noise",
    question="Do networks with batch norm memorize more flipped labels, and faster, at every ratio?",
    feeds="2026: Fig. 1, 2, 10 and 18",
    quick=(product(**QUICK, corruption="label", k=KS, norm=ARMS),),
    paper=(product(dataset=DATASETS, architecture=NETWORKS, corruption="label", k=KS, norm=ARMS, seed=SEEDS),),
)
