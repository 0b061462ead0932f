"""Early stopping: a network is measured as it was at its best epoch on the validation set.

All epochs are trained, as with unlimited patience. So the curves are whole, and members that train side by side can
each have a best epoch of their own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

State = Sequence[Tensor]


def reported_epoch(stopping: str, curve: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a member's curve at whose epoch the member is measured.

    Args:
        stopping: `none` for the last epoch; `best` for the highest validation accuracy, the first of equals.
        curve: at least one row of `epochs`, in order.
    """
    return max(curve, key=lambda point: point["val_acc"]) if stopping == "best" else curve[-1]


def snapshot(network: nn.Module) -> State:
    """Return a copy of the network's weights and running statistics, on its device."""
    return [tensor.detach().clone() for tensor in state_tensors(network)]


@torch.no_grad()
def restore(network: nn.Module, earlier: State) -> None:
    """Put the network back into an earlier state, in place, because its tensors may be views into those of a pack."""
    for tensor, before in zip(state_tensors(network), earlier, strict=True):
        tensor.copy_(before)


def state_tensors(network: nn.Module) -> list[Tensor]:
    """Return the network's weights and running statistics themselves, not copies."""
    return [*network.parameters(), *network.buffers()]
