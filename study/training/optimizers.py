"""Optimizers with a fixed learning rate (paper, Appendix D and E.3)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn, optim

SGD_MOMENTUM = 0.9

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "sgd": optim.SGD,
}


def optimizer(
    name: str, settings: Mapping[tuple[float, float], Sequence[nn.Parameter]], capturable: bool = False
) -> optim.Optimizer:
    """The optimizer with torch's defaults but for `sgd`'s momentum.

    Args:
        name: a key of `OPTIMIZERS`.
        settings: the parameters by their learning rate and weight decay.
        capturable: whether its steps can be captured in a CUDA graph.
    """
    own: dict[str, Any] = {"momentum": SGD_MOMENTUM} if name == "sgd" else {"capturable": capturable}
    groups = [
        {"params": list(parameters), "lr": lr, "weight_decay": decay} for (lr, decay), parameters in settings.items()
    ]
    return OPTIMIZERS[name](groups, **own)
