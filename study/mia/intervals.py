"""Confidence intervals of AUCs over many targets, by a bootstrap over targets and samples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.mia.checks import Floats, Mask, Scores, check_scores, targets_with_both


@dataclass(frozen=True)
class Interval:
    """A mean over targets and its 95% bootstrap interval; None where no target had members and non-members.

    Attributes:
        mean: the mean of the targets that had.
        low: the 2.5% quantile of the replicates.
        high: their 97.5% quantile.
        targets: how many targets the mean is over.
    """

    mean: float | None
    low: float | None
    high: float | None
    targets: int


def mean_auc(scores: Scores, is_member: Mask, seed: int = 0, replicates: int = 1000) -> Interval:
    """Return the mean AUC over targets, with an interval from resampled targets and samples.

    This is the pigeonhole bootstrap (Owen 2007). A replicate draws as many targets with replacement, and as many
    samples, the same ones for all targets, which share them. To first order in its samples' weights, an AUC moves by
    its influence function, the placements of DeLong et al. (1988). The interval is somewhat too wide rather than too
    narrow, for the noise of one target on one sample is resampled twice. It takes the models' scores as given: that
    targets are one another's shadows isn't resampled. For one group, pass its columns.

    Args:
        scores: floating [N, S], the attack's, finite.
        is_member: bool [N, S].
        seed: of the resampling.
        replicates: how many.

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    return _bootstrap_interval(*_auc_influence(scores, is_member), seed, replicates, (0, 1))


def mean_auc_difference(
    arm: Scores, reference: Scores, is_member: Mask, seed: int = 0, replicates: int = 1000
) -> Interval:
    """Return the mean AUC of an arm minus that of its reference, paired: replicates share targets and samples.

    Args:
        arm: floating [N, S], the attack's scores in the arm, finite.
        reference: the same for the reference, whose models have the same members.
        is_member: bool [N, S], of both.
        seed: of the resampling.
        replicates: how many.

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    auc, influence = _auc_influence(arm, is_member)
    reference_auc, reference_influence = _auc_influence(reference, is_member)
    return _bootstrap_interval(auc - reference_auc, influence - reference_influence, seed, replicates, (-1, 1))


def _auc_influence(scores: Scores, is_member: Mask) -> tuple[Floats, Floats]:
    """Return the AUC of each target that has one, [T], and its change per unit of each sample's weight, [T, S].

    A member's placement is the share of non-members it exceeds, a non-member's the share of members that exceed it. The
    AUC is the mean of either, and moves with a weight by (placement - AUC) / (the number of its side).
    """
    check_scores(scores, is_member)
    targets = targets_with_both(is_member)
    auc, influence = np.empty(len(targets)), np.empty((len(targets), scores.shape[1]))
    for position, target in enumerate(targets):
        row, member = scores[target], is_member[target]
        exceeds = _share_exceeded(row[member], row[~member])
        exceeded = 1 - _share_exceeded(row[~member], row[member])
        auc[position] = exceeds.mean()
        influence[position, member] = (exceeds - auc[position]) / len(exceeds)
        influence[position, ~member] = (exceeded - auc[position]) / len(exceeded)
    return auc, influence


def _share_exceeded(scores: Scores, others: Scores) -> Floats:
    """Return the share of the others that each score exceeds, ties counted half."""
    rising = np.sort(others)
    return (np.searchsorted(rising, scores, "left") + np.searchsorted(rising, scores, "right")) / (2 * len(others))


def _bootstrap_interval(
    values: Floats, influence: Floats, seed: int, replicates: int, possible: tuple[float, float]
) -> Interval:
    if not len(values):
        return Interval(None, None, None, 0)
    # To first order a replicate may leave the values that there are.
    drawn = _bootstrap_means(values, influence, seed, replicates).clip(*possible)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Interval(float(values.mean()), low, high, len(values))


def _bootstrap_means(values: Floats, influence: Floats, seed: int, replicates: int) -> Floats:
    """Return the mean of each bootstrap replicate, [replicates]; few at a time, for their weights take memory."""
    means = []
    for some in np.array_split(np.arange(replicates), range(50, replicates, 50)):
        targets, samples = _bootstrap_weights(some, len(values), influence.shape[1], seed)
        means.append(((values + samples @ influence.T) * targets).mean(axis=1))
    return np.concatenate(means)


def _bootstrap_weights(replicates: NDArray[np.int64], targets: int, samples: int, seed: int) -> tuple[Floats, Floats]:
    """Return how often these replicates draw each target, float64 [R, targets], and each sample, [R, samples]."""
    generators = [np.random.default_rng([seed, replicate]) for replicate in replicates]
    of_targets, of_samples = (
        np.array([np.bincount(generator.integers(n, size=n), minlength=n) for generator in generators], np.float64)
        for n in (targets, samples)
    )
    return of_targets, of_samples
