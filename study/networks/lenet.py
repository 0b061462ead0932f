"""LeNet with a norm after every hidden layer."""

from torch import nn

from study.errors import BadInputError
from study.networks.parts import Shape


def lenet(shape: Shape, classes: int) -> nn.Module:
    """Build LeNet-5 with max-pooling, ReLU, and batch norm after every hidden layer, convolutional or linear.

    An image of 28 pixels is padded to 32, as in LeCun et al. (1998). The paper does not say where LeNet's norms are;
    Ioffe and Szegedy (2015) put them after every hidden layer.
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
