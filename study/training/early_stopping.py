"""Early stopping: a network is measured as it was when it did best on the validation set.

All epochs are trained, which is a patience without limit: the curves are whole, and members that train side by side
each have an epoch of their own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

State = Sequence[Tensor]


def reported(stopping: str, curve: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The point of a member's curve at which it is measured.

    Args:
        stopping: `none` for the last; `best` for the highest validation accuracy, the first of equals.
        curve: at least one row of `epochs`, in order.
    """
    return max(curve, key=lambda point: point["val_acc"]) if stopping == "best" else curve[-1]


def state(network: nn.Module) -> State:
    """A copy of the network's weights and running statistics, on its device."""
    return [tensor.detach().clone() for tensor in tensors(network)]


@torch.no_grad()
def restore(network: nn.Module, earlier: State) -> None:
    """Put the network back into a state in place, for its tensors may be views into those of a pack."""
    for tensor, before in zip(tensors(network), earlier, strict=True):
        tensor.copy_(before)


def tensors(network: nn.Module) -> list[Tensor]:
    """Its weights and running statistics themselves."""
    return [*network.parameters(), *network.buffers()]
