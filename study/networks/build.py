"""Networks, each built once with its own norm and then given the arm's normalization by `study.networks.norms`.

Where torchvision has a network, it is torchvision's, with the customary changes for images of 28 to 64 pixels and its
initialization as it is: the arms start from the same weights, with and without norms. Without them the spread of the
logits at the start is no longer controlled; each network says what it is.
"""

from functools import partial

from torch import nn

from study import seeds
from study.networks import norms
from study.networks.custom import check_logits, custom_builder
from study.networks.densenet import densenet
from study.networks.lenet import lenet
from study.networks.parts import Builder, Shape
from study.networks.resnet import resnet
from study.networks.vgg import VGG_LETTERS, vgg
from study.networks.vit import vit


def build(architecture: str, shape: Shape, classes: int, norm: str, seed: int) -> nn.Module:
    """A network on the CPU in float32, its initial weights drawn from the seed's `init` stream.

    The arms differ only in what `norms.swap` exchanges after the weights are drawn, so every parameter that two arms
    share starts from the same values.

    Args:
        architecture: a key of `BUILDERS`, or `module:factory` for a network of the user's.
        shape: channels, height and width of an image.
        classes: the number of logits.
        norm: what takes the place of the norm that the network is built with.
        seed: the member's seed.

    Raises:
        BadInputError: the images don't fit, the norm can't take the place of a layer, or the user's network isn't one.
    """
    # A module of the user's is imported before the stream starts: what it draws, it draws at its first import alone.
    builder = BUILDERS[architecture] if architecture in BUILDERS else custom_builder(architecture)
    with seeds.torch_stream(seed, "init"):
        network = builder(shape, classes)
    network = norms.swap(network, norm, shape)
    if architecture not in BUILDERS:
        check_logits(f"architecture={architecture} with norm={norm}", network, shape, classes)
    return network


def parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


BUILDERS: dict[str, Builder] = {
    "lenet": lenet,
    **{name: partial(resnet, name) for name in ("resnet18", "resnet34", "resnet50")},
    "densenet121": densenet,
    **{name: partial(vgg, name) for name in ("vgg8", *VGG_LETTERS)},
    "vit": vit,
}
