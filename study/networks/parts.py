"""Parts that several networks share: their types, and the stem for small images."""

from collections.abc import Callable
from typing import Literal

from torch import nn

Shape = tuple[int, int, int]
Builder = Callable[[Shape, int], nn.Module]


def small_image_stem(shape: Shape, fan: Literal["fan_in", "fan_out"]) -> nn.Conv2d:
    """Return the first convolution of a network for small images, initialized by `fan` like the rest of the network."""
    convolution = nn.Conv2d(shape[0], 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode=fan, nonlinearity="relu")
    return convolution
