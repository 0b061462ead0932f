"""Is the ratio gamma/sigma of batch norm above 1 in every layer, as the theory requires for memorization?"""

from sweeps.memorization.grids import DATASETS, KS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="gamma_sigma",
    question="Is the ratio gamma/sigma of batch norm above 1 in every layer, all through training?",
    feeds="2026: Fig. 7 and 9",
    quick=(product(**QUICK, corruption="label", k=KS, norm="batch"),),
    paper=(product(dataset=DATASETS, architecture="lenet", corruption="label", k=KS, norm="batch", seed=SEEDS),),
)
