"""The levels that several sweeps share: those of the paper (sections 3 and 4, appendices) and of the quick scale."""

from typing import Any

ARMS = ("batch", "none")
SEEDS = range(5)
FEW_SEEDS = range(3)

PLAIN_SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0}
"""The paper's optimizer for networks of linear layers: no momentum, and a constant learning rate."""
AS_IN_PAPER: dict[str, Any] = {"standardize": "paper2019", "robustness": "paper2019"}
"""Images are standardized by the network's first layer, and attacked in that space."""
CUMULATIVE = 0
"""The `norm_momentum` of batch norm whose running statistics are the mean over all of training.

The authors' code has `momentum=None`, which the paper calls "momentum disabled".
"""
MNIST: dict[str, Any] = {
    **PLAIN_SGD,
    **AS_IN_PAPER,
    "corruption": "none",
    "dataset": "mnist",
    "lr": 1e-2,
    "batch_size": 128,
    "epochs": 50,
    "eval_every": 10,
}
"""What the paper's networks on MNIST have in common; it is of the trained networks, so few points of the curves do."""
DIGITS: dict[str, Any] = {
    **MNIST,
    "dataset": "digits",
    # A small set needs a larger step to be learned within 30 epochs.
    "lr": 5e-2,
    "batch_size": 64,
    "epochs": 30,
    "attack_samples": 128,
}
"""The same on scikit-learn's digits: real data that needs no download."""
