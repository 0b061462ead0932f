"""Networks, each built once with batch norm and then given the arm's normalization by `study.norms`."""

from collections.abc import Callable

from torch import nn

from study import norms, seeds
from study.errors import BadInputError

Shape = tuple[int, int, int]


def build(architecture: str, shape: Shape, classes: int, norm: str, seed: int) -> nn.Module:
    """A network on the CPU in float32, its initial weights drawn from the seed's `init` stream.

    The arms differ only in what `norms.swap` exchanges after the weights are drawn, so every parameter that two arms
    share starts from the same values.

    Args:
        architecture: a key of `BUILDERS`.
        shape: channels, height and width of an image.
        classes: the number of logits.
        norm: what takes the place of batch norm.
        seed: the member's seed.

    Raises:
        BadInputError: the images are too small, or the norm can't take the place of a layer.
    """
    with seeds.torch_stream(seed, "init"):
        network = BUILDERS[architecture](shape, classes)
    return norms.swap(network, norm, shape)


def parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def lenet(shape: Shape, classes: int) -> nn.Module:
    """LeNet-5 with max-pooling, ReLU and batch norm after every hidden layer, convolutional and linear.

    A 28-pixel image is padded to 32 as in LeCun et al. (1998). The paper does not say where LeNet's norms stand; after
    every hidden layer is where Ioffe and Szegedy (2015) put them.
    """
    channels, height, width = shape
    padding = 2 if height == 28 else 0

    def pooled(size: int) -> int:
        return ((size + 2 * padding - 4) // 2 - 4) // 2

    features = 16 * pooled(height) * pooled(width)
    if min(pooled(height), pooled(width)) < 1:
        raise BadInputError(f"lenet needs images of at least 16x16 pixels, not {height}x{width}.")
    return nn.Sequential(
        nn.Conv2d(channels, 6, kernel_size=5, padding=padding, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel_size=5, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(features, 120, bias=False),
        nn.BatchNorm1d(120),
        nn.ReLU(),
        nn.Linear(120, 84, bias=False),
        nn.BatchNorm1d(84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


BUILDERS: dict[str, Callable[[Shape, int], nn.Module]] = {"lenet": lenet}
