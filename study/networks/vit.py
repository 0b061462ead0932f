"""A vision transformer for small images."""

import torch
from torch import nn

from study.errors import BadInputError
from study.networks.parts import Shape


def vit(shape: Shape, classes: int) -> nn.Module:
    """Build torchvision's VisionTransformer in the size of ViT-Lite-6/4.

    Hassani et al. (2021) train that on CIFAR alone. It has patches of 4x4 pixels, six layers of four heads, 256
    features, 512 within an MLP, learned positions, a class token, and no dropout. ViT-Base has 27 times as many
    weights, and needs a larger dataset than the study's.

    Initialization: torchvision's, with the last linear layer at zero, so the first logits are zero in every arm.
    """
    from torchvision.models import VisionTransformer

    channels, height, width = shape
    if height != width or height % 4:
        raise BadInputError(f"vit needs square images with a side that 4 divides, not {height}x{width}.")
    network: nn.Module = VisionTransformer(
        image_size=height, patch_size=4, num_layers=6, num_heads=4, hidden_dim=256, mlp_dim=512, num_classes=classes
    )
    network.conv_proj = patches = nn.Conv2d(channels, 256, kernel_size=4, stride=4)
    nn.init.trunc_normal_(patches.weight, std=(16 * channels) ** -0.5)
    patches.bias = nn.Parameter(torch.zeros(256))
    return network
