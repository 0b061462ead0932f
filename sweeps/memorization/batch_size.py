"""Does batch norm memorize more at every batch size, that is, whatever number of samples it normalizes over?

The paper gives the network and the ratio of its Fig. 15, but neither the sizes nor the dataset.
"""

from sweeps.memorization.grids import ARMS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="batch_size",
    question="Does batch norm memorize more at every batch size?",
    feeds="2026: Fig. 15",
    quick=(product(**{**QUICK, "batch_size": (16, 64, 256)}, corruption="label", k=0.05, norm=ARMS),),
    paper=(
        product(
            dataset="cifar10",
            architecture="resnet18",
            corruption="label",
            k=0.05,
            norm=ARMS,
            batch_size=(64, 128, 256, 512),
            seed=SEEDS,
        ),
    ),
)
