"""Convolutions deep in a network, of many channels and few pixels, for training on a CPU."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MOST_PIXELS = 16
"""The most pixels of a result for which the gradient is faster as a product of matrices.

It was 2 to 8 times as fast with 512 channels; with 8x8 pixels it took 2.4 times as long as torch's own.
"""
FEWEST_WEIGHTS = 256 * 256
"""The fewest pairs of channels of a member for which it is: with 64 x 64 it took 2 to 4 times as long."""


class DeepConv2d(nn.Conv2d):
    """M members' convolutions side by side, whose weights' gradient is a product of matrices where that is faster."""

    def forward(self, features: Tensor) -> Tensor:
        """Return M * O channels for features [N, M * I, H, W]."""
        output: Tensor = super().forward(features) if not self._applies(features) else self._convolve(features)
        return output

    def _applies(self, features: Tensor) -> bool:
        return bool(
            features.device.type == "cpu"
            and features.dtype == self.weight.dtype
            and not torch.is_autocast_enabled("cpu")
            and torch.is_grad_enabled()
            and self.weight.requires_grad
        )

    def _convolve(self, features: Tensor) -> Tensor:
        settings = self.stride, self.padding, self.dilation, self.groups
        output: Tensor = _Convolution.apply(features, self.weight, self.bias, settings)
        return output


def is_deep(layer: nn.Conv2d) -> bool:
    """Whether a member's convolution has so many channels that its gradient is worth another way."""
    return (
        layer.groups == 1
        and layer.in_channels * layer.out_channels >= FEWEST_WEIGHTS
        and math.prod(layer.kernel_size) > 1
        and not isinstance(layer.padding, str)
    )


class _Convolution(torch.autograd.Function):
    """A convolution in groups, and its gradient: features [N, M * I, H, W], weights [M * O, I, rows, columns]."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, settings: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.settings = settings
        return torch.conv2d(features, weight, bias, *settings)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        at_features, at_weight, at_bias = ctx.needs_input_grad[:3]
        as_product = at_weight and gradient.shape[2:].numel() <= MOST_PIXELS
        found: list[Tensor | None] = [None, None, None]
        mask = [at_features, at_weight and not as_product, False]
        if any(mask):
            rest = [None, stride, padding, dilation, False, [0, 0], groups, mask]
            found = list(torch.ops.aten.convolution_backward(gradient, features, weight, *rest))
        if as_product:
            found[1] = _weight_gradient(features, weight, gradient, *ctx.settings)
        if at_bias:
            found[2] = gradient.sum(dim=(0, 2, 3))
        return found[0], found[1], found[2], None


def _weight_gradient(
    features: Tensor,
    weight: Tensor,
    gradient: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    members: int,
) -> Tensor:
    """Return each member's gradient, the product of that at its results with the patches that they were computed of."""
    patches = F.unfold(features, weight.shape[2:], dilation, padding, stride)  # [N, M * I * rows * columns, pixels]
    by_pixel = patches.unflatten(1, (members, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    by_channel = gradient.unflatten(1, (members, -1)).flatten(3).permute(1, 2, 0, 3).flatten(2)
    product = torch.bmm(by_channel, by_pixel).view(weight.shape)
    last = weight.is_contiguous(memory_format=torch.channels_last)
    return product.contiguous(memory_format=torch.channels_last) if last else product
