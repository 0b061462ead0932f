"""Swap the norms of a built network for another normalization, or for none, which makes the arms of a comparison.

Any network can be put through the study this way, the user's own included, and nothing but the normalization changes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
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
    """RMS norm for features [N, C, ...]: they are divided by the root mean square over a sample's channels and pixels.

    This is layer norm without centering (Zhang and Sennrich, 2019), for features with channels first. Like the norm
    that it replaces, it has one scale and one shift for each channel, or neither where `affine` is false.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, channels: int, eps: float, affine: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape [N, C, ...]."""
        normalized = F.rms_norm(features, features.shape[1:], eps=self.eps)
        if self.weight is None or self.bias is None:
            return normalized
        each_channel = (-1, *[1] * (features.ndim - 2))
        return normalized * self.weight.view(each_channel) + self.bias.view(each_channel)


class TokenRMSNorm(nn.RMSNorm):
    """Torch's RMS norm of each token [..., features], with the shift that layer norm has and torch's RMS norm lacks."""

    bias: nn.Parameter | None

    def __init__(self, replaced: nn.LayerNorm) -> None:
        shape, affine = list(replaced.normalized_shape), replaced.elementwise_affine
        super().__init__(shape, eps=replaced.eps, elementwise_affine=affine)
        # A layer norm may have been built without its shift.
        self.bias = None if replaced.bias is None else nn.Parameter(torch.zeros_like(replaced.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape [..., features]."""
        normalized = super().forward(x)
        return normalized if self.bias is None else normalized + self.bias


@dataclass
class _Place:
    """A norm's place in the forward pass.

    Attributes:
        feeders: the layers whose output is the norm's input, unchanged.
        spatial: whether each of its inputs has more than one pixel.
    """

    feeders: list[Weighted] = field(default_factory=list)
    spatial: bool = True


def batch_norms(network: nn.Module) -> Iterator[tuple[str, BatchNorm]]:
    """Yield the network's batch norms with their names, in the order of their registration."""
    for name, layer in network.named_modules():
        if isinstance(layer, BatchNorm):
            yield name, layer


def swap(network: nn.Module, norm: str, shape: tuple[int, int, int]) -> nn.Module:
    """Swap each norm of a network in place, and return the network.

    A network with batch norms counts as built with `batch`, which leaves it as it is. Its batch norms are swapped:

    - `none` removes the layer, and gives the convolution or linear layer that feeds it a bias, which starts from batch
      norm's own shift. A norm that is fed by anything else, as in DenseNet, is removed without one.
    - `group` has as many groups as divide the channels, at most 32 and of at least two channels each.
    - `layer` is one group: all channels and pixels of a sample.
    - `rms` is `layer` without centering.
    - `instance` normalizes each channel over its pixels. A feature without pixels has nothing to normalize over, so
      after a linear layer, and on maps of one pixel, `instance` is `none`.

    Norms of other kinds beside batch norms stay as they are in every arm: the arms differ in batch norm's replacement
    alone.

    A network without batch norms but with layer norms, as a transformer, counts as built with `layer`: `rms` drops the
    centering, and `none` removes the layer. The input of a transformer's norm is the residual stream, which is no
    linear layer's output, so its shift is removed as well. Only a linear layer without a bias that feeds a norm
    directly is given one.

    A replacement keeps the norm's epsilon. Its scale and shift start from those of the norm: 1 and 0, unless the
    network's author chose others. No random number is drawn.

    Raises:
        BadInputError: the network has no norm of either kind, one that can't be swapped, or one that the forward pass
            never reaches.
    """
    built, layers = _built_with(network)
    if built == "layer":
        check_token_norm(type(network).__name__, norm)
    if norm == built:
        return network
    places = _places(network, layers, shape)
    replacements = {layer: _replacement(norm, name, layer, places[name]) for name, layer in layers.items()}
    for module in list(network.modules()):
        # A layer may be registered under several names; it is replaced under each.
        for child, layer in module.named_children():
            if layer in replacements:
                setattr(module, child, replacements[layer])
        # In eval mode torch's encoder layer has a fused path that reads its norms' weights and never calls the norms.
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    return network


def gammas_and_sigmas(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return |gamma| and sqrt(running variance + eps) of each affine batch norm by layer, [channels] each."""
    return {
        name: (layer.weight.detach().abs(), (layer.running_var + layer.eps).sqrt())
        for name, layer in batch_norms(network)
        if layer.affine and layer.running_var is not None
    }


@contextmanager
def running_statistics_of(network: nn.Module, images: Tensor) -> Iterator[None]:
    """Give the network's batch norms, within the context, the statistics that they have over a batch of images.

    The running mean and the running variance are then the mean and the biased variance of each layer's input, where the
    layers before it normalize by this batch too. So a network in eval mode is one in train mode at this batch. No other
    layer is in train mode meanwhile, and no random number is drawn. Afterwards the statistics are what they were.

    Args:
        network: on the images' device; layers that keep no running statistics stay as they are.
        images: float [B, C, H, W].
    """
    running = _running_statistics(network)
    earlier = {layer: [each.clone() for each in pair] for layer, pair in running.items()}
    for layer, of_batch in _batch_statistics(network, images).items():
        _copy(of_batch, running[layer])
    try:
        yield
    finally:
        for layer, before in earlier.items():
            _copy(before, running[layer])


def _running_statistics(network: nn.Module) -> dict[BatchNorm, tuple[Tensor, Tensor]]:
    """Return the running mean and variance themselves of each batch norm that keeps them."""
    return {
        layer: (layer.running_mean, layer.running_var)
        for _, layer in batch_norms(network)
        if layer.running_mean is not None and layer.running_var is not None
    }


def _copy(values: Iterable[Tensor], into: Iterable[Tensor]) -> None:
    for value, place in zip(values, into, strict=True):
        place.copy_(value)


@torch.no_grad()
def _batch_statistics(network: nn.Module, images: Tensor) -> dict[BatchNorm, tuple[Tensor, Tensor]]:
    """Return the mean and the biased variance over a batch of each batch norm's input, [channels] each."""
    found: dict[BatchNorm, tuple[Tensor, Tensor]] = {}
    layers = _running_statistics(network)
    if not layers:
        return found

    def normalize(layer: BatchNorm, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        by_channel = inputs[0].transpose(0, 1).flatten(1)
        found[layer] = by_channel.mean(dim=1), by_channel.var(dim=1, unbiased=False)
        return F.batch_norm(inputs[0], *found[layer], layer.weight, layer.bias, eps=layer.eps)

    flags = {module: module.training for module in network.modules()}
    hooks = [layer.register_forward_hook(normalize) for layer in layers]
    try:
        network.eval()(images)
    finally:
        for module, flag in flags.items():
            module.training = flag
        for hook in hooks:
            hook.remove()
    return found


def _built_with(network: nn.Module) -> tuple[str, Mapping[str, Norm]]:
    """Return the norm that the network is built with, and its layers of that norm by name."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.SyncBatchNorm):
            raise BadInputError(
                f"batch norm {name!r} is a SyncBatchNorm, which spans processes, but a member trains in one: "
                "use a BatchNorm."
            )
    if layers := dict(batch_norms(network)):
        return "batch", layers
    tokens = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.LayerNorm)}
    if not tokens:
        raise BadInputError(
            f"{type(network).__name__} has neither batch norm nor layer norm, so there is nothing to compare."
        )
    return "layer", tokens


def _replacement(norm: str, name: str, layer: Norm, place: _Place) -> nn.Module:
    """Return the module that replaces a norm."""
    if norm == "none" or (norm == "instance" and not place.spatial):
        for feeder in place.feeders:
            _add_bias(feeder, layer)
        return nn.Identity()
    replacement = _token_norm(name, layer) if isinstance(layer, nn.LayerNorm) else _channel_norm(norm, layer)
    with torch.no_grad():
        for scale_or_shift, parameter in replacement.named_parameters():
            parameter.copy_(getattr(layer, scale_or_shift))
    return replacement


def _add_bias(feeder: Weighted, layer: Norm) -> None:
    """Give a layer without a bias one that starts from the shift of the norm that is removed after it."""
    # The shift of a layer norm over more than a linear layer's outputs can't be a bias of that layer.
    widths = [layer.num_features] if isinstance(layer, BatchNorm) else list(layer.normalized_shape)
    fits = isinstance(layer, BatchNorm) or (isinstance(feeder, nn.Linear) and len(widths) == 1)
    if fits and feeder.bias is None:
        start = feeder.weight.new_zeros(widths) if layer.bias is None else layer.bias.detach().clone()
        feeder.bias = nn.Parameter(start)


def _channel_norm(norm: str, layer: BatchNorm) -> nn.Module:
    """Return the norm over channels and pixels that replaces a batch norm."""
    channels, eps, affine = layer.num_features, layer.eps, layer.affine
    if norm == "rms":
        return ChannelRMSNorm(channels, eps, affine)
    if norm == "instance":
        kind = next(instance for batch, instance in INSTANCES.items() if isinstance(layer, batch))
        return kind(channels, eps=eps, affine=affine)
    return nn.GroupNorm(1 if norm == "layer" else _group_count(channels), channels, eps=eps, affine=affine)


INSTANCES: Mapping[type[BatchNorm], Callable[..., nn.Module]] = {
    nn.BatchNorm1d: nn.InstanceNorm1d,
    nn.BatchNorm2d: nn.InstanceNorm2d,
    nn.BatchNorm3d: nn.InstanceNorm3d,
}


def _token_norm(name: str, layer: nn.LayerNorm) -> nn.Module:
    """Return the RMS norm that replaces a layer norm."""
    if type(layer) is not nn.LayerNorm:
        kind = type(layer).__name__
        raise BadInputError(
            f"layer norm {name!r} is a {kind} with a forward pass of its own, which rms can't replace: "
            "use norm=layer or none."
        )
    return TokenRMSNorm(layer)


def _group_count(channels: int) -> int:
    """Return the largest number of groups of at least two channels that divides the channels, at most 32."""
    return max(groups for groups in range(1, min(32, max(1, channels // 2)) + 1) if channels % groups == 0)


def _places(network: nn.Module, layers: Mapping[str, Norm], shape: tuple[int, int, int]) -> dict[str, _Place]:
    """Find each norm's place by a forward pass, which the order of the modules alone does not tell."""
    sources: dict[tuple[int, int], Weighted] = {}
    alive: list[Tensor] = []  # a freed tensor's address could be given to another
    places: dict[str, _Place] = {}

    def record_output(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, Weighted)
        alive.append(output)
        sources[id(output), output._version] = layer

    def record_input(name: str, inputs: tuple[Tensor, ...]) -> None:
        # An in-place ReLU returns the same tensor at a later version, so its output is not taken for its input.
        features = inputs[0]
        alive.append(features)
        place = places.setdefault(name, _Place())
        place.spatial &= features.ndim > 2 and features[0, 0].numel() > 1
        if feeder := sources.get((id(features), features._version)):
            place.feeders.append(feeder)

    hooks = [layer.register_forward_hook(record_output) for layer in network.modules() if isinstance(layer, Weighted)]
    hooks += [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: record_input(name, inputs))
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
            raise BadInputError(f"{kind} norm {name!r} is never reached by the forward pass, so it can't be swapped.")
    return places
