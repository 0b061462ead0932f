"""The optimizers (paper, Appendix D and E.3)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn, optim

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "sgd": optim.SGD,
    "nesterov": partial(optim.SGD, nesterov=True),
}


def make_optimizer(
    name: str,
    momentum: float,
    parameters: Mapping[tuple[float, float], Sequence[nn.Parameter]],
    capturable: bool = False,
) -> optim.Optimizer:
    """Make an optimizer with torch's defaults, except for the momentum of `sgd` and `nesterov`.

    Args:
        name: a key of `OPTIMIZERS`.
        momentum: that of `sgd` and `nesterov`.
        parameters: the parameters by their learning rate and weight decay.
        capturable: whether its steps are to be captured in a CUDA graph.
    """
    options: dict[str, Any] = {"momentum": momentum} if name in ("sgd", "nesterov") else {"capturable": capturable}
    groups = [{"params": list(group), "lr": lr, "weight_decay": decay} for (lr, decay), group in parameters.items()]
    return OPTIMIZERS[name](groups, **options)
