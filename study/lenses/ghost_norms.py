"""Compute the squared norm of each sample's gradient for one layer's parameters, without that gradient.

It follows from what the layer was given and from the gradient at its output (Goodfellow, 2015, "Efficient per-example
gradient computations"); where several positions share a weight, by the Gram form, or "ghost norm", of Li et al. (2022)
and Bu et al. (2022) if it is the cheaper one.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from study.engine.cpu.deep import DeepConv2d
from study.engine.cpu.dense import PackedLinear
from study.engine.grouped import PackedRMSNorm
from study.networks.norms import ChannelRMSNorm

PATCHES = 2**26
"""The most numbers that one layer's unfolded inputs may take up at once."""
LARGE_CONVOLUTION = 2**20
"""The multiplications from which, on a CPU, a sample's weight gradient is worth a call of its own."""

Rule = Callable[[Any, frozenset[str], Tensor, Tensor, int], Tensor]


def rule(layer: nn.Module, members: int = 1) -> Rule | None:
    """Return the function that computes a layer's squared norms, float [N, M], by sample and member.

    It takes the layer, which maps one tensor to one tensor, sample by sample; the names of those of its own parameters
    that count; its input [N, ...]; the gradient at its output [N, ...]; and the number of members. These have their
    channels side by side, or, of a layer of features, their features.

    Args:
        layer: of any kind if it is a network's own.
        members: the number of networks whose layers this one is; None is returned for a kind unknown side by side.
    """
    # A subclass may compute anything, so the type itself must be known.
    known = RULES.get(type(layer))
    if type(layer) is nn.Conv2d and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        known = None
    return _any_layer if known is None and members == 1 else known


def _any_layer(layer: nn.Module, own: frozenset[str], given: Tensor, gradient: Tensor, _: int) -> Tensor:
    """Return the norms for a layer without a rule, from another pass of each sample through this layer alone."""
    parameters = {name: layer.get_parameter(name).detach() for name in own}

    def along(parameters: dict[str, Tensor], given: Tensor, gradient: Tensor) -> Tensor:
        output: Tensor = functional_call(layer, parameters, (given[None],))
        return (output * gradient).sum()

    each = vmap(grad(along), in_dims=(None, 0, 0))(parameters, given, gradient)
    return torch.stack([value.flatten(1).square().sum(dim=1) for value in each.values()]).sum(dim=0)[:, None]


def _linear(_: nn.Module, own: frozenset[str], given: Tensor, gradient: Tensor, members: int) -> Tensor:
    """Return the norms for a linear layer, whose gradient is the outer product of gradient and input, over tokens."""
    given, gradient = (tensor.unflatten(-1, (members, -1)) for tensor in (given, gradient))
    if gradient.ndim == 3:
        squares = gradient.square().sum(dim=2)
        inputs = given.square().sum(dim=2) if "weight" in own else torch.zeros_like(squares)
        return squares * (inputs + 1) if "bias" in own else squares * inputs
    given, gradient = (tensor.flatten(1, -3).permute(0, 2, 3, 1) for tensor in (given, gradient))
    squares = gradient.sum(dim=3).square().sum(dim=2) if "bias" in own else gradient.new_zeros(gradient.shape[:2])
    return squares + _outer(given, gradient) if "weight" in own else squares


def _convolution(layer: nn.Conv2d, own: frozenset[str], given: Tensor, gradient: Tensor, members: int) -> Tensor:
    squares = gradient.new_zeros(len(gradient), members)
    if "bias" in own:
        squares = squares + _squares(gradient.flatten(2).sum(dim=2), members)
    if "weight" in own:
        weight = _one_by_one_weight if _alone_is_faster(layer, gradient, members) else _unfolded_weight
        squares = squares + weight(layer, given, gradient, members)
    return squares


def _alone_is_faster(layer: nn.Conv2d, gradient: Tensor, members: int) -> bool:
    """Return whether to call once a sample: on a CPU, where the work is large and the Gram form saves none."""
    taps, pixels = layer.weight[0].numel(), gradient[0, 0].numel()
    large = layer.weight.numel() // members * pixels >= LARGE_CONVOLUTION
    return gradient.device.type == "cpu" and large and not _gram_is_cheaper(taps, _outputs(layer), pixels)


def _outputs(layer: nn.Conv2d) -> int:
    """Return the number of output channels of one group."""
    return layer.out_channels // layer.groups


def _one_by_one_weight(layer: nn.Conv2d, given: Tensor, gradient: Tensor, members: int) -> Tensor:
    """Return the norms from torch's weight gradient of each sample, which makes no copies of overlapping patches."""
    squares = []
    for x, g in zip(given.split(1), gradient.split(1), strict=True):
        how = layer.stride, layer.padding, layer.dilation, layer.groups
        squares.append(_squares(conv2d_weight(x, layer.weight.shape, g, *how)[None], members))
    return torch.cat(squares)


def _unfolded_weight(layer: nn.Conv2d, given: Tensor, gradient: Tensor, members: int) -> Tensor:
    """Return the norms of a convolution as a linear layer on patches, one patch for each pixel of the output."""
    samples = max(1, PATCHES // (layer.groups * layer.weight[0].numel() * gradient[0, 0].numel()))
    # Patches of what lies with channels last would be gathered number by number.
    parts = zip(given.contiguous().split(samples), gradient.split(samples), strict=True)
    each = (members, layer.groups // members)
    squares = []
    for x, g in parts:
        patches = _patches(layer, x).unflatten(1, each)
        squares.append(_outer(patches, g.unflatten(1, (*each, _outputs(layer))).flatten(4)))
    return torch.cat(squares)


def _patches(layer: nn.Conv2d, given: Tensor) -> Tensor:
    """Return what the kernel sees at each pixel of the output: [N, groups, taps, pixels]."""
    assert isinstance(layer.padding, tuple)
    (rows, columns), (down, right), (below, beside) = layer.padding, layer.stride, layer.dilation
    padded = F.pad(given, (columns, columns, rows, rows)) if rows or columns else given
    sample, channel, row, column = padded.stride()
    kernel = layer.kernel_size
    height = (padded.shape[2] - below * (kernel[0] - 1) - 1) // down + 1
    width = (padded.shape[3] - beside * (kernel[1] - 1) - 1) // right + 1
    seen = padded.as_strided(
        (len(given), layer.in_channels, *kernel, height, width),
        (sample, channel, below * row, beside * column, down * row, right * column),
        padded.storage_offset(),
    )
    return seen.reshape(len(given), layer.groups, -1, height * width)


def _outer(given: Tensor, gradient: Tensor) -> Tensor:
    """Return the squared norm [N, M] of gradient @ given.T by sample and member, by the cheaper of two forms.

    Args:
        given: [N, M, ..., I, L].
        gradient: [N, M, ..., O, L].
    """
    if _gram_is_cheaper(given.shape[-2], gradient.shape[-2], given.shape[-1]):
        product = (given.mT @ given) * (gradient.mT @ gradient)
    else:
        product = (gradient @ given.mT).square()
    # The Gram form's terms have both signs, and may add up to a little less than zero.
    return product.flatten(2).sum(dim=2).clamp(min=0)


def _gram_is_cheaper(inputs: int, outputs: int, positions: int) -> bool:
    """Return whether two L x L matrices cost less than one O x I matrix."""
    return positions * (inputs + outputs) < inputs * outputs


def _squares(gradient: Tensor, members: int) -> Tensor:
    """Return the squared norm [N, M] of a gradient [N, M * C, ...]."""
    of_each: Tensor = gradient.unflatten(1, (members, -1))
    return of_each.square().flatten(2).sum(dim=2)


def _per_channel(own: frozenset[str], normalized: Tensor, gradient: Tensor, members: int) -> Tensor:
    """Return the norms for scale and shift of each channel of features [N, M * C] or [N, M * C, ...]."""

    def gathered(each: Tensor) -> Tensor:
        return each.flatten(2).sum(dim=2) if each.ndim > 2 else each

    return _scale_and_shift(own, normalized, gradient, gathered, members)


def _per_feature(shape: tuple[int, ...], own: frozenset[str], normalized: Tensor, gradient: Tensor) -> Tensor:
    """Return the norms for scale and shift of each feature of one network: [N, *shape] or [N, ..., *shape]."""
    features = torch.Size(shape).numel()
    return _scale_and_shift(own, normalized, gradient, lambda each: each.reshape(len(each), -1, features).sum(dim=1), 1)


def _scale_and_shift(
    own: frozenset[str], normalized: Tensor, gradient: Tensor, gathered: Callable[[Tensor], Tensor], members: int
) -> Tensor:
    """Return the norms for scale and shift, whose gradients `gathered` adds up for each of their positions."""
    squares = gradient.new_zeros(len(gradient), members)
    if "weight" in own:
        squares = squares + _squares(gathered(normalized * gradient), members)
    return squares + _squares(gathered(gradient), members) if "bias" in own else squares


def _batch_norm(layer: _BatchNorm, own: frozenset[str], given: Tensor, gradient: Tensor, members: int) -> Tensor:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    each_channel = (-1, *[1] * (given.ndim - 2))
    scale = (layer.running_var + layer.eps).rsqrt().view(each_channel)
    return _per_channel(own, (given - layer.running_mean.view(each_channel)) * scale, gradient, members)


def _group_norm(layer: nn.GroupNorm, own: frozenset[str], given: Tensor, gradient: Tensor, members: int) -> Tensor:
    return _per_channel(own, F.group_norm(given, layer.num_groups, eps=layer.eps), gradient, members)


def _instance_norm(layer: _InstanceNorm, own: frozenset[str], given: Tensor, gradient: Tensor, members: int) -> Tensor:
    running = layer.running_mean, layer.running_var
    normalized = F.instance_norm(given, *running, None, None, running[0] is None, eps=layer.eps)
    return _per_channel(own, normalized, gradient, members)


def _channel_rms_norm(
    layer: ChannelRMSNorm | PackedRMSNorm, own: frozenset[str], given: Tensor, gradient: Tensor, members: int
) -> Tensor:
    each = given.unflatten(1, (members, -1))
    normalized: Tensor = F.rms_norm(each, each.shape[2:], eps=layer.eps)
    return _per_channel(own, normalized.flatten(1, 2), gradient, members)


def _layer_norm(layer: nn.LayerNorm, own: frozenset[str], given: Tensor, gradient: Tensor, _: int) -> Tensor:
    shape = layer.normalized_shape
    return _per_feature(shape, own, F.layer_norm(given, shape, eps=layer.eps), gradient)


def _rms_norm(layer: nn.RMSNorm, own: frozenset[str], given: Tensor, gradient: Tensor, _: int) -> Tensor:
    shape = layer.normalized_shape
    return _per_feature(shape, own, F.rms_norm(given, list(shape), eps=layer.eps), gradient)


RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv2d, DeepConv2d), _convolution),
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
    **dict.fromkeys((nn.Linear, PackedLinear), _linear),
    **dict.fromkeys((ChannelRMSNorm, PackedRMSNorm), _channel_rms_norm),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), _instance_norm),
}
