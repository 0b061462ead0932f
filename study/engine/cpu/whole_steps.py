"""Whole steps of plain gradient descent, many at once, for packs of dense networks of small layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from study.engine.cpu.dense import KINDS, SHAPING, Dense, PackedLinear

LARGEST = 2**20
"""How many weights a layer may have: they must stay in the processor's cache from one step to the next."""


class WholeSteps:
    """Takes many steps of the dense layers of M members in one call, each member as if alone.

    Args:
        dense: the members' layers side by side, each of which occurs once; they are changed in place.
        members: M.
    """

    def __init__(self, dense: Dense, members: int) -> None:
        layers = [layer for layer in dense if type(layer) not in SHAPING]
        linear = [layer for layer in layers if isinstance(layer, PackedLinear)]
        norms: list[Any] = [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]
        self._members, self._layers, self._norms = members, layers, norms
        self._scratch: dict[int, list[Any]] = {}

        def typed(values: Sequence[Tensor | None]) -> Any:
            empty = linear[0].weight.new_empty(members, 0)
            return _typed([empty if value is None else value.view(members, -1) for value in values] or [empty])

        self._parameters = (
            _typed([layer.weight.view(members, -1, layer.weight.shape[1]) for layer in linear]),
            typed([layer.bias for layer in linear]),
            typed([norm.weight for norm in norms]),
            typed([norm.bias for norm in norms]),
            typed([norm.running_mean for norm in norms]),
            typed([norm.running_var for norm in norms]),
        )

    def __call__(self, images: Tensor, labels: Tensor, rates: Tensor, losses: Tensor) -> None:
        """Take a step on the mean cross-entropy of each batch in turn.

        Args:
            images: [M, steps, B, ...] of the layers' own dtype.
            labels: int64 [M, steps, B].
            rates: [M, 2], each member's learning rate and weight decay.
            losses: [M], to which each step's loss is added.
        """
        from study.engine.cpu import descent  # its compiler takes a while to import

        features = images.flatten(3)
        if features.shape[2] not in self._scratch:
            self._scratch[features.shape[2]] = self._make_scratch(features)
        constants = [[norm.eps, -1.0 if norm.momentum is None else norm.momentum] for norm in self._norms]
        seen = int(self._norms[0].num_batches_tracked) if self._norms else 0
        descent.take_steps(
            *(given.contiguous().numpy() for given in (features, labels)),
            self._kinds(),
            self._parameters,
            features.new_tensor(constants or [[0.0, 0.0]]).numpy(),
            seen,
            rates.numpy(),
            losses.numpy(),
            *self._scratch[features.shape[2]],
        )
        for norm in self._norms:
            norm.num_batches_tracked += features.shape[1]

    def _kinds(self) -> Any:
        """Return each layer's kind and its place among its like, int64 [L, 2]."""
        kinds = [KINDS[type(layer)] for layer in self._layers]
        return torch.tensor([(kind, kinds[:place].count(kind)) for place, kind in enumerate(kinds)]).numpy()

    def _make_scratch(self, images: Tensor) -> list[Any]:
        """Return the kernel's scratch arrays for batches of such images [M, steps, B, I]."""
        samples, widths = images.shape[2], [images.shape[3]]
        for layer in self._layers:
            linear = isinstance(layer, PackedLinear)
            widths.append(len(layer.get_parameter("weight")) // self._members if linear else widths[-1])
        normed = [norm.num_features // self._members for norm in self._norms]
        return [
            _typed([images.new_empty(samples, width) for width in widths]),
            _typed([images.new_empty(2, width) for width in normed or [0]]),
            images.new_empty(2, samples * max(widths)).numpy(),
            images.new_empty(2, max(widths)).numpy(),
        ]


def whole_steps(network: nn.Module, members: int) -> WholeSteps | None:
    """Return what takes whole steps of a joint network, or None where it has more than small dense layers on a CPU."""
    layers = [*network] if type(network) is nn.Sequential else []
    if len(layers) != 1 or not isinstance(layers[0], Dense):
        return None
    (dense,) = layers
    parameters = [*dense.parameters()]
    norms = [layer for layer in dense if isinstance(layer, nn.BatchNorm1d)]
    fits = (
        parameters[0].device.type == "cpu"
        and parameters[0].dtype in (torch.float32, torch.float64)
        and all(each.requires_grad and each.dtype == parameters[0].dtype for each in parameters)
        and all(type(layer) in (*KINDS, *SHAPING) for layer in dense)
        and all(norm.affine and norm.track_running_stats for norm in norms)
        and all(each.numel() <= members * LARGEST for each in parameters)
        # A layer that comes twice would change before its first gradient is known.
        and len({*dense}) == len(dense)
    )
    return WholeSteps(dense, members) if fits else None


def _typed(tensors: Sequence[Tensor]) -> Any:
    """Return tensors as a list that compiled code can read; it shares their memory."""
    from numba.typed import List

    typed = List()
    for tensor in tensors:
        typed.append(tensor.detach().numpy())
    return typed
