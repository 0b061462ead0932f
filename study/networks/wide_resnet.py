"""Wide residual networks for small images, with norm and ReLU before each convolution (Zagoruyko, Komodakis, 2016)."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

from study.networks.parts import Shape

SIZES: Mapping[str, tuple[int, int]] = {"wrn28_10": (28, 10), "wrn16_4": (16, 4), "wrn10_2": (10, 2)}
"""The depth of each network, and how many times as wide it is as the narrowest."""


class PreActivationBlock(nn.Module):
    """A residual block that normalizes and rectifies its input, twice, each time before a convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.relu = nn.BatchNorm2d(inputs), nn.ReLU()
        self.conv1 = _convolution(inputs, outputs, 3, stride)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = _convolution(outputs, outputs, 3, 1)
        same = (inputs, stride) == (outputs, 1)
        self.shortcut = None if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Return features [N, outputs, H / stride, W / stride]."""
        rectified = self.relu(self.norm1(features))
        branch: Tensor = self.conv2(self.relu(self.norm2(self.conv1(rectified))))
        return branch + (features if self.shortcut is None else self.shortcut(rectified))


def wide_resnet(name: str, shape: Shape, classes: int) -> nn.Module:
    """Build a wide residual network: three groups of blocks, the last two of which halve the image.

    Initialization: He et al.'s, by fan-out, as in torchvision's ResNets; the classifier has torch's own.
    """
    depth, factor = SIZES[name]
    blocks, inputs = (depth - 4) // 6, 16
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=_convolution(shape[0], inputs, 3, 1))
    for group, width in enumerate((16, 32, 64), start=1):
        strides = [1 if group == 1 else 2] + [1] * (blocks - 1)
        layers = []
        for stride in strides:
            layers.append(PreActivationBlock(inputs, factor * width, stride))
            inputs = factor * width
        parts[f"group{group}"] = nn.Sequential(*layers)
    parts |= OrderedDict(norm=nn.BatchNorm2d(inputs), relu=nn.ReLU(), pool=nn.AdaptiveAvgPool2d(1))
    parts |= OrderedDict(flatten=nn.Flatten(), classifier=nn.Linear(inputs, classes))
    return nn.Sequential(parts)


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
