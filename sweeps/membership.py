"""Can an attacker tell who was in the training set, and from which arm better?"""

from sweeps.axes import ARMS, FEW_KS, QUICK, RESNETS, SEEDS
from sweeps.sweep import Sweep, product

# The clean network is one cell, whatever corruption it is not given.
PAPER = {"dataset": "cifar10", "architecture": RESNETS, "norm": ARMS, "samples": "scores", "seed": SEEDS}

SWEEP = Sweep(
    name="membership",
    question="Does batch norm make it easier to infer who was in the training set, above all the atypical?",
    feeds="Fig. 5, 6, 12, 14 and 20",
    quick=(
        product(**QUICK, corruption=("ood", "label"), k=FEW_KS, norm=ARMS, samples="scores"),
        product(**QUICK, k=0, norm=ARMS, samples="scores"),
    ),
    paper=(
        product(**PAPER, corruption=("ood", "label"), k=FEW_KS),
        product(**PAPER, k=0),
    ),
)
