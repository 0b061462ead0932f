"""Does what fools a network without batch norm fool others, with it and without, and the other way round?

The paper's sources are VGG11, which are targets too: there the source is the target itself. The paper gives steps of
0.005 but no epsilon, which is read as that of its other attacks. At quick scale a source is trained as well, from a
seed of its own, and all for half the epochs of other sweeps.
"""

from sweeps.robustness.grids import ARMS, DIGITS, FEW_SEEDS, IMAGENET, PUBLISHED_VGGS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="transfer",
    question="Does what fools a network without batch norm fool others, with it and without, and the other way round?",
    feeds="2019: Table 10",
    quick=(
        product(
            **{**DIGITS, "architecture": "lenet", "norm": ARMS, "robustness": "transfer", "epochs": 15},
            source=("lenet/none", "lenet/batch"),
            seed=FEW_SEEDS,
        ),
    ),
    paper=(
        product(
            **IMAGENET,
            architecture=PUBLISHED_VGGS,
            norm=ARMS,
            robustness="transfer",
            source=("torchvision:vgg11/none", "torchvision:vgg11/batch"),
        ),
    ),
)
