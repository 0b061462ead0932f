"""Batch norm, ReLU and max-pooling as one operation, for training on a CPU; `kernels` has its passes over memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class NormReLUPool(nn.Sequential):
    """A batch norm or none, a ReLU and a max-pooling over 2 x 2 pixels, as one operation where the kernels apply.

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
        if type(norm) is nn.Identity:
            one, zero = features.new_ones(features.shape[1]), features.new_zeros(features.shape[1])
            return _relu_pool(features, zero, one, zero)
        weight, bias = by_channel(norm.weight[None], members)[0], by_channel(norm.bias[None], members)[0]
        if not norm.training:
            running = torch.stack([norm.running_mean, norm.running_var])
            mean, variance = by_channel(running, members)
            return _relu_pool(features, mean, weight * (variance + norm.eps).rsqrt(), bias)
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
            # A hook expects its layer to be called.
            not any(layer._forward_pre_hooks or layer._forward_hooks for layer in self)
            and features.device.type == "cpu"
            and features.dtype in (torch.float32, torch.float64)
            and features.shape[2] % 2 == features.shape[3] % 2 == 0
            and not torch.is_autocast_enabled("cpu")
            and (type(norm) is nn.Identity or _norm_applies(norm, features))
        )


def _norm_applies(norm: nn.BatchNorm2d, features: Tensor) -> bool:
    return (
        norm.affine
        and norm.track_running_stats
        and features.dtype == norm.weight.dtype
        # In eval mode a mean over all batches is a fixed one too.
        and (not norm.training or norm.momentum is not None)
        and (not norm.training or features.shape[0] * features.shape[2] * features.shape[3] > 1)
    )


def fits(norm: Any, relu: Any, pool: Any) -> bool:
    """Whether three layers in this order can become a `NormReLUPool`."""
    return (
        type(norm) in (nn.BatchNorm2d, nn.Identity)
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
            channels_last(where),
            channels_last(source),
        )
        ctx.save_for_backward(features, source, where, mean, inverse, scale)
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance

    @staticmethod
    @once_differentiable
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


def _relu_pool(features: Tensor, mean: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return ReLU of the largest of scale * (x - mean) + bias in each window of 2 x 2 pixels; the mean is fixed."""
    if torch.is_grad_enabled() and (features.requires_grad or scale.requires_grad or bias.requires_grad):
        output: Tensor = _ReLUPool.apply(features, mean, scale, bias)
        return output
    return _largest(features, mean, scale, bias)


def _largest(
    features: Tensor,
    mean: Tensor,
    scale: Tensor,
    bias: Tensor,
    where: Tensor | None = None,
    source: Tensor | None = None,
) -> Tensor:
    """Return what `_relu_pool` returns, and fill `where` and `source` as the kernel does."""
    from study.engine.cpu import kernels

    features = features.contiguous(memory_format=torch.channels_last)
    result = _empty_windows(features, features.dtype)
    filled = (None if windows is None else channels_last(windows) for windows in (where, source))
    kernels.pool(channels_last(features), *_arrays(scale, bias - scale * mean), channels_last(result), *filled)
    return result


class _ReLUPool(torch.autograd.Function):
    """The operation with a norm that is fixed, and its gradient; only that of the scale needs the features."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, mean: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        ctx.norm_learns = ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
        where = _empty_windows(features, torch.uint8)
        source = _empty_windows(features, features.dtype) if ctx.norm_learns else None
        result = _largest(features, mean, scale, bias, where, source)
        ctx.save_for_backward(where, source, mean, scale)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
        from study.engine.cpu import kernels

        where, source, mean, scale = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        at_features = at_scale = at_bias = None
        if ctx.needs_input_grad[0]:
            images, channels, height, width = gradient.shape
            shape = (images, channels, 2 * height, 2 * width)
            at_features = torch.empty(shape, dtype=gradient.dtype, memory_format=torch.channels_last)
            kernels.spread_fixed(
                channels_last(gradient), channels_last(where), *_arrays(scale), channels_last(at_features)
            )
        if ctx.norm_learns:
            at_scale, at_bias = torch.empty_like(mean), torch.empty_like(mean)
            kernels.sum_gradient(_rows(gradient), _rows(source), _rows(where), *_arrays(mean, at_bias, at_scale))
        return at_features, None, at_scale, at_bias


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
