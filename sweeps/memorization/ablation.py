"""What does each setting of training do to memorization and privacy, alone and together with normalization?

`--fraction 0.25` runs a balanced quarter: all norms on a quarter of the other cells, each level as often as any other.
"""

from sweeps.memorization.grids import QUICK
from sweeps.sweep import Axes, Sweep, product


def _grids(norms: tuple[str, ...], alphas: tuple[float, ...], **common: object) -> tuple[Axes, ...]:
    """Return a grid of the norms without a regularizer, and one of batch norm with it, which no other norm can have."""
    return (
        product(**common, norm=norms),
        product(**common, norm="batch", regularizer="hinge", alpha=alphas),
    )


SWEEP = Sweep(
    name="ablation",
    question="What does each setting of training do to memorization and privacy, alone and together with the norm?",
    feeds="2026: the ablations of Appendix E, as one factorial",
    quick=_grids(
        ("batch", "none"),
        (0.9,),
        **{
            **QUICK,
            "lr": (1e-3, 3e-3),
            "batch_size": (64, 128),
            "optimizer": ("adam", "rmsprop"),
            "epochs": 10,
            "seed": range(2),
        },
        corruption="label",
        k=(0.1, 0.3),
    ),
    paper=_grids(
        ("batch", "group", "instance", "layer", "none"),
        (0.5, 0.9, 0.99),
        dataset="cifar10",
        architecture=("lenet", "resnet18", "resnet34", "vgg11"),
        corruption="label",
        k=(0.05, 0.1, 0.2, 0.3),
        lr=(1e-4, 1e-3),
        batch_size=(64, 128, 256, 512),
        optimizer=("adam", "adamw", "sgd", "rmsprop"),
        seed=range(5),
    ),
)
