"""The networks whose trained weights torchvision publishes, which are measured on ImageNet and not trained.

Such a network is named `torchvision:NAME`, and its norm says which weights are meant: `torchvision:vgg11` with
`norm=batch` is torchvision's `vgg11_bn`, and without it `vgg11`. Nothing here imports torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from study.errors import BadInputError, unknown

PREFIX = "torchvision:"


@dataclass(frozen=True)
class PublishedInfo:
    """What is known of a network with published weights.

    Attributes:
        name: as the user types it and the records have it.
        printed: its name in figures.
        models: torchvision's name of the network, by norm.
        operations: floating-point operations of the forward pass of one image, a multiplication and its addition being
            two; a test counts them again.
    """

    name: str
    printed: str
    models: Mapping[str, str]
    operations: int


def _with_and_without(name: str, printed: str, operations: int) -> PublishedInfo:
    return PublishedInfo(PREFIX + name, printed, {"none": name, "batch": f"{name}_bn"}, operations)


# In the order of Table 5 of Galloway et al. (2019).
_ROWS = (
    _with_and_without("vgg11", "VGG11 (ImageNet)", 15_218_180_096),
    _with_and_without("vgg13", "VGG13 (ImageNet)", 22_616_932_352),
    _with_and_without("vgg16", "VGG16 (ImageNet)", 30_940_528_640),
    _with_and_without("vgg19", "VGG19 (ImageNet)", 39_264_124_928),
    PublishedInfo("torchvision:alexnet", "AlexNet (ImageNet)", {"none": "alexnet"}, 1_428_376_960),
    PublishedInfo("torchvision:densenet121", "DenseNet121 (ImageNet)", {"batch": "densenet121"}, 5_668_323_328),
    PublishedInfo("torchvision:resnet18", "ResNet18 (ImageNet)", {"batch": "resnet18"}, 3_628_146_688),
)
PUBLISHED: dict[str, PublishedInfo] = {row.name: row for row in _ROWS}
"""The networks by name."""


def check_published(architecture: str, norm: str) -> None:
    """Refuse a network, or a norm of it, of which torchvision's weights are not known here.

    Raises:
        BadInputError: it is one.
    """
    if not architecture.startswith(PREFIX):
        return
    if architecture not in PUBLISHED:
        raise unknown("network of torchvision", architecture, PUBLISHED)
    if norm not in PUBLISHED[architecture].models:
        published = " or ".join(f"norm={known}" for known in PUBLISHED[architecture].models)
        raise BadInputError(f"the weights of architecture={architecture} are published with {published}, not {norm}.")
