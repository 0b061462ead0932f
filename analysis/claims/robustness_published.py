"""The claims of the 2019 paper (Galloway et al.) on networks that torchvision publishes: Tables 5 and 10.

There is one network of each kind, so that it is over images that a sentence is tested: seeds would repeat the network.
"""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pandas as pd

from analysis.claims.claim import BATCH, NONE, Claim, Levels, every
from analysis.claims.effects import Effect, Measured
from analysis.statistics.accuracies import OWN, REFERENCE
from analysis.statistics.hypotheses import Effects, Finding, mean_of_intervals
from analysis.statistics.top5 import SHOWN
from sweeps.robustness.grids import PUBLISHED_VGGS

STAND_IN = "lenet"
"""The network of the quick scale."""
BY_NONE: Levels = {"source": ("torchvision:vgg11/none", f"{STAND_IN}/none")}
BY_BATCH: Levels = {"source": ("torchvision:vgg11/batch", f"{STAND_IN}/batch")}
"""The sources of Table 10, and those of the quick scale."""
VGGS: Levels = {"architecture": (*PUBLISHED_VGGS, STAND_IN)}
"""The networks that are published with batch norm and without."""
DEEPER: Levels = {"architecture": (*PUBLISHED_VGGS[1:], STAND_IN)}
"""The targets that are not their own source."""


@dataclass(frozen=True)
class _OfImages(Measured):
    """The arm's share of the images that were shown less the reference's."""

    def counts(self, rows: pd.DataFrame) -> dict[str, pd.Series]:
        """Return the shares with the number of images of each, by which they are tested."""
        found: dict[str, pd.Series] = {}
        for side, (share, of) in zip(self.sides, (OWN, REFERENCE), strict=True):
            found |= {share: rows[self.column + side], of: rows[SHOWN + side]}
        return found


def _difference(column: str) -> Effect:
    return _OfImages(column, ("_arm", "_ref"))


def over_networks(claim: Claim, effects: Effects) -> Finding:
    """Test that the effect is as claimed of every network: over seeds or, where there is one of each, over images.

    Another seed would be the same published network. Its error is then that of two shares of as many images, taken as
    if they were of other images: they are of the same ones, so that the interval is rather too wide.
    """
    frame = effects.frame
    if frame["seed"].nunique() != 1:
        return every(claim, effects)
    variance = sum(frame[share] * (1 - frame[share]) / frame[of] for share, of in (OWN, REFERENCE))
    reach = NormalDist().inv_cdf(0.975) * np.sqrt(variance)
    intervals = list(zip(frame["effect"], frame["effect"] - reach, frame["effect"] + reach, strict=True))
    images = int(frame[OWN[1]].min())
    found = mean_of_intervals(intervals, images, claim.alternative, claim.margin, claim.size, each=True)
    return replace(
        found, notes=("n counts images, for there is one network of each kind", *effects.notes, *found.notes)
    )


PUBLISHED_CLAIMS = (
    Claim(
        "g19-t5-linf",
        "Table 5",
        "Batch norm costs published VGGs 8.54 to 11.00 points of the top-5 accuracy under PGD on ImageNet.",
        ("pretrained",),
        _difference("pgd_linf_top5"),
        over_networks,
        where=VGGS,
        table="top5",
        alternative="less",
        size=(-0.11, -0.0853),
        paper=-0.1002,
    ),
    Claim(
        "g19-t5-clean",
        "Table 5",
        "It gains them 1.0 to 1.2 points of the clean top-5 accuracy.",
        ("pretrained",),
        _difference("clean_top5"),
        over_networks,
        where=VGGS,
        table="top5",
        size=(0.0096, 0.0118),
        paper=0.011,
    ),
    *(
        Claim(
            f"g19-t10-cross{ending}",
            "Table 10, A.4",
            "Networks without batch norm withstand what fools one with it better than the other way round: "
            f"{low:.1f} to {high:.1f} points of the top-{top} accuracy.",
            ("transfer",),
            _difference(column),
            over_networks,
            arm={**NONE, **BY_BATCH},
            reference={**BATCH, **BY_NONE},
            table="top5",
            size=(low / 100, high / 100),
            paper=paper,
        )
        for ending, column, top, low, high, paper in (
            ("", "transfer_acc", 1, 10.5, 16.4, 0.1358),
            ("-top5", "transfer_top5", 5, 5.3, 7.5, 0.0608),
        )
    ),
    Claim(
        "g19-t10-same",
        "Table 10, A.4",
        "A source without batch norm too costs a network without it 16.5 to 20.4 points more than one with it.",
        ("transfer",),
        _difference("transfer_acc"),
        over_networks,
        where=DEEPER,
        arm={**NONE, **BY_NONE},
        reference={**NONE, **BY_BATCH},
        table="top5",
        alternative="less",
        size=(-0.204, -0.165),
        paper=-0.1823,
    ),
    Claim(
        "g19-t10-same-batch",
        "Table 10, A.4",
        "A source with batch norm too costs a network with it only 2.1 to 4.9 points more than one without it (by the "
        "table itself it costs as many fewer).",
        ("transfer",),
        _difference("transfer_acc"),
        over_networks,
        where=DEEPER,
        arm={**BATCH, **BY_BATCH},
        reference={**BATCH, **BY_NONE},
        table="top5",
        alternative="less",
        size=(-0.049, -0.021),
        paper=-0.0383,
    ),
)
"""The claims that the records of a sweep decide."""
