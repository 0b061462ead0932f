"""Optimizers with a fixed learning rate (paper, Appendix D and E.3)."""

from collections.abc import Callable
from typing import Any

from torch import nn, optim

SGD_MOMENTUM = 0.9

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "sgd": optim.SGD,
}


def optimizer(name: str, network: nn.Module, lr: float, weight_decay: float) -> optim.Optimizer:
    """The optimizer over all of the network's parameters, with torch's defaults but for `sgd`'s momentum."""
    settings: dict[str, Any] = {"momentum": SGD_MOMENTUM} if name == "sgd" else {}
    return OPTIMIZERS[name](network.parameters(), lr=lr, weight_decay=weight_decay, **settings)
