"""All sweeps by name. A new one is a file in a paper's folder, with a `SWEEP`, and a line here."""

from study.errors import unknown
from sweeps.memorization import (
    ablation,
    batch_size,
    complex_data,
    gamma_sigma,
    influence,
    label_noise,
    learning_rate,
    membership,
    normalization,
    ood,
    optimizer,
    quickstart,
    regularizer,
    transformer,
)
from sweeps.sweep import Sweep

SWEEPS: dict[str, Sweep] = {
    module.SWEEP.name: module.SWEEP
    for module in (
        quickstart,
        label_noise,
        ood,
        influence,
        membership,
        gamma_sigma,
        regularizer,
        learning_rate,
        batch_size,
        optimizer,
        normalization,
        transformer,
        complex_data,
        ablation,
    )
}


def sweep(name: str) -> Sweep:
    """Return the sweep of that name.

    Raises:
        BadInputError: there is none; the message has the nearest.
    """
    if name not in SWEEPS:
        raise unknown("sweep", name, SWEEPS)
    return SWEEPS[name]
