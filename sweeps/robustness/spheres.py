"""Does batch norm mix two circles that are easy to tell apart, and does it fail to learn them at a larger step?

The paper's batch norm has cumulative statistics, over all of training, with which a network that has learned the
circles may be seen to fail. As a control the same network has running statistics of momentum 0.1. Without training, a
deep linear network shows where its layers put two batches.
"""

from typing import Any

from sweeps.robustness.grids import ARMS, CUMULATIVE, FEW_SEEDS, PLAIN_SGD, SEEDS
from sweeps.sweep import Axes, Sweep, product

TORCHS = 0.1
"""The momentum of running statistics that torch's batch norm has."""


def _grids(largest_lr: tuple[float, ...] = (), **trained: Any) -> tuple[Axes, ...]:
    """Return the grids of the trained networks, and of those at initialization, whose seed and batches are fixed."""
    common = {"dataset": "spheres", "corruption": "none"}
    mlp = {**common, **PLAIN_SGD, **trained, "architecture": "spheres_mlp", "batch_size": 50, "robustness": "paper2019"}
    return (
        product(**mlp, norm="none", lr=(1e-3, 1e-2, *largest_lr)),
        product(**mlp, norm="batch", norm_momentum=(CUMULATIVE, TORCHS), lr=(1e-3, 1e-2)),
        product(
            **common,
            architecture="deep_linear",
            norm=ARMS,
            batch_size=32,
            epochs=0,
            eval_every=1,
            activations=1,
            seed=3,
        ),
    )


SWEEP = Sweep(
    name="spheres",
    question="Does batch norm mix two circles that are easy to tell apart, and fail to learn them at a larger step?",
    feeds="2019: Figures 1, 7 and 8",
    quick=_grids(epochs=60, eval_every=20, seed=FEW_SEEDS),
    paper=_grids((1e-1,), epochs=200, eval_every=10, seed=SEEDS),
)
