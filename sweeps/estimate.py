"""How long a launch will take, measured on this machine before it starts."""

from collections.abc import Sequence
from pathlib import Path

from study import cost
from study.trial import Trial

SPEED = ("dataset", "architecture", "norm", "regularizer", "alpha", "optimizer", "batch_size")
"""The settings that decide the seconds of a step."""


def seconds(trials: Sequence[Trial], data_dir: Path) -> float:
    """Seconds that the trials would take one after the other on one single-threaded worker of this machine.

    Each kind of network among them is trained for a moment. This also reads every dataset, so one that is missing is
    reported here, before anything runs.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        costs: dict[tuple[object, ...], cost.Cost] = {}
        for trial in trials:
            kind = tuple(getattr(trial, name) for name in SPEED)
            if kind not in costs:
                costs[kind] = cost.measure(trial, data_dir, "cpu")
        return sum(
            cost.seconds(trial, costs[tuple(getattr(trial, name) for name in SPEED)], data_dir) for trial in trials
        )
    finally:
        torch.set_num_threads(threads)
