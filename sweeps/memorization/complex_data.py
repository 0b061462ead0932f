"""Does batch norm memorize more on larger and harder datasets as well: street numbers, and 200 classes?"""

from sweeps.memorization.grids import ARMS, KS, QUICK, SEEDS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="complex_data",
    question="Does batch norm memorize more on larger and harder datasets as well?",
    feeds="2026: Fig. 19",
    # No harder dataset comes inside a package, so this only shows that the sweep runs.
    quick=(product(**QUICK, corruption="label", k=(0.1, 0.3), norm=ARMS),),
    paper=(
        product(
            dataset=("svhn", "tiny_imagenet"),
            architecture="resnet34",
            corruption="label",
            k=KS,
            norm=ARMS,
            seed=SEEDS,
        ),
    ),
)
