"""Batch norm, ReLU and max-pooling as one operation, for training on a CPU; `kernels` has its passes over memory."""

from typing import Any

import torch
from torch import Tensor, nn


class NormReLUPool(nn.Sequential):
    """A batch norm, a ReLU and a max-pooling over 2 x 2 pixels, as one operation where the kernels apply.

    Elsewhere it calls the three layers, the last two in reverse order, which gives the same numbers for a quarter of
    the work.
    """

    def __init__(self, norm: nn.Module, relu: nn.Module, pool: nn.Module) -> None:
        super().__init__(norm, pool, relu)

    def forward(self, features: Tensor, members: int = 1) -> Tensor:
        """Return features [N, C, H/2, W/2] for [N, C, H, W], the members' channels in the order of `by_channel`."""
        if not self._applies(features):
            features = by_member(features, members)
            for layer in self:
                features = layer(features)
            return by_channel(features, members)
        norm: Any = self[0]
        weight, bias = by_channel(norm.weight[None], members)[0], by_channel(norm.bias[None], members)[0]
        output: Tensor
        output, mean, variance = _NormReLUPool.apply(features, weight, bias, norm.eps)
        with torch.no_grad():
            mean, variance = by_member(torch.stack([mean, variance]), members)
            count = features.numel() // features.shape[1]
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
            norm.num_batches_tracked += 1
        return output

    def _applies(self, features: Tensor) -> bool:
        norm: Any = self[0]
        return bool(
            norm.training
            and norm.affine
            and norm.track_running_stats
            and norm.momentum is not None
            # A hook expects its layer to be called.
            and not norm._forward_pre_hooks
            and not norm._forward_hooks
            and features.device.type == "cpu"
            and features.dtype in (torch.float32, torch.float64)
            and features.dtype == norm.weight.dtype
            and features.shape[0] * features.shape[2] * features.shape[3] > 1
            and features.shape[2] % 2 == features.shape[3] % 2 == 0
        )


def fits(norm: Any, relu: Any, pool: Any) -> bool:
    """Whether three layers in this order can become a `NormReLUPool`."""
    return (
        type(norm) is nn.BatchNorm2d
        and type(relu) is nn.ReLU
        and type(pool) is nn.MaxPool2d
        and _pair(pool.kernel_size) == _pair(pool.stride) == (2, 2)
        and _pair(pool.padding) == (0, 0)
        and _pair(pool.dilation) == (1, 1)
        and not pool.return_indices
    )


def by_channel(features: Tensor, members: int) -> Tensor:
    """Reorder features from [N, M * C, ...], channels within members, to [N, C * M, ...], members within channels.

    If a copy must be made, it has channels last in memory.
    """
    if members == 1:
        return features
    ordered: Tensor = features.movedim(1, -1).unflatten(-1, (members, -1)).transpose(-1, -2).flatten(-2)
    return ordered.movedim(-1, 1)


def by_member(features: Tensor, members: int) -> Tensor:
    """Reorder features from [N, C * M, ...] back to [N, M * C, ...]: the inverse of `by_channel`."""
    return features if members == 1 else features.unflatten(1, (-1, members)).transpose(1, 2).flatten(1, 2)


class _NormReLUPool(torch.autograd.Function):
    """The operation and its gradient; it returns the result, and the mean and biased variance of each channel."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        from study.engine.cpu import kernels  # its compiler takes a while to import

        features = features.contiguous(memory_format=torch.channels_last)
        mean, variance = torch.empty_like(weight), torch.empty_like(weight)
        kernels.moments(_rows(features), mean.numpy(), variance.numpy())
        inverse = (variance + eps).rsqrt()
        scale = weight * inverse
        result = _empty_windows(features, features.dtype)
        source, where = torch.empty_like(result), _empty_windows(features, torch.uint8)
        shift = bias - scale * mean
        kernels.pool(
            channels_last(features),
            *_arrays(scale, shift),
            channels_last(result),
            channels_last(source),
            channels_last(where),
        )
        ctx.save_for_backward(features, source, where, mean, inverse, scale)
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        from study.engine.cpu import kernels

        features, source, where, mean, inverse, scale = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        total, projection = torch.empty_like(mean), torch.empty_like(mean)
        kernels.sum_gradient(_rows(gradient), _rows(source), _rows(where), *_arrays(mean, total, projection))
        # Ioffe and Szegedy (2015), section 3: the gradient loses its components along the mean and along x.
        count = features.numel() // features.shape[1]
        offset = -scale * total / count
        slope = -scale * inverse.square() * projection / count
        result = torch.empty_like(features)
        of_channels = _arrays(mean, scale, slope, offset)
        kernels.spread_gradient(
            channels_last(features), channels_last(gradient), channels_last(where), *of_channels, channels_last(result)
        )
        return result, projection * inverse, total, None


def channels_last(features: Tensor) -> Any:
    """Return features [N, C, H, W] with channels last in memory as an array [N, H, W, C]."""
    return features.detach().permute(0, 2, 3, 1).numpy()


def _rows(features: Tensor) -> Any:
    """Return features [N, C, H, W] with channels last in memory as an array [N * H * W, C]."""
    return features.detach().permute(0, 2, 3, 1).flatten(0, 2).numpy()


def _arrays(*tensors: Tensor) -> list[Any]:
    return [tensor.detach().numpy() for tensor in tensors]


def _empty_windows(features: Tensor, dtype: torch.dtype) -> Tensor:
    """Return an empty tensor with channels last, which has one value for each window of 2 x 2 pixels."""
    images, channels, height, width = features.shape
    shape = (images, channels, height // 2, width // 2)
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)


def _pair(size: Any) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)
