"""The cells of the papers: which datasets and networks each of their figures, tables and sections is about.

A figure shows these where the records have them, and a claim is decided on them. A key is the name of a figure, or what
the names of the claims on a table or a section begin with. A setting that the paper doesn't name is not here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from sweeps.memorization.grids import DATASETS, NETWORKS, RESNETS
from sweeps.robustness.grids import PUBLISHED_VGGS, VGGS

Levels = Mapping[str, tuple[Any, ...]]
"""Levels by setting."""

CIFAR10 = ("cifar10",)
EVERYTHING: Levels = {"dataset": DATASETS, "architecture": NETWORKS}
MEMBERSHIP: Levels = {"dataset": CIFAR10, "architecture": RESNETS}
MNIST = ("mnist",)
RATIOS: Levels = {"dataset": DATASETS, "architecture": ("lenet",)}

CELLS: Mapping[str, Levels] = {
    "fig1": EVERYTHING,
    "fig2": {"dataset": DATASETS, "architecture": ("lenet",)},
    "fig3": {"dataset": CIFAR10, "architecture": NETWORKS},
    "fig4": {"dataset": DATASETS},
    "fig5": MEMBERSHIP,
    "fig6": MEMBERSHIP,
    "fig7": RATIOS,
    "fig8": {},
    "fig9": RATIOS,
    "fig10": {"dataset": CIFAR10, "architecture": ("lenet", "resnet34", "resnet50")},
    "fig11": {"dataset": CIFAR10, "architecture": NETWORKS},
    "fig12": MEMBERSHIP,
    "fig13": EVERYTHING,
    "fig14": MEMBERSHIP,
    "c5": MEMBERSHIP,
    "fig15": {"architecture": ("resnet18",)},
    "fig16": {"architecture": ("resnet18",)},
    "fig17": {"dataset": CIFAR10, "architecture": ("resnet18", "resnet34")},
    "fig18": {"dataset": DATASETS, "architecture": ("resnet34",)},
    "fig19": {"dataset": ("svhn", "tiny_imagenet"), "architecture": ("resnet34",)},
    "fig20": {"dataset": CIFAR10, "architecture": ("resnet34",)},
    "table1": {"dataset": DATASETS, "architecture": ("vit",)},
    "abstract": MEMBERSHIP,
    "a2": RATIOS,
    "s7": MEMBERSHIP,
    "theory": {"dataset": DATASETS},
    # Those of Galloway et al. (2019).
    "g19-t1": {"dataset": ("svhn",), "architecture": VGGS[:1]},
    "g19-t2": {"dataset": CIFAR10, "architecture": VGGS[:1]},
    "g19-t3": {"dataset": CIFAR10, "architecture": VGGS},
    "g19-t4": {"dataset": CIFAR10, "architecture": ("vgg8", "vgg13", "wrn28_10")},
    "g19-t8": {"dataset": ("svhn",), "architecture": VGGS},
    "g19-t9": {"dataset": CIFAR10, "architecture": ("wrn28_10",)},
    "g19-t5": {"dataset": ("imagenet",), "architecture": PUBLISHED_VGGS},
    "g19-t10": {"dataset": ("imagenet",), "architecture": PUBLISHED_VGGS},
    "g19-t6": {"dataset": MNIST, "architecture": ("mlp",)},
    "g19-t7": {"dataset": MNIST, "architecture": ("mlp",)},
    "g19-t11": {"dataset": MNIST, "architecture": ("linear",)},
    "g19-f1": {"dataset": ("spheres",), "architecture": ("deep_linear",)},
    "g19-f2": {"dataset": MNIST, "architecture": ("deep_mlp",)},
    "g19-f3": {"dataset": MNIST, "architecture": ("deep_mlp",)},
    "g19-f4": {"dataset": MNIST, "architecture": ("mlp_2d",)},
    "g19-f6": {"dataset": ("mnist_3_7",), "architecture": ("linear",)},
    "g19-f8": {"dataset": ("spheres",), "architecture": ("spheres_mlp",)},
}
"""The levels of each setting that the paper names, by figure, table or section."""


def paper_rows(rows: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split members into those that the paper shows, and the others.

    The settings are taken one after the other. Of each, the levels that the paper has are kept; where the records have
    none of them, all of theirs are, so that there is always something.

    Args:
        rows: rows of `members`.
        name: a key of `CELLS`.
    """
    kept = rows
    for setting, levels in CELLS[name].items():
        of_paper = kept[setting].isin(levels)
        kept = kept[of_paper] if of_paper.any() else kept
    return kept, rows[~rows.index.isin(kept.index)]


def incomplete(rows: pd.DataFrame, name: str, where: Mapping[str, Any] = MappingProxyType({})) -> list[str]:
    """Return, for each setting whose levels in the paper are not all here, how many are: `1 of 4 datasets`.

    Args:
        rows: rows of `members`.
        name: a key of `CELLS`.
        where: the levels that a claim is about, where it isn't about all of the paper's; a tuple stands for any of its.
    """

    def of_claim(setting: str, levels: tuple[Any, ...]) -> list[Any]:
        wanted = where.get(setting, levels)
        return [level for level in levels if level in (wanted if isinstance(wanted, tuple) else (wanted,))]

    words = {"architecture": "networks", "dataset": "datasets"}
    wanted = {setting: of_claim(setting, levels) for setting, levels in CELLS[name].items()}
    counts = {
        setting: (sum(level in set(rows[setting]) for level in levels), len(levels))
        for setting, levels in wanted.items()
    }
    return [f"{here} of {of_paper} {words[setting]}" for setting, (here, of_paper) in counts.items() if here < of_paper]
