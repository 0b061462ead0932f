"""The claims of the 2019 paper (Galloway et al.) on VGGs and wide residual networks: Tables 1 to 4, 8 and 9.

Sizes are as in `analysis.claims.robustness`, over as many runs as the paper has of each network.
"""

import pandas as pd

from analysis.claims.claim import Claim, Levels, every, mean
from analysis.claims.effects import Effect, difference, value
from analysis.claims.robustness import reported
from analysis.metrics import UNTRAINED
from analysis.statistics.corrupted import CORRUPTED_ACC
from sweeps.robustness.vgg_cifar import DROPS

VGG8: Levels = {"architecture": "vgg8"}
DEEPER = ("vgg11", "vgg13", "vgg16", "vgg19")
CONSTANT_RATE: Levels = {"lr_drop": "none"}
"""The VGG8 of Table 2, at any scale."""
DROPPED_RATE: Levels = {"lr_drop": DROPS}
"""The VGGs of Table 3."""
LARGE_RATE: Levels = {"norm": "batch", "lr": 0.1}
SMALL_RATE: Levels = {"norm": "none", "lr": 0.01}
"""The arms of Table 3, which differ in the learning rate too."""
FIXUP: Levels = {"norm": "fixup"}
SMALL = ("vgg8", "lenet")
"""VGG8, and what stands in for it at quick scale."""


def generalization_gap(pairs: pd.DataFrame) -> pd.Series:
    """Return the arm's accuracy on the training set less that on the test set, less the reference's."""
    gaps = (pairs[f"clean_acc_{side}"] - pairs[f"test_acc_{side}"] for side in ("arm", "ref"))
    return next(gaps) - next(gaps)


def _svhn(name: str, says: str, column: str, paper: float, error: float) -> Claim:
    """Return a claim on VGG8 on SVHN, of the sign that the paper's number has."""
    return Claim(
        f"g19-t1-{name}",
        "Table 1",
        says,
        ("vgg_svhn",),
        difference(column),
        mean,
        where=VGG8,
        alternative="greater" if paper > 0 else "less",
        size=reported(paper, error),
        paper=paper,
    )


def _cifar(name: str, says: str, effect: Effect, paper: float, error: float, table: str = "members") -> Claim:
    """Return a claim on the VGG8 of Table 2, of the sign that the paper's number has."""
    return Claim(
        f"g19-t2-{name}",
        "Table 2, section 3",
        says,
        ("vgg_cifar",),
        effect,
        mean,
        where=CONSTANT_RATE,
        table=table,
        alternative="greater" if paper > 0 else "less",
        size=reported(paper, error),
        paper=paper,
    )


def _wide(name: str, says: str, column: str, paper: float, error: float, table: str = "members") -> Claim:
    """Return a claim on the wide residual network, batch norm less Fixup, of the sign that the paper's number has."""
    return Claim(
        f"g19-t9-{name}",
        "Table 9, A.3",
        says,
        ("wide_resnet",),
        difference(column),
        mean,
        reference=FIXUP,
        table=table,
        alternative="greater" if paper > 0 else "less",
        size=reported(paper, error),
        paper=paper,
    )


class _Network:
    """One of the three networks that were shown corrupted images: its cells, its arms, and how many runs it had."""

    def __init__(
        self, name: str, printed: str, sweep: str, where: Levels, arm: Levels, reference: Levels, runs: int
    ) -> None:
        self.name, self.printed, self.runs, self._sweep = name, printed, runs, sweep
        self._where, self._arm, self._reference = where, arm, reference

    def family(self, family: str, paper: float, error: float) -> Claim:
        """Return the claim on the accuracy under a family of noise, a mean over severities."""
        return Claim(
            f"g19-t4-{self.name}-{family.removesuffix('_noise')}",
            "Table 4, section 3",
            f"Batch norm costs {self.printed} {-100 * paper:.1f} points of the accuracy under "
            f"{family.replace('_', ' ').replace('gaussian', 'Gaussian')}.",
            (self._sweep,),
            difference(f"{family}_acc"),
            mean,
            where=self._where,
            arm=self._arm,
            reference=self._reference,
            table="corruptions",
            alternative="less",
            size=reported(paper, error, self.runs),
            paper=paper,
        )

    def at_each_level(self) -> Claim:
        """Return the claim on each family of noise at each severity."""
        return Claim(
            f"g19-t4-{self.name}-noise",
            "Table 4, section 3",
            f"With batch norm {self.printed} has a higher error under all four noise corruptions, at each severity.",
            (self._sweep,),
            difference(CORRUPTED_ACC),
            every,
            where=self._where,
            arm=self._arm,
            reference=self._reference,
            table="severities",
            alternative="less",
        )

    def mean_error(self, paper: float) -> Claim:
        """Return the claim on the mean error over all families and severities."""
        return Claim(
            f"g19-t4-{self.name}-mce",
            "Section 3",
            f"Batch norm adds {100 * paper:.1f} points to the mean error of {self.printed} over all 19 corruptions.",
            (self._sweep,),
            difference("corruption_error"),
            mean,
            where=self._where,
            arm=self._arm,
            reference=self._reference,
            table="corruptions",
            paper=paper,
        )


BATCH_NORM, NO_NORM = {"norm": "batch"}, {"norm": "none"}
CORRUPTED = (
    _Network("vgg8", "VGG8", "vgg_cifar", {**CONSTANT_RATE, "architecture": SMALL}, BATCH_NORM, NO_NORM, 5),
    _Network("vgg13", "VGG13", "vgg_cifar", {**DROPPED_RATE, "architecture": "vgg13"}, LARGE_RATE, SMALL_RATE, 3),
    _Network(
        "wrn", "WRN-28-10", "wide_resnet", {"architecture": ("wrn28_10", "wrn10_2")}, BATCH_NORM, FIXUP, 5
    ),
)  # fmt: skip
FAMILIES = {
    "vgg8": {
        "gaussian_noise": (-0.092, 0.019),
        "impulse_noise": (-0.075, 0.008),
        "shot_noise": (-0.056, 0.016),
        "speckle_noise": (-0.045, 0.016),
    },
    "vgg13": {
        "gaussian_noise": (-0.209, 0.014),
        "impulse_noise": (-0.136, 0.006),
        "shot_noise": (-0.141, 0.010),
        "speckle_noise": (-0.111, 0.008),
    },
    "wrn": {
        "gaussian_noise": (-0.121, 0.028),
        "impulse_noise": (-0.107, 0.029),
        "shot_noise": (-0.087, 0.026),
        "speckle_noise": (-0.069, 0.026),
    },
}
"""What batch norm costs under each family of noise, with its standard error (section 3)."""
MEAN_ERRORS = {"vgg8": 0.019, "vgg13": 0.020, "wrn": 0.016}

_CORRUPTION_CLAIMS = tuple(
    claim
    for network in CORRUPTED
    for claim in (
        network.at_each_level(),
        *(network.family(family, *number) for family, number in FAMILIES[network.name].items()),
        network.mean_error(MEAN_ERRORS[network.name]),
    )
)

ON_SVHN = (
    ("clean", "On SVHN batch norm gains VGG8 1.86 points of clean accuracy.", "test_acc", 0.0186, 0.0005),
    ("noise", "On SVHN batch norm costs VGG8 5.5 points under noise.", "noise_acc", -0.055, 0.006),
    ("linf", "On SVHN batch norm costs VGG8 17 points under PGD in linf.", "pgd_linf_acc", -0.17, 0.01),
    ("l2", "On SVHN batch norm costs VGG8 20 points under PGD in l2.", "pgd_l2_acc", -0.20, 0.01),
)
ON_CIFAR = (
    ("clean", "On CIFAR-10 batch norm gains VGG8 0.8 points of clean accuracy.", "test_acc", 0.008, 0.0014),
    ("noise", "On CIFAR-10 batch norm costs VGG8 6 points under noise.", "noise_acc", -0.06, 0.01),
    ("linf", "On CIFAR-10 batch norm costs VGG8 17.3 points under PGD in linf.", "pgd_linf_acc", -0.173, 0.007),
    ("l2", "On CIFAR-10 batch norm costs VGG8 5.9 points under PGD in l2.", "pgd_l2_acc", -0.059, 0.004),
)
ON_NEW_CIFAR = (
    ("clean", "On CIFAR-10.1 batch norm gains VGG8 2.0 points of clean accuracy.", "clean", 0.020, 0.003),
    ("noise", "On CIFAR-10.1 batch norm costs VGG8 6 points under noise.", "noise", -0.06, 0.01),
    ("linf", "On CIFAR-10.1 batch norm costs VGG8 15 points under PGD in linf.", "pgd_linf", -0.15, 0.01),
    ("l2", "On CIFAR-10.1 batch norm costs VGG8 3.4 points under PGD in l2.", "pgd_l2", -0.034, 0.006),
)
AGAINST_FIXUP = (
    ("clean", "Batch norm gains WRN-28-10 1.3 points of clean accuracy over Fixup.", "test_acc", 0.013, 0.0014),
    ("noise", "Against Fixup batch norm costs WRN-28-10 11.6 points under noise.", "noise_acc", -0.116, 0.019),
    ("linf", "Against Fixup it costs WRN-28-10 5.4 points under PGD in linf.", "pgd_linf_acc", -0.054, 0.006),
    ("l2", "Against Fixup it costs WRN-28-10 1.1 points under PGD in l2.", "pgd_l2_acc", -0.011, 0.004),
)
"""The paper's differences with their standard errors, each with the end of its claim's name and the sentence."""
GAP = "On CIFAR-10 batch norm reduces VGG8's generalization gap, training less test accuracy, by 1.1 points."
NEW_NOISE = "On CIFAR-10.1 batch norm costs WRN-28-10 9.5 points under noise, against Fixup."

TRAINED_CLAIMS = (
    *(_svhn(*each) for each in ON_SVHN),
    *(_cifar(name, says, difference(column), paper, error) for name, says, column, paper, error in ON_CIFAR),
    _cifar("gap", GAP, generalization_gap, -0.011, 0.002),
    *(
        _cifar(f"101-{name}", says, difference(f"{column}_101_acc"), paper, error, "cifar10.1")
        for name, says, column, paper, error in ON_NEW_CIFAR
    ),
    *(
        Claim(
            f"g19-t3-{name}",
            "Table 3",
            f"At each depth at which VGG trains without batch norm, {said}; the learning rate with it is ten times "
            "that without.",
            ("vgg_cifar",),
            difference(column),
            every,
            where={**DROPPED_RATE, "architecture": ("vgg8", "vgg11", "vgg13", "lenet")},
            arm=LARGE_RATE,
            reference=SMALL_RATE,
            alternative="less",
            paper=paper,
        )
        for name, column, said, paper in (
            ("depth", "pgd_linf_acc", "batch norm costs 9.9 to 15.0 points under PGD in linf", -0.1223),
            ("depth-noise", "noise_acc", "batch norm costs 2.2 to 10.8 points under noise", -0.059),
        )
    ),
    Claim(
        "g19-t3-none-recovers",
        "Table 3, section 3",
        "No depth with batch norm has the robustness of VGG8 without: PGD in linf leaves less at all five (11.8 to "
        "27.1 points).",
        ("vgg_cifar",),
        difference("pgd_linf_acc"),
        every,
        where=DROPPED_RATE,
        arm={**LARGE_RATE, "architecture": ("vgg8", *DEEPER)},
        reference={**SMALL_RATE, **VGG8},
        alternative="less",
        paper=-0.2124,
    ),
    *_CORRUPTION_CLAIMS,
    Claim(
        "g19-t8-linf",
        "Table 8, A.3",
        "On SVHN deeper VGGs with batch norm do better under PGD in linf than VGG8 with it: 20.2, 21.7, 19.2 and 24.2% "
        "against 10.",
        ("vgg_svhn",),
        difference("pgd_linf_acc"),
        every,
        arm={"norm": "batch", "architecture": DEEPER},
        reference={"norm": "batch", **VGG8},
        paper=0.1133,
    ),
    Claim(
        "g19-t8-untrainable",
        "A.3",
        "Without batch norm no VGG of more than 8 layers trains on SVHN: each diverges or stays at chance (we ask for "
        f"less than {UNTRAINED:.0%} of the training set, of which the largest class has 19%).",
        ("vgg_svhn",),
        value("clean_acc"),
        every,
        arm={"norm": "none", "architecture": DEEPER},
        reference=None,
        alternative="less",
        margin=UNTRAINED,
        diverged_as={"clean_acc": 0.0},
    ),
    *(_wide(*each) for each in AGAINST_FIXUP),
    _wide("101-noise", NEW_NOISE, "noise_101_acc", -0.095, 0.015, "cifar10.1"),
)
"""The claims that the records of `vgg_svhn`, `vgg_cifar` and `wide_resnet` decide."""
