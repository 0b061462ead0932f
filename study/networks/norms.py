"""Arms: the norms of a built network exchanged for another normalization, or for none.

Exchanging layers in a built network, rather than writing each network once per norm, puts any network through the
study and leaves everything but the normalization as it was.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.errors import BadInputError
from study.networks.catalog import check_token_norm

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Norm = BatchNorm | nn.LayerNorm
Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class ChannelRMSNorm(nn.Module):
    """Features [N, C, ...] over the root of the mean square of a sample's channels and pixels, then scale and shift.

    Layer norm without centering (Zhang and Sennrich, 2019), for features with their channels first. Like the norm that
    it replaces it has one scale and one shift for each channel, or neither where `affine` is false.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, channels: int, eps: float, affine: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, features: Tensor) -> Tensor:
        """Features of the same shape [N, C, ...]."""
        normalized = F.rms_norm(features, features.shape[1:], eps=self.eps)
        if self.weight is None or self.bias is None:
            return normalized
        each_channel = (-1, *[1] * (features.ndim - 2))
        return normalized * self.weight.view(each_channel) + self.bias.view(each_channel)


class TokenRMSNorm(nn.RMSNorm):
    """Torch's RMS norm of each token [..., features], with the shift that layer norm has and torch's lacks."""

    bias: nn.Parameter | None

    def __init__(self, like: nn.LayerNorm) -> None:
        super().__init__(list(like.normalized_shape), eps=like.eps, elementwise_affine=like.elementwise_affine)
        # A layer norm may have been built without its shift.
        self.bias = None if like.bias is None else nn.Parameter(torch.zeros_like(like.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape [..., features]."""
        normalized = super().forward(x)
        return normalized if self.bias is None else normalized + self.bias


@dataclass
class _Place:
    """Where a norm stands: the layers whose output it takes as is, and whether all that it takes has pixels."""

    feeders: list[Weighted] = field(default_factory=list)
    spatial: bool = True


def batch_norms(network: nn.Module) -> Iterator[tuple[str, BatchNorm]]:
    """The network's batch norms by name, in the order of their registration."""
    for name, layer in network.named_modules():
        if isinstance(layer, BatchNorm):
            yield name, layer


def swap(network: nn.Module, norm: str, shape: tuple[int, int, int]) -> nn.Module:
    """The network with each of its norms exchanged in place; the norm that it is built with leaves it as it is.

    A network with batch norms is one built with `batch`, and its batch norms are what is exchanged:

    - `none` removes the layer and gives the convolution or linear layer that feeds it a bias, which starts where batch
      norm's own shift does. A norm fed by anything else, as in DenseNet, is removed without one.
    - `group` has as many groups as divide the channels, at most 32 and of at least two channels each.
    - `layer` is one group: all channels and pixels of a sample.
    - `rms` is `layer` without centering.
    - `instance` normalizes each channel over its pixels. A feature without pixels has nothing to normalize over, so
      after a linear layer, and on maps of one pixel, `instance` is `none`.

    Other norms that stand beside batch norms stay as they are in every arm: the arms differ in what took the place of
    batch norm.

    A network without batch norms but with layer norms, as a transformer, is one built with `layer`: `rms` drops the
    centering, and `none` removes the layer. What a transformer's norm takes is the residual stream, no linear layer's
    output, so its shift goes with it; only a linear layer without a bias that feeds a norm directly is given one.

    Every exchanged norm keeps the epsilon, and has a scale and a shift that start from those of the norm it replaces: 1
    and 0, unless the network's author chose others. No exchange draws a random number.

    Raises:
        BadInputError: the network has neither kind of norm, one that can't be exchanged, or one that the forward pass
            never reaches.
    """
    built, layers = _built_with(network)
    if built == "layer":
        check_token_norm(type(network).__name__, norm)
    if norm == built:
        return network
    places = _places(network, layers, shape)
    exchanged = {layer: _exchanged(norm, name, layer, places[name]) for name, layer in layers.items()}
    for module in list(network.modules()):
        # A layer may stand under several names; it is exchanged under each.
        for child, layer in module.named_children():
            if layer in exchanged:
                setattr(module, child, exchanged[layer])
        # In eval mode torch's encoder layer has a fused path that reads its norms' weights and never calls the norms.
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    return network


def gamma_over_sigma(network: nn.Module) -> dict[str, Tensor]:
    """|gamma| / sqrt(running variance + eps) of each affine batch norm, by layer: float32 [channels]."""
    return {
        name: layer.weight.detach().abs() / (layer.running_var + layer.eps).sqrt()
        for name, layer in batch_norms(network)
        if layer.affine and layer.running_var is not None
    }


def _built_with(network: nn.Module) -> tuple[str, Mapping[str, Norm]]:
    """The norm that the network is built with, and its layers of that norm by name."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.SyncBatchNorm):
            raise BadInputError(f"batch norm {name!r} is a SyncBatchNorm, which spans processes: a member has one.")
    if layers := dict(batch_norms(network)):
        return "batch", layers
    tokens = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.LayerNorm)}
    if not tokens:
        raise BadInputError(
            f"{type(network).__name__} has neither batch norm nor layer norm, so there is nothing to compare."
        )
    return "layer", tokens


def _exchanged(norm: str, name: str, layer: Norm, place: _Place) -> nn.Module:
    """What takes the layer's place."""
    if norm == "none" or (norm == "instance" and not place.spatial):
        for feeder in place.feeders:
            _shift(feeder, layer)
        return nn.Identity()
    exchanged = _tokens(name, layer) if isinstance(layer, nn.LayerNorm) else _channels(norm, layer)
    with torch.no_grad():
        for scale_or_shift, parameter in exchanged.named_parameters():
            parameter.copy_(getattr(layer, scale_or_shift))
    return exchanged


def _shift(feeder: Weighted, layer: Norm) -> None:
    """Give the feeder the shift of the norm that goes, where it has none of its own."""
    # A layer norm over more than a linear layer's outputs has a shift that is no bias of the feeder's.
    widths = [layer.num_features] if isinstance(layer, BatchNorm) else list(layer.normalized_shape)
    fits = isinstance(layer, BatchNorm) or (isinstance(feeder, nn.Linear) and len(widths) == 1)
    if fits and feeder.bias is None:
        start = feeder.weight.new_zeros(widths) if layer.bias is None else layer.bias.detach().clone()
        feeder.bias = nn.Parameter(start)


def _channels(norm: str, layer: BatchNorm) -> nn.Module:
    channels, eps, affine = layer.num_features, layer.eps, layer.affine
    if norm == "rms":
        return ChannelRMSNorm(channels, eps, affine)
    if norm == "instance":
        kind = next(instance for batch, instance in INSTANCES.items() if isinstance(layer, batch))
        return kind(channels, eps=eps, affine=affine)
    return nn.GroupNorm(1 if norm == "layer" else _groups(channels), channels, eps=eps, affine=affine)


INSTANCES: Mapping[type[BatchNorm], Callable[..., nn.Module]] = {
    nn.BatchNorm1d: nn.InstanceNorm1d,
    nn.BatchNorm2d: nn.InstanceNorm2d,
    nn.BatchNorm3d: nn.InstanceNorm3d,
}


def _tokens(name: str, layer: nn.LayerNorm) -> nn.Module:
    if type(layer) is not nn.LayerNorm:
        kind = type(layer).__name__
        raise BadInputError(f"layer norm {name!r} is a {kind} with a forward pass of its own, which rms can't replace.")
    return TokenRMSNorm(layer)


def _groups(channels: int) -> int:
    return max(groups for groups in range(1, min(32, max(1, channels // 2)) + 1) if channels % groups == 0)


def _places(network: nn.Module, layers: Mapping[str, Norm], shape: tuple[int, int, int]) -> dict[str, _Place]:
    """Where each norm stands, seen on a forward pass rather than guessed from the order of the modules."""
    made: dict[tuple[int, int], Weighted] = {}
    kept: list[Tensor] = []  # a freed tensor's address could be given to another
    places: dict[str, _Place] = {}

    def made_by(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, Weighted)
        kept.append(output)
        made[id(output), output._version] = layer

    def stands(name: str, inputs: tuple[Tensor, ...]) -> None:
        # An in-place ReLU returns the same tensor at a later version, and so is not taken for the layer before it.
        features = inputs[0]
        kept.append(features)
        place = places.setdefault(name, _Place())
        place.spatial &= features.ndim > 2 and features[0, 0].numel() > 1
        if feeder := made.get((id(features), features._version)):
            place.feeders.append(feeder)

    hooks = [layer.register_forward_hook(made_by) for layer in network.modules() if isinstance(layer, Weighted)]
    hooks += [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: stands(name, inputs))
        for name, layer in layers.items()
    ]
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(2, *shape))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    for name, layer in layers.items():
        if name not in places:
            kind = "batch" if isinstance(layer, BatchNorm) else "layer"
            raise BadInputError(f"{kind} norm {name!r} is never reached, so it can't be exchanged.")
    return places
