"""Networks of the user's own, by `module:factory`."""

from collections.abc import Callable
from functools import partial
from weakref import WeakSet

import torch
from torch import Tensor, nn

from study.errors import BadInputError
from study.networks import factories
from study.networks.parts import Builder, Shape


def custom_builder(architecture: str) -> Builder:
    """The builder of a network of the user's: what `module:factory` makes of the shape (C, H, W) and of the classes.

    The network must give logits [N, classes] for images [N, C, H, W], have batch norm or layer norm, and be a
    new network each time.

    Raises:
        BadInputError: the factory can't be had; from the builder: it fails, or makes anything else.
    """
    return partial(_made_by, factories.load(architecture), architecture)


def _made_by(factory: Callable[..., object], architecture: str, shape: Shape, classes: int) -> nn.Module:
    size = "x".join(map(str, shape))
    try:
        network = factory(shape, classes)
    except Exception as error:
        reason = factories.reason(error)
        raise BadInputError(f"architecture={architecture} failed for {size} images: {reason}.") from error
    if not isinstance(network, nn.Module):
        found = type(network).__name__
        raise BadInputError(f"architecture={architecture} must return a torch.nn.Module, not {found}.")
    if network in _made:
        raise BadInputError(
            f"architecture={architecture} returned one network twice: each member needs its custom_builder."
        )
    _made.add(network)
    # Within the init stream: a lazy layer draws its weights on the first pass.
    check_logits(f"architecture={architecture}", network, shape, classes)
    return network


_made: "WeakSet[nn.Module]" = WeakSet()


def check_logits(what: str, network: nn.Module, shape: Shape, classes: int) -> None:
    """Refuse a network that has no logit for each class of each of two images."""
    was_training = network.training
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, *shape))
    except Exception as error:
        size = "x".join(map(str, shape))
        raise BadInputError(f"{what} fails on two {size} images: {factories.reason(error)}.") from error
    finally:
        network.train(was_training)
    found = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if found != [2, classes]:
        raise BadInputError(f"{what} must give logits of shape [2, {classes}] for two images, not {found}.")
