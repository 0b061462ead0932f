"""Stopping: a network may be measured as it was at its best epoch on the validation set, or where it had converged.

With `best` all epochs are trained, as with unlimited patience. So the curves are whole, and members that train side by
side can each have a best epoch of their own. With `converged` a member's curve ends where it has converged. Members
that train beside it may take longer; it is put back into the state that it had, so it is measured as if alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

CONVERGED_LOSS = 1e-3
"""The loss on D', in nats, at which a network counts as converged.

The mean is over all of D'. With 1% of the labels flipped, a bound ten times as high would let their loss be 1, which is
that of labels not yet memorized.
"""
CONVERGED_POINTS = 3
"""At how many evaluated epochs in a row the loss must be so low: single ones may be low by chance, and then rise."""

BEST_BY = {"best": "val_acc", "best_test": "test_acc"}
"""The accuracy by which the best epoch is found, by the setting `stopping`."""

State = Sequence[Tensor]


def reported_epoch(stopping: str, curve: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a member's curve at whose epoch the member is measured.

    Args:
        stopping: `none` for the last epoch; `best` for the highest validation accuracy, and `best_test` for the highest
            test accuracy, the first of equals; `converged` for the last of a curve that ends where the member has
            converged, or else with training.
        curve: at least one row of `epochs`, in order.
    """
    return max(curve, key=lambda point: point[BEST_BY[stopping]]) if stopping in BEST_BY else curve[-1]


def has_converged(curve: Sequence[dict[str, Any]], n_out: int, n_in: int) -> bool:
    """Return whether the loss on D' was at most `CONVERGED_LOSS` at each of the last `CONVERGED_POINTS` points.

    It is the cross-entropy in eval mode on the assigned labels, without label smoothing or a regularizer.

    Args:
        curve: the rows of `epochs` of a member so far, in order.
        n_out: the size of S_out, as in `members`.
        n_in: the size of S_in.
    """
    last = curve[-CONVERGED_POINTS:]
    return len(last) == CONVERGED_POINTS and all(training_loss(row, n_out, n_in) <= CONVERGED_LOSS for row in last)


def training_loss(point: dict[str, Any], n_out: int, n_in: int) -> float:
    """Return the mean cross-entropy on D' of a row of `epochs`, from that on S_out and that on S_in."""
    total: float = sum(size * point[name] for size, name in ((n_out, "mem_loss"), (n_in, "clean_loss")) if size)
    return total / (n_out + n_in)


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
