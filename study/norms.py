"""Arms: the batch norms of a built network exchanged for another normalization, or for none.

Exchanging layers in a built network, rather than writing each network once per norm, puts any network through the
study and leaves everything but the normalization as it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from study.errors import BadInputError

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d
Weighted = nn.Linear | nn.Conv1d | nn.Conv2d


@dataclass(frozen=True)
class _Place:
    """Where a batch norm stands: the layer whose output it takes as is, if there is one, and its input's extent."""

    feeder: Weighted | None
    spatial: bool


def batch_norms(network: nn.Module) -> Iterator[tuple[str, BatchNorm]]:
    """The network's batch norms by name, in the order of their registration."""
    for name, layer in network.named_modules():
        if isinstance(layer, BatchNorm):
            yield name, layer


def swap(network: nn.Module, norm: str, shape: tuple[int, int, int]) -> nn.Module:
    """The network with each batch norm exchanged in place; `batch` leaves it as it is.

    - `none` removes the layer and gives the convolution or linear layer that feeds it a bias of zeros, the value at
      which batch norm's own shift starts. A norm fed by anything else, as in DenseNet, is removed without one.
    - `group` has as many groups as divide the channels, at most 32 and of at least two channels each.
    - `layer` is one group: all channels and pixels of a sample.
    - `instance` normalizes each channel over its pixels. A feature without pixels has nothing to normalize over, so
      after a linear layer `instance` is `none`.

    Every exchanged norm keeps the epsilon and starts with a scale of 1 and a shift of 0, as batch norm does.

    Raises:
        BadInputError: the network has no batch norm, or one that the forward pass never reaches.
    """
    layers = dict(batch_norms(network))
    if not layers:
        raise BadInputError(f"{type(network).__name__} has no batch norm, so there is nothing to compare.")
    if norm == "batch":
        return network
    places = _places(network, layers, shape)
    exchanged = {layer: _exchanged(norm, layer, places[name]) for name, layer in layers.items()}
    # A layer may stand under several names; it is exchanged under each.
    for module in list(network.modules()):
        for child, layer in module.named_children():
            if isinstance(layer, BatchNorm):
                setattr(module, child, exchanged[layer])
    return network


def gamma_over_sigma(network: nn.Module) -> dict[str, Tensor]:
    """|gamma| / sqrt(running variance + eps) of each affine batch norm, by layer: float32 [channels]."""
    return {
        name: layer.weight.detach().abs() / (layer.running_var + layer.eps).sqrt()
        for name, layer in batch_norms(network)
        if layer.affine and layer.running_var is not None
    }


def _exchanged(norm: str, layer: BatchNorm, place: _Place) -> nn.Module:
    channels, eps, affine = layer.num_features, layer.eps, layer.affine
    if norm == "none" or (norm == "instance" and not place.spatial):
        if place.feeder is not None and place.feeder.bias is None:
            place.feeder.bias = nn.Parameter(place.feeder.weight.new_zeros(channels))
        return nn.Identity()
    if norm == "instance":
        kind = nn.InstanceNorm1d if isinstance(layer, nn.BatchNorm1d) else nn.InstanceNorm2d
        return kind(channels, eps=eps, affine=affine)
    return nn.GroupNorm(1 if norm == "layer" else _groups(channels), channels, eps=eps, affine=affine)


def _groups(channels: int) -> int:
    return max(groups for groups in range(1, min(32, max(1, channels // 2)) + 1) if channels % groups == 0)


def _places(network: nn.Module, layers: dict[str, BatchNorm], shape: tuple[int, int, int]) -> dict[str, _Place]:
    """Where each batch norm stands, seen on a forward pass rather than guessed from the order of the modules."""
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
        spatial = features.ndim > 2 and features[0, 0].numel() > 1
        places[name] = _Place(made.get((id(features), features._version)), spatial)

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
    for name in layers:
        if name not in places:
            raise BadInputError(f"batch norm {name!r} is never reached, so it can't be exchanged.")
    return places
