"""The lenses: what is measured of the trained members of a pack.

A lens is a module of this folder with some of these functions, `wanted` and one of the last three at least:

- `wanted(trial)` says whether the trial asks for what the lens measures.
- `check(trial, network, data)` raises a `BadInputError` before any training if it can't be measured of the network.
- `at_start(trained)` is called once, before training, with batch norms as in `Trained.at_initialization`.
- `at_epoch(trained)` is called after each evaluated epoch.
- `at_end(trained)` is called once, with the weights at which the members are reported.
- `cost(trial, data)` says what `at_end` costs a member, in samples trained on, where that is much.

The functions that begin with `at` are given a `Trained` and return `Measurements`. A new lens takes a line in `LENSES`,
and its columns or its tables in `study.record.schema.SCHEMAS`.
"""

import math
from collections.abc import Sequence
from types import ModuleType

from study.data.dataset import Dataset
from study.lenses import activations, gamma_sigma, gradient_norms, mechanism, membership, memorization, robustness
from study.lenses.trained import Trained
from study.networks import build
from study.record.rows import Measurements, merge
from study.trial import Trial

LENSES: Sequence[ModuleType] = (
    *(memorization, gamma_sigma, membership, gradient_norms),
    *(mechanism, activations, robustness),
)


def check(trial: Trial, data: Dataset) -> None:
    """Refuse, before any training, a network that a lens can't measure though the trial asks for it.

    Raises:
        BadInputError: a lens refuses the network.
    """
    checking = [lens for lens in LENSES if lens.wanted(trial) and hasattr(lens, "check")]
    if checking:
        network = build.build(
            trial.architecture, data.shape, data.classes, trial.norm, trial.seed[0], trial.network_options
        )
        for lens in checking:
            lens.check(trial, network, data)


def cost(trial: Trial, data: Dataset) -> float:
    """Return what the lenses cost that measure for long when training has ended: in samples that a member trains on."""
    return math.fsum(lens.cost(trial, data) for lens in LENSES if lens.wanted(trial) and hasattr(lens, "cost"))


def at_start(trained: Trained) -> Measurements:
    """Return what lenses measure before training, the rows of tables of their own for epoch 0."""
    with trained.at_initialization():
        return _measure(trained, "at_start")


def at_epoch(trained: Trained) -> Measurements:
    """Return what all lenses measure after an epoch of each member that has not diverged."""
    return _measure(trained, "at_epoch")


def at_end(trained: Trained) -> Measurements:
    """Return what all lenses measure, when training has ended, of each member that has not diverged."""
    return _measure(trained, "at_end")


def _measure(trained: Trained, stage: str) -> Measurements:
    wanted = [lens for lens in LENSES if lens.wanted(trained.trial) and hasattr(lens, stage)]
    by_lens: list[Measurements] = [getattr(lens, stage)(trained) for lens in wanted]
    # Only now is it known which members have not diverged: a lens may find out that one has.
    return {
        member: merge(measured[member] for measured in by_lens if member in measured) for member in trained.pack.alive
    }
