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


def make_optimizer(
    name: str, parameters: Mapping[tuple[float, float], Sequence[nn.Parameter]], capturable: bool = False
) -> optim.Optimizer:
    """Make an optimizer with torch's defaults, except that `sgd` has momentum.

    Args:
        name: a key of `OPTIMIZERS`.
        parameters: the parameters by their learning rate and weight decay.
        capturable: whether its steps are to be captured in a CUDA graph.
    """
    options: dict[str, Any] = {"momentum": SGD_MOMENTUM} if name == "sgd" else {"capturable": capturable}
    groups = [{"params": list(group), "lr": lr, "weight_decay": decay} for (lr, decay), group in parameters.items()]
    return OPTIMIZERS[name](groups, **options)
