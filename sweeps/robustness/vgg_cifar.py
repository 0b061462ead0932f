"""Is VGG on CIFAR-10 less robust with batch norm, at equal learning rates, and do a larger one or more depth undo it?

Two experiments. Table 2 has a constant rate and the network of the best epoch by the *test* set, as the paper says, so
that its accuracies flatter both arms (`stopping=best_test`). Table 3 trains longer, with drops, and at ten times the
rate where there is batch norm: the arms differ in both, as the paper has it. It has no momentum, batch size or weight
decay on CIFAR-10; those of SVHN are taken, "a similar procedure". At quick scale LeNet stands in for VGG8, on the
digits; there both arms have both rates, so that norm and rate can be told apart, and 32 images are attacked and
corrupted, fewer than else at that scale.
"""

from sweeps.robustness.grids import ARMS, FEW_SEEDS, SEEDS, VGG_SGD, VGGS
from sweeps.sweep import Sweep, product

DROPS = ("150+250", "20+25")
"""After which epochs the rate of Table 3 drops, at the paper's scale and at the quick one."""
ALL_SUITES = "paper2019+corruptions"
CIFAR10 = {**VGG_SGD, "dataset": "cifar10", "augmentation": "crops", "robustness": ALL_SUITES}
DIGITS = {
    **VGG_SGD,
    "dataset": "digits",
    "architecture": "lenet",
    "batch_size": 64,
    "epochs": 30,
    "eval_every": 5,
    "robustness": ALL_SUITES,
    "attack_samples": 32,
}

SWEEP = Sweep(
    name="vgg_cifar",
    question="Is VGG on CIFAR-10 less robust with batch norm, and do a larger learning rate or more depth undo that?",
    feeds="2019: Tables 2, 3 and 4",
    quick=(
        product(**{**DIGITS, "norm": ARMS, "stopping": "best_test", "seed": FEW_SEEDS}),
        product(**{**DIGITS, "norm": ARMS, "lr": (0.01, 0.1), "lr_drop": DROPS[1], "seed": FEW_SEEDS}),
    ),
    paper=(
        product(**CIFAR10, architecture="vgg8", norm=ARMS, epochs=150, stopping="best_test", seed=SEEDS),
        *(
            product(
                **{**CIFAR10, "lr": lr},
                architecture=VGGS,
                norm=norm,
                epochs=350,
                lr_drop=DROPS[0],
                eval_every=10,
                seed=FEW_SEEDS,
            )
            for norm, lr in (("batch", 0.1), ("none", 0.01))
        ),
    ),
)
