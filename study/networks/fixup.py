"""Fixup (Zhang et al., 2019): residual networks that train without norms, because each branch starts from nothing.

The norms are replaced by single numbers: shifts before convolutions and rectifiers, and a scale in each branch. The
convolutions of a branch start smaller the more branches there are, and its last one from zero, as the classifier does.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from study.errors import BadInputError
from study.networks.wide_resnet import PreActivationBlock

RATE = 0.1
"""The learning rate of the single numbers over that of the weights, as the authors of Fixup advise."""


class Shifted(nn.Conv2d):
    """A convolution of features to which a number is added; its own result may be scaled and shifted by numbers too.

    Attributes:
        shift: the number that is added before, [M] for M members side by side.
        scale: the factor afterwards; None for none.
        shift_after: what is added then; None for nothing.
    """

    shift: nn.Parameter
    scale: nn.Parameter | None
    shift_after: nn.Parameter | None

    @classmethod
    def around(cls, layer: nn.Conv2d, members: int = 1, scaled: bool = False) -> "Shifted":
        """Return such a convolution of the settings of another, and with its weights where there is one member."""
        made = cls(
            members * layer.in_channels,
            members * layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            members * layer.groups,
            bias=False,
            device="meta",
        )
        made.weight = layer.weight
        made.shift = nn.Parameter(torch.zeros(members))
        made.scale = nn.Parameter(torch.ones(members)) if scaled else None
        made.shift_after = nn.Parameter(torch.zeros(members)) if scaled else None
        return made

    def forward(self, features: Tensor) -> Tensor:
        """Return features [N, outputs, H, W] for [N, inputs, H, W]."""
        found = super().forward(features + _by_channel(self.shift, self.in_channels))
        if self.scale is None or self.shift_after is None:
            return found
        return found * _by_channel(self.scale, self.out_channels) + _by_channel(self.shift_after, self.out_channels)


class ScalarNorm(nn.Module):
    """What replaces a norm: a number that is added to all features, after another that they are multiplied by.

    Attributes:
        shift: the first, [M] for M members side by side.
        scale: the second; None for none.
    """

    def __init__(self, members: int, scaled: bool) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(members))
        self.scale = nn.Parameter(torch.ones(members)) if scaled else None

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape [N, C, H, W]."""
        channels = features.shape[1]
        scaled = features if self.scale is None else features * _by_channel(self.scale, channels)
        return scaled + _by_channel(self.shift, channels)


def _by_channel(numbers: Tensor, channels: int) -> Tensor:
    """Return a number for each channel, [channels, 1, 1], of M members that have as many channels each."""
    return numbers.repeat_interleave(channels // len(numbers))[:, None, None]


def _branches() -> Mapping[type[nn.Module], tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return the convolutions and the norms of the branch of each kind of residual block, in order."""
    from torchvision.models.resnet import BasicBlock, Bottleneck

    return {
        BasicBlock: (("conv1", "conv2"), ("bn1", "bn2")),
        Bottleneck: (("conv1", "conv2", "conv3"), ("bn1", "bn2", "bn3")),
        PreActivationBlock: (("conv1", "conv2"), ("norm1", "norm2")),
    }


@torch.no_grad()
def swap(network: nn.Module) -> nn.Module:
    """Swap the norms of a residual network for Fixup in place, and return the network.

    A norm becomes a number that is added; the last one of a branch has a factor as well, or where the branch ends with
    a convolution, that has. A convolution of a block gets a number that is added before it. A wide residual network
    keeps the norm before its classifier, as Galloway et al. (2019) say theirs does.

    Raises:
        BadInputError: it has no residual block that is known.
    """
    branches = _branches()
    blocks = [module for module in network.modules() if type(module) in branches]
    if not blocks:
        raise BadInputError(
            f"norm=fixup scales the branches of ResNets and wide ResNets, and {type(network).__name__} has none."
        )
    for block in blocks:
        convolutions, norms = branches[type(block)]
        _scale_branch([block.get_submodule(name) for name in convolutions], len(blocks))
        pre_activation = isinstance(block, PreActivationBlock)
        for name in convolutions:
            ends_branch = pre_activation and name == convolutions[-1]
            setattr(block, name, Shifted.around(_convolution(block, name), scaled=ends_branch))
        for name in norms:
            setattr(block, name, ScalarNorm(1, scaled=not pre_activation and name == norms[-1]))
        _swap_shortcut(block)
    if isinstance(getattr(network, "bn1", None), nn.BatchNorm2d):
        network.bn1 = ScalarNorm(1, scaled=False)
    *_, classifier = (layer for layer in network.modules() if isinstance(layer, nn.Linear))
    for parameter in classifier.parameters():
        nn.init.zeros_(parameter)
    return network


def _scale_branch(convolutions: list[nn.Module], blocks: int) -> None:
    """Make the convolutions of a branch smaller by L^(-1 / (2 m - 2)), and the last one zero (Fixup, 1 and 2)."""
    for convolution in convolutions[:-1]:
        convolution.weight.mul_(blocks ** (-1 / (2 * len(convolutions) - 2)))  # type: ignore[operator]
    nn.init.zeros_(convolutions[-1].weight)  # type: ignore[arg-type]


def _swap_shortcut(block: nn.Module) -> None:
    """Shift what the convolution of a block's shortcut is given, and remove the norm after it, if it has them."""
    if isinstance(block, PreActivationBlock):
        if block.shortcut is not None:
            block.shortcut = Shifted.around(block.shortcut)
    elif block.downsample is not None:
        block.downsample = nn.Sequential(Shifted.around(_convolution(block, "downsample.0")), nn.Identity())


def _convolution(block: nn.Module, name: str) -> nn.Conv2d:
    layer = block.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    return layer


def scalars(network: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the single numbers of a network, whose learning rate is `RATE` of that of its weights."""
    for layer in network.modules():
        if isinstance(layer, Shifted | ScalarNorm):
            yield from (parameter for name, parameter in layer.named_parameters(recurse=False) if name != "weight")
