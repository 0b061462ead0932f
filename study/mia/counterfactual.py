"""Counterfactual memorization (Feldman and Zhang 2020), from the models that attack one another."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.errors import BadInputError
from study.mia.checks import Floats, Mask, check_scores


@dataclass(frozen=True)
class Memorization:
    """The counterfactual memorization of each sample.

    Attributes:
        samples: int64 [K], the indices of the samples that are IN for some model and OUT for another.
        values: float64 [K] in [-1, 1], their memorization.
        left_out: the number of all other samples, which have no value.
    """

    samples: NDArray[np.int64]
    values: Floats
    left_out: int


def counterfactual_memorization(correct: Mask, is_member: Mask) -> Memorization:
    """Return P(correct | IN) - P(correct | OUT) of each sample, over the models (Feldman and Zhang 2020, Eq. 1).

    Args:
        correct: bool [N, S], whether each model gives the sample its assigned label.
        is_member: bool [N, S].

    Raises:
        BadInputError: the shapes differ, or an array isn't boolean.
    """
    check_scores(correct, is_member)
    if correct.dtype != np.bool_:
        raise BadInputError(f"`correct` holds true and false, not {correct.dtype}.")
    n_in, n_out = is_member.sum(axis=0), (~is_member).sum(axis=0)
    (samples,) = np.nonzero((n_in > 0) & (n_out > 0))
    inside = (correct & is_member).sum(axis=0)[samples] / n_in[samples]
    outside = (correct & ~is_member).sum(axis=0)[samples] / n_out[samples]
    return Memorization(samples, inside - outside, left_out=len(n_in) - len(samples))
