"""The privacy audit: attacks with shadow models, what they achieve, and how sure that is. It needs no torch.

Every model is the target in turn and all the others are its shadows: what the target says of a sample never enters the
statistics that its own score is held against. Throughout, `scores` is [N models, S samples] of the membership score
phi = z_y - logsumexp(z_others), and `is_member`, bool [N, S], says on which samples each model was trained. An attack
turns them into float64 [N, S], where larger means more likely a member.

- LiRA: Carlini et al. 2022, "Membership Inference Attacks From First Principles", Algorithm 1.
- RMIA: Zarifzadeh et al. 2024, "Low-Cost High-Power Membership Inference Attacks", Eq. 1 to 3 and appendix B.2.
- Counterfactual memorization: Feldman and Zhang 2020, "What Neural Networks Memorize and Why", Eq. 1.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, log_expit, polygamma

from study.errors import BadInputError, unknown

Floats = NDArray[np.float64]
Scores = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Attack = Callable[[Scores, Mask], Floats]

VARIANCE_FLOOR = 1e-9
"""The least variance of one sample, in units of the pooled one: where its few shadows happen to agree to the last bit,
a variance of zero would make the attacker certain."""
ALL = "all"
"""The group that everybody is in."""


# LiRA


def lira_online(scores: Scores, is_member: Mask, variance: str = "shrunk") -> Floats:
    """The likelihood ratio of two Gaussians, one fitted to a sample's IN and one to its OUT shadows, as its logarithm.

    Where each sample is IN for exactly N/2 models, a member has one IN shadow fewer than a non-member, and the mean of
    fewer shadows is farther from the target. So where there is nothing to find, the AUC is not 0.5 but about
    0.5 - 0.2 (N/2)^-1.5, and somewhat less as variances are estimated too: 0.496 at 32 models, 0.488 at 16, 0.468 at 8.
    The attack then finds too little, in all arms alike. With memberships drawn independently of each other it is 0.5.

    Args:
        scores: floating [N, S], finite.
        is_member: bool [N, S].
        variance: a key of `VARIANCES`.

    Raises:
        BadInputError: the input is unusable, or a sample has too few shadows.
    """
    phi, member = _checked(scores, is_member)
    inside = _gaussian("IN", phi, member, variance)
    outside = _gaussian("OUT", phi, ~member, variance)
    return _log_density(phi, *inside) - _log_density(phi, *outside)


def lira_offline(scores: Scores, is_member: Mask, variance: str = "shrunk") -> Floats:
    """How far above its OUT shadows the target is: the one-sided offline test of Carlini et al.

    The paper's 1 - P(N(mu_out, sigma_out) > phi) rounds to 1, and so does its logarithm, at 9 and at 38 standard
    deviations. The z-score (phi - mu_out) / sigma_out, of which it is an increasing function, orders all margins; it
    is what is returned.

    Args, Raises: see `lira_online`; IN shadows are not used.
    """
    phi, member = _checked(scores, is_member)
    mean, spread = _gaussian("OUT", phi, ~member, variance)
    return (phi - mean) / np.sqrt(spread)


def lira_offline_two_sided(scores: Scores, is_member: Mask, variance: str = "shrunk") -> Floats:
    """How unlikely the target is under its OUT shadows, -log N(phi; mu_out, sigma_out), as in much public code.

    It takes a score far below the OUT shadows for a sign of membership too, which the paper does not. With balanced
    halves it falls short of 0.5 as `lira_online` does, if less: 0.499 at 32 models, 0.492 at 8.

    Args, Raises: see `lira_online`; IN shadows are not used.
    """
    phi, member = _checked(scores, is_member)
    return -_log_density(phi, *_gaussian("OUT", phi, ~member, variance))


def _log_density(phi: Floats, mean: Floats, variance: Floats) -> Floats:
    density: Floats = -((phi - mean) ** 2) / (2 * variance) - np.log(2 * np.pi * variance) / 2
    return density


@dataclass(frozen=True)
class _Shadows:
    """The shadows of one side, IN or OUT, for every target and sample: each [N, S].

    Attributes:
        n: how many there are.
        mean: the mean of their scores.
        squares: the sum of the squared residuals from that mean.
    """

    n: Floats
    mean: Floats
    squares: Floats


def _gaussian(side: str, phi: Floats, chosen: Mask, variance: str) -> tuple[Floats, Floats]:
    """The mean and variance of a side's shadows, for every target and sample."""
    if variance not in VARIANCES:
        raise unknown("variance", variance, VARIANCES)
    _require(side, chosen, 2 if variance == "per_example" else 1)
    shadows = _others(phi, chosen)
    return shadows.mean, VARIANCES[variance](shadows)


def _others(phi: Floats, chosen: Mask) -> _Shadows:
    """The chosen models but the target, as those before it merged with those after it (Chan et al. 1983).

    Subtracting the target from sums over all would lose the spread of the others where the target is far from them.
    """
    before = _running(phi, chosen)
    after = [column[::-1] for column in _running(phi[::-1], chosen[::-1])]
    n = before[0] + after[0]
    some = np.maximum(n, 1)
    gap = after[1] - before[1]
    return _Shadows(
        n=n,
        mean=before[1] + gap * after[0] / some,
        squares=before[2] + after[2] + gap**2 * before[0] * after[0] / some,
    )


def _running(phi: Floats, chosen: Mask) -> Floats:
    """Count, mean and squared residuals of the chosen models before each one (Welford 1962): [3, N, S]."""
    found = np.zeros((3, *phi.shape))
    for model in range(len(phi) - 1):
        n, mean, squares = found[:, model]
        counted = n + chosen[model]
        gap = np.where(chosen[model], phi[model] - mean, 0)
        moved = mean + gap / np.maximum(counted, 1)
        found[:, model + 1] = counted, moved, squares + gap * (phi[model] - moved)
    return found


def _per_example(shadows: _Shadows) -> Floats:
    """Each sample's own unbiased variance, or the floor where its shadows have the same score."""
    variance = shadows.squares / np.maximum(shadows.n - 1, 1)
    return np.maximum(variance, VARIANCE_FLOOR * _pooled(shadows))


def _pooled(shadows: _Shadows) -> Floats:
    """One variance for all samples of a target, [N, 1]: the residuals are from each sample's own mean.

    Each sample gives up one degree of freedom for its mean; how far samples lie from one another doesn't enter.
    """
    freedom = (shadows.n - 1).clip(0).sum(axis=1, keepdims=True)
    squares = shadows.squares.sum(axis=1, keepdims=True)
    if not freedom.all():
        raise BadInputError("a variance needs at least 2 shadows of some sample on each side; train more models.")
    if not squares.all():
        raise BadInputError("there is no variance: the shadows of a target have the same score on every sample.")
    pooled: Floats = squares / freedom
    return pooled


def _shrunk(shadows: _Shadows) -> Floats:
    """Each sample's variance, shrunk toward a common one by empirical Bayes (Smyth 2004).

    (d0 s0^2 + d s^2) / (d0 + d), where the sample's s^2 has d degrees of freedom and d0 and s0^2 are those of the
    scaled inverse chi-squared prior that best explains how the target's log s^2 spread over samples. If they spread no
    more than chance has them do, d0 is infinite and all samples have the pooled variance.
    """
    pooled, own = _pooled(shadows)[:, 0], _per_example(shadows)
    freedom = (shadows.n - 1).clip(0)
    shrunk = np.empty_like(own)
    for target in range(len(own)):
        weight, common = _prior(own[target], freedom[target], pooled[target])
        shrunk[target] = (common + weight * shadows.squares[target]) / (1 + weight * freedom[target])
    return shrunk


def _prior(variance: Floats, freedom: Floats, pooled: float) -> tuple[float, float]:
    """1/d0 and s0^2 by the moments of log s^2 (Smyth 2004, section 6.2), from the samples that have a variance."""
    variance, freedom = variance[freedom > 0], freedom[freedom > 0]
    if len(variance) < 2:
        return 0.0, pooled
    halves = np.arange(1, int(freedom.max()) + 1) / 2
    at = freedom.astype(np.int64) - 1
    logs = np.log(variance) - (digamma(halves) - np.log(halves))[at]
    excess = float(logs.var(ddof=1) - polygamma(1, halves)[at].mean())
    if excess <= 0:
        return 0.0, pooled
    half = _inverse_trigamma(excess)
    return 1 / (2 * half), float(np.exp(logs.mean() + digamma(half) - np.log(half)))


def _inverse_trigamma(value: float) -> float:
    """The positive y with trigamma(y) = value, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        change = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += change
        if -change < 1e-14 * y:
            break
    return y


VARIANCES: Mapping[str, Callable[[_Shadows], Floats]] = {
    "shrunk": _shrunk,
    "pooled": _pooled,
    "per_example": _per_example,
}
"""How the variance of a sample's shadows is estimated; `shrunk` is meant for the 32 models of the paper."""


# RMIA


def rmia_online(scores: Scores, is_member: Mask, gamma: float = 2.0) -> Floats:
    """The share of samples z that the sample x is gamma times as likely a member as (Zarifzadeh et al., Eq. 2 and 3).

    That is, LR(x, z) = (p(x|target) / p(x)) / (p(z|target) / p(z)) >= gamma. Here p(x|model) is the
    probability of x's label, sigmoid(phi), and p(x) is halfway between its means over the IN and the OUT shadows. All
    samples of D' serve as z; whether they are members is not looked at.

    For one target the share never falls as p(x|target) / p(x) rises, so that its ROC curve is the ratio's but for ties:
    samples whose ratio is less than gamma times the smallest all have a share of zero. Ratios are computed from log p
    and log(1 - p), so that probabilities that round to 1 still differ; but unless gamma is 1, ratios that differ by a
    part in 10^16 have the same share.

    Args:
        scores: floating [N, S], finite.
        is_member: bool [N, S].
        gamma: how many times as large as z's the ratio of x must be; above 0, the paper takes 2.

    Returns:
        float64 [N, S] in [0, 1].

    Raises:
        BadInputError: the input is unusable, a sample has no IN or no OUT shadow, or gamma isn't above 0.
    """
    phi, member = _checked(scores, is_member)
    _require("IN", member, 1)
    _require("OUT", ~member, 1)

    def halfway(logs: Floats) -> Floats:
        between: Floats = np.logaddexp(_log_mean(logs, member), _log_mean(logs, ~member)) - np.log(2)
        return between

    return _dominated(log_expit(phi) - _log(halfway(log_expit(phi)), halfway(log_expit(-phi))), gamma)


def rmia_offline(scores: Scores, is_member: Mask, gamma: float = 2.0, a: float = 0.3) -> Floats:
    """RMIA from OUT shadows alone, with p(x) = ((1 + a) p_out(x) + 1 - a) / 2 (Zarifzadeh et al., appendix B.2).

    Args:
        scores: floating [N, S], finite.
        is_member: bool [N, S].
        gamma: see `rmia_online`.
        a: in [0, 1]; training on x is taken to bring its probability from p_out to a p_out + 1 - a. The paper has 0.3
            for CIFAR-10.

    Returns:
        float64 [N, S] in [0, 1].

    Raises:
        BadInputError: the input is unusable, a sample has no OUT shadow, or gamma or a is out of range.
    """
    phi, member = _checked(scores, is_member)
    _require("OUT", ~member, 1)
    if not 0 <= a <= 1:
        raise BadInputError(f"the a of RMIA lies between 0 and 1, not at {a}.")
    with np.errstate(divide="ignore"):
        certain = np.log((1 - a) / 2)
    known = np.log((1 + a) / 2)
    p = np.logaddexp(known + _log_mean(log_expit(phi), ~member), certain)
    return _dominated(log_expit(phi) - _log(p, known + _log_mean(log_expit(-phi), ~member)), gamma)


def _log_mean(logs: Floats, chosen: Mask) -> Floats:
    """The log of the mean over the chosen models but the target, of numbers given by their logs.

    The models before the target and those after it are added up apart: a subtraction would leave only rounding where
    the target's probability is near 1 and the others' are near 0.
    """
    of_chosen = np.where(chosen, logs, -np.inf)
    before = np.full_like(of_chosen, -np.inf)
    after = before.copy()
    before[1:] = np.logaddexp.accumulate(of_chosen[:-1], axis=0)
    after[:-1] = np.logaddexp.accumulate(of_chosen[:0:-1], axis=0)[::-1]
    mean: Floats = np.logaddexp(before, after) - np.log(chosen.sum(axis=0) - chosen)
    return mean


def _log(log_p: Floats, log_q: Floats) -> Floats:
    """The log of p from those of p and of q = 1 - p, by way of the smaller of the two, which has kept its digits."""
    log = log_p.copy()
    likely = log_p > log_q
    log[likely] = np.log1p(-np.exp(log_q[likely]))
    return log


def _dominated(log_ratios: Floats, gamma: float) -> Floats:
    if not gamma > 0:
        raise BadInputError(f"the gamma of RMIA is above 0, not {gamma}.")
    bounds = log_ratios - np.log(gamma)
    counts = [np.searchsorted(np.sort(row), bound, side="right") for row, bound in zip(log_ratios, bounds, strict=True)]
    shares: Floats = np.stack(counts) / log_ratios.shape[1]
    return shares


def global_threshold(scores: Scores, is_member: Mask) -> Floats:
    """Phi itself, one threshold for all samples: the attack that needs no shadows.

    Raises:
        BadInputError: the input is unusable.
    """
    return _checked(scores, is_member)[0]


ATTACKS: Mapping[str, Attack] = {
    "lira_online": lira_online,
    "lira_online/pooled": partial(lira_online, variance="pooled"),
    "lira_online/per_example": partial(lira_online, variance="per_example"),
    "lira_offline": lira_offline,
    "lira_offline/pooled": partial(lira_offline, variance="pooled"),
    "lira_offline/per_example": partial(lira_offline, variance="per_example"),
    "lira_offline_two_sided": lira_offline_two_sided,
    "lira_offline_two_sided/pooled": partial(lira_offline_two_sided, variance="pooled"),
    "lira_offline_two_sided/per_example": partial(lira_offline_two_sided, variance="per_example"),
    "rmia_online": rmia_online,
    "rmia_offline": rmia_offline,
    "global_threshold": global_threshold,
}
"""Every attack by the name it is shown under; without a suffix, a LiRA has shrunk variances."""


# What an attack achieves


@dataclass(frozen=True)
class Measures:
    """How well an attack on one target told members from non-members; None where it can't be said.

    Thresholds fall between different scores only, so that equal ones are taken together.

    Attributes:
        auc: the area under the ROC curve, ties counted half.
        balanced_acc: the mean of the true positive and the true negative rate, at the best threshold.
        tpr_at_1e2fpr: the largest true positive rate at a false positive rate of at most 1%; None where there are
            fewer than 100 non-members, for then no threshold has that rate but 0.
        tpr_at_1e3fpr: the same at 0.1% and 1,000 non-members.
        tpr_at_0fp: the largest true positive rate without a false positive.
        n_in: how many members there were.
        n_out: how many non-members.
    """

    auc: float | None
    balanced_acc: float | None
    tpr_at_1e2fpr: float | None
    tpr_at_1e3fpr: float | None
    tpr_at_0fp: float | None
    n_in: int
    n_out: int


def measure(scores: Scores, is_member: Mask) -> Measures:
    """What an attack with these scores achieves on one target; without members or without non-members, only counts.

    Args:
        scores: floating [S], finite, larger for likelier members.
        is_member: bool [S].

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    _check(scores, is_member)
    order = np.argsort(scores)[::-1]
    return _measure(scores[order], is_member[order])


def measure_groups(scores: Scores, is_member: Mask, groups: NDArray[Any]) -> dict[str, list[Measures]]:
    """What an attack achieves on every target, over all samples and over those of each group.

    Args:
        scores: floating [N, S], the attack's, finite.
        is_member: bool [N, S].
        groups: names [S], none of them `all`.

    Returns:
        By group, `all` first, the measures of the targets in order.

    Raises:
        BadInputError: the shapes differ, a score isn't finite, or a group is called `all`.
    """
    _check(scores, is_member)
    names, number = _numbered(groups, scores.shape[-1])
    found: dict[str, list[Measures]] = {name: [] for name in (ALL, *names)}
    for row, member in zip(scores, is_member, strict=True):
        order = np.argsort(row)[::-1]
        falling, truth, group = row[order], member[order], number[order]
        found[ALL].append(_measure(falling, truth))
        for index, name in enumerate(names):
            found[name].append(_measure(falling[group == index], truth[group == index]))
    return found


def attacked(attack: str, scores: Scores, is_member: Mask) -> Floats:
    """What an attack makes of the membership scores: float64 [N, S].

    Several queries of each sample, such as its mirror image, are aligned: the target's answer to one is held against
    its shadows' answers to the same one, and what the attack makes of each is averaged, as in the public code of
    Carlini et al.

    Args:
        attack: a key of `ATTACKS`.
        scores: floating [N, S], or [Q, N, S] of Q queries, finite.
        is_member: bool [N, S].

    Raises:
        BadInputError: the input is unusable, or the attack is unknown or needs more models.
    """
    if attack not in ATTACKS:
        raise unknown("attack", attack, ATTACKS)
    queries = scores if scores.ndim == 3 else scores[None]
    mean: Floats = np.mean([ATTACKS[attack](query, is_member) for query in queries], axis=0)
    return mean


def audit(
    scores: Scores, is_member: Mask, groups: NDArray[Any], attacks: Iterable[str] = tuple(ATTACKS)
) -> list[dict[str, Any]]:
    """Every attack on every target, as the rows of the `attacks` table but for the trial.

    Args:
        scores: floating [N, S], or [Q, N, S] of Q queries, the membership scores, finite.
        is_member: bool [N, S].
        groups: names [S], none of them `all`.
        attacks: keys of `ATTACKS`.

    Returns:
        For each attack, group and target a row of `member` (the target's index), `attack`, `group` and the measures.

    Raises:
        BadInputError: the input is unusable, an attack is unknown or needs more models.
    """
    rows = []
    for attack in attacks:
        for group, found in measure_groups(attacked(attack, scores, is_member), is_member, groups).items():
            told = {"attack": attack, "group": group}
            rows += [{"member": target, **told, **asdict(measures)} for target, measures in enumerate(found)]
    return rows


@dataclass(frozen=True)
class _Counts:
    """A ROC curve in counts, int64 [T]: what the threshold of each block of equal scores lets in, none first."""

    false: NDArray[np.int64]
    true: NDArray[np.int64]

    def tpr_at(self, fpr: Floats) -> Floats:
        """The largest true positive rate of a threshold whose false positive rate is at most that, for each."""
        last = np.searchsorted(self.false / self.false[-1], fpr, side="right") - 1
        rate: Floats = self.true[last] / self.true[-1]
        return rate


def _counts(falling: Scores, truth: Mask) -> _Counts:
    """The curve of scores in falling order."""
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    true = np.cumsum(truth)[last]
    return _Counts(false=np.append(0, last + 1 - true), true=np.append(0, true))


def _measure(falling: Scores, truth: Mask) -> Measures:
    n_in = int(np.count_nonzero(truth))
    n_out = len(truth) - n_in
    if not n_in or not n_out:
        return Measures(None, None, None, None, None, n_in, n_out)
    counts = _counts(falling, truth)
    # Twice the number of pairs in order, ties counted half, is a whole number.
    pairs = int(np.diff(counts.false) @ (counts.true[1:] + counts.true[:-1]))
    at_1e2, at_1e3, at_0 = counts.tpr_at(np.array([1e-2, 1e-3, 0])).tolist()
    return Measures(
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
        targets: how many targets had members and non-members; where none had, the curve is empty.
    """

    fpr: Floats
    tpr: Floats
    targets: int


def mean_roc(scores: Scores, is_member: Mask, points: int = 101) -> Roc:
    """The ROC curve averaged vertically (Fawcett 2006, section 8.1): at each false positive rate, over the targets.

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
    _check(scores, is_member)
    targets = _with_both(is_member)
    if not len(targets):
        return Roc(np.empty(0), np.empty(0), 0)
    fpr = np.geomspace(1 / (~is_member[targets]).sum(axis=1).min(), 1, points)
    tpr = np.zeros(points)
    for target in targets:
        order = np.argsort(scores[target])[::-1]
        tpr += _counts(scores[target, order], is_member[target, order]).tpr_at(fpr) / len(targets)
    return Roc(fpr, tpr, len(targets))


# How sure that is


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
    """The mean AUC over targets, with an interval that resamples targets and samples (Owen 2007, the pigeonhole one).

    A replicate draws as many targets with replacement, and as many samples, the same ones for all targets, for these
    share them. An AUC moves with the samples by its influence function, the placements of DeLong et al. 1988, to first
    order in their weights. The interval is somewhat too wide rather than too narrow, for the noise of one target on one
    sample is resampled twice. It holds the models' scores for what they are: that targets are one another's shadows
    isn't resampled. For one group, pass its columns.

    Args:
        scores: floating [N, S], the attack's, finite.
        is_member: bool [N, S].
        seed: of the resampling.
        replicates: how many.

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    return _interval(*_linearized(scores, is_member), seed, replicates, (0, 1))


def mean_auc_difference(
    arm: Scores, reference: Scores, is_member: Mask, seed: int = 0, replicates: int = 1000
) -> Interval:
    """The mean AUC of an arm minus that of its reference, paired: every replicate has the same targets and samples.

    Args:
        arm: floating [N, S], the attack's scores in the arm, finite.
        reference: the same for the reference, whose models have the same members.
        is_member: bool [N, S], of both.
        seed: of the resampling.
        replicates: how many.

    Raises:
        BadInputError: the shapes differ, or a score isn't finite.
    """
    auc, influence = _linearized(arm, is_member)
    reference_auc, reference_influence = _linearized(reference, is_member)
    return _interval(auc - reference_auc, influence - reference_influence, seed, replicates, (-1, 1))


def _linearized(scores: Scores, is_member: Mask) -> tuple[Floats, Floats]:
    """The AUC of each target that has one, [T], and by how much it changes per unit of each sample's weight, [T, S].

    A member's placement is the share of non-members it exceeds, a non-member's the share of members that exceed it. The
    AUC is the mean of either, and moves with a weight by (placement - AUC) / (the number of its side).
    """
    _check(scores, is_member)
    targets = _with_both(is_member)
    auc, influence = np.empty(len(targets)), np.empty((len(targets), scores.shape[1]))
    for found, target in enumerate(targets):
        row, member = scores[target], is_member[target]
        exceeds = _exceeded(row[member], row[~member])
        exceeded = 1 - _exceeded(row[~member], row[member])
        auc[found] = exceeds.mean()
        influence[found, member] = (exceeds - auc[found]) / len(exceeds)
        influence[found, ~member] = (exceeded - auc[found]) / len(exceeded)
    return auc, influence


def _exceeded(scores: Scores, others: Scores) -> Floats:
    """The share of the others that each score exceeds, ties counted half."""
    rising = np.sort(others)
    return (np.searchsorted(rising, scores, "left") + np.searchsorted(rising, scores, "right")) / (2 * len(others))


def _interval(values: Floats, influence: Floats, seed: int, replicates: int, possible: tuple[float, float]) -> Interval:
    if not len(values):
        return Interval(None, None, None, 0)
    # To first order a replicate may leave the values that there are.
    drawn = _replicated(values, influence, seed, replicates).clip(*possible)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
    return Interval(float(values.mean()), low, high, len(values))


def _replicated(values: Floats, influence: Floats, seed: int, replicates: int) -> Floats:
    """The mean of each bootstrap replicate, [replicates]; a few at a time, so that weights take little memory."""
    means = []
    for some in np.array_split(np.arange(replicates), range(50, replicates, 50)):
        targets, samples = _weights(some, len(values), influence.shape[1], seed)
        means.append(((values + samples @ influence.T) * targets).mean(axis=1))
    return np.concatenate(means)


def _weights(replicates: NDArray[np.int64], targets: int, samples: int, seed: int) -> tuple[Floats, Floats]:
    """How often these replicates draw each target, float64 [R, targets], and each sample, [R, samples]."""
    generators = [np.random.default_rng([seed, replicate]) for replicate in replicates]
    of_targets, of_samples = (
        np.array([np.bincount(generator.integers(n, size=n), minlength=n) for generator in generators], np.float64)
        for n in (targets, samples)
    )
    return of_targets, of_samples


# Memorization without an attacker


@dataclass(frozen=True)
class Memorized:
    """How much each sample was memorized.

    Attributes:
        samples: int64 [K], the indices of the samples that are IN for some model and OUT for another.
        values: float64 [K] in [-1, 1], their memorization.
        left_out: how many samples aren't, and so have no value.
    """

    samples: NDArray[np.int64]
    values: Floats
    left_out: int


def counterfactual_memorization(correct: Mask, is_member: Mask) -> Memorized:
    """P(correct | IN) - P(correct | OUT) of each sample, over the models (Feldman and Zhang 2020, Eq. 1).

    Args:
        correct: bool [N, S], whether each model gives the sample its assigned label.
        is_member: bool [N, S].

    Raises:
        BadInputError: the shapes differ, or an array isn't boolean.
    """
    _check(correct, is_member)
    if correct.dtype != np.bool_:
        raise BadInputError(f"`correct` holds true and false, not {correct.dtype}.")
    n_in, n_out = is_member.sum(axis=0), (~is_member).sum(axis=0)
    (samples,) = np.nonzero((n_in > 0) & (n_out > 0))
    inside = (correct & is_member).sum(axis=0)[samples] / n_in[samples]
    outside = (correct & ~is_member).sum(axis=0)[samples] / n_out[samples]
    return Memorized(samples, inside - outside, left_out=len(n_in) - len(samples))


# What is refused


def _check(scores: NDArray[Any], is_member: Mask) -> None:
    if scores.shape != is_member.shape:
        raise BadInputError(f"scores of shape {scores.shape} and memberships of shape {is_member.shape} don't match.")
    if is_member.dtype != np.bool_:
        raise BadInputError(f"memberships are true or false, not {is_member.dtype}.")
    if not np.isfinite(scores).all():
        raise BadInputError("membership can't be judged from scores that are not finite.")


def _checked(scores: Scores, is_member: Mask) -> tuple[Floats, Mask]:
    """Membership scores of models, in float64."""
    _check(scores, is_member)
    if scores.ndim != 2 or not scores.size:
        raise BadInputError(f"an attack needs scores by model and sample, not of shape {scores.shape}.")
    (constant,) = np.nonzero((scores == scores[:, :1]).all(axis=1))
    if len(constant):
        raise BadInputError(f"model {constant[0]} has the same score on every sample: it tells nothing apart.")
    return scores.astype(np.float64), is_member


def _require(side: str, chosen: Mask, least: int) -> None:
    """Every sample has that many shadows on a side, whoever is the target."""
    few = chosen.sum(axis=0) - chosen < least
    if few.any():
        target, sample = np.argwhere(few)[0]
        number = chosen[:, sample].sum() - chosen[target, sample]
        raise BadInputError(
            f"the {side} shadows of sample {sample} number {number} when model {target} is the target, but this attack "
            f"needs at least {least}; train more models."
        )


def _numbered(groups: NDArray[Any], samples: int) -> tuple[list[str], NDArray[np.int64]]:
    if np.shape(groups) != (samples,):
        raise BadInputError(f"there are {samples} samples but groups of shape {np.shape(groups)}.")
    names, number = np.unique(groups, return_inverse=True)
    if ALL in names:
        raise BadInputError(f"no group of samples may be called {ALL!r}, for that is everybody.")
    return [str(name) for name in names], number


def _with_both(is_member: Mask) -> NDArray[np.int64]:
    """The targets that have members and non-members."""
    return np.flatnonzero(is_member.any(axis=1) & ~is_member.all(axis=1))
