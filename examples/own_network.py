"""Put a network of one's own through the study.

A factory takes the shape of an image and the number of classes, and returns a module with batch norm or layer norm. The
other arms are made by exchanging those layers. From the folder of this file, with the project's environment active:

    python -m sweeps run quickstart --set architecture=own_network:wide_and_shallow --results results-own --yes
    python -m analysis compare results-own --factor norm
"""

from torch import nn


def wide_and_shallow(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build one wide convolution, its batch norm, and a linear classifier on pooled features."""
    channels, _, _ = shape
    return nn.Sequential(
        nn.Conv2d(channels, 64, kernel_size=5, stride=2, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, classes),
    )
