"""The layouts of the 2019 paper's tables of networks that torchvision publishes, with the paper's own numbers."""

from typing import Any

import numpy as np

from analysis.report.network_tables import SPREAD
from analysis.report.paper_layout import PaperRow, PaperTable
from sweeps.robustness.grids import PUBLISHED_VGGS

NETWORK = {"architecture": "network", "norm": "norm"}
STAND_INS = {
    "torchvision:vgg11": "lenet",
    "torchvision:vgg11/none": "lenet/none",
    "torchvision:vgg11/batch": "lenet/batch",
}
"""What stands in for the paper's network, and for its sources, at quick scale."""
TARGETS = [(architecture, norm) for architecture in PUBLISHED_VGGS for norm in ("none", "batch")]
BY_SOURCE = {
    "torchvision:vgg11/none": (
        (1.2, 42.4, 37.8, 42.9, 43.8, 49.6, 47.9, 53.8),
        (11.9, 80.4, 75.9, 80.9, 80.3, 83.3, 81.6, 85.1),
    ),
    "torchvision:vgg11/batch": (
        (58.8, 0.3, 58.2, 45.0, 61.6, 54.1, 64.4, 58.7),
        (87.9, 6.8, 86.7, 83.7, 89.0, 85.7, 90.4, 88.1),
    ),
}
"""Table 10: the top-1 and the top-5 accuracy of each target, by source."""


def _row(architecture: str, norm: str, *percent: float, **levels: Any) -> PaperRow:
    numbers = tuple((number / 100, np.nan) for number in percent)
    return PaperRow({"architecture": architecture, "norm": norm, **levels}, numbers)


PUBLISHED_TABLES = (
    PaperTable(
        "g19-t5",
        "Table 5",
        "Top-5 accuracy of torchvision's networks in percent.",
        ("pretrained",),
        NETWORK,
        {"clean_top5": "clean", "noise_top5": "noise", "pgd_linf_top5": "PGD linf"},
        (
            _row("torchvision:vgg11", "none", 88.63, 49.16, 37.12),
            _row("torchvision:vgg11", "batch", 89.81, 49.95, 26.12),
            _row("torchvision:vgg13", "none", 89.25, 52.55, 29.16),
            _row("torchvision:vgg13", "batch", 90.37, 52.12, 20.63),
            _row("torchvision:vgg16", "none", 90.38, 60.67, 32.81),
            _row("torchvision:vgg16", "batch", 91.52, 65.36, 21.96),
            _row("torchvision:vgg19", "none", 90.88, 64.86, 34.19),
            _row("torchvision:vgg19", "batch", 91.84, 68.79, 24.49),
            _row("torchvision:alexnet", "none", 79.07, 41.41, 39.12),
            _row("torchvision:densenet121", "batch", 91.97, 79.85, 34.75),
            _row("torchvision:resnet18", "batch", 88.65, 79.62, 31.07),
        ),
        notes=(
            "Ours are on 2,048 validation images, drawn by class, unless attack_samples says more.",
            SPREAD,
        ),
    ),
    PaperTable(
        "g19-t10",
        "Table 10",
        "Accuracy of torchvision's networks in percent on images that fool a source; targets are rows here.",
        ("transfer",),
        {"source": "source", **NETWORK},
        {"transfer_acc": "top 1", "transfer_top5": "top 5"},
        tuple(
            _row(*target, *numbers, source=source)
            for source, (top1, top5) in BY_SOURCE.items()
            for target, numbers in zip(TARGETS, zip(top1, top5, strict=True), strict=True)
        ),
        notes=(
            "A target that is its own source is attacked in the white box.",
            "By the paper's text a source with batch norm costs targets with it 2.1 to 4.9 points more than another; "
            "by its table it costs as many fewer.",
        ),
    ),
)
