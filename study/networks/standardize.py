"""Standardization of images as the first layer of a network, so that all else goes on with images in [0, 1]."""

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Subtract from each channel of images [N, C, H, W] a mean, and divide it by a spread.

    Both are buffers, so that trained weights keep them; `standardize_by` sets them. They start as 0 and 1.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))

    def forward(self, images: Tensor) -> Tensor:
        """Return standardized images of the same shape."""
        return (images - self.mean[:, None, None]) / self.spread[:, None, None]


def standardized(network: nn.Module, channels: int) -> nn.Module:
    """Return the network with a first layer that standardizes its images."""
    return nn.Sequential(OrderedDict(standardize=Standardize(channels), network=network))


def standardize_by(network: nn.Module, mean: Tensor, spread: Tensor) -> None:
    """Set by what the first layer of a `standardized` network standardizes, [C] each."""
    layer = network.get_submodule("standardize")
    assert isinstance(layer, Standardize)
    layer.mean.copy_(mean)
    layer.spread.copy_(spread)
