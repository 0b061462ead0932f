"""The built-in networks: one row each, and the norms that they can be given.

A network is its row here and its builder in `study.networks.build`, under the same name. Nothing here imports torch, so
that a sweep can be planned, and its records analyzed, without it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from study.errors import BadInputError

NORMS = ("batch", "none", "group", "instance", "layer", "rms")
RESIDUAL_NORMS = (*NORMS, "fixup")
"""The norms of a residual network, whose branches can start from nothing as well."""
TOKEN_NORMS = ("layer", "none", "rms")
"""The norms of a network that is built with layer norm: its tokens are vectors, without pixels."""
COUNTED_INPUTS = (((1, 28, 28), 10), ((3, 32, 32), 10), ((3, 32, 32), 100), ((3, 64, 64), 200))
"""The shapes of an image, with numbers of classes, for which the operations of a network are counted."""


@dataclass(frozen=True)
class NetworkInfo:
    """What is known of a network before it is built.

    Attributes:
        name: as the user types it and the records have it.
        printed: its name in figures.
        built_with: the norm that its builder gives it, `batch` or `layer`; `none` where it has no place for one.
        operations: floating-point operations of one sample's forward pass, for each of `COUNTED_INPUTS`. A
            multiplication and its addition are two. To count them when they are asked for would load torch, which takes
            longer than planning twenty thousand cells; a test counts them again. Empty where `widths` gives them.
        residual: whether it is made of residual blocks, which `fixup` needs.
        widths: of a network of linear layers, their widths between input and logits, by the numbers of an image and by
            `hidden_layers`.
    """

    name: str
    printed: str
    built_with: str
    operations: tuple[int, ...] = ()
    residual: bool = False
    widths: Callable[[int, int], tuple[int, ...]] | None = None

    def operations_for(self, shape: tuple[int, int, int], classes: int, hidden_layers: int = 0) -> int | None:
        """Return the operations for images [C, H, W] and that many classes; None where they are not counted."""
        if self.widths is not None:
            inputs = shape[0] * shape[1] * shape[2]
            widths = (inputs, *self.widths(inputs, hidden_layers), classes)
            return sum(2 * before * after for before, after in pairwise(widths))
        counted = dict(zip(COUNTED_INPUTS, self.operations, strict=True))
        return counted.get((shape, classes))


@dataclass(frozen=True)
class NetworkOptions:
    """How a network is built, beside its architecture and its norm.

    Attributes:
        hidden_layers: how many hidden layers a `deep_mlp` has.
        norm_eps: what the norms add to the variance; torch's own leaves each as its network has it.
        norm_momentum: the weight of a batch in batch norm's running statistics; 0 takes the mean over all batches, and
            torch's own leaves each as its network has it.
        standardized: whether a first layer standardizes the images.
    """

    hidden_layers: int = 0
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    standardized: bool = False


AS_BUILT = NetworkOptions()
"""A network as it is built where nothing else is asked for."""


def _halves(inputs: int) -> tuple[int, int]:
    """Return the widths of two layers, each of half its inputs."""
    return max(1, inputs // 2), max(1, inputs // 4)


# In the paper's order, in which figures show them.
_ROWS = (
    NetworkInfo("lenet", "LeNet", "batch", (833_040, 1_303_440, 1_318_560, 7_187_520)),
    NetworkInfo("densenet121", "DenseNet121", "batch", (1_344_641_024, 1_776_701_440, 1_776_885_760, 7_107_133_440)),
    NetworkInfo(
        "resnet18", "ResNet18", "batch", (911_601_664, 1_110_845_440, 1_110_937_600, 4_443_545_600), residual=True
    ),
    NetworkInfo(
        "resnet34", "ResNet34", "batch", (1_871_835_136, 2_318_804_992, 2_318_897_152, 9_275_383_808), residual=True
    ),
    NetworkInfo(
        "resnet50", "ResNet50", "batch", (2_093_639_680, 2_595_659_776, 2_596_028_416, 10_383_294_464), residual=True
    ),
    NetworkInfo("vgg8", "VGG8", "batch", (115_339_264, 135_669_760, 135_761_920, 542_842_880)),
    NetworkInfo("vgg11", "VGG11", "batch", (267_513_856, 305_539_072, 305_631_232, 1_222_320_128)),
    NetworkInfo("vgg13", "VGG13", "batch", (383_119_360, 456_534_016, 456_626_176, 1_826_299_904)),
    NetworkInfo("vgg16", "VGG16", "batch", (535_293_952, 626_403_328, 626_495_488, 2_505_777_152)),
    NetworkInfo("vgg19", "VGG19", "batch", (687_468_544, 796_272_640, 796_364_800, 3_185_254_400)),
    NetworkInfo("vit", "ViT", "layer", (330_339_328, 436_481_024, 436_527_104, 2_029_103_104)),
    NetworkInfo("wrn10_2", "WRN-10-2", "batch", (67_664_896, 88_967_680, 88_990_720, 355_911_680), residual=True),
    NetworkInfo("wrn16_4", "WRN-16-4", "batch", (600_737_280, 785_224_704, 785_270_784, 3_140_980_736), residual=True),
    NetworkInfo(
        "wrn28_10", "WRN-28-10", "batch", (8_028_398_592, 10_486_657_536, 10_486_772_736, 41_946_834_944), residual=True
    ),
    # Those of Galloway et al. (2019).
    NetworkInfo("linear", "linear", "none", widths=lambda *_: ()),
    NetworkInfo("mlp", "MLP", "batch", widths=lambda inputs, _: _halves(inputs)),
    NetworkInfo("deep_mlp", "deep MLP", "batch", widths=lambda _, hidden_layers: (384,) * hidden_layers),
    NetworkInfo("mlp_2d", "MLP-2D", "batch", widths=lambda inputs, _: (*_halves(inputs), 2, 49)),
    NetworkInfo("spheres_mlp", "MLP-1000", "batch", widths=lambda *_: (1000, 1000, 1000)),
    NetworkInfo("deep_linear", "deep linear", "batch", widths=lambda *_: (10,) * 31),
)
NETWORKS: dict[str, NetworkInfo] = {row.name: row for row in _ROWS}
"""The built-in networks by name."""


def check_norm(architecture: str, norm: str) -> None:
    """Refuse a norm that a built-in network can't be given.

    Raises:
        BadInputError: it can't.
    """
    network = NETWORKS.get(architecture)
    if network is not None and network.built_with == "none" and norm != "none":
        raise BadInputError(f"architecture={architecture} has no place for norm={norm}: use norm=none.")
    if network is not None and norm == "fixup" and not network.residual:
        raise BadInputError(f"norm=fixup is for residual networks, and architecture={architecture} is none.")
    if network is not None and network.built_with == "layer":
        check_token_norm(f"architecture={architecture}", norm)


def check_token_norm(network: str, norm: str) -> None:
    """Refuse a norm that can't stand where a network was built with layer norm.

    Raises:
        BadInputError: the norm is none of `TOKEN_NORMS`.
    """
    if norm not in TOKEN_NORMS:
        raise BadInputError(
            f"{network} is built with layer norm over tokens, which have no pixels for norm={norm}: "
            "use norm=layer, none or rms."
        )
