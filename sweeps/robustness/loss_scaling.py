"""Does weight decay scale the loss, so that all samples of a linear model are penalized and not only the misclassified?

The figure needs a sample's signed distance to the boundary, which is its recorded score over the norm of the weights.
The paper names no values of lambda, and two digits as an example; 3 and 7 and the values here are ours. As elsewhere,
lambda is the `weight_decay` of torch's SGD.
"""

from sweeps.robustness.grids import DIGITS, MNIST
from sweeps.sweep import Sweep, product

SHARED = {"architecture": "linear", "norm": "none", "weight_decay": (0.0, 0.01, 0.1), "samples": "scores"}

SWEEP = Sweep(
    name="loss_scaling",
    question="Does weight decay scale the loss, so that it enlarges the margin that a linear model keeps?",
    feeds="2019: Figure 6",
    quick=(product(**{**DIGITS, **SHARED, "dataset": "digits_3_7", "attack_samples": 0}),),
    paper=(product(**{**MNIST, **SHARED, "dataset": "mnist_3_7"}),),
    factor="weight_decay",
)
