"""Does the layer norm of a vision transformer make it memorize more as well?

The paper gives no sizes of its ViT and no setting of its training; the network is that of `study.networks.vit`, and the
rest is as for the other networks.
"""

from sweeps.memorization.grids import DATASETS, FEW_KS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

ARMS = ("layer", "none")

SWEEP = Sweep(
    name="transformer",
    question="Does a vision transformer memorize flipped labels with layer norm that it does not without?",
    feeds="2026: Table 1",
    quick=(
        product(
            **{**QUICK, "architecture": "vit", "epochs": 10, "subset": 500, "seed": range(3)},
            corruption="label",
            k=0.05,
            norm=ARMS,
        ),
    ),
    paper=(product(dataset=DATASETS, architecture="vit", corruption="label", k=FEW_KS, norm=ARMS, seed=SEEDS),),
)
