"""Does batch norm limit how deep a network can be trained, and is it less robust the larger the batch?

The paper gives a learning rate of 0.00001 for each sample of a batch, 10 epochs with batch norm and 40 without in its
Figure 2, and both of both in its Figure 5. It shows batches of 5 to 200 but doesn't list them; the list is ours. On the
digits, which have a fortieth of the samples, the rate is a hundred times that.
"""

from typing import Any

from sweeps.robustness.grids import ARMS, CUMULATIVE, DIGITS, FEW_SEEDS, MNIST
from sweeps.sweep import Axes, Sweep, product

DEEP_MLP = {"architecture": "deep_mlp", "norm_eps": 1e-3, "norm_momentum": CUMULATIVE}
BATCHES = (5, 10, 15, *range(20, 201, 20))


def _grids(batch_sizes: tuple[int, ...], samples_per_lr: int, **common: Any) -> tuple[Axes, ...]:
    """Return a grid for each batch size, for the learning rate grows with it."""
    shared = {**common, **DEEP_MLP}
    return tuple(product(**{**shared, "batch_size": batch, "lr": batch / samples_per_lr}) for batch in batch_sizes)


SWEEP = Sweep(
    name="depth_batch_size",
    question="Does batch norm limit the depth that can be trained, and is it less robust the larger the batch?",
    feeds="2019: Figures 2, 3 and 5",
    quick=_grids(
        (16, 64),
        1_000,
        **{**DIGITS, "hidden_layers": (2, 8, 16), "norm": ARMS, "epochs": 20, "eval_every": 20, "seed": FEW_SEEDS},
    ),
    paper=_grids(
        BATCHES,
        100_000,
        **{**MNIST, "hidden_layers": range(5, 61, 5), "norm": ARMS, "epochs": (10, 40), "seed": FEW_SEEDS},
    ),
)
