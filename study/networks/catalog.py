"""Floating-point operations of one sample's forward pass, counted once.

Counting them anew would load torch, which takes longer than planning twenty thousand cells; a test counts them again.
"""

from study.errors import BadInputError

INPUTS = (((1, 28, 28), 10), ((3, 32, 32), 10), ((3, 32, 32), 100), ((3, 64, 64), 200))
"""Shapes of an image, and numbers of classes, for which they are known."""
FORWARD = {
    "lenet": (833_040, 1_303_440, 1_318_560, 7_187_520),
    "resnet18": (911_601_664, 1_110_845_440, 1_110_937_600, 4_443_545_600),
    "resnet34": (1_871_835_136, 2_318_804_992, 2_318_897_152, 9_275_383_808),
    "resnet50": (2_093_639_680, 2_595_659_776, 2_596_028_416, 10_383_294_464),
    "densenet121": (1_344_641_024, 1_776_701_440, 1_776_885_760, 7_107_133_440),
    "vgg8": (115_339_264, 135_669_760, 135_761_920, 542_842_880),
    "vgg11": (267_513_856, 305_539_072, 305_631_232, 1_222_320_128),
    "vgg13": (383_119_360, 456_534_016, 456_626_176, 1_826_299_904),
    "vgg16": (535_293_952, 626_403_328, 626_495_488, 2_505_777_152),
    "vgg19": (687_468_544, 796_272_640, 796_364_800, 3_185_254_400),
    "vit": (330_339_328, 436_481_024, 436_527_104, 2_029_103_104),
}
"""By architecture, in the order of `INPUTS`: a multiplication and its addition are two operations."""
ARCHITECTURES = (
    "lenet",
    "resnet18",
    "resnet34",
    "resnet50",
    "densenet121",
    "vgg8",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vit",
)
TRANSFORMERS = ("vit",)
NORMS = ("batch", "none", "group", "instance", "layer", "rms")
TOKEN_NORMS = ("layer", "none", "rms")
"""The norms of a network that is built with layer norm: its tokens are vectors, without pixels."""


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
