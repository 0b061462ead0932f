"""How well an attack's scores tell members from non-members: ROC curves, AUC and TPR at a low FPR."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.errors import BadInputError
from study.mia.checks import Floats, Mask, Scores, check_scores, targets_with_both

ALL = "all"
"""The group of all samples."""


@dataclass(frozen=True)
class AttackMetrics:
    """How well an attack on one target tells members from non-members; None where it can't be said.

    Thresholds fall between different scores only, so that equal ones are taken together.

    Attributes:
        auc: the area under the ROC curve, ties counted half.
        balanced_acc: the mean of the true positive and the true negative rate, at the best threshold.
        tpr_at_1e2fpr: the largest true positive rate at a false positive rate of at most 1%; None where there are
            fewer than 100 non-members, for then no threshold has that rate but 0.
        tpr_at_1e3fpr: the same at 0.1% and 1,000 non-members.
        tpr_at_0fp: the largest true positive rate without a false positive.
        n_in: the number of members.
        n_out: the number of non-members.
    """

    auc: float | None
    balanced_acc: float | None
    tpr_at_1e2fpr: float | None
    tpr_at_1e3fpr: float | None
    tpr_at_0fp: float | None
    n_in: int
    n_out: int


def attack_metrics(scores: Scores, is_member: Mask) -> AttackMetrics:
    """Return the metrics of an attack on one target; without members or without non-members, only counts.

    Args:
        scores: floating [S], finite, larger for likelier members.
        is_member: bool [S].

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.

    Example:
        >>> import numpy as np
        >>> metrics = attack_metrics(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]))
        >>> metrics.auc, metrics.tpr_at_0fp
        (0.75, 0.5)
    """
    check_scores(scores, is_member)
    order = np.argsort(scores)[::-1]
    return _metrics(scores[order], is_member[order])


def metrics_by_group(scores: Scores, is_member: Mask, groups: NDArray[Any]) -> dict[str, list[AttackMetrics]]:
    """Return the metrics of an attack on every target, over all samples and over those of each group.

    Args:
        scores: floating [N, S], the attack's, finite.
        is_member: bool [N, S].
        groups: names [S], none of them `all`.

    Returns:
        By group, `all` first, the metrics of the targets in order.

    Raises:
        BadInputError: the shapes differ, a score isn't finite, or a group is called `all`.
    """
    check_scores(scores, is_member)
    names, number = _group_numbers(groups, scores.shape[-1])
    metrics: dict[str, list[AttackMetrics]] = {name: [] for name in (ALL, *names)}
    for row, member in zip(scores, is_member, strict=True):
        order = np.argsort(row)[::-1]
        falling, truth, group = row[order], member[order], number[order]
        metrics[ALL].append(_metrics(falling, truth))
        for index, name in enumerate(names):
            metrics[name].append(_metrics(falling[group == index], truth[group == index]))
    return metrics


@dataclass(frozen=True)
class _RocCounts:
    """A ROC curve in counts, int64 [T]: the positives at the threshold of each block of equal scores, none first."""

    false: NDArray[np.int64]
    true: NDArray[np.int64]

    def tpr_at(self, fpr: Floats) -> Floats:
        """Return the largest true positive rate of a threshold with at most each of these false positive rates."""
        last = np.searchsorted(self.false / self.false[-1], fpr, side="right") - 1
        rate: Floats = self.true[last] / self.true[-1]
        return rate


def _roc_counts(falling: Scores, truth: Mask) -> _RocCounts:
    """Return the curve of scores in falling order."""
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    true = np.cumsum(truth)[last]
    return _RocCounts(false=np.append(0, last + 1 - true), true=np.append(0, true))


def _metrics(falling: Scores, truth: Mask) -> AttackMetrics:
    n_in = int(np.count_nonzero(truth))
    n_out = len(truth) - n_in
    if not n_in or not n_out:
        return AttackMetrics(None, None, None, None, None, n_in, n_out)
    counts = _roc_counts(falling, truth)
    # Twice the number of pairs in order, ties counted half, is a whole number.
    pairs = int(np.diff(counts.false) @ (counts.true[1:] + counts.true[:-1]))
    at_1e2, at_1e3, at_0 = counts.tpr_at(np.array([1e-2, 1e-3, 0])).tolist()
    return AttackMetrics(
        auc=pairs / (2 * n_in * n_out),
        balanced_acc=float(0.5 + (counts.true / n_in - counts.false / n_out).max() / 2),
        tpr_at_1e2fpr=at_1e2 if n_out >= 100 else None,
        tpr_at_1e3fpr=at_1e3 if n_out >= 1000 else None,
        tpr_at_0fp=at_0,
        n_in=n_in,
        n_out=n_out,
    )


@dataclass(frozen=True)
class Roc:
    """The mean ROC curve of several targets, to be drawn.

    Attributes:
        fpr: float64 [P], rising, in equal steps of its logarithm.
        tpr: float64 [P], the mean true positive rate.
        targets: the number of targets with members and non-members; without any, the curve is empty.
    """

    fpr: Floats
    tpr: Floats
    targets: int


def mean_roc(scores: Scores, is_member: Mask, points: int = 101) -> Roc:
    """Return the ROC curve averaged vertically over the targets, at each false positive rate (Fawcett 2006, 8.1).

    Each target gives the largest true positive rate of a threshold whose false positive rate is at most that; nothing
    is drawn between thresholds. The rates begin where all targets resolve them, at one non-member. For one group, pass
    its columns.

    Args:
        scores: floating [N, S], the attack's, finite.
        is_member: bool [N, S].
        points: the number of false positive rates.

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    check_scores(scores, is_member)
    targets = targets_with_both(is_member)
    if not len(targets):
        return Roc(np.empty(0), np.empty(0), 0)
    fpr = np.geomspace(1 / (~is_member[targets]).sum(axis=1).min(), 1, points)
    tpr = np.zeros(points)
    for target in targets:
        order = np.argsort(scores[target])[::-1]
        tpr += _roc_counts(scores[target, order], is_member[target, order]).tpr_at(fpr) / len(targets)
    return Roc(fpr, tpr, len(targets))


def _group_numbers(groups: NDArray[Any], samples: int) -> tuple[list[str], NDArray[np.int64]]:
    if np.shape(groups) != (samples,):
        raise BadInputError(f"there are {samples} samples but groups of shape {np.shape(groups)}.")
    names, number = np.unique(groups, return_inverse=True)
    if ALL in names:
        raise BadInputError(f"no group of samples may be called {ALL!r}, for that is everybody.")
    return [str(name) for name in names], number
