"""VGG for small images, with batch norm after every convolution."""

from collections import OrderedDict

from torch import nn

from study.networks.parts import Shape, small_image_stem


def vgg(name: str, shape: Shape, classes: int) -> nn.Module:
    """Build VGG for small images: torchvision's convolutions with batch norm, a mean over pixels and a linear layer.

    VGG's three wide linear layers and their dropout are left out, as is usual on small images. VGG8 has one convolution
    between poolings, which is how public code reads a name that the paper leaves undefined. A convolution has no bias,
    because batch norm would cancel it; `norms.swap` gives it one where the norm is removed. Pooling rounds up, which
    changes nothing at 32 and 64 pixels, and leaves one pixel of 28 in the end (28, 14, 7, 4, 2, 1).

    Initialization: torchvision's for VGG, which is He et al.'s by fan-out, with a standard deviation of 0.01 for the
    linear layer. The first logits of noise have a standard deviation of 0.2 to 0.4 with batch norm, and of 0.005 to
    0.02 without norms.
    """
    from torchvision.models.vgg import cfgs, make_layers

    features = make_layers(VGG8 if name == "vgg8" else cfgs[VGG_LETTERS[name]], batch_norm=True)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    features[0] = small_image_stem(shape, "fan_out")
    classifier = nn.Linear(512, classes)
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)
    parts = {
        "features": features,
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "classifier": classifier,
    }
    return nn.Sequential(OrderedDict(parts))


VGG8 = [64, "M", 128, "M", 256, "M", 512, "M", 512, "M"]
VGG_LETTERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
"""The columns of Table 1 of Simonyan and Zisserman (2015)."""
