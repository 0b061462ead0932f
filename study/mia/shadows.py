"""The shadows of a target: as many for a member as for a non-member.

Where each sample is IN for exactly half of N models, a target that is a member leaves N/2 - 1 IN and N/2 OUT shadows,
and one that isn't N/2 and N/2 - 1. What is estimated from fewer shadows is farther from the target, so that an attack
would tell members from the number of their shadows. So one shadow of the larger side is left out at random: all targets
have N/2 - 1 on each side, and where there is nothing to find the AUC is 0.5, whatever the scores' shape.
"""

import numpy as np
from numpy.typing import NDArray

from study.errors import BadInputError
from study.mia.checks import Floats, Mask

STREAM = 20_220_526
"""The seed of the stream that picks the shadows that are left out. It depends on nothing else, so that both arms of a
comparison lose the same ones."""


def sides(is_member: Mask, shadows: Mask | None) -> tuple[Mask, Mask]:
    """Return the models that may be shadows IN and OUT of each sample, each bool [N, S].

    Args:
        is_member: bool [N, S].
        shadows: bool [N, S], whether a model may be a shadow for a sample; by default all may.
    """
    if shadows is None:
        return is_member, ~is_member
    return is_member & shadows, ~is_member & shadows


def some_shadows(is_member: Mask, each: int, generator: np.random.Generator) -> Mask:
    """Return a random choice of as many models on each side of each sample, bool [N, S], as possible shadows.

    An attack with these is what `2 * each` models on halves would make: every target then has `each - 1` IN and as many
    OUT shadows, and all targets and samples are still attacked.

    Args:
        is_member: bool [N, S].
        each: how many IN, and how many OUT; each sample must have them.
        generator: draws them.
    """
    order = generator.random(is_member.shape)
    chosen = np.zeros_like(is_member)
    for side in sides(is_member, None):
        ranked = np.argsort(np.where(side, order, np.inf), axis=0)
        np.put_along_axis(chosen, ranked[:each], True, axis=0)
    return chosen


def left_out(chosen: Mask) -> NDArray[np.int64]:
    """Return the model that each target does without on a side, for every sample, int64 [N, S].

    Of the side that the target is on, that is the target itself. Of the other it is one of its models at random, or the
    target once more, which is none of them. Which of the two depends on how the halves were drawn: a random m of M
    models whose halves were balanced are taken to be there, and of all M one would be left out. With all M of them,
    there always is one; with memberships that are independent, M is infinite, and there never is.

    Args:
        chosen: bool [N, S], the models that are on the side, IN or OUT, for each sample.
    """
    models = len(chosen)
    number = chosen.sum(axis=0)
    rate = np.minimum(number * _share_left_out(number, models), 1)
    draws = np.random.default_rng(STREAM).random(chosen.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        place = np.where(draws < rate, draws / rate * number, 0).astype(np.int64).clip(0, models - 1)
    of_side = np.take_along_axis(np.argsort(~chosen, axis=0, kind="stable"), place, axis=0)
    targets = np.arange(models)[:, None]
    picked: NDArray[np.int64] = np.where(chosen | (draws >= rate), targets, of_side)
    return picked


def _share_left_out(number: NDArray[np.int64], models: int) -> float:
    """Return the chance of each model of a side to be left out: one over the side's size among all M models.

    The side's size among m of M models has the variance m p (1 - p) (M - m) / (M - 1), where p is its share.
    """
    share = float(number.mean()) / models
    binomial, variance = models * share * (1 - share), float(number.var())
    if binomial <= variance:
        return 0.0
    return (binomial - variance) / (models * binomial - variance) / share


def require_shadows(side: str, number: Floats, least: int) -> None:
    """Refuse shadows on one side, IN or OUT, that are fewer than `least` for some target and sample.

    Args:
        side: its name.
        number: of shadows of each target and sample, [N, S].
        least: the fewest that an attack can do with.
    """
    few = number < least
    if few.any():
        target, sample = np.argwhere(few)[0]
        found = (
            f"the {side} shadows of sample {sample} number {number[target, sample]:g} when model {target} is the target"
        )
        raise BadInputError(f"{found}, but this attack needs at least {least}; train more models.")
