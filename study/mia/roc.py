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
        tpr_at_1e2fpr: the true positive rate at an expected false positive rate of 1%, see `tpr_at`; None where there
            are fewer than 99 non-members, for then no threshold has so low a rate.
        tpr_at_1e3fpr: the same at 0.1% and 999 non-members.
        tpr_at_0fp: the largest true positive rate without a false positive; with n non-members, the expected false
            positive rate of its threshold is 1 / (n + 1).
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
    others, members = falling[~truth][::-1], falling[truth][::-1]
    # Twice the number of pairs in order, ties counted half, is a whole number.
    pairs = int(np.diff(counts.false) @ (counts.true[1:] + counts.true[:-1]))
    at_1e2, at_1e3, at_0 = tpr_at(members, others, np.array([1e-2, 1e-3, 1 / (n_out + 1)])).tolist()
    return AttackMetrics(
        auc=pairs / (2 * n_in * n_out),
        balanced_acc=float(0.5 + (counts.true / n_in - counts.false / n_out).max() / 2),
        tpr_at_1e2fpr=at_1e2 if n_out >= 99 else None,
        tpr_at_1e3fpr=at_1e3 if n_out >= 999 else None,
        tpr_at_0fp=at_0,
        n_in=n_in,
        n_out=n_out,
    )


def tpr_at(members: Scores, others: Scores, fpr: Floats, of_others: int | None = None) -> Floats:
    """Return the true positive rate of the threshold whose expected false positive rate is each of these, at most.

    A threshold is chosen on the very non-members that it is judged by. Above the j-th largest of n, the false positive
    rate of a new one is j / (n + 1) in expectation, and not the (j - 1) / n that are seen. It is 0 where j would be 0.

    Args:
        members: rising [n_in].
        others: rising [n].
        fpr: [P].
        of_others: how many there were before some were left out; j / (n + 1) is then as it was, and between two ranks
            the rate is interpolated.

    Returns:
        float64 [P].
    """
    whole = len(others) if of_others is None else of_others
    # The tolerance is for rates such as 3 / (n + 1), which times n + 1 may be a little less than 3.
    rank = np.floor(fpr * (whole + 1) + 1e-9)
    if of_others is None:
        return _tpr_above(members, others, rank)
    rank = np.maximum(rank * (len(others) + 1) / (whole + 1), 1)
    below, above = (_tpr_above(members, others, of_rank) for of_rank in (np.floor(rank), np.ceil(rank)))
    rates: Floats = below + (rank - np.floor(rank)) * (above - below)
    return rates


def _tpr_above(members: Scores, others: Scores, rank: Floats) -> Floats:
    """Return the share of members above the others of each rank, counted from the largest, which has rank 1."""
    at = (len(others) - rank.astype(np.int64)).clip(0, len(others) - 1)
    exceeding = (len(members) - np.searchsorted(members, others[at], side="right")) / max(len(members), 1)
    rates: Floats = np.where(rank < 1, 0.0, np.where(rank > len(others), 1.0, exceeding))
    return rates


def tied_share(scores: Scores, is_member: Mask) -> float:
    """Return the share of pairs of a member and a non-member of one target that have the same score; NaN without any.

    Args:
        scores: floating [N, S], the attack's, finite.
        is_member: bool [N, S].
    """
    shares = []
    for target in targets_with_both(is_member):
        _, number = np.unique(scores[target], return_inverse=True)
        inside = np.bincount(number[is_member[target]], minlength=number.max() + 1)
        outside = np.bincount(number[~is_member[target]], minlength=number.max() + 1)
        shares.append(inside @ outside / (inside.sum() * outside.sum()))
    return float(np.mean(shares)) if shares else float("nan")


def _group_numbers(groups: NDArray[Any], samples: int) -> tuple[list[str], NDArray[np.int64]]:
    if np.shape(groups) != (samples,):
        raise BadInputError(f"there are {samples} samples but groups of shape {np.shape(groups)}.")
    names, number = np.unique(groups, return_inverse=True)
    if ALL in names:
        raise BadInputError(f"no group of samples may be called {ALL!r}, for that is everybody.")
    return [str(name) for name in names], number
