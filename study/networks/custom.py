"""Build the user's own networks, which are named `module:factory`, and check that they can be trained here."""

from collections.abc import Callable
from functools import partial
from weakref import WeakSet

import torch
from torch import Tensor, nn

from study import imports
from study.errors import BadInputError
from study.networks import factories
from study.networks.parts import Builder, Shape


def custom_builder(architecture: str) -> Builder:
    """Return the builder of a network of the user's, which calls `module:factory` with the shape and the classes.

    The network must give logits [N, classes] for images [N, C, H, W], have batch norm or layer norm, and be a new
    network at each call.

    Raises:
        BadInputError: the factory can't be imported; from the builder: it fails, or makes no such network.
    """
    return partial(_build, factories.load(architecture), architecture)


def _build(factory: Callable[..., object], architecture: str, shape: Shape, classes: int) -> nn.Module:
    """Call the user's factory, and refuse its result unless that is a new network with the right logits."""
    size = "x".join(map(str, shape))
    try:
        network = factory(shape, classes)
    except (Exception, SystemExit) as error:
        reason = imports.reason(error)
        raise BadInputError(f"architecture={architecture} failed for {size} images: {reason}.") from error
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise BadInputError(f"architecture={architecture} must return a torch.nn.Module, not {kind}.")
    if network in _returned_before:
        raise BadInputError(
            f"architecture={architecture} returned one network twice: have it make a new one for each member."
        )
    _returned_before.add(network)
    # This stays within the caller's init stream: a lazy layer draws its weights on the first pass.
    check_logits(f"architecture={architecture}", network, shape, classes)
    for name, parameter in network.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise BadInputError(
                f"architecture={architecture} has a lazy layer that eval mode never reaches, so {name!r} has no shape: "
                "give the layer its sizes."
            )
    return network


_returned_before: "WeakSet[nn.Module]" = WeakSet()


def check_logits(what: str, network: nn.Module, shape: Shape, classes: int) -> None:
    """Refuse a network that doesn't give a logit for each class of two images.

    Args:
        what: the network in words, with which the message begins.
        network: the network, which keeps its mode.
        shape: channels, height and width of an image.
        classes: the number of logits.

    Raises:
        BadInputError: the network fails, or gives anything else.
    """
    was_training = network.training
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, *shape))
    except (Exception, SystemExit) as error:
        size = "x".join(map(str, shape))
        raise BadInputError(f"{what} fails on two {size} images: {imports.reason(error)}.") from error
    finally:
        network.train(was_training)
    actual = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if actual != [2, classes]:
        raise BadInputError(f"{what} must give logits of shape [2, {classes}] for two images, not {actual}.")
