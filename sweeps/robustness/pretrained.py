"""Does batch norm cost robustness in networks that others have trained on ImageNet?

They are torchvision's, on 2,048 of the validation images; the paper does not say how many it attacked. At quick scale,
which needs no download, LeNet is trained in place.
"""

from sweeps.robustness.grids import ARMS, DIGITS, FEW_SEEDS, IMAGENET, PUBLISHED_VGGS
from sweeps.sweep import Axes, Sweep, product


def _published(architecture: str | tuple[str, ...], norm: str | tuple[str, ...]) -> Axes:
    return product(**IMAGENET, architecture=architecture, norm=norm, robustness="paper2019")


SWEEP = Sweep(
    name="pretrained",
    question="Does batch norm cost robustness in networks that others have trained on ImageNet?",
    feeds="2019: Table 5",
    quick=(product(**DIGITS, architecture="lenet", norm=ARMS, seed=FEW_SEEDS),),
    paper=(
        _published(PUBLISHED_VGGS, ARMS),
        _published("torchvision:alexnet", "none"),
        _published(("torchvision:densenet121", "torchvision:resnet18"), "batch"),
    ),
)
