"""Does vulnerability grow with the number of pixels, and is it batch norm or weight decay that decides that?

The images of MNIST are enlarged by repeating pixels. The paper's lambda, chosen by size for the linear model and taken
over for the MLP, is read as the `weight_decay` of torch's SGD: the loss has lambda / 2 times the squared norm of all
parameters. The paper calls it "weight decay" beside its Table 11; its Eq. 5 has lambda times the norm itself, of one
unit and to show the idea. Where the MLP has its batch norm, and that its statistics are cumulative, is not in the
paper either: its numbers are met best so.
"""

from typing import Any

from sweeps.robustness.grids import ARMS, CUMULATIVE, DIGITS, FEW_SEEDS, MNIST, SEEDS
from sweeps.sweep import Axes, Sweep, product

DECAY = {56: 0.01, 84: 0.0225, 112: 0.05}
"""The paper's lambda, by the side of an image."""


def _grids(mlp_sides: tuple[int, ...], linear_sides: tuple[int, ...], **common: Any) -> tuple[Axes, ...]:
    """Return the grids of images of so many pixels a side: without weight decay, and with that of the side."""
    mlp = {**common, "architecture": "mlp", "norm": ARMS, "norm_momentum": CUMULATIVE}
    linear = {**common, "architecture": "linear", "norm": "none"}
    return tuple(
        product(**network, resize=side, weight_decay=(0.0, DECAY[side]) if side in DECAY else 0.0)
        for network, sides in ((mlp, mlp_sides), (linear, linear_sides))
        for side in sides
    )


SWEEP = Sweep(
    name="input_dimension",
    question="Are networks more vulnerable the more pixels an image has, and does weight decay undo that?",
    feeds="2019: Tables 6, 7, 11 and 12",
    quick=_grids((28, 56), (28, 56), **DIGITS, seed=FEW_SEEDS),
    paper=_grids((28, 56, 84), (28, 56, 84, 112), **MNIST, seed=SEEDS),
)
