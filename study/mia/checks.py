"""The types of scores and masks, and the checks that every attack makes of them."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from study.errors import BadInputError

Floats = NDArray[np.float64]
Scores = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


class Attack(Protocol):
    """An attack: scores and memberships, [N, S], to its own scores; `shadows` says which models it may use."""

    def __call__(self, scores: Scores, is_member: Mask, *, shadows: Mask | None = None) -> Floats:
        """Return the attack's scores, float64 [N, S]."""
        ...


def check_scores(scores: NDArray[Any], is_member: Mask) -> None:
    """Refuse scores [..., N, S] and a mask [N, S] whose shapes or types do not fit."""
    if scores.shape != is_member.shape:
        raise BadInputError(f"scores of shape {scores.shape} and memberships of shape {is_member.shape} don't match.")
    if is_member.dtype != np.bool_:
        raise BadInputError(f"memberships are true or false, not {is_member.dtype}.")
    if not np.isfinite(scores).all():
        raise BadInputError("membership can't be judged from scores that are not finite.")


def tell_apart(scores: Scores) -> Mask:
    """Return which models tell samples apart, bool [N]: a dead one has the same score on every sample.

    Args:
        scores: [N, S], or [Q, N, S] of Q queries, of which each must tell samples apart.
    """
    by_query = scores.reshape(-1, *scores.shape[-2:])
    apart: Mask = np.all([(query != query[:, :1]).any(axis=1) for query in by_query], axis=0)
    return apart


def valid_scores(scores: Scores, is_member: Mask) -> tuple[Floats, Mask]:
    """Return the scores in float64 and the mask, if an attack can be run on them."""
    check_scores(scores, is_member)
    if scores.ndim != 2 or not scores.size:
        raise BadInputError(f"an attack needs scores by model and sample, not of shape {scores.shape}.")
    (constant,) = np.nonzero(~tell_apart(scores))
    if len(constant):
        raise BadInputError(f"model {constant[0]} has the same score on every sample: it tells nothing apart.")
    return scores.astype(np.float64), is_member


def targets_with_both(is_member: Mask) -> NDArray[np.int64]:
    """Return the targets that have members and non-members, int64 [T]."""
    return np.flatnonzero(is_member.any(axis=1) & ~is_member.all(axis=1))
