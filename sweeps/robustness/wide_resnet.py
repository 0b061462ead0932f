"""Is a wide residual network less robust with batch norm than with Fixup, which trains it almost without?

The paper names code whose settings are taken, but for 150 epochs in place of its 200. That code standardizes by
CIFAR-10's own mean and spread, as `standardize=dataset` does (125.3, 123.0, 113.9 and 63.0, 62.1, 66.7 of 255), and not
by the constants of the VGGs: one epsilon is 1.9/255 here and 1.5/255 there. At quick scale it is a network of ten
layers on 300 of the digits, for ten epochs, and ten images are attacked, fewer than else at that scale, for it takes
long on a CPU.
"""

from sweeps.robustness.grids import FEW_SEEDS, SEEDS, SMALL_DIGITS
from sweeps.sweep import Sweep, product

SHARED = {
    "norm": ("batch", "fixup"),
    "corruption": "none",
    "standardize": "dataset",
    "optimizer": "nesterov",
    "lr": 0.1,
    "lr_factor": 0.2,
    "augmentation": "reflect_crops",
    "weight_decay": 5e-4,
    "batch_size": 128,
    "robustness": "paper2019+corruptions",
}

SWEEP = Sweep(
    name="wide_resnet",
    question="Is a wide residual network less robust with batch norm than with Fixup, which needs almost none?",
    feeds="2019: Table 9, and rows of Tables 2 and 4",
    quick=(
        product(
            **{
                **SHARED,
                **SMALL_DIGITS,
                "architecture": "wrn10_2",
                "epochs": 10,
                "eval_every": 5,
                "lr_drop": "4+8",
                "seed": FEW_SEEDS,
            }
        ),
    ),
    paper=(
        product(
            **SHARED,
            dataset="cifar10",
            architecture="wrn28_10",
            epochs=150,
            lr_drop="60+120",
            eval_every=10,
            seed=SEEDS,
        ),
    ),
)
