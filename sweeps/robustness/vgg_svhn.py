"""Is VGG on SVHN less robust with batch norm, and does more depth, which only batch norm makes trainable, help?

The paper trained nothing deeper than VGG8 without batch norm; here all depths are tried in both arms, and that those
without it stay at chance or diverge is what its appendix A.3 leads one to expect. At quick scale it is VGG8 alone, on
300 of the digits for eight epochs, and ten images are attacked, fewer than else at that scale, for a VGG takes long on
a CPU.
"""

from sweeps.robustness.grids import ARMS, FEW_SEEDS, SEEDS, SMALL_DIGITS, VGG_SGD, VGGS
from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="vgg_svhn",
    question="Is VGG on SVHN less robust with batch norm, and does more depth, which it makes trainable, help?",
    feeds="2019: Tables 1 and 8",
    quick=(
        product(
            **{**VGG_SGD, **SMALL_DIGITS, "architecture": "vgg8", "norm": ARMS, "lr_drop": "4+6", "seed": FEW_SEEDS}
        ),
    ),
    paper=(
        product(
            **VGG_SGD,
            dataset="svhn",
            architecture=VGGS,
            norm=ARMS,
            epochs=50,
            lr_drop="25+40",
            eval_every=10,
            seed=SEEDS,
        ),
    ),
)
