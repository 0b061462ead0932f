"""The likelihood-ratio attack LiRA (Carlini et al. 2022), online and offline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy

from study.errors import BadInputError, unknown
from study.mia.checks import Floats, Mask, Scores, valid_scores
from study.mia.shadows import left_out, require_shadows, sides

VARIANCE_FLOOR = 1e-9
"""The least variance of one sample, as a share of the pooled one. Where its few shadows happen to agree to the last
bit, a variance of zero would make the attacker certain."""


def lira_online(scores: Scores, is_member: Mask, variance: str = "shrunk", shadows: Mask | None = None) -> Floats:
    """Return the log-likelihood ratio of two Gaussians, fitted to a sample's IN and to its OUT shadows.

    A member has as many shadows on each side as a non-member, see `study.mia.shadows`. What it finds depends on their
    number: the fewer there are, the less, and the less so the more alike their scores are.

    Args:
        scores: floating [N, S], finite.
        is_member: bool [N, S].
        variance: a key of `VARIANCES`.
        shadows: bool [N, S], whether a model may be a shadow for a sample; by default all may.

    Raises:
        BadInputError: the input is unusable, or a sample has too few shadows.

    Example: eight models and two samples; whoever was trained on a sample scores it higher.
    >>> import numpy as np
    >>> is_member = np.array([[True, False]] * 4 + [[False, True]] * 4)
    >>> scores = np.where(is_member, 2.0, -1.0) + np.linspace(0.0, 0.3, 8)[:, None]
    >>> bool(((lira_online(scores, is_member) > 0) == is_member).all())
    True
    """
    phi, member = valid_scores(scores, is_member)
    inside, outside = sides(member, shadows)
    of_members = _log_density(phi, *_fit_gaussian("IN", phi, inside, variance))
    return of_members - _log_density(phi, *_fit_gaussian("OUT", phi, outside, variance))


def lira_offline(scores: Scores, is_member: Mask, variance: str = "shrunk", shadows: Mask | None = None) -> Floats:
    """Return how far above its OUT shadows the target is: the one-sided offline test of Carlini et al.

    The paper's 1 - P(N(mu_out, sigma_out) > phi) rounds to 1, and so does its logarithm, at 9 and at 38 standard
    deviations. The z-score (phi - mu_out) / sigma_out, of which it is an increasing function, orders all margins; it
    is what is returned.

    Args, Raises: see `lira_online`; IN shadows are not used.
    """
    phi, member = valid_scores(scores, is_member)
    mean, spread = _fit_gaussian("OUT", phi, sides(member, shadows)[1], variance)
    return (phi - mean) / np.sqrt(spread)


def lira_offline_two_sided(
    scores: Scores, is_member: Mask, variance: str = "shrunk", shadows: Mask | None = None
) -> Floats:
    """Return how unlikely the target is under its OUT shadows, -log N(phi; mu_out, sigma_out), as in much public code.

    It takes a score far below the OUT shadows for a sign of membership too, which the paper does not.

    Args, Raises: see `lira_online`; IN shadows are not used.
    """
    phi, member = valid_scores(scores, is_member)
    return -_log_density(phi, *_fit_gaussian("OUT", phi, sides(member, shadows)[1], variance))


def _log_density(phi: Floats, mean: Floats, variance: Floats) -> Floats:
    density: Floats = -((phi - mean) ** 2) / (2 * variance) - np.log(2 * np.pi * variance) / 2
    return density


@dataclass(frozen=True)
class _Shadows:
    """The shadows of one side, IN or OUT, for every target and sample: each [N, S].

    Attributes:
        n: their number.
        mean: the mean of their scores.
        squares: the sum of the squared residuals from that mean.
    """

    n: Floats
    mean: Floats
    squares: Floats


def _fit_gaussian(side: str, phi: Floats, chosen: Mask, variance: str) -> tuple[Floats, Floats]:
    """Return the mean and variance of a side's shadows, for every target and sample."""
    if variance not in VARIANCES:
        raise unknown("variance", variance, VARIANCES)
    shadows = _leave_one_out(phi, chosen)
    require_shadows(side, shadows.n, 2 if variance == "per_example" else 1)
    return shadows.mean, VARIANCES[variance](shadows)


def _leave_one_out(phi: Floats, chosen: Mask) -> _Shadows:
    """Return the chosen models but one: those before it merged with those after it (Chan et al. 1983).

    The one is the target, or on the side that it isn't on one at random, see `study.mia.shadows`. Subtracting it from
    sums over all would lose the spread of the others where it is far from them.
    """
    before = _running_moments(phi, chosen)
    after = [column[::-1] for column in _running_moments(phi[::-1], chosen[::-1])]
    n = before[0] + after[0]
    some = np.maximum(n, 1)
    gap = after[1] - before[1]
    mean = before[1] + gap * after[0] / some
    squares = before[2] + after[2] + gap**2 * before[0] * after[0] / some
    without = left_out(chosen)
    return _Shadows(*(np.take_along_axis(moment, without, axis=0) for moment in (n, mean, squares)))


def _running_moments(phi: Floats, chosen: Mask) -> Floats:
    """Return count, mean and squared residuals, [3, N, S], of the chosen models before each one (Welford 1962)."""
    moments = np.zeros((3, *phi.shape))
    for model in range(len(phi) - 1):
        n, mean, squares = moments[:, model]
        counted = n + chosen[model]
        gap = np.where(chosen[model], phi[model] - mean, 0)
        moved = mean + gap / np.maximum(counted, 1)
        moments[:, model + 1] = counted, moved, squares + gap * (phi[model] - moved)
    return moments


def _per_example_variance(shadows: _Shadows) -> Floats:
    """Return each sample's own unbiased variance, or the floor where its shadows have the same score."""
    variance = shadows.squares / np.maximum(shadows.n - 1, 1)
    return np.maximum(variance, VARIANCE_FLOOR * _pooled_variance(shadows))


def _pooled_variance(shadows: _Shadows) -> Floats:
    """Return one variance for all samples of a target, [N, 1], with residuals from each sample's own mean.

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


def _shrunk_variance(shadows: _Shadows) -> Floats:
    """Return each sample's variance, shrunk toward a common one by empirical Bayes (Smyth 2004).

    (d0 s0^2 + d s^2) / (d0 + d), where the sample's s^2 has d degrees of freedom and d0 and s0^2 are those of the
    scaled inverse chi-squared prior that best explains how the target's log s^2 spread over samples. If they spread no
    more than chance has them do, d0 is infinite and all samples have the pooled variance.
    """
    pooled, own = _pooled_variance(shadows)[:, 0], _per_example_variance(shadows)
    freedom = (shadows.n - 1).clip(0)
    shrunk = np.empty_like(own)
    for target in range(len(own)):
        weight, common = _fit_prior(own[target], freedom[target], pooled[target])
        shrunk[target] = (common + weight * shadows.squares[target]) / (1 + weight * freedom[target])
    return shrunk


def _fit_prior(variance: Floats, freedom: Floats, pooled: float) -> tuple[float, float]:
    """Return 1/d0 and s0^2 by the moments of log s^2 (Smyth 2004, section 6.2), over samples that have a variance."""
    variance, freedom = variance[freedom > 0], freedom[freedom > 0]
    if len(variance) < 2:
        return 0.0, pooled
    halves = np.arange(1, int(freedom.max()) + 1) / 2
    at = freedom.astype(np.int64) - 1
    logs = np.log(variance) - (scipy.special.digamma(halves) - np.log(halves))[at]
    excess = float(logs.var(ddof=1) - scipy.special.polygamma(1, halves)[at].mean())
    if excess <= 0:
        return 0.0, pooled
    half = _inverse_trigamma(excess)
    return 1 / (2 * half), float(np.exp(logs.mean() + scipy.special.digamma(half) - np.log(half)))


def _inverse_trigamma(value: float) -> float:
    """Return the positive y with trigamma(y) = value, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(scipy.special.polygamma(1, y))
        change = trigamma * (1 - trigamma / value) / float(scipy.special.polygamma(2, y))
        y += change
        if -change < 1e-14 * y:
            break
    return y


VARIANCES: Mapping[str, Callable[[_Shadows], Floats]] = {
    "shrunk": _shrunk_variance,
    "pooled": _pooled_variance,
    "per_example": _per_example_variance,
}
"""The estimates of the variance of a sample's shadows, by name; `shrunk` is for the 32 models of the paper."""
