"""The backend `grouped`: members side by side in the channels of one network.

Convolutions become grouped convolutions, and linear layers one batched product. A small network leaves the hardware
idle between its layers; side by side, every layer is called once for M members, on M times the channels. Channels are
last in memory, because that makes convolutions in narrow groups fast on a CPU.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.engine.cpu import dense, lanes
from study.engine.cpu.deep import DeepConv2d, is_deep
from study.engine.cpu.dense import Dense, Descent, PackedLinear
from study.engine.cpu.fused import NormReLUPool, fits
from study.engine.cpu.whole_steps import WholeSteps, whole_steps
from study.engine.pack import Pack, UnfitError
from study.networks.fixup import ScalarNorm, Shifted
from study.networks.norms import ChannelRMSNorm
from study.networks.regularizers import watch_penalty
from study.networks.standardize import Standardize


class Grouped(Pack):
    """M networks as one network of M times the channels, with a member's channels next to each other.

    Raises:
        UnfitError: a layer of the members can't be joined into one.
    """

    memory_format = torch.channels_last
    """How images and the weights of convolutions lie in memory."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__(networks)
        self._joint_modules: dict[nn.Module, nn.Module] = {}
        self._network = self._join_modules(self.networks, "")
        self._convolves = any(isinstance(layer, nn.Conv2d) for layer in self._network.modules())

    @property
    def joint_network(self) -> nn.Module:
        """See `Pack.joint_network`."""
        return self._network

    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """See `Pack.forward`."""
        side_by_side = images.transpose(0, 1).flatten(1, 2)
        if self._convolves:
            side_by_side = side_by_side.contiguous(memory_format=self.memory_format)
        with watch_penalty(self._network, regularizer, len(self)) as penalty:
            logits = self._network(side_by_side)
            return logits.unflatten(1, (len(self), -1)).transpose(0, 1), penalty()

    def train(self, mode: bool = True) -> None:
        """See `Pack.train`."""
        self._network.train(mode)

    @contextmanager
    def descending(self, rate: float, decay: float) -> Iterator[None]:
        """See `Pack.descending`: weights of linear layers take their step, if the network surely uses them once."""
        layers = self._network._modules.values() if type(self._network) is nn.Sequential else ()
        runs = [layer for layer in layers if isinstance(layer, Dense)]
        called = [layer for run in runs for layer in run._modules.values() if isinstance(layer, PackedLinear)]
        with ExitStack() as stack:
            # A weight that is used twice must stay as it is until both gradients are known.
            for run in runs if len({*called}) == len(called) else ():
                stack.enter_context(run.descending(Descent(rate, decay)))
            yield

    def whole_steps(self) -> WholeSteps | None:
        """See `Pack.whole_steps`: dense networks on a CPU have it."""
        return whole_steps(self._network, len(self))

    def _join_modules(self, modules: Sequence[nn.Module], name: str) -> nn.Module:
        """Return one module for the members' modules of that name, which differ in their parameters' values alone."""
        first = modules[0]
        # A layer that is registered under two names is one layer still.
        if first not in self._joint_modules:
            if type(first) in LAYERS:
                self._joint_modules[first] = self._join_layers(modules, name)
            else:
                self._joint_modules[first] = self._join_containers(modules, name)
        return self._joint_modules[first]

    def _join_containers(self, containers: Sequence[nn.Module], name: str) -> nn.Module:
        """Return a copy of the first container, whose children are the joint ones."""
        first = containers[0]
        if [*first.parameters(recurse=False), *first.buffers(recurse=False)]:
            raise UnfitError(
                f"layer {name!r}, a {type(first).__name__}, can't be put side by side with those of other members"
            )
        joint = copy.copy(first)
        joint._modules = {
            child: self._join_modules(
                [container.get_submodule(child) for container in containers], f"{name}.{child}".lstrip(".")
            )
            for child in first._modules
        }
        if type(first) is not nn.Sequential:
            return joint
        return nn.Sequential(*dense.in_dense(lanes.in_lanes(_pool_first(joint), len(self)), len(self)))

    def _join_layers(self, layers: Sequence[nn.Module], name: str) -> nn.Module:
        """Return one layer with the joint parameters and buffers, into which those of the members become views."""
        first = layers[0]
        try:
            joint = LAYERS[type(first)](first, len(self))
        except _CannotJoinError as error:
            raise UnfitError(f"layer {name!r}, a {type(first).__name__}, {error}") from None
        for key, parameter in first.named_parameters(recurse=False):
            parameters = [layer.get_parameter(key) for layer in layers]
            values = torch.cat([parameter.detach() for parameter in parameters])
            if parameter.ndim == 4:
                values = values.contiguous(memory_format=self.memory_format)
            joint.register_parameter(key, self._join(parameters, values))
        for key, buffer in first.named_buffers(recurse=False):
            # A scalar, as the count of batches, is the same for all members.
            values = torch.cat([layer.get_buffer(key) for layer in layers]) if buffer.ndim else buffer.clone()
            joint.register_buffer(key, values)
            views = values.chunk(len(self)) if buffer.ndim else [values] * len(self)
            for layer, view in zip(layers, views, strict=True):
                layer._buffers[key] = view
        return joint


class _CannotJoinError(Exception):
    """A layer can't be joined with those of other members; the message goes on after the layer's name."""


class PackedRMSNorm(nn.Module):
    """M `ChannelRMSNorm`s: each member's features of [B, M * C, ...] over their own root mean square."""

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, layer: ChannelRMSNorm, members: int) -> None:
        super().__init__()
        self._members, self.eps = members, layer.eps
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape [B, M * C, ...]."""
        members = features.unflatten(1, (self._members, -1))
        normalized = F.rms_norm(members, members.shape[2:], eps=self.eps).view_as(features)
        if self.weight is None or self.bias is None:
            return normalized
        each_channel = (-1, *[1] * (features.ndim - 2))
        return normalized * self.weight.view(each_channel) + self.bias.view(each_channel)


def _convolution(layer: Any, members: int) -> nn.Module:
    if layer.padding_mode != "zeros":
        raise _CannotJoinError(f"pads with {layer.padding_mode!r}")
    kind = DeepConv2d if is_deep(layer) else nn.Conv2d
    return kind(
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
    """Return a batch or instance norm over all members' channels, each of which is normalized by itself."""
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
    Shifted: lambda layer, members: Shifted.around(layer, members, layer.scale is not None),
    ScalarNorm: lambda layer, members: ScalarNorm(members, layer.scale is not None),
    Standardize: lambda layer, members: Standardize(members * len(layer.mean)),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm1d, nn.InstanceNorm2d), _channelwise),
}
"""The functions that make one layer for those of M members, by the type of layer; its parameters are set afterwards."""


def _pool_first(sequence: nn.Module) -> list[nn.Module]:
    """Return the layers of a sequence, with each max-pooling that follows a ReLU moved before it.

    The result is the same, and ReLU has a quarter of the work. Where a batch norm comes before the two, the three
    become one layer, if it fits.
    """
    layers = list(sequence.children())
    reordered: list[nn.Module] = []
    while layers:
        if len(layers) >= 3 and fits(*layers[:3]):
            reordered.append(NormReLUPool(*layers[:3]))
            del layers[:3]
        elif len(layers) >= 2 and type(layers[0]) is nn.ReLU and _is_max_pool(layers[1]):
            reordered += [layers[1], layers[0]]
            del layers[:2]
        else:
            reordered.append(layers.pop(0))
    return reordered


def _is_max_pool(layer: nn.Module) -> bool:
    return type(layer) is nn.MaxPool2d and not layer.return_indices
