"""Does batch norm spread the clusters of the classes, before training and after it?

The network has a layer of two units, whose activations are recorded as they are. The paper draws one network of each
arm.
"""

from sweeps.robustness.grids import ARMS, DIGITS, MNIST
from sweeps.sweep import Sweep, product

SHARED = {"architecture": "mlp_2d", "norm": ARMS, "weight_decay": 1e-3, "robustness": "none", "activations": 12}

SWEEP = Sweep(
    name="clusters",
    question="Does batch norm spread the clusters of the classes further, before training and after it?",
    feeds="2019: Figure 4",
    quick=(product(**{**DIGITS, **SHARED, "attack_samples": 0, "epochs": 60, "eval_every": 5}),),
    paper=(product(**{**MNIST, **SHARED, "epochs": 500}),),
)
