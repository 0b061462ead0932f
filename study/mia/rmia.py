"""The robust membership inference attack RMIA (Zarifzadeh et al. 2024), online and offline."""

import numpy as np
import scipy

from study.errors import BadInputError
from study.mia.checks import Floats, Mask, Scores, valid_scores
from study.mia.shadows import left_out, require_shadows, sides


def rmia_online(
    scores: Scores,
    is_member: Mask,
    gamma: float = 1.0,
    population: Scores | None = None,
    shadows: Mask | None = None,
) -> Floats:
    """Return the share of samples z that x is gamma times as likely a member as (Zarifzadeh et al., Eq. 2 and 3).

    That is, LR(x, z) = (p(x|target) / p(x)) / (p(z|target) / p(z)) >= gamma. Here p(x|model) is the
    probability of x's label, sigmoid(phi), and p(x) is halfway between its means over the IN and the OUT shadows.

    For one target the share never falls as p(x|target) / p(x) rises, so that its ROC curve is the ratio's but for ties:
    samples whose ratio is less than gamma times the smallest all have a share of zero. At gamma = 1, as in the authors'
    present code, no two different ratios are tied where D' is the population; at the 2 of their paper a single block of
    ties may hold most samples. Ratios are computed from log p and log(1 - p), so that probabilities that round to 1
    still differ; but unless gamma is 1, ratios that differ by a part in 10^16 have the same share.

    Args:
        scores: floating [N, S], finite.
        is_member: bool [N, S].
        gamma: how many times as large as z's the ratio of x must be; above 0.
        population: floating [N, Z], finite, the scores of samples z that no model was trained on; p(z) is then the mean
            over all other models. By default all samples of D' serve as z, and whether they are members is not looked
            at.
        shadows: see `lira_online`.

    Returns:
        float64 [N, S] in [0, 1].

    Raises:
        BadInputError: the input is unusable, a sample has no IN or no OUT shadow, or gamma isn't above 0.
    """
    phi, member = valid_scores(scores, is_member)
    inside, outside = sides(member, shadows)

    def halfway(logs: Floats) -> Floats:
        between: Floats = np.logaddexp(_log_mean("IN", logs, inside), _log_mean("OUT", logs, outside)) - np.log(2)
        return between

    ratios = scipy.special.log_expit(phi) - _log(
        halfway(scipy.special.log_expit(phi)), halfway(scipy.special.log_expit(-phi))
    )
    return _rmia_share(ratios, _population_ratios(population, phi, a=1.0), gamma)


def rmia_offline(
    scores: Scores,
    is_member: Mask,
    gamma: float = 1.0,
    a: float = 0.3,
    population: Scores | None = None,
    shadows: Mask | None = None,
) -> Floats:
    """Return the same from OUT shadows alone, with p(x) = ((1 + a) p_out(x) + 1 - a) / 2 (appendix B.2).

    Args:
        scores: floating [N, S], finite.
        is_member: bool [N, S].
        gamma: see `rmia_online`.
        a: in [0, 1]; training on x is taken to bring its probability from p_out to a p_out + 1 - a. The paper has 0.3
            for CIFAR-10.
        population: see `rmia_online`; p(z) is that of Eq. 2 with this a.
        shadows: see `lira_online`.

    Returns:
        float64 [N, S] in [0, 1].

    Raises:
        BadInputError: the input is unusable, a sample has no OUT shadow, or gamma or a is out of range.
    """
    phi, member = valid_scores(scores, is_member)
    if not 0 <= a <= 1:
        raise BadInputError(f"the a of RMIA lies between 0 and 1, not at {a}.")
    ratios = _offline_ratios(phi, sides(member, shadows)[1], a)
    return _rmia_share(ratios, _population_ratios(population, phi, a), gamma)


def _offline_ratios(phi: Floats, outside: Mask, a: float) -> Floats:
    """Return log p(x|target) / p(x) with the p(x) of appendix B.2."""
    with np.errstate(divide="ignore"):
        certain = np.log((1 - a) / 2)
    known = np.log((1 + a) / 2)
    p = np.logaddexp(known + _log_mean("OUT", scipy.special.log_expit(phi), outside), certain)
    ratios: Floats = scipy.special.log_expit(phi) - _log(
        p, known + _log_mean("OUT", scipy.special.log_expit(-phi), outside)
    )
    return ratios


def _population_ratios(population: Scores | None, phi: Floats, a: float) -> Floats | None:
    """Return log p(z|target) / p(z) of a population that no model was trained on, so that all others are OUT."""
    if population is None:
        return None
    if population.ndim != 2 or len(population) != len(phi) or not population.size:
        raise BadInputError(f"a population has scores by model and sample, not of shape {population.shape}.")
    apart, _ = valid_scores(population, np.full(population.shape, False))
    return _offline_ratios(apart, np.full(apart.shape, True), a)


def _log_mean(side: str, logs: Floats, chosen: Mask) -> Floats:
    """Return the log of the mean over a side's shadows, of numbers given by their logs.

    Which of the chosen models is left out says `study.mia.shadows`; those before it and those after it are added up
    apart. A subtraction would leave only rounding where the target's probability is near 1 and the others' are near 0.
    """
    of_chosen = np.where(chosen, logs, -np.inf)
    before = np.full_like(of_chosen, -np.inf)
    after = before.copy()
    before[1:] = np.logaddexp.accumulate(of_chosen[:-1], axis=0)
    after[:-1] = np.logaddexp.accumulate(of_chosen[:0:-1], axis=0)[::-1]
    without = left_out(chosen)
    number, total = (
        np.take_along_axis(of_all, without, axis=0)
        for of_all in (chosen.sum(axis=0) - chosen.astype(np.float64), np.logaddexp(before, after))
    )
    require_shadows(side, number, 1)
    mean: Floats = total - np.log(number)
    return mean


def _log(log_p: Floats, log_q: Floats) -> Floats:
    """Return log p from log p and log q, q = 1 - p, by way of the smaller of the two, which has kept its digits."""
    log = log_p.copy()
    likely = log_p > log_q
    log[likely] = np.log1p(-np.exp(log_q[likely]))
    return log


def _rmia_share(log_ratios: Floats, population: Floats | None, gamma: float) -> Floats:
    """Return the share of the population's ratios that each ratio exceeds by a factor of gamma, ties included."""
    if not gamma > 0:
        raise BadInputError(f"the gamma of RMIA is above 0, not {gamma}.")
    others = log_ratios if population is None else population
    bounds = log_ratios - np.log(gamma)
    counts = [np.searchsorted(np.sort(row), bound, side="right") for row, bound in zip(others, bounds, strict=True)]
    shares: Floats = np.stack(counts) / others.shape[1]
    return shares
