"""How long a launch will take, measured on this machine before it starts."""

from collections.abc import Sequence
from pathlib import Path

from study import cost
from study.trial import Trial

SPEED = ("dataset", "corruption", "k", "architecture", "norm", "regularizer", "optimizer", "batch_size")
"""The settings that decide the seconds of a step, and whether the dataset can be corrupted so."""


def seconds(trials: Sequence[Trial], data_dir: Path) -> float:
    """Seconds that the trials would take one after the other on one single-threaded worker of this machine.

    Each kind of network among them is trained for a moment. This also reads every dataset, so one that is missing is
    reported here, before anything runs.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        kinds = {_kind(trial): trial for trial in trials}
        costs = {kind: cost.measure(trial, data_dir, "cpu") for kind, trial in kinds.items()}
        return sum(cost.seconds(trial, costs[_kind(trial)], data_dir) for trial in trials)
    finally:
        torch.set_num_threads(threads)


def _kind(trial: Trial) -> tuple[object, ...]:
    return tuple(getattr(trial, name) for name in SPEED)
