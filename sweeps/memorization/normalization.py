"""Does every kind of normalization memorize more than none, or batch norm alone?"""

from sweeps.memorization.grids import KS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

NORMS = ("batch", "group", "instance", "layer", "none")

SWEEP = Sweep(
    name="normalization",
    question="Does every kind of normalization memorize more than none?",
    feeds="2026: Fig. 17",
    quick=(product(**QUICK, corruption="label", k=(0.1, 0.3), norm=NORMS),),
    paper=(
        product(
            dataset="cifar10",
            architecture=("resnet18", "resnet34"),
            corruption="label",
            k=KS,
            norm=NORMS,
            seed=SEEDS,
        ),
    ),
)
