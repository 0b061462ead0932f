"""The robust membership inference attack RMIA (Zarifzadeh et al. 2024), online and offline."""

import numpy as np
from scipy.special import log_expit

from study.errors import BadInputError
from study.mia.checks import Floats, Mask, Scores, require_shadows, valid_scores


def rmia_online(scores: Scores, is_member: Mask, gamma: float = 2.0) -> Floats:
    """Return the share of samples z that x is gamma times as likely a member as (Zarifzadeh et al., Eq. 2 and 3).

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
    phi, member = valid_scores(scores, is_member)
    require_shadows("IN", member, 1)
    require_shadows("OUT", ~member, 1)

    def halfway(logs: Floats) -> Floats:
        between: Floats = np.logaddexp(_log_mean(logs, member), _log_mean(logs, ~member)) - np.log(2)
        return between

    return _rmia_share(log_expit(phi) - _log(halfway(log_expit(phi)), halfway(log_expit(-phi))), gamma)


def rmia_offline(scores: Scores, is_member: Mask, gamma: float = 2.0, a: float = 0.3) -> Floats:
    """Return the same from OUT shadows alone, with p(x) = ((1 + a) p_out(x) + 1 - a) / 2 (appendix B.2).

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
    phi, member = valid_scores(scores, is_member)
    require_shadows("OUT", ~member, 1)
    if not 0 <= a <= 1:
        raise BadInputError(f"the a of RMIA lies between 0 and 1, not at {a}.")
    with np.errstate(divide="ignore"):
        certain = np.log((1 - a) / 2)
    known = np.log((1 + a) / 2)
    p = np.logaddexp(known + _log_mean(log_expit(phi), ~member), certain)
    return _rmia_share(log_expit(phi) - _log(p, known + _log_mean(log_expit(-phi), ~member)), gamma)


def _log_mean(logs: Floats, chosen: Mask) -> Floats:
    """Return the log of the mean over the chosen models but the target, of numbers given by their logs.

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
    """Return log p from log p and log q, q = 1 - p, by way of the smaller of the two, which has kept its digits."""
    log = log_p.copy()
    likely = log_p > log_q
    log[likely] = np.log1p(-np.exp(log_q[likely]))
    return log


def _rmia_share(log_ratios: Floats, gamma: float) -> Floats:
    """Return the share of a target's samples whose ratio each ratio exceeds by a factor of gamma, ties included."""
    if not gamma > 0:
        raise BadInputError(f"the gamma of RMIA is above 0, not {gamma}.")
    bounds = log_ratios - np.log(gamma)
    counts = [np.searchsorted(np.sort(row), bound, side="right") for row, bound in zip(log_ratios, bounds, strict=True)]
    shares: Floats = np.stack(counts) / log_ratios.shape[1]
    return shares
