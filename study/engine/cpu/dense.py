"""Dense: linear layers, batch norms and ReLUs of several members with the members' axis first, for training on a CPU.

Features are then [M, B, C], as products of matrices take and give them, and nothing is transposed between layers; norm
and ReLU are one operation each way, with kernels in `rows`. Plain gradient descent can change a weight as soon as its
gradient is known, without that gradient being written to memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class PackedLinear(nn.Module):
    """M linear layers: features [B, M * I] to [B, M * O]."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, _: nn.Linear, members: int) -> None:
        super().__init__()
        self._members = members
        self.register_parameter("bias", None)

    def forward(self, features: Tensor) -> Tensor:
        """Return features [B, M * O] for features [B, M * I]."""
        members = features.unflatten(1, (self._members, -1)).transpose(0, 1)
        weight = self.weight.unflatten(0, (self._members, -1)).mT
        if self.bias is None:
            product = torch.bmm(members, weight)
        else:
            product = torch.baddbmm(self.bias.view(self._members, 1, -1), members, weight)
        return product.transpose(0, 1).flatten(1)


@dataclass(frozen=True)
class Descent:
    """A step of plain gradient descent: a weight loses its gradient times `rate`, and itself times `rate * decay`."""

    rate: float
    decay: float


class Dense(nn.Sequential):
    """Layers of M members side by side: `PackedLinear`, batch norms, ReLUs and identities, after an optional `Flatten`.

    Where the kernels don't apply, so do the layers within.
    """

    def __init__(self, members: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self._members = members
        self._descent: Descent | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Return features [B, M * O] for features [B, M * C] or [B, M * C, ...]."""
        if not self._applies(features):
            for layer in self:
                features = layer(features)
            return features
        features = features.unflatten(1, (self._members, -1)).transpose(0, 1).flatten(2)
        layers = [layer for layer in self if type(layer) not in SHAPING]
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            rectified = type(following) is nn.ReLU
            if isinstance(layer, PackedLinear):
                features = _Linear.apply(features, layer.weight, layer.bias, rectified, self._descent)
            elif isinstance(layer, nn.BatchNorm1d):
                features = _normalize(features, layer, rectified)
        return features.transpose(0, 1).flatten(1)

    @contextmanager
    def descending(self, descent: Descent) -> Iterator[None]:
        """Have the backward pass of a forward pass within the context change weights instead of giving gradients."""
        self._descent = descent
        try:
            yield
        finally:
            self._descent = None

    def _applies(self, features: Tensor) -> bool:
        return bool(
            features.device.type == "cpu"
            and (features.ndim == 2 or type(self[0]) is nn.Flatten)
            and features.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled("cpu")
            and all(parameter.dtype == features.dtype for parameter in self.parameters())
            # A hook expects its layer to be called, with features [B, M * C].
            and not any(module._forward_pre_hooks or module._forward_hooks for module in self.modules())
            and all(_norm_applies(layer, len(features)) for layer in self if isinstance(layer, nn.BatchNorm1d))
        )


def _norm_applies(norm: nn.BatchNorm1d, samples: int) -> bool:
    """Whether the kernels compute this norm."""
    return norm.affine and norm.track_running_stats and not (norm.training and samples < 2)


def in_dense(layers: list[nn.Module], members: int) -> list[nn.Module]:
    """Return the layers of a sequence, with each run of layers that `Dense` can take as one `Dense`."""
    result: list[nn.Module] = []
    while layers:
        run = int(_flattens(layers[0]))
        if run < len(layers) and isinstance(layers[run], PackedLinear):
            while run < len(layers) and isinstance(layers[run], TAKEN):
                run += 1
            result.append(Dense(members, *layers[:run]))
        else:
            run = 1
            result.append(layers[0])
        del layers[:run]
    return result


LINEAR, NORM, RELU = 0, 1, 2
KINDS = {PackedLinear: LINEAR, nn.BatchNorm1d: NORM, nn.ReLU: RELU}
"""The layers that compute something, and the numbers by which compiled code knows them."""
SHAPING = (nn.Flatten, nn.Identity)
TAKEN = (*KINDS, nn.Identity)


def _flattens(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)


class _Linear(torch.autograd.Function):
    """Linear layers, with ReLU or without: features [M, B, I], weights [M * O, I] and biases [M * O]."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, descent: Descent | None
    ) -> Tensor:
        members = len(features)
        transposed = weight.unflatten(0, (members, -1)).mT
        if bias is None:
            result = torch.bmm(features, transposed)
        else:
            result = torch.baddbmm(bias.view(members, 1, -1), features, transposed)
        if relu:
            result.relu_()
        ctx.save_for_backward(features, weight, result if relu else None)
        ctx.descent = descent
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        features, weight, result = ctx.saved_tensors
        if result is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, result, 0)
        weights = weight.detach().unflatten(0, (len(features), -1))
        at_features = at_weight = at_bias = None
        if ctx.needs_input_grad[2]:
            at_bias = gradient.sum(dim=1).flatten()
        if ctx.descent is not None and ctx.needs_input_grad[1]:
            at_features = _descend(ctx.descent, features, weights, gradient, ctx.needs_input_grad[0])
        else:
            if ctx.needs_input_grad[0]:
                at_features = torch.bmm(gradient, weights)
            if ctx.needs_input_grad[1]:
                at_weight = torch.bmm(gradient.mT, features).flatten(0, 1)
        return at_features, at_weight, at_bias, None, None


def _descend(descent: Descent, features: Tensor, weights: Tensor, gradient: Tensor, go_on: bool) -> Tensor | None:
    """Return the gradient at the features, and change the weights, member by member while they are in the cache."""
    at_features = torch.empty_like(features) if go_on else None
    keep, rate = 1 - descent.rate * descent.decay, -descent.rate
    of_members = zip(features.unbind(), weights.unbind(), gradient.unbind(), strict=True)
    for member, (given, weight, above) in enumerate(of_members):
        if at_features is not None:
            torch.mm(above, weight, out=at_features[member])
        weight.addmm_(above.mT, given, beta=keep, alpha=rate)
    return at_features


def _normalize(features: Tensor, norm: Any, relu: bool) -> Tensor:
    """Return batch norm of features [M, B, C], with ReLU or without; in train mode, update the running statistics."""
    from study.engine.cpu import rows  # its compiler takes a while to import

    members, samples, channels = features.shape
    running = [buffer.view(members, channels) for buffer in (norm.running_mean, norm.running_var)]
    if norm.training:
        features = features.contiguous()
        mean, variance = features.new_empty(2, members, channels)
        rows.moments_of_members(features.detach().numpy(), mean.numpy(), variance.numpy())
        norm.num_batches_tracked += 1
        # Without a momentum, the running statistics are the mean over all batches.
        momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        running[0].lerp_(mean, momentum)
        running[1].lerp_(variance * (samples / (samples - 1)), momentum)
    else:
        mean, variance = running
    output: Tensor = _Normalize.apply(
        features, norm.weight, norm.bias, mean, (variance + norm.eps).rsqrt(), relu, not norm.training
    )
    return output


class _Normalize(torch.autograd.Function):
    """Batch norm, with ReLU or without, of features [M, B, C] by means and inverse deviations [M, C]."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor, relu: bool, fixed: bool
    ) -> Tensor:
        from study.engine.cpu import rows

        features = features.contiguous()
        scale = weight.view_as(mean) * inverse
        result = torch.empty_like(features)
        rows.normalize(*_arrays(features, mean, scale, bias.view_as(mean)), relu, result.numpy())
        ctx.save_for_backward(features, result, mean.clone() if fixed else mean, scale, inverse)
        ctx.relu, ctx.fixed = relu, fixed
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from study.engine.cpu import rows

        features, result, mean, scale, inverse = ctx.saved_tensors
        at_features, total, projection = torch.empty_like(features), torch.empty_like(mean), torch.empty_like(mean)
        given = _arrays(features, result, gradient.contiguous(), mean, scale, inverse)
        rows.normalized_gradient(*given, ctx.relu, ctx.fixed, *_arrays(at_features, total, projection))
        return at_features, (projection * inverse).flatten(), total.flatten(), None, None, None, None


def _arrays(*tensors: Tensor) -> list[Any]:
    return [tensor.detach().numpy() for tensor in tensors]
