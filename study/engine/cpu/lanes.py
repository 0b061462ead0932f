"""Lanes: convolutions, and the layers between them, with the members innermost in memory, for training on a CPU.

Each member is then one lane of a vector register; `vectors` has the kernels, and says why they are faster.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from study.engine.cpu.fused import NormReLUPool, by_channel, by_member, channels_last

NARROW = 16
"""The most input or output channels of a member's convolution: with more, torch's own is as fast."""
WIDEST = 64
"""The most pixels in a row of an image: the compiled code grows with them."""


class Lanes(nn.Sequential):
    """Layers of M members side by side, of which the first is a convolution, with channels in the order [C, M] within.

    Input and output have them in the order [M, C]. Where the kernels don't apply, so do the layers within.
    """

    def __init__(self, members: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self._members = members

    def forward(self, features: Tensor) -> Tensor:
        """Return features [N, M * C, H, W], with channels last in memory as in the input."""
        if not self._applies(features):
            for layer in self:
                features = layer(features)
            return features
        features = by_channel(features, self._members)
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                features = _convolve(features, layer, self._members)
            elif isinstance(layer, NormReLUPool):
                features = layer(features, self._members)
            else:
                features = layer(features)
        return by_member(features, self._members)

    def _applies(self, features: Tensor) -> bool:
        return bool(
            features.device.type == "cpu"
            and features.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled("cpu")
            and all(parameter.dtype == features.dtype for parameter in self.parameters())
            # A hook expects its layer to be called, with channels in the order [M, C].
            and not any(module._forward_pre_hooks or module._forward_hooks for module in self.modules())
            and features.shape[3] <= WIDEST
        )


def in_lanes(layers: list[nn.Module], members: int) -> list[nn.Module]:
    """Return the layers of a sequence, with each run of layers that `Lanes` can take as one `Lanes`."""
    result: list[nn.Module] = []
    while layers:
        run = 0
        while run < len(layers) and (_fits(layers[run], members) or (run and type(layers[run]) in ANY_ORDER)):
            run += 1
        # Torch's group norm is faster with channels last in memory, which the result of `Lanes` doesn't have.
        if run and not (run < len(layers) and type(layers[run]) is nn.GroupNorm):
            result.append(Lanes(members, *layers[:run]))
        else:
            run = max(1, run)
            result += layers[:run]
        del layers[:run]
    return result


ANY_ORDER = (NormReLUPool, nn.ReLU, nn.MaxPool2d, nn.Identity)
"""Layers that take channels in the order [C, M] as well as in the order [M, C]."""


def _fits(layer: nn.Module, members: int) -> bool:
    return (
        type(layer) is nn.Conv2d
        and layer.groups == members
        and max(layer.in_channels, layer.out_channels) <= NARROW * members
        and layer.stride == layer.dilation == (1, 1)
        and not isinstance(layer.padding, str)
    )


def _convolve(features: Tensor, layer: Any, members: int) -> Tensor:
    high, wide = layer.padding
    if high or wide:
        features = F.pad(features, (wide, wide, high, high)).contiguous(memory_format=torch.channels_last)
    output: Tensor = _Convolution.apply(features, layer.weight, layer.bias, members)
    return output


class _Convolution(torch.autograd.Function):
    """A convolution without padding, and its gradient: features [N, I * M, H, W], weights [M * O, I, rows, columns]."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, members: int) -> Tensor:
        from study.engine.cpu import vectors  # its compiler takes a while to import

        features = features.contiguous(memory_format=torch.channels_last)
        outputs, rows, columns = weight.shape[0], *weight.shape[2:]
        images, _, height, width = features.shape
        shape = (images, outputs, height - rows + 1, width - columns + 1)
        result = torch.empty(shape, dtype=features.dtype, memory_format=torch.channels_last)
        group = vectors.group_size(outputs // members, members, features.itemsize)
        convolve = vectors.convolution(shape[3], columns, members, group)
        start = features.new_zeros(outputs) if bias is None else by_channel(bias[None], members)[0]
        packed = _split(weight, members).unflatten(1, (-1, group)).permute(1, 4, 3, 5, 2, 0).contiguous()
        convolve(channels_last(features), packed.detach().numpy(), start.detach().numpy(), channels_last(result))
        ctx.save_for_backward(features, weight)
        ctx.members = members
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        from study.engine.cpu import vectors

        features, weight = ctx.saved_tensors
        members = ctx.members
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        at_features = at_weight = at_bias = None
        width, columns = gradient.shape[3], weight.shape[3]
        split = _split(weight, members)
        _, outputs, inputs, _, _ = split.shape
        if ctx.needs_input_grad[0]:
            group = vectors.group_size(inputs, members, features.itemsize)
            packed = split.unflatten(2, (-1, group)).permute(2, 4, 1, 5, 3, 0).contiguous()
            at_features = torch.empty_like(features)
            fill_gradient = vectors.input_gradient(width, columns, members, group)
            zeros = features.new_zeros(group * members)
            fill_gradient(channels_last(gradient), packed.numpy(), zeros.numpy(), channels_last(at_features))
        if ctx.needs_input_grad[1]:
            group = vectors.group_size(outputs, members, features.itemsize)
            at_once = max(count for count in (1, 2, 3, 4) if outputs // group % count == 0)
            layout = split.unflatten(1, (-1, group)).permute(1, 4, 3, 5, 2, 0)
            packed = torch.zeros_like(layout, memory_format=torch.contiguous_format)
            add_gradient = vectors.weight_gradient(width, columns, members, group, at_once)
            add_gradient(channels_last(gradient), channels_last(features), packed.numpy())
            at_weight = packed.permute(5, 0, 4, 2, 1, 3).flatten(0, 2).contiguous(memory_format=torch.channels_last)
        if ctx.needs_input_grad[2]:
            at_bias = by_member(gradient.sum(dim=(0, 2, 3))[None], members)[0]
        return at_features, at_weight, at_bias, None


def _split(weight: Tensor, members: int) -> Tensor:
    """Return weights [M * O, ...] as [M, O, ...]."""
    split: Tensor = weight.detach().unflatten(0, (members, -1))
    return split
