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

VGGS = ("vgg8", "vgg11", "vgg13", "vgg16", "vgg19")
VGG_SGD: dict[str, Any] = {
    **AS_IN_PAPER,
    "corruption": "none",
    "optimizer": "sgd",
    "momentum": 0.9,
    "lr": 1e-2,
    "batch_size": 128,
}
"""How the paper trains VGG."""
SMALL_DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "subset": 300,
    "batch_size": 32,
    "epochs": 8,
    "eval_every": 4,
    "attack_samples": 10,
}
"""What convolutional networks are shown at quick scale, so that two cores take three minutes at most."""
PUBLISHED_VGGS = ("torchvision:vgg11", "torchvision:vgg13", "torchvision:vgg16", "torchvision:vgg19")
IMAGENET: dict[str, Any] = {
    "dataset": "imagenet",
    "corruption": "none",
    "standardize": "paper2019",
    "epochs": 0,
    "attack_samples": 2048,
}
"""What torchvision's networks have in common, which are measured as they are published."""
