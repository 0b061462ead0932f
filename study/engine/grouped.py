"""Members side by side in the channels of one network: convolutions in groups, linear layers as a batched product.

One small network leaves the hardware idle between its layers; side by side, M of them have every layer called once, on
M times the channels. Channels come last in memory, which is how convolutions in narrow groups are fast on a CPU.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.engine.cpu import lanes
from study.engine.cpu.fused import NormReLUPool, fits
from study.engine.pack import Pack, UnfitError
from study.networks.norms import ChannelRMSNorm
from study.networks.regularizers import penalized


class Grouped(Pack):
    """M networks as one network of M times the channels, those of a member next to each other.

    Raises:
        UnfitError: a layer can't be put side by side with its like.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__(networks)
        self._joined: dict[nn.Module, nn.Module] = {}
        self._network = self._side_by_side(self.networks, "")

    @property
    def together(self) -> nn.Module:
        """See `Pack.together`."""
        return self._network

    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """See `Pack.forward`."""
        together = images.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        with penalized(self._network, regularizer, len(self)) as penalty:
            logits = self._network(together)
            return logits.unflatten(1, (len(self), -1)).transpose(0, 1), penalty()

    def train(self, mode: bool = True) -> None:
        """See `Pack.train`."""
        self._network.train(mode)

    def _side_by_side(self, like: Sequence[nn.Module], name: str) -> nn.Module:
        """One module for M that are alike but for the values of their parameters."""
        first = like[0]
        # A layer that stands under two names is one layer still.
        if first not in self._joined:
            self._joined[first] = self._made(like, name)
        return self._joined[first]

    def _made(self, like: Sequence[nn.Module], name: str) -> nn.Module:
        first = like[0]
        if type(first) in LAYERS:
            return self._layer(like, name)
        if [*first.parameters(recurse=False), *first.buffers(recurse=False)]:
            raise UnfitError(f"layer {name!r}, a {type(first).__name__}, can't be put side by side with its like")
        container = copy.copy(first)
        container._modules = {
            child: self._side_by_side([each.get_submodule(child) for each in like], f"{name}.{child}".lstrip("."))
            for child in first._modules
        }
        if type(first) is not nn.Sequential:
            return container
        return nn.Sequential(*lanes.together(_pooled_first(container), len(self)))

    def _layer(self, like: Sequence[nn.Module], name: str) -> nn.Module:
        try:
            layer = LAYERS[type(like[0])](like[0], len(self))
        except _CannotJoinError as error:
            raise UnfitError(f"layer {name!r}, a {type(like[0]).__name__}, {error}") from None
        for key, parameter in like[0].named_parameters(recurse=False):
            own = [each.get_parameter(key) for each in like]
            joined = torch.cat([each.detach() for each in own])
            if parameter.ndim == 4:
                joined = joined.contiguous(memory_format=torch.channels_last)
            layer.register_parameter(key, self._join(own, joined))
        for key, buffer in like[0].named_buffers(recurse=False):
            joined = torch.cat([each.get_buffer(key) for each in like]) if buffer.ndim else buffer.clone()
            layer.register_buffer(key, joined)
            for each, view in zip(like, joined.chunk(len(self)) if buffer.ndim else [joined] * len(self), strict=True):
                each._buffers[key] = view
        return layer


class _CannotJoinError(Exception):
    """Why a layer can't be put side by side with its like."""


class PackedLinear(nn.Module):
    """M linear layers: features [B, M * I] to [B, M * O]."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, _: nn.Linear, members: int) -> None:
        super().__init__()
        self._members = members
        self.register_parameter("bias", None)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, M * O] of those [B, M * I]."""
        members = features.unflatten(1, (self._members, -1)).transpose(0, 1)
        weight = self.weight.unflatten(0, (self._members, -1)).mT
        if self.bias is None:
            product = torch.bmm(members, weight)
        else:
            product = torch.baddbmm(self.bias.view(self._members, 1, -1), members, weight)
        return product.transpose(0, 1).flatten(1)


class PackedRMSNorm(nn.Module):
    """M `ChannelRMSNorm`s: features [B, M * C, ...], each member's over the root mean square of its own."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, layer: ChannelRMSNorm, members: int) -> None:
        super().__init__()
        self._members, self.eps = members, layer.eps
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape [B, M * C, ...]."""
        members = features.unflatten(1, (self._members, -1))
        normalized = F.rms_norm(members, members.shape[2:], eps=self.eps).view_as(features)
        if self.weight is None or self.bias is None:
            return normalized
        each_channel = (-1, *[1] * (features.ndim - 2))
        return normalized * self.weight.view(each_channel) + self.bias.view(each_channel)


def _convolution(layer: Any, members: int) -> nn.Module:
    if layer.padding_mode != "zeros":
        raise _CannotJoinError(f"pads with {layer.padding_mode!r}")
    return nn.Conv2d(
        members * layer.in_channels,
        members * layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        members * layer.groups,
        bias=False,
        device="meta",
    )


def _channelwise(layer: Any, members: int) -> Any:
    """A batch or instance norm, whose channels know nothing of each other."""
    return type(layer)(
        members * layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, device="meta"
    )


def _group_norm(layer: nn.GroupNorm, members: int) -> nn.Module:
    return nn.GroupNorm(
        members * layer.num_groups, members * layer.num_channels, layer.eps, layer.affine, device="meta"
    )


LAYERS: Mapping[type[nn.Module], Callable[[Any, int], nn.Module]] = {
    nn.Linear: PackedLinear,
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    ChannelRMSNorm: PackedRMSNorm,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm1d, nn.InstanceNorm2d), _channelwise),
}
"""How M layers of a kind become one, before it is given their parameters."""


def _pooled_first(sequence: nn.Module) -> list[nn.Module]:
    """The layers of the sequence with max-pooling before each ReLU that it follows: the same for a quarter of the work.

    Where a batch norm comes before them, the three become one.
    """
    layers = list(sequence.children())
    made: list[nn.Module] = []
    while layers:
        if len(layers) >= 3 and fits(*layers[:3]):
            made.append(NormReLUPool(*layers[:3]))
            del layers[:3]
        elif len(layers) >= 2 and type(layers[0]) is nn.ReLU and _pools(layers[1]):
            made += [layers[1], layers[0]]
            del layers[:2]
        else:
            made.append(layers.pop(0))
    return made


def _pools(layer: nn.Module) -> bool:
    return type(layer) is nn.MaxPool2d and not layer.return_indices
