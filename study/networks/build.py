"""Build a network by its name: always with its own norm first, which is then swapped for the norm of the arm.

Where torchvision has a network, it is torchvision's, with the customary changes for images of 28 to 64 pixels and with
torchvision's initialization. So the arms start from the same weights, with and without norms. Without norms the spread
of the first logits is no longer controlled; each network's docstring says what it is.
"""

import sys
from functools import partial
from typing import Any

from torch import Tensor, nn

from study import seeds
from study.networks import factories, norms, pretrained, rehearsal
from study.networks.catalog import AS_BUILT, NETWORKS, NetworkOptions
from study.networks.custom import check_logits, custom_builder
from study.networks.densenet import densenet
from study.networks.lenet import lenet
from study.networks.mlp import deep_linear, deep_mlp, linear, mlp, mlp_2d, spheres_mlp
from study.networks.parts import Builder, Shape
from study.networks.published import PUBLISHED
from study.networks.resnet import resnet
from study.networks.standardize import standardized
from study.networks.vgg import VGG_LETTERS, vgg
from study.networks.vit import vit
from study.networks.wide_resnet import SIZES, wide_resnet


def build(
    architecture: str, shape: Shape, classes: int, norm: str, seed: int, options: NetworkOptions = AS_BUILT
) -> nn.Module:
    """Build a network on the CPU in float32, with initial weights drawn from the seed's `init` stream.

    The norms are swapped after the weights are drawn, so every parameter that two arms share starts from the same
    values.

    Args:
        architecture: a key of `BUILDERS` or of `PUBLISHED`, or `module:factory` for a network of the user's.
        shape: channels, height and width of an image.
        classes: the number of logits.
        norm: the norm that replaces the one that the network is built with.
        seed: the member's seed.
        options: how else it is built.

    Raises:
        BadInputError: the images don't fit the network, the norm can't replace one of its layers, or the user's factory
            makes no such network.

    Example: the arm without norm has a bias in place of each batch norm, and the same weights otherwise.
        >>> batch, none = (build("lenet", (1, 28, 28), 10, norm, seed=0) for norm in ("batch", "none"))
        >>> count_parameters(batch) - count_parameters(none)
        226
    """
    # The user's module is imported before the stream starts: random numbers that it draws then come but once a process.
    if architecture in PUBLISHED:
        with seeds.torch_stream(seed, "init"):
            network = pretrained.untrained(architecture, norm, classes)
        norms.set_constants(network, options.norm_eps, options.norm_momentum)
        return standardized(network, shape[0]) if options.standardized else network
    builder = BUILDERS[architecture] if architecture in BUILDERS else custom_builder(architecture)
    if options.hidden_layers:
        builder = partial(deep_mlp, hidden_layers=options.hidden_layers)
    with seeds.torch_stream(seed, "init"):
        network = builder(shape, classes)
    norms.set_constants(network, options.norm_eps, options.norm_momentum)
    if architecture not in NETWORKS or NETWORKS[architecture].built_with != "none":
        network = norms.swap(network, norm, shape)
    if architecture not in BUILDERS:
        check_logits(f"architecture={architecture} with norm={norm}", network, shape, classes)
    return standardized(network, shape[0]) if options.standardized else network


def check(
    architecture: str,
    norm: str,
    seed: int,
    images: Tensor,
    labels: Tensor,
    classes: int,
    batch_size: int,
    options: NetworkOptions = AS_BUILT,
) -> None:
    """Refuse a network of the user's that can't be trained and measured as the study does it; see `rehearsal`.

    The built-in ones are known to be fit. Of one network and norm a process asks once. One that starts from the same
    weights whatever the seed is, as a pretrained one, is fit, but it is said.

    Args:
        architecture: as in `build`.
        norm: as in `build`.
        seed: as in `build`.
        images: float [N, C, H, W], of the training set; the first few are enough.
        labels: int64 [N].
        classes: the number of logits.
        batch_size: how many images a step takes.
        options: as in `build`.

    Raises:
        BadInputError: the network is unfit.
    """
    if architecture in BUILDERS or architecture in PUBLISHED:
        return
    channels, height, width = images.shape[1:]
    shape, factory = (channels, height, width), factories.load(architecture)
    asked = id(factory), architecture, norm, shape, classes, options
    if asked not in _rehearsed:

        def make() -> nn.Module:
            return build(architecture, shape, classes, norm, seed, options)

        rehearsal.rehearse(architecture, norm, make, images, labels, classes, batch_size)
        if rehearsal.starts_alike(make(), build(architecture, shape, classes, norm, seed + 1, options)):
            print(f"architecture={architecture} starts from the same weights with every seed.", file=sys.stderr)
        _rehearsed[asked] = factory


_rehearsed: dict[tuple[Any, ...], object] = {}
"""The factories, which are kept so that none gets the place in memory of another, of the networks that were fit."""


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


BUILDERS: dict[str, Builder] = {
    "lenet": lenet,
    **{name: partial(resnet, name) for name in ("resnet18", "resnet34", "resnet50")},
    "densenet121": densenet,
    **{name: partial(vgg, name) for name in ("vgg8", *VGG_LETTERS)},
    "vit": vit,
    **{name: partial(wide_resnet, name) for name in SIZES},
    "linear": linear,
    "mlp": mlp,
    "deep_mlp": deep_mlp,
    "mlp_2d": mlp_2d,
    "spheres_mlp": spheres_mlp,
    "deep_linear": deep_linear,
}
