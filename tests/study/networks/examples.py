"""Built networks and images that several tests of networks look at."""

from functools import cache

import torch
from torch import Tensor, nn

from study.networks import build, parts
from study.networks.catalog import NETWORKS

TRANSFORMERS = [name for name, row in NETWORKS.items() if row.built_with == "layer"]
IMAGE = (3, 16, 16)


def lenet(norm: str = "batch", seed: int = 0, shape: parts.Shape = (1, 28, 28), classes: int = 10) -> nn.Module:
    return build.build("lenet", shape, classes, norm, seed)


@cache
def drawn(architecture: str) -> nn.Module:
    """Return the network as it is built, with its initial weights; callers must not change it."""
    return build.build(architecture, IMAGE, 10, built_with(architecture), seed=5)


def built_with(architecture: str) -> str:
    return "layer" if architecture in TRANSFORMERS else "batch"


def unweighted(architecture: str, norm: str, shape: parts.Shape, classes: int = 10) -> nn.Module:
    """Build the network on the meta device, which knows shapes and computes nothing."""
    with torch.device("meta"):
        return build.build(architecture, shape, classes, norm, seed=0)


def logits_shape(architecture: str, norm: str, shape: parts.Shape) -> tuple[int, ...]:
    """Return the shape of the logits in train mode, for two images and seven classes."""
    return tuple(unweighted(architecture, norm, shape, classes=7).train()(torch.zeros(2, *shape, device="meta")).shape)


def noise(images: int = 2, shape: parts.Shape = IMAGE) -> Tensor:
    return torch.rand(images, *shape, generator=torch.Generator().manual_seed(6))
