"""A fifth lens, as one would add it to `study.lenses`: how sure of its answers a member is on D'."""

from collections.abc import Iterable

from torch import Tensor

from study.lenses.trained import Trained
from study.record.rows import Measurement, Measurements
from study.trial import Trial


def wanted(trial: Trial) -> bool:
    """Return whether anything is recorded of samples."""
    return trial.samples != "none"


def at_epoch(trained: Trained) -> Measurements:
    """Measure the mean, a row of a table of its own, after each evaluated epoch."""
    return {member: Measurement(tables={"confidence": [{"mean": row.mean().item()}]}) for member, row in _rows(trained)}


def at_end(trained: Trained) -> Measurements:
    """Measure the mean and each sample's own, columns of `members` and `samples`."""
    return {
        member: Measurement(members={"confidence": row.mean().item()}, samples={"confidence": row})
        for member, row in _rows(trained)
    }


def _rows(trained: Trained) -> Iterable[tuple[int, Tensor]]:
    return enumerate(trained.logits.train.softmax(dim=2).amax(dim=2))
