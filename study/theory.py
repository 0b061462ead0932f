"""The theory of section 5 and appendix A of the paper, for a filter, batch norm or none, and one classifier weight.

    z = a h + c                                 without norm (Eq. 3)
    z = a (gamma (h - mu) / sigma + beta) + c   with batch norm (Eq. 4),

where h = w x + b, the label y is +1 or -1, the margin is m = y z and the loss is log(1 + exp(-m)). An outlier is a
sample that deviates by t = (h - mu) / sigma, where sigma is sqrt(variance + eps). phi is the logistic function, and
logarithms are natural.

The paper holds mu and sigma fixed within a step, which is so in eval mode. In training the gradient flows through them
too, and much of what follows then holds only with `inputs_in_training` in the place of the inputs. Where a statement of
the paper is wrong or lacks a condition, the function says so and computes what is true.
"""

from dataclasses import dataclass
from math import exp, expm1, log, sqrt

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from study.errors import BadInputError

# One step on the filter: Propositions 5.2 and 5.6, Corollary 5.3


def effective_slope(a: float, gamma_over_sigma: float = 1.0) -> float:
    """Return the slope s of the logit in h, Eq. 3 and 4: a gamma/sigma with batch norm, and a without, a ratio of 1."""
    return a * gamma_over_sigma


def gradient_norm(margin: float, slope: float, input_norm: float) -> float:
    """Return the l2 norm of the loss's gradient in w at fixed statistics, Eq. 22: phi(-m) |s| ||x||."""
    return _phi(-margin) * abs(slope) * input_norm


def margin_growth(margin: float, slope: float, input_norm: float, lr: float) -> float:
    """Return what a gradient step on w adds to the margin of its sample, Proposition 5.2: lr phi(-m) s^2 ||x||^2.

    At fixed statistics this is exact for a step of any size. With statistics that move it is the first order in lr;
    `input_norm` is then that of the sample's row of `inputs_in_training`.
    """
    return lr * _phi(-margin) * slope**2 * input_norm**2


def growth_ratio(gamma_over_sigma: float, margin_bn: float, margin_none: float) -> float:
    """Return the margin growth with batch norm over that without, Eq. 5: (gamma/sigma)^2 phi(-m_BN) / phi(-m_none).

    Corollary 5.3 lets the sigmoids cancel "under identical initialization". But there Eq. 3 and 4 give the sample
    different margins, so equal margins are a condition of their own. A ratio above 1 alone promises nothing.
    """
    return gamma_over_sigma**2 * _phi_ratio(margin_bn, margin_none)


def predicted_amplification(gamma_over_sigma: float) -> float:
    """Return (gamma/sigma)^2, the ratio of margin growths by Corollary 5.3, at equal margins, a and ||x||.

    It is no property of the function that a network computes. In training, batch norm undoes a scale of w and b; yet
    half the filter is half the sigma and four times the prediction (at eps = 0).

    Example:
        >>> predicted_amplification(3.0)
        9.0
    """
    return gamma_over_sigma**2


def influence_ratio(gamma_over_sigma: float, margin_bn: float, margin_none: float) -> float:
    """Return the squared gradient norm with batch norm over that without, Proposition 5.6 (Eq. 11).

    The paper lets the sigmoids cancel where |z_BN| = |z_none|. It takes equal margins, sign included: with margins of m
    and -m they differ by a factor of e^m. The ratio is of the gradient in w, not in all the parameters.

    Example: equal margins let the sigmoids cancel; a network that has memorized the sample has none left to speak of.
        >>> round(influence_ratio(3.0, 0.0, 0.0), 3)
        9.0
        >>> round(influence_ratio(3.0, 6.0, -2.0), 6)
        7.1e-05
    """
    return exp(float(log_influence_ratio(gamma_over_sigma, margin_bn, margin_none)))


def log_influence_ratio(gamma_over_sigma: float, margin_bn: ArrayLike, margin_none: ArrayLike) -> NDArray[np.float64]:
    """Return the logarithm of `influence_ratio`, which is finite also where float64 has no such ratio.

    Args:
        gamma_over_sigma: the ratio, not 0.
        margin_bn: the margins of samples with batch norm, float64 of any shape.
        margin_none: those of the same samples without.

    Returns:
        float64 of that shape.
    """
    sigmoids = np.logaddexp(0, margin_none) - np.logaddexp(0, margin_bn)
    ratios: NDArray[np.float64] = 2 * (log(abs(gamma_over_sigma)) + sigmoids)
    return ratios


def gradient_norm_ratio(gamma_over_sigma: float, margin_bn: float, margin_none: float) -> float:
    """Return the root of `influence_ratio`: |gamma/sigma| phi(-m_BN) / phi(-m_none).

    After Proposition 5.6 and in A.3 the paper speaks of gradient norms larger by (gamma/sigma)^2. That is the factor of
    the squared norms; norms are larger by |gamma/sigma|.
    """
    return abs(gamma_over_sigma) * _phi_ratio(margin_bn, margin_none)


def inputs_in_training(inputs: NDArray[np.float64], weight: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
    """Return what replaces each x in Eq. 5 and 22 once the gradient flows through the batch's mu and sigma.

    Row i is x_i - mean_j x_j - t_i mean_j(t_j x_j): what a regression on h over the batch leaves of the inputs. It can
    vanish where x_i is large. In the mini-batch of Proposition 5.4, where all but one have the same h, the outlier's
    row is zero at eps = 0, and so are its gradient in w and the growth of Proposition 5.2. Nor do the batches without
    the outlier make up for it, as A.3 has it: they hold no gradient of the outlier's loss.

    Args:
        inputs: float64 [B, d].
        weight: float64 [d], the filter; its bias makes no difference.
        eps: what batch norm adds to the batch's biased variance, at least 0; above 0 where all h are equal.

    Returns:
        float64 [B, d].
    """
    h = inputs @ weight
    t = (h - h.mean()) / np.sqrt(h.var() + eps)
    explained: NDArray[np.float64] = inputs.mean(axis=0) + np.outer(t, t @ inputs) / len(inputs)
    return inputs - explained


# The scale: Proposition 5.4 and Theorem 5.5


def gamma_gradient(label: int, margin: float, a: float, deviation: float) -> float:
    """Return one sample's part of the loss's gradient in gamma, Proposition 5.4 (Eq. 7): -y phi(-m) a t.

    It is exact whether or not the statistics move, for they don't depend on gamma. A mean over the batch divides it
    by B. Each typical sample's part is small, but "the outlier dominates" doesn't follow: deviations within a batch
    add up to zero, so in the paper's mini-batch, if the typical samples share a label, the outlier's part is to the
    others' sum as phi(-m) of the outlier to phi(-m) of a typical sample, whatever t. Nor is |t| >> 1 free: within a
    batch |t| is at most sqrt(B - 1).
    """
    return -label * _phi(-margin) * a * deviation


@dataclass(frozen=True)
class Outlier:
    """A sample of Theorem 5.5, with all that gradient descent on w and gamma at fixed statistics does not change.

    Attributes:
        label: +1 or -1.
        a: the classifier's weight, not 0.
        offset: a beta + c.
        sigma: the channel's standard deviation, above 0.
        input_norm: ||x||, above 0.
    """

    label: int
    a: float
    offset: float
    sigma: float
    input_norm: float


@dataclass(frozen=True)
class State:
    """What the descent changes: gamma itself, and the deviation t by way of w."""

    gamma: float
    deviation: float


def margin_of(outlier: Outlier, state: State) -> float:
    """Return the margin m = y (a gamma t + a beta + c), Eq. 4."""
    return outlier.label * (outlier.a * state.gamma * state.deviation + outlier.offset)


def step(outlier: Outlier, state: State, lr: float) -> State:
    """Take one step of gradient descent on w and gamma at once, on the outlier's loss, as the loop of Theorem 5.5.

    - gamma changes by lr phi(-m) y a t. Part (i) lets it grow where y and a are aligned; it takes y a t > 0, as the
      paper's proof says. With gamma > 0 and no offset that means an outlier on its label's side already: for one that
      is still to be memorized gamma falls. And it grows in proportion to |t| at equal margins only: t itself raises
      the margin.
    - t changes by lr phi(-m) y a gamma (||x|| / sigma)^2, which is Eq. 5 for the margin. The theorem holds t fixed.
    - So, to first order, m grows by lr phi(-m) a^2 ((gamma ||x|| / sigma)^2 + t^2); Eq. 5 lacks the second term.
    - Part (ii) lets the growth of m rise with gamma. It need not, for phi(-m) falls; and a negative gamma that
      grows brings (gamma/sigma)^2 down.
    """
    pull = lr * _phi(-margin_of(outlier, state)) * outlier.label * outlier.a
    return State(
        gamma=state.gamma + pull * state.deviation,
        deviation=state.deviation + pull * state.gamma * (outlier.input_norm / outlier.sigma) ** 2,
    )


def simulate(outlier: Outlier, start: State, lr: float, steps: int) -> list[State]:
    """Return the states of that many steps, the start first: steps + 1 of them."""
    states = [start]
    for _ in range(steps):
        states.append(step(outlier, states[-1], lr))
    return states


def scale_at_margin(outlier: Outlier, start: State, margin: float) -> float:
    """Return |gamma| when the outlier has come to that margin, from a start, in the limit of small steps.

    The flow of `step` conserves (gamma ||x|| / sigma)^2 - t^2, which together with the margin determines |gamma|.

    Part (iii) of Theorem 5.5 has gamma converge, above sigma whenever |t| > 1. There is no such limit: as the margin
    grows without bound so does |gamma|, at the end as the root of the margin. Nor does |t| > 1 enter the proof, which
    takes gamma = 1 at the start and sigma < 1; with a larger sigma, gamma/sigma can stay below 1 for longer than anyone
    trains.
    """
    scale = (outlier.input_norm / outlier.sigma) ** 2
    conserved = scale * start.gamma**2 - start.deviation**2
    product = (outlier.label * margin - outlier.offset) / outlier.a  # gamma t
    root = sqrt(conserved**2 + 4 * scale * product**2)
    # The positive solution for gamma^2 of scale gamma^4 - conserved gamma^2 - product^2 = 0, without cancellation.
    if conserved > 0:
        return sqrt((root + conserved) / (2 * scale))
    return sqrt(2 * product**2 / (root - conserved)) if product else 0.0


# Many steps on the filter: A.2. The rate is c = lr s^2 ||x||^2, as of Eq. 26; time counts steps.


def time_to_memorize(rate: float, start: float, target: float) -> float:
    """Return the time of the margin from start to target, Proposition A.2: (target + e^target - start - e^start) / c.

    It solves dm/dt = c phi(-m), so the factor of (gamma/sigma)^2 between two models is exact for that flow, from equal
    starts and for a gamma and sigma that stay as they are, which Theorem 5.5 denies. Of whole steps it is not exact:
    gradient descent is never later than this time rounded up, and at large rates far earlier.

    Raises:
        BadInputError: the rate isn't above 0, or the target is below the start.
        OverflowError: the time exceeds float64 (a target above 700).

    Example:
        >>> time_to_memorize(rate=0.09, start=0.0, target=3.0) * 9 == time_to_memorize(rate=0.01, start=0.0, target=3.0)
        True
    """
    if rate <= 0 or target < start:
        raise BadInputError("a margin needs a rate above 0 and a target that is not below its start.")
    return (target - start + exp(target) * -expm1(start - target)) / rate


def margin_after(rate: float, start: float, time: float) -> float:
    """Return the margin at a time of at least 0 from the start: Eq. 27 solved, for a start of at most 700.

    With G = start + e^start + c time it is the solution of m + e^m = G, which is G - omega(G) = log omega(G) for
    Wright's omega; Proposition A.2 is the inverse.
    """
    total = start + exp(start) + rate * time
    omega = float(scipy.special.wrightomega(total))
    return total - omega if total < 1 else log(omega)


def linear_margin(rate: float, start: float, time: float) -> float:
    """Return the margin long before saturation (A.2.3): start + c time. It is never below the true one."""
    return start + rate * time


def logarithmic_margin(rate: float, start: float, time: float) -> float:
    """Return the margin after saturation (Eq. 33): log(c time + e^start), for a start of at most 700.

    It drops the change of m beside that of e^m and so is never below the true margin; the difference goes to zero with
    time and with a larger start.
    """
    return log(rate * time + exp(start))


def late_margin_gap(gamma_over_sigma: float) -> float:
    """Return 2 log |gamma/sigma|, to which the margin gap of two models with equal starts tends in time (A.2.3).

    The paper has this gap at any late step; it is a limit. For a ratio above 1, Eq. 33 has the gap come to it from
    zero and from below. In truth a gap that opened before saturation may be many times as large, and in the end the
    gap is above its limit.
    """
    return 2 * log(abs(gamma_over_sigma))


def _phi(u: float) -> float:
    return float(scipy.special.expit(u))


def _phi_ratio(margin: float, other: float) -> float:
    """The value of phi(-margin) / phi(-other), also where both are zero in float64."""
    return exp(float(np.logaddexp(0, other) - np.logaddexp(0, margin)))
