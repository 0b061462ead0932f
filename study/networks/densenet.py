"""DenseNet with a stem for small images."""

from torch import nn

from study.errors import BadInputError
from study.networks.parts import Shape, small_image_stem


def densenet(shape: Shape, classes: int) -> nn.Module:
    """Build torchvision's DenseNet-121 with a 3x3 convolution of stride 1 and no pooling before the first block.

    Initialization: He et al.'s, by fan-in. The first logits of noise have a standard deviation of 0.3, with batch norm
    and without norms.
    """
    from torchvision.models import densenet121

    _, height, width = shape
    if min(height, width) < 8:
        raise BadInputError(f"densenet121 needs images of at least 8x8 pixels, not {height}x{width}.")
    network: nn.Module = densenet121(num_classes=classes)
    features = network.get_submodule("features")
    features.conv0 = small_image_stem(shape, "fan_in")
    features.pool0 = nn.Identity()
    return network
