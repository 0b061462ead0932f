"""Does batch norm make it easier to infer who was in the training set?

The paper has 32 shadow models. Here 32 models attack one another: each is a target once and has the other 31 as its
shadows. They share one training set D', and what they say is of that one: three seeds are three of them, with flips,
images and initial weights of their own. On the digits they are five, for of three no more than the largest differences
can be told. The paper's sources of added images are not named (see `ood`).
"""

from sweeps.memorization.grids import ARMS, FEW_KS, QUICK, RESNETS, SEEDS
from sweeps.sweep import Sweep, product

# At k = 0 all corruptions give the same network, so the clean one is a grid of its own.
PAPER = {
    "dataset": "cifar10",
    "architecture": RESNETS,
    "norm": ARMS,
    "protocol": "splits",
    "models": 32,
    "seed": range(3),
}
SMALL = {**QUICK, "norm": ARMS, "protocol": "splits", "models": 16, "seed": SEEDS}

SWEEP = Sweep(
    name="membership",
    question="Does batch norm make it easier to infer who was in the training set, above all the atypical?",
    feeds="2026: Fig. 5, 6, 12, 14 and 20",
    quick=(
        product(**SMALL, corruption=("ood", "label"), k=FEW_KS),
        product(**SMALL, k=0),
    ),
    paper=(
        product(**PAPER, corruption=("ood", "label"), k=FEW_KS),
        product(**PAPER, k=0),
    ),
    version=2,
)
