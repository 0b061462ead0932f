"""Does batch norm memorize? The paper's first finding in a minute, on real digits."""

from sweeps.sweep import Sweep, product

SWEEP = Sweep(
    name="quickstart",
    question="Does a network with batch norm memorize flipped labels that the same network without it does not?",
    feeds="Fig. 1 (A), two of its ratios",
    quick=(
        product(
            dataset="digits",
            corruption="label",
            k=(0.1, 0.3),
            architecture="lenet",
            norm=("batch", "none"),
            # A small set needs small batches and a larger step to be learned within 30 epochs.
            lr=1e-3,
            batch_size=64,
            epochs=30,
            seed=range(5),
        ),
    ),
    paper=(
        product(
            dataset="mnist",
            corruption="label",
            k=(0.1, 0.3),
            architecture="lenet",
            norm=("batch", "none"),
            seed=range(5),
        ),
    ),
)
