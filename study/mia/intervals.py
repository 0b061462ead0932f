"""What an attack achieves on average over many targets, with intervals over targets and samples.

Targets share their samples, so an estimate has noise of three kinds: of targets, of samples, and of single scores. Its
variance counts each once, as clustering in two ways does (Cameron, Gelbach and Miller 2011): the variance between
targets plus that between samples, less that of the scores, which is in both. The models' scores are taken as given:
that targets are one another's shadows is not in it.

An interval holds the values that the estimate is compatible with, at the variance that it would have if they were true
(a score interval): that of one target, as Wilson (1927) has it for a rate and Newcombe (2006, part 2) for an AUC, times
the factor by which the estimated variance differs from it. So it narrows toward 0 and 1 without ending there, and where
an attack makes no error at all, its interval is that of a single target. The quantile is Student's, with the degrees of
freedom of Satterthwaite; few samples that have most of the influence count as few.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from study.mia.checks import Floats, Mask, Scores, check_scores, targets_with_both
from study.mia.roc import tpr_at

CONFIDENCE = 0.95
"""The confidence of an interval."""
GROUPS = 50
"""The groups of samples that are left out in turn, to tell how a true positive rate depends on them."""
Variance = Callable[[Floats], Floats]
"""The variance of one target's estimate, if the truth were so."""


@dataclass(frozen=True)
class Interval:
    """A mean over targets and its 95% interval; None where no target had members and non-members.

    Attributes:
        mean: the mean of the targets that had.
        low: the lower end.
        high: the upper end.
        targets: how many targets the mean is over.
    """

    mean: float | None
    low: float | None
    high: float | None
    targets: int


NOTHING = Interval(None, None, None, 0)


def mean_auc(scores: Scores, is_member: Mask) -> Interval:
    """Return the mean AUC over targets; for one group, pass its columns.

    Args:
        scores: floating [N, S], the attack's, finite.
        is_member: bool [N, S].

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    targets = _with_both(scores, is_member)
    if not len(targets):
        return NOTHING
    auc, influence = _auc_influence(scores[targets], is_member[targets])
    low, high = _score_interval(auc[:, None], influence[..., None], _auc_variance(is_member[targets]))
    return Interval(float(auc.mean()), float(low[0]), float(high[0]), len(targets))


def mean_auc_difference(arm: Scores, reference: Scores, is_member: Mask) -> Interval:
    """Return the mean AUC of an arm minus that of its reference, paired over targets and samples.

    The interval is made of the arms' own and of how their errors go together (Zou and Donner 2008), so that it does not
    shrink to a point where both arms are near 1.

    Args:
        arm: floating [N, S], the attack's scores in the arm, finite.
        reference: the same for the reference, whose models have the same members.
        is_member: bool [N, S], of both.

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    targets = _with_both(arm, is_member)
    _with_both(reference, is_member)
    if not len(targets):
        return NOTHING
    variance = _auc_variance(is_member[targets])
    sides = [_auc_influence(scores[targets], is_member[targets]) for scores in (arm, reference)]
    means = [float(auc.mean()) for auc, _ in sides]
    ends = [_score_interval(auc[:, None], influence[..., None], variance) for auc, influence in sides]
    below, above = (
        [abs(float(of_side[end][0]) - mean) for of_side, mean in zip(ends, means, strict=True)] for end in (0, 1)
    )
    together = _correlation(*sides)
    difference = means[0] - means[1]
    down, up = _joint(below[0], above[1], together), _joint(above[0], below[1], together)
    return Interval(difference, difference - down, difference + up, len(targets))


def mean_tpr(scores: Scores, is_member: Mask, fpr: float) -> Interval:
    """Return the mean over targets of the true positive rate at an expected false positive rate, see `roc.tpr_at`.

    Its interval has the noise of the threshold in it, which each target has from its own non-members.

    Args:
        scores: floating [N, S], the attack's, finite.
        is_member: bool [N, S].
        fpr: the false positive rate.

    Returns:
        No mean where a target has too few non-members for the rate.

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    targets = _with_both(scores, is_member)
    if not len(targets) or (~is_member[targets]).sum(axis=1).min() + 1 < 1 / fpr - 1e-9:
        return NOTHING
    low, mean, high = _mean_rates(scores[targets], is_member[targets], np.array([fpr]))
    return Interval(float(mean[0]), float(low[0]), float(high[0]), len(targets))


@dataclass(frozen=True)
class Roc:
    """The mean ROC curve of several targets, to be drawn.

    Attributes:
        fpr: float64 [P], rising, in equal steps of its logarithm.
        tpr: float64 [P], the mean true positive rate.
        low: float64 [P], the lower end of its 95% interval at each rate.
        high: float64 [P], the upper end.
        targets: the number of targets with members and non-members; without any, the curve is empty.
    """

    fpr: Floats
    tpr: Floats
    low: Floats
    high: Floats
    targets: int


def mean_roc(scores: Scores, is_member: Mask, points: int = 101) -> Roc:
    """Return the ROC curve averaged vertically over the targets, at each false positive rate (Fawcett 2006, 8.1).

    Each target gives the true positive rate of its calibrated threshold, see `roc.tpr_at`; nothing is drawn between
    thresholds. The rates begin where all targets resolve them. For one group, pass its columns.

    Args:
        scores: floating [N, S], the attack's, finite.
        is_member: bool [N, S].
        points: the number of false positive rates.

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    targets = _with_both(scores, is_member)
    if not len(targets):
        none = np.empty(0)
        return Roc(none, none, none, none, 0)
    fpr = np.geomspace(1 / ((~is_member[targets]).sum(axis=1).min() + 1), 1, points)
    low, tpr, high = _mean_rates(scores[targets], is_member[targets], fpr)
    return Roc(fpr, tpr, low, high, len(targets))


def _with_both(scores: Scores, is_member: Mask) -> NDArray[np.int64]:
    check_scores(scores, is_member)
    return targets_with_both(is_member)


# What moves an estimate -----------------------------------------------------------------------------------------------


def _auc_influence(scores: Scores, is_member: Mask) -> tuple[Floats, Floats]:
    """Return the AUC of each target, [T], and its change per unit of each sample's weight, [T, S].

    A member's placement is the share of non-members it exceeds, a non-member's the share of members that exceed it. The
    AUC is the mean of either, and moves with a weight by (placement - AUC) / (the number of its side), as DeLong et al.
    (1988) have it.
    """
    auc, influence = np.empty(len(scores)), np.empty(scores.shape)
    for target, (row, member) in enumerate(zip(scores, is_member, strict=True)):
        exceeds = _share_exceeded(row[member], row[~member])
        exceeded = 1 - _share_exceeded(row[~member], row[member])
        auc[target] = exceeds.mean()
        influence[target, member] = (exceeds - auc[target]) / len(exceeds)
        influence[target, ~member] = (exceeded - auc[target]) / len(exceeded)
    return auc, influence


def _share_exceeded(scores: Scores, others: Scores) -> Floats:
    """Return the share of the others that each score exceeds, ties counted half."""
    rising = np.sort(others)
    return (np.searchsorted(rising, scores, "left") + np.searchsorted(rising, scores, "right")) / (2 * len(others))


def _mean_rates(scores: Scores, is_member: Mask, fpr: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean true positive rate at each false positive rate with its interval: low, mean, high, each [P].

    What moves a rate is found by leaving out groups of samples in turn, drawn at random: a jackknife of groups, for
    that of single samples does not hold for a threshold (Shao and Wu 1989).
    """
    samples = scores.shape[1]
    number = min(GROUPS, samples)
    group = np.random.default_rng(0).permutation(samples) % number
    rates, influence = np.empty((len(scores), len(fpr))), np.empty((len(scores), number, len(fpr)))
    for target, (row, member) in enumerate(zip(scores, is_member, strict=True)):
        rising = np.argsort(row)
        inside, outside = rising[member[rising]], rising[~member[rising]]
        rates[target] = tpr_at(row[inside], row[outside], fpr)
        without = [
            tpr_at(row[inside[group[inside] != left_out]], row[outside[group[outside] != left_out]], fpr, len(outside))
            for left_out in range(number)
        ]
        influence[target] = np.sqrt((number - 1) / number) * (np.mean(without, axis=0) - without)
    n_in = 1 / float(np.mean(1 / is_member.sum(axis=1)))

    def binomial(rate: Floats) -> Floats:
        return rate * (1 - rate) / n_in

    low, high = _score_interval(rates, influence, binomial)
    return low, rates.mean(axis=0), high


# Intervals ------------------------------------------------------------------------------------------------------------


def _auc_variance(is_member: Mask) -> Variance:
    """Return the variance of one target's AUC by its true value (Newcombe 2006, part 2, method 5)."""
    n_in = is_member.sum(axis=1)
    n_out = is_member.shape[1] - n_in
    pairs, others = 1 / float(np.mean(1 / (n_in * n_out))), is_member.shape[1] / 2 - 1

    def variance(auc: Floats) -> Floats:
        of_pair: Floats = auc * (1 - auc) * (1 + others * ((1 - auc) / (2 - auc) + auc / (1 + auc)))
        return of_pair / pairs

    return variance


def _score_interval(values: Floats, influence: Floats, variance_of: Variance) -> tuple[Floats, Floats]:
    """Return the interval of each mean over targets, low and high, each [P].

    Args:
        values: [T, P], the estimates of each target.
        influence: [T, S, P], their changes with each sample.
        variance_of: the variance of one target's estimate, by its true value.
    """
    mean = values.mean(axis=0)
    variance, freedom = _two_way_variance(values, influence)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(variance > 0, variance / variance_of(mean), 1)
    scale = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom) ** 2 * np.where(np.isfinite(factor), factor, 1)

    def end(bound: float) -> Floats:
        # The root lies between the mean, where the deviation is too small, and 0 or 1, where it is too large.
        near: Floats = mean.copy()
        far = np.full_like(mean, bound)
        for _ in range(60):
            middle = (near + far) / 2
            compatible = (mean - middle) ** 2 <= scale * variance_of(middle)
            near, far = np.where(compatible, middle, near), np.where(compatible, far, middle)
        return near

    return end(0.0), end(1.0)


def _two_way_variance(values: Floats, influence: Floats) -> tuple[Floats, Floats]:
    """Return the variance of each mean over targets, and its degrees of freedom, each [P]."""
    targets, samples = influence.shape[:2]
    of_targets = values.var(axis=0, ddof=1) / targets if targets > 1 else np.zeros(values.shape[1])
    by_sample = influence.mean(axis=0)
    of_samples = (by_sample**2).sum(axis=0)
    of_scores = (influence**2).sum(axis=(0, 1)) / targets**2
    variance = np.maximum(of_targets + of_samples - of_scores, np.maximum(of_targets, of_samples))
    # How surely a variance is known depends on the fourth moments of what it is made of.
    with np.errstate(invalid="ignore", divide="ignore"):
        uncertainty = (by_sample**4).sum(axis=0) / of_samples**2 - 1 / samples
        of_both = of_targets**2 / max(targets - 1, 1) + of_samples**2 * np.maximum(uncertainty, 0) / 2
        freedom = variance**2 / of_both
    return variance, np.where(np.isfinite(freedom), np.maximum(freedom, 1), np.inf)


def _correlation(arm: tuple[Floats, Floats], reference: tuple[Floats, Floats]) -> float:
    """Return the correlation of the errors of two arms' means; 0 where one of them has none."""
    plain = [_two_way_variance(auc[:, None], influence[..., None])[0].item() for auc, influence in (arm, reference)]
    change = (arm[0] - reference[0])[:, None], (arm[1] - reference[1])[..., None]
    covariance = (sum(plain) - _two_way_variance(*change)[0].item()) / 2
    return float(np.clip(covariance / np.sqrt(np.prod(plain)), -1, 1)) if min(plain) > 0 else 0.0


def _joint(one: float, other: float, correlation: float) -> float:
    """Return the length of the difference of two errors that go together."""
    return float(np.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0)))
