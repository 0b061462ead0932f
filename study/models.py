"""Networks, each built once with its own norm and then given the arm's normalization by `study.norms`.

Where torchvision has a network, it is torchvision's, with the customary changes for images of 28 to 64 pixels and its
initialization as it is: the arms start from the same weights, with and without norms. Without them the spread of the
logits at the start is no longer controlled; each network says what it is.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal
from weakref import WeakSet

import torch
from torch import Tensor, nn

from study import factories, norms, seeds
from study.errors import BadInputError

Shape = tuple[int, int, int]
Builder = Callable[[Shape, int], nn.Module]


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
    builder = BUILDERS[architecture] if architecture in BUILDERS else own(architecture)
    with seeds.torch_stream(seed, "init"):
        network = builder(shape, classes)
    network = norms.swap(network, norm, shape)
    if architecture not in BUILDERS:
        _check_logits(f"architecture={architecture} with norm={norm}", network, shape, classes)
    return network


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


def resnet(name: str, shape: Shape, classes: int) -> nn.Module:
    """Torchvision's ResNet with the stem for small images: a 3x3 convolution of stride 1, and no max-pooling.

    Initialization: He et al.'s, by fan-out. Without norms every block adds its branch's variance to what it is given:
    the first logits of noise at 32x32 spread by 0.3, 4 and 6 (ResNet-18, 34, 50), where with batch norm they do by 0.2,
    0.5 and 0.8.
    """
    from torchvision import models

    network: nn.Module = getattr(models, name)(num_classes=classes)
    network.conv1 = _stem(shape, "fan_out")
    network.maxpool = nn.Identity()
    return network


def densenet(shape: Shape, classes: int) -> nn.Module:
    """Torchvision's DenseNet-121 with a 3x3 convolution of stride 1 and no pooling before the first block.

    Initialization: He et al.'s, by fan-in. The first logits of noise spread by 0.3, with batch norm and without norms.
    """
    from torchvision.models import densenet121

    _, height, width = shape
    if min(height, width) < 8:
        raise BadInputError(f"densenet121 needs images of at least 8x8 pixels, not {height}x{width}.")
    network: nn.Module = densenet121(num_classes=classes)
    features = network.get_submodule("features")
    features.conv0 = _stem(shape, "fan_in")
    features.pool0 = nn.Identity()
    return network


def vgg(name: str, shape: Shape, classes: int) -> nn.Module:
    """The convolutions of torchvision's VGG, each with batch norm, then the mean over pixels and one linear layer.

    That is VGG as it is used on small images: without the three wide linear layers and their dropout. VGG8 has one
    convolution between poolings, which is how code of the field reads a name that its paper leaves undefined.
    A convolution has no bias, for batch norm would take it away; `norms.swap` gives it one where the norm goes. Pooling
    rounds up, which changes nothing at 32 and 64 pixels and leaves 28 a pixel to the end (28, 14, 7, 4, 2, 1).

    Initialization: torchvision's for VGG, He et al.'s by fan-out, and a spread of 0.01 for the linear layer. The first
    logits of noise spread by 0.2 to 0.4 with batch norm, and by 0.005 to 0.02 without norms.
    """
    from torchvision.models.vgg import cfgs, make_layers

    features = make_layers(VGG8 if name == "vgg8" else cfgs[VGG_LETTERS[name]], batch_norm=True)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    features[0] = _stem(shape, "fan_out")
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


def vit(shape: Shape, classes: int) -> nn.Module:
    """Torchvision's VisionTransformer in the size of ViT-Lite-6/4, which Hassani et al. (2021) train on CIFAR alone.

    Patches of 4x4 pixels, six layers of four heads, 256 features, 512 within an MLP, a learned position, a class token,
    and no dropout of any kind. ViT-Base has 27 times as many weights, and needs a larger dataset than the study's.

    Initialization: torchvision's, with the last linear layer at zero: the first logits are zero in every arm.
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


def own(architecture: str) -> Builder:
    """The builder of a network of the user's: what `module:factory` makes of the shape (C, H, W) and of the classes.

    The network must give logits [N, classes] for images [N, C, H, W], have batch norm or layer norm, and be a
    new network each time.

    Raises:
        BadInputError: the factory can't be had; from the builder: it fails, or makes anything else.
    """
    return partial(_made_by, factories.load(architecture), architecture)


def _made_by(factory: Callable[..., object], architecture: str, shape: Shape, classes: int) -> nn.Module:
    size = "x".join(map(str, shape))
    try:
        network = factory(shape, classes)
    except Exception as error:
        reason = factories.reason(error)
        raise BadInputError(f"architecture={architecture} failed for {size} images: {reason}.") from error
    if not isinstance(network, nn.Module):
        found = type(network).__name__
        raise BadInputError(f"architecture={architecture} must return a torch.nn.Module, not {found}.")
    if network in _made:
        raise BadInputError(f"architecture={architecture} returned one network twice: each member needs its own.")
    _made.add(network)
    # Within the init stream: a lazy layer draws its weights on the first pass.
    _check_logits(f"architecture={architecture}", network, shape, classes)
    return network


_made: "WeakSet[nn.Module]" = WeakSet()


def _check_logits(what: str, network: nn.Module, shape: Shape, classes: int) -> None:
    """Refuse a network that has no logit for each class of each of two images."""
    was_training = network.training
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, *shape))
    except Exception as error:
        size = "x".join(map(str, shape))
        raise BadInputError(f"{what} fails on two {size} images: {factories.reason(error)}.") from error
    finally:
        network.train(was_training)
    found = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if found != [2, classes]:
        raise BadInputError(f"{what} must give logits of shape [2, {classes}] for two images, not {found}.")


def _stem(shape: Shape, fan: Literal["fan_in", "fan_out"]) -> nn.Conv2d:
    """The first convolution for small images, initialized as the rest of its network is."""
    convolution = nn.Conv2d(shape[0], 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode=fan, nonlinearity="relu")
    return convolution


BUILDERS: dict[str, Builder] = {
    "lenet": lenet,
    **{name: partial(resnet, name) for name in ("resnet18", "resnet34", "resnet50")},
    "densenet121": densenet,
    **{name: partial(vgg, name) for name in ("vgg8", *VGG_LETTERS)},
    "vit": vit,
}
