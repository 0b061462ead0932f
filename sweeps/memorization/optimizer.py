"""Does batch norm memorize more with other optimizers than Adam as well?

The paper gives no learning rates for its Fig. 16. The adaptive optimizers keep Appendix D's; SGD with momentum, whose
step is not normalized, has a hundred times that, and AdamW torch's own weight decay, without which it is Adam.
"""

from sweeps.memorization.grids import ARMS, KS, QUICK, SEEDS
from sweeps.sweep import Axes, Sweep, product


def _grids(lr: float, **common: object) -> tuple[Axes, ...]:
    return (
        product(**common, optimizer=("adam", "rmsprop"), lr=lr),
        product(**common, optimizer="adamw", lr=lr, weight_decay=0.01),
        product(**common, optimizer="sgd", lr=100 * lr),
    )


FEW = {name: value for name, value in QUICK.items() if name != "lr"}

SWEEP = Sweep(
    name="optimizer",
    question="Does batch norm memorize more with every optimizer?",
    feeds="2026: Fig. 16",
    quick=_grids(1e-3, **FEW, corruption="label", k=(0.1, 0.3), norm=ARMS),
    paper=_grids(1e-4, dataset="cifar10", architecture="resnet18", corruption="label", k=KS, norm=ARMS, seed=SEEDS),
)
