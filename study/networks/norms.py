"""Swap the norms of a built network for another normalization, or for none, which makes the arms of a comparison.

Any network can be put through the study this way, the user's own included, and nothing but the normalization changes.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from study.errors import BadInputError
from study.networks import fixup
from study.networks.catalog import AS_BUILT, check_token_norm

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
Norm = BatchNorm | nn.LayerNorm
Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
FEWEST_IN_GROUP = 8
"""The fewest numbers of a sample that group norm divides by their spread: of two, it would leave the signs alone."""


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
        each_channel = (-1, *[1] * (features.ndim - 2))
        if self.weight is not None:
            normalized = normalized * self.weight.view(each_channel)
        return normalized if self.bias is None else normalized + self.bias.view(each_channel)


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
        shape: that of its first input, [N, C, ...].
        pixels: how many pixels each channel of a sample has, the fewest of all of its inputs.
        feeders: the layers whose output is the norm's input, unchanged, by name, each with the shape of its own input.
    """

    shape: tuple[int, ...]
    pixels: int
    feeders: dict[str, tuple[Weighted, tuple[int, ...]]] = field(default_factory=dict)


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
    - `group` has as many groups as divide the channels, at most 32 and of at least two channels each. A group has at
      least `FEWEST_IN_GROUP` numbers, its channels times the pixels, or is the only one.
    - `layer` is one group: all channels and pixels of a sample.
    - `rms` is `layer` without centering.
    - `fixup` replaces them by single numbers in residual networks; see `study.networks.fixup`.
    - `instance` normalizes each channel over its pixels. A feature without pixels has nothing to normalize over, so
      after a linear layer, and on maps of one pixel, `instance` is `none`. So is each of these norms where a sample has
      but a single number.

    Norms of other kinds beside batch norms stay as they are in every arm: the arms differ in batch norm's replacement
    alone.

    A network without batch norms but with layer norms, as a transformer, counts as built with `layer`: `rms` drops the
    centering, and `none` removes the layer. The input of a transformer's norm is the residual stream, which is no
    linear layer's output, so its shift is removed as well. Only a linear layer without a bias that feeds a norm
    directly is given one.

    A replacement keeps the norm's epsilon. Its scale and shift start from those of the norm: 1 and 0, unless the
    network's author chose others; one that is missing or isn't trained stays so. No random number is drawn.

    Raises:
        BadInputError: the network has no norm of either kind; one that can't be swapped, for it does more than
            normalize; or one that the forward pass never reaches.
    """
    if norm == "fixup":
        return fixup.swap(network)
    built, layers = _built_with(network)
    if built == "layer":
        check_token_norm(type(network).__name__, norm)
    if norm == built:
        return network
    places = _places(network, layers, shape)
    for name, layer in layers.items():
        _check_replaceable(norm, name, layer, places[name])
    replacements = {layer: _replacement(norm, name, layer, places[name]) for name, layer in layers.items()}
    for module in list(network.modules()):
        # A layer may be registered under several names, in one module too; it is replaced under each.
        for child, part in list(module._modules.items()):
            if isinstance(part, Norm) and part in replacements:
                setattr(module, child, replacements[part])
        # In eval mode torch's encoder layer has a fused path that reads its norms' weights and never calls the norms.
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
    for name, layer in layers.items():
        layer.register_forward_pre_hook(partial(_refuse_call, name))
    return network


def set_constants(network: nn.Module, eps: float, momentum: float) -> None:
    """Set what the network's norms add to the variance, and how they average it, where that is not torch's default.

    Args:
        network: as it is built, with its own norms.
        eps: of norms of every kind.
        momentum: of batch norms; 0 for the mean over all batches, which torch calls None.
    """
    for layer in network.modules():
        if isinstance(layer, Norm) and eps != AS_BUILT.norm_eps:
            layer.eps = eps
        if isinstance(layer, BatchNorm) and momentum != AS_BUILT.norm_momentum:
            layer.momentum = momentum or None


def _refuse_call(name: str, *_: object) -> NoReturn:
    """Refuse a call of a norm that was replaced, to which the network has a reference that isn't known."""
    raise BadInputError(f"norm {name!r} is still called where it was replaced: call it as an attribute of its module")


def given(inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Tensor:
    """Return the features that a norm is called with, by position or by name."""
    features: Tensor = (*inputs, *named.values())[0]
    return features


def gammas_and_sigmas(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return |gamma| and sqrt(running variance + eps) of each affine batch norm by layer, [channels] each."""
    return {
        name: (layer.weight.detach().abs(), (layer.running_var + layer.eps).sqrt())
        for name, layer in batch_norms(network)
        if layer.weight is not None and layer.running_var is not None
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

    def normalize(layer: BatchNorm, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        by_channel = given(inputs, named).transpose(0, 1).flatten(1)
        found[layer] = by_channel.mean(dim=1), by_channel.var(dim=1, unbiased=False)
        # The layer then normalizes by these itself, whatever else its author has it do.
        _copy(found[layer], layers[layer])

    flags = {module: module.training for module in network.modules()}
    hooks = [layer.register_forward_pre_hook(normalize, with_kwargs=True) for layer in layers]
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
        if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and isinstance(layer, _BatchNorm):
            raise BadInputError(f"batch norm {name!r} is never reached by the forward pass: remove it.")
        if isinstance(layer, _BatchNorm) and not isinstance(layer, BatchNorm):
            raise BadInputError(
                f"batch norm {name!r} is a {type(layer).__name__}, of which it isn't known what it normalizes: "
                "use a BatchNorm1d, BatchNorm2d or BatchNorm3d."
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
    channels = layer.num_features if isinstance(layer, BatchNorm) else None
    nothing_to_normalize = norm == "instance" and place.pixels == 1
    if norm == "none" or nothing_to_normalize or channels == place.pixels == 1:
        for feeder_name, (feeder, given_shape) in place.feeders.items():
            _add_bias(norm, name, layer, feeder_name, feeder, given_shape)
        return nn.Identity()
    replacement = TokenRMSNorm(layer) if isinstance(layer, nn.LayerNorm) else _channel_norm(norm, layer, place.pixels)
    with torch.no_grad():
        for scale_or_shift, parameter in list(replacement.named_parameters()):
            if (replaced := getattr(layer, scale_or_shift)) is None:
                setattr(replacement, scale_or_shift, None)
            else:
                parameter.copy_(replaced).requires_grad_(replaced.requires_grad)
    return replacement


def _add_bias(
    norm: str, name: str, layer: Norm, feeder_name: str, feeder: Weighted, given_shape: tuple[int, ...]
) -> None:
    """Give a layer without a bias one that starts from the shift of the norm that is removed after it.

    Raises:
        BadInputError: the layer has a forward pass of its own, which leaves its bias out.
    """
    # The shift of a layer norm over more than a linear layer's outputs can't be a bias of that layer.
    widths = [layer.num_features] if isinstance(layer, BatchNorm) else list(layer.normalized_shape)
    fits = isinstance(layer, BatchNorm) or (isinstance(feeder, nn.Linear) and len(widths) == 1)
    if not fits or feeder.bias is not None:
        return
    if type(feeder) not in Weighted.__args__:
        shifted, wanted = _shift_by_bias(feeder, widths, given_shape)
        if not shifted.any():
            raise BadInputError(
                f"layer {feeder_name!r} is a {type(feeder).__name__} that leaves out its bias, which norm={norm} gives "
                f"it in place of norm {name!r}: have its forward pass add self.bias."
            )
        if not torch.allclose(shifted, wanted, atol=1e-3):
            return  # it does more than such a layer, after it adds its bias
    start = feeder.weight.new_zeros(widths) if layer.bias is None else layer.bias.detach().clone()
    feeder.bias = nn.Parameter(start, requires_grad=layer.bias is None or layer.bias.requires_grad)


@torch.no_grad()
def _shift_by_bias(feeder: Weighted, widths: list[int], given_shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return by how much a bias shifts what comes out of a layer without one, and the bias itself."""
    probe, generator = copy.deepcopy(feeder).eval(), torch.Generator().manual_seed(0)
    features = _random_features(given_shape, generator)
    before = probe(features.clone())
    probe.bias = nn.Parameter(torch.randn(widths, generator=generator))
    shifted = probe(features) - before
    wanted = probe.bias if isinstance(feeder, nn.Linear) else probe.bias.view(-1, *[1] * (shifted.ndim - 2))
    return shifted, wanted


def _channel_norm(norm: str, layer: BatchNorm, pixels: int) -> nn.Module:
    """Return the norm over channels and pixels that replaces a batch norm."""
    channels, eps, affine = layer.num_features, layer.eps, layer.affine
    if norm == "rms":
        return ChannelRMSNorm(channels, eps, affine)
    if norm == "instance":
        kind = next(instance for batch, instance in INSTANCES.items() if isinstance(layer, batch))
        return kind(channels, eps=eps, affine=affine)
    groups = 1 if norm == "layer" else _group_count(channels, pixels)
    return nn.GroupNorm(groups, channels, eps=eps, affine=affine)


INSTANCES: Mapping[type[BatchNorm], Callable[..., nn.Module]] = {
    nn.BatchNorm1d: nn.InstanceNorm1d,
    nn.BatchNorm2d: nn.InstanceNorm2d,
    nn.BatchNorm3d: nn.InstanceNorm3d,
}


def _group_count(channels: int, pixels: int) -> int:
    """Return the largest number of groups that divides the channels: at most 32, and none of them too small."""
    fewest = max(2, -(-FEWEST_IN_GROUP // pixels))
    return max(groups for groups in range(1, min(32, max(1, channels // fewest)) + 1) if channels % groups == 0)


def _check_replaceable(norm: str, name: str, layer: Norm, place: _Place) -> None:
    """Refuse a norm that does more than its kind, all of which a replacement would lose.

    Raises:
        BadInputError: it does.
    """
    if _is_plain(layer):
        return
    kind, what = type(layer).__name__, "batch norm" if isinstance(layer, BatchNorm) else "layer norm"
    knows_its_state = _own_state(layer) <= PLAIN_STATE
    if knows_its_state and _computes_alike(layer, _plain(layer), place.shape):
        return
    if isinstance(layer, nn.LayerNorm) and knows_its_state and _is_projection(layer, place.shape):
        # As one over other dimensions: it can be removed.
        if norm == "none":
            return
        raise BadInputError(
            f"{what} {name!r} is a {kind} with a forward pass of its own, which {norm} can't replace: "
            "use norm=layer or none."
        )
    raise BadInputError(
        f"{what} {name!r} is a {kind} that does more than {what}, and norm={norm} would lose it: "
        "have a layer of its own do what else it does."
    )


def _is_plain(layer: Norm) -> bool:
    """Return whether a norm is torch's own as it was built, with nothing put on it."""
    hooks = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    own = hooks or "forward" in vars(layer) or not _own_state(layer) <= PLAIN_STATE
    return type(layer) in (*INSTANCES, nn.LayerNorm) and not own


PLAIN_STATE = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
"""The names of the parameters and the buffers of torch's own norms."""


def _own_state(layer: nn.Module) -> set[str]:
    return {name for name, _ in (*layer.named_parameters(), *layer.named_buffers())}


def _plain(layer: Norm) -> Norm:
    """Return torch's own norm of the same settings."""
    if isinstance(layer, nn.LayerNorm):
        return nn.LayerNorm(
            list(layer.normalized_shape), layer.eps, layer.elementwise_affine, bias=layer.bias is not None
        )
    kind = next(batch for batch in INSTANCES if isinstance(layer, batch))
    return kind(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)


def _computes_alike(layer: Norm, plain: Norm, shape: tuple[int, ...]) -> bool:
    """Return whether a norm computes what torch's own does of random features, in both modes, whatever its state."""
    try:
        probe, generator = copy.deepcopy(layer), torch.Generator().manual_seed(0)
        for key, value in probe.state_dict().items():
            if value.is_floating_point():
                # Large values of both signs come out, of which an activation would change some.
                spread = torch.rand(value.shape, generator=generator) + 0.5
                value.copy_(spread if key == "running_var" else 4 * spread * (1 - 2 * (key == "bias")))
        plain.load_state_dict(probe.state_dict())
        features = _random_features(shape, generator)
        return all(
            torch.allclose(probe.train(mode)(features.clone()), plain.train(mode)(features), rtol=1e-3, atol=1e-3)
            for mode in (False, True)
        )
    except Exception:  # the layer is the user's: it may fail in any manner
        return False


def _is_projection(layer: nn.LayerNorm, shape: tuple[int, ...]) -> bool:
    """Return whether a norm leaves what it has normalized once as it is, so that it does nothing beside that."""
    try:
        probe, generator = copy.deepcopy(layer), torch.Generator().manual_seed(0)
        for key, value in probe.state_dict().items():
            value.fill_(key == "weight")
        probe.eps = 1e-12
        once = probe.train()(_random_features(shape, generator))
        return torch.allclose(probe(once.clone()), once, rtol=1e-3, atol=1e-3)
    except Exception:  # the layer is the user's: it may fail in any manner
        return False


def _random_features(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 3 + 5 * torch.randn(4, *shape[1:], generator=generator)


def _places(network: nn.Module, layers: Mapping[str, Norm], shape: tuple[int, int, int]) -> dict[str, _Place]:
    """Find each norm's place by a forward pass, which the order of the modules alone does not tell."""
    sources: dict[tuple[int, int], tuple[str, Weighted, tuple[int, ...]]] = {}
    alive: list[Tensor] = []  # a freed tensor's address could be given to another
    places: dict[str, _Place] = {}

    def record_output(
        name: str, layer: Weighted, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor
    ) -> None:
        alive.append(output)
        sources[id(output), output._version] = name, layer, tuple(given(inputs, named).shape)

    def record_input(name: str, _: Norm, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        # An in-place ReLU returns the same tensor at a later version, so its output is not taken for its input.
        features = given(inputs, named)
        alive.append(features)
        pixels = features[0, 0].numel() if features.ndim > 2 else 1
        place = places.setdefault(name, _Place(tuple(features.shape), pixels))
        place.pixels = min(place.pixels, pixels)
        if source := sources.get((id(features), features._version)):
            feeder_name, feeder, given_shape = source
            place.feeders[feeder_name] = feeder, given_shape

    hooks = [
        layer.register_forward_hook(partial(record_output, name), with_kwargs=True)
        for name, layer in network.named_modules()
        if isinstance(layer, Weighted)
    ]
    hooks += [
        layer.register_forward_pre_hook(partial(record_input, name), with_kwargs=True) for name, layer in layers.items()
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
