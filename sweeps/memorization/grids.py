"""The levels that several sweeps share: those of the paper (sections 3 and 4.1) and those of the quick scale."""

from typing import Any

KS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
FEW_KS = (0.01, 0.05)
NETWORKS = ("lenet", "densenet121", "resnet18", "resnet34", "resnet50")
RESNETS = ("resnet18", "resnet34", "resnet50")
DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
ARMS = ("batch", "none")
SEEDS = range(5)

QUICK: dict[str, Any] = {
    "dataset": "digits",
    "architecture": "lenet",
    # A small set needs small batches and a larger step to be learned within 30 epochs.
    "lr": 1e-3,
    "batch_size": 64,
    "epochs": 30,
    "seed": SEEDS,
}
"""LeNet on scikit-learn's digits: real data that needs no download, five seconds a member on one core."""
