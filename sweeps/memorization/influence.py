"""Do mislabeled samples keep larger gradients than clean ones, and more so with batch norm?

The paper names the four datasets and the amounts, but not the network. LeNet is the one that its Fig. 2 and 7 share.
It trains these networks "to convergence", which is later without batch norm than with it: `stopping=converged` says
where, and for an arm that gets there in no 1,000 epochs that it did not. On the digits it takes 40 to 80 epochs with
batch norm and 80 to 150 without.
"""

from sweeps.memorization.grids import ARMS, DATASETS, FEW_KS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="influence",
    question="Are the gradients of mislabeled samples larger with batch norm, and further from those of clean ones?",
    feeds="2026: Fig. 4 and the mechanism (Eq. 11, A.2)",
    quick=(
        product(
            **{**QUICK, "epochs": 300},
            corruption="label",
            k=FEW_KS,
            norm=ARMS,
            stopping="converged",
            samples="gradients",
            mechanism=10,
        ),
    ),
    paper=(
        product(
            dataset=DATASETS,
            architecture="lenet",
            corruption="label",
            k=FEW_KS,
            norm=ARMS,
            epochs=1000,
            stopping="converged",
            samples="gradients",
            mechanism=10,
            seed=SEEDS,
        ),
    ),
    version=3,
)
