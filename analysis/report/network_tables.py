"""The layouts of the 2019 paper's tables of convolutional networks, with the paper's own numbers."""

from typing import Any

from analysis.report.paper_layout import Number, PaperRow, PaperTable
from sweeps.robustness.vgg_cifar import DROPS

STAND_INS = {"vgg8": "lenet", "wrn28_10": "wrn10_2"}
"""The networks that stand in for the paper's at quick scale, where these have no records."""
NETWORK = {"architecture": "network", "norm": "norm"}
CLEAN, NOISE = {"test_acc": "clean"}, {"noise_acc": "noise"}
LINF, L2 = {"pgd_linf_acc": "PGD linf"}, {"pgd_l2_acc": "PGD l2"}
NEW_SET = {"clean_101_acc": "10.1 clean", "noise_101_acc": "10.1 noise"}
NOISES = {
    "gaussian_noise_acc": "Gaussian",
    "impulse_noise_acc": "impulse",
    "shot_noise_acc": "shot",
    "speckle_noise_acc": "speckle",
}
RATES = {"none": 0.01, "batch": 0.1}
"""The learning rates of Table 3."""
SPREAD = "Noise has a standard deviation of 1/4, as in the authors' code; the paper says variance."
CLIP = (
    "On CIFAR-10 the clip to [-2, 2] weakens the VGGs' PGD in l2, and moves values farther than linf's epsilon: "
    "`python -m study clip dataset=cifar10` counts them."
)
FIXUP = (
    "Until 27 May 2019 the code that the paper names overwrote Fixup's initial weights by He's, and shared one scalar "
    "among four places: the paper's networks probably lacked Fixup's initialization, and ours have it."
)


def _row(architecture: str, norm: str, *numbers: Number, **levels: Any) -> PaperRow:
    return PaperRow({"architecture": architecture, "norm": norm, **levels}, numbers)


def _table2(norm: str, *numbers: Number) -> PaperRow:
    """Return a row of VGG8 as in Table 2."""
    return _row("vgg8", norm, *numbers, lr_drop="none")


def _table3(architecture: str, norm: str, *numbers: Number) -> PaperRow:
    """Return a row of a VGG that was trained as in Table 3."""
    return _row(architecture, norm, *numbers, lr=RATES[norm], lr_drop=DROPS)


NETWORK_TABLES = (
    PaperTable(
        "g19-t1",
        "Table 1",
        "Test accuracy of VGG8 in percent.",
        ("vgg_svhn",),
        NETWORK,
        {**CLEAN, **NOISE, **LINF, **L2},
        (
            _row("vgg8", "none", (0.9260, 0.0004), (0.836, 0.002), (0.271, 0.003), (0.220, 0.008)),
            _row("vgg8", "batch", (0.9446, 0.0002), (0.781, 0.006), (0.10, 0.01), (0.016, 0.003)),
        ),
        notes=(SPREAD,),
    ),
    PaperTable(
        "g19-t2",
        "Table 2",
        "Test accuracy of VGG8 and WRN-28-10 in percent, on CIFAR-10 and on CIFAR-10.1.",
        ("vgg_cifar", "wide_resnet"),
        NETWORK,
        {**CLEAN, **NOISE, **LINF, **L2, **NEW_SET},
        (
            _table2("none", (0.879, 0.001), (0.79, 0.01), (0.529, 0.006), (0.656, 0.003), (0.753, 0.002), (0.66, 0.01)),
            _table2("batch", (0.887, 0.001), (0.73, 0.01), (0.357, 0.003), (0.597, 0.003), (0.773, 0.002), (0.6, 0.02)),
            _row(
                *("wrn28_10", "fixup"),
                *((0.946, 0.001), (0.69, 0.01), (0.203, 0.003), (0.094, 0.002), (0.875, 0.003), (0.68, 0.01)),
            ),
            _row(
                *("wrn28_10", "batch"),
                *((0.959, 0.001), (0.58, 0.02), (0.149, 0.006), (0.083, 0.003), (0.896, 0.002), (0.58, 0.01)),
            ),
        ),
        notes=(
            "VGG8 is that of the best epoch by the test set itself, as the paper says, so that its accuracies flatter "
            "both arms.",
            SPREAD,
            CLIP,
            "An epsilon of 0.03 is 1.5/255 in pixels for VGG8 and 1.9/255 for WRN-28-10, which the paper standardizes "
            "by other constants: compare arms, not networks.",
        ),
    ),
    PaperTable(
        "g19-t3",
        "Table 3",
        "Test accuracy of deeper VGGs in percent, trained for longer and with drops of the rate.",
        ("vgg_cifar",),
        NETWORK,
        {**CLEAN, **NOISE, **LINF},
        (
            _table3("vgg8", "none", (0.8929, 0.0009), (0.817, 0.003), (0.556, 0.004)),
            _table3("vgg8", "batch", (0.9049, 0.0001), (0.77, 0.01), (0.406, 0.006)),
            _table3("vgg11", "none", (0.904, 0.001), (0.815, 0.005), (0.537, 0.002)),
            _table3("vgg11", "batch", (0.9119, 0.0006), (0.793, 0.006), (0.438, 0.005)),
            _table3("vgg13", "none", (0.9174, 0.0002), (0.778, 0.007), (0.403, 0.007)),
            _table3("vgg13", "batch", (0.930, 0.001), (0.67, 0.01), (0.285, 0.004)),
            _table3("vgg16", "batch", (0.928, 0.001), (0.66, 0.02), (0.289, 0.002)),
            _table3("vgg19", "batch", (0.9265, 0.0009), (0.68, 0.02), (0.300, 0.001)),
        ),
        notes=(
            "The learning rate is 0.1 with batch norm and 0.01 without: the arms differ in both.",
            "One of the paper's ten VGG13 without batch norm stayed at chance; it shows the first three that did not.",
            SPREAD,
            CLIP,
        ),
    ),
    PaperTable(
        "g19-t4",
        "Table 4",
        "Accuracy under noise corruptions in percent, means over severities, and the mean error over all families.",
        ("vgg_cifar", "wide_resnet"),
        NETWORK,
        {**CLEAN, **NOISES, "corruption_error": "mean error"},
        (
            _table2("none", (0.879, 0.001), (0.656, 0.012), (0.588, 0.008), (0.710, 0.012), (0.708, 0.012), None),
            _table2("batch", (0.887, 0.001), (0.564, 0.015), (0.512, 0.001), (0.654, 0.011), (0.663, 0.011), None),
            _table3(
                *("vgg13", "none"),
                *((0.9174, 0.0002), (0.645, 0.008), (0.633, 0.003), (0.709, 0.004), (0.715, 0.005), None),
            ),
            _table3(
                *("vgg13", "batch"),
                *((0.930, 0.001), (0.436, 0.012), (0.497, 0.005), (0.568, 0.009), (0.604, 0.007), None),
            ),
            _row(
                *("wrn28_10", "fixup"),
                *((0.946, 0.001), (0.633, 0.009), (0.667, 0.009), (0.717, 0.007), (0.735, 0.006), None),
            ),
            _row(
                *("wrn28_10", "batch"),
                *((0.959, 0.001), (0.512, 0.027), (0.560, 0.027), (0.630, 0.025), (0.666, 0.025), None),
            ),
        ),
        notes=("VGG8 is that of Table 2, VGG13 that of Table 3, whose arms differ in the learning rate as well.",),
    ),
    PaperTable(
        "g19-t8",
        "Table 8",
        "Test accuracy of deeper VGGs with batch norm in percent.",
        ("vgg_svhn",),
        NETWORK,
        {**CLEAN, **NOISE, **LINF, **L2},
        (
            _row("vgg11", "batch", (0.9531, 0.0003), (0.805, 0.01), (0.202, 0.002), (0.061, 0.002)),
            _row("vgg13", "batch", (0.9588, 0.0005), (0.772, 0.07), (0.217, 0.005), (0.054, 0.002)),
            _row("vgg16", "batch", (0.9459, 0.0005), (0.781, 0.04), (0.192, 0.003), (0.030, 0.002)),
            _row("vgg19", "batch", (0.951, 0.003), (0.78, 0.01), (0.242, 0.006), (0.041, 0.004)),
        ),
        notes=(SPREAD,),
    ),
    PaperTable(
        "g19-t9",
        "Table 9",
        "Test accuracy of WRN-28-10 in percent, on CIFAR-10 and on CIFAR-10.1.",
        ("wide_resnet",),
        NETWORK,
        {**CLEAN, **NOISE, **LINF, **L2, **NEW_SET},
        (
            _row(
                *("wrn28_10", "fixup"),
                *((0.946, 0.001), (0.691, 0.011), (0.203, 0.003), (0.094, 0.002), (0.875, 0.003), (0.678, 0.009)),
            ),
            _row(
                *("wrn28_10", "batch"),
                *((0.959, 0.001), (0.576, 0.015), (0.149, 0.006), (0.083, 0.003), (0.896, 0.002), (0.583, 0.012)),
            ),
        ),
        notes=(FIXUP, SPREAD),
    ),
)
