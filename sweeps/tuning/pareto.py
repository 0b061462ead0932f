"""Weigh privacy against accuracy: find the Pareto front, measure its hypervolume, and recommend a setting.

Every objective is to be made small. To make one large, such as accuracy, pass its negative, and that of the reference.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Row = TypeVar("Row", bound=Mapping[str, Any])
ROUNDING = 1e-12
"""The rounding error of a difference of two accuracies: a setting that loses exactly the budget is within it."""


def front(points: ArrayLike) -> NDArray[np.bool_]:
    """Say which points no other dominates; one that dominates is nowhere larger and somewhere smaller.

    Args:
        points: float64 [N, D], smaller is better in every column.

    Returns:
        bool [N]; equal points are all in the front, or none of them is.

    Raises:
        ValueError: the points are no matrix, or have a NaN.
    """
    array = _as_points(points)
    no_worse = (array[:, None] <= array[None]).all(axis=2)
    better = (array[:, None] < array[None]).any(axis=2)
    return np.logical_not((no_worse & better).any(axis=0))


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Compute exactly the volume that the points dominate, up to a reference point (Zitzler & Thiele 1998, S metric).

    The points are cut along the last objective into slabs. Each slab is as deep as the gap to the next point, and as
    large as the volume that the points up to there dominate in the other objectives.

    Args:
        points: float64 [N, D], smaller is better in every column; one that is not below the reference in all of them
            adds nothing.
        reference: float64 [D], the worst point that counts; the same for all fronts that are compared.

    Returns:
        The volume, 0 for no points.

    Raises:
        ValueError: a NaN, or a reference of another length.
    """
    array, corner = _as_points(points), np.asarray(reference, dtype=np.float64)
    if corner.shape != array.shape[1:] or np.isnan(corner).any():
        raise ValueError(f"the reference is a number for each of {array.shape[1]} objectives, not {corner}")
    inside = array[(array < corner).all(axis=1)]
    return _volume(inside[front(inside)], corner)


def _volume(points: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(corner[0] - points.min())
    ordered = points[np.argsort(points[:, -1], kind="stable")]
    depths = np.diff(ordered[:, -1], append=corner[-1])
    return sum(
        float(depth) * _volume(ordered[: count + 1, :-1], corner[:-1]) for count, depth in enumerate(depths) if depth
    )


def recommend(rows: Sequence[Row], reference_accuracy: float, max_loss: float) -> Row | None:
    """Return the setting that memorizes least among those within the budget of accuracy.

    Args:
        rows: settings, each with its means over seeds: `mem_acc`, `val_mia_auc` and `val_acc`, the latter two on the
            validation samples; and its `alpha`. Ties are broken by the lower membership AUC, then the higher
            accuracy, so that no other row dominates the recommended one; then the larger alpha, which is the weaker
            intervention.
        reference_accuracy: the mean `val_acc` of the setting to be improved on.
        max_loss: how much lower the accuracy may be, 0.01 for one point.

    Returns:
        One of the rows; None if all lose more.
    """
    allowed = [row for row in rows if row["val_acc"] >= reference_accuracy - max_loss - ROUNDING]
    return min(
        allowed, key=lambda row: (row["mem_acc"], row["val_mia_auc"], -row["val_acc"], -row["alpha"]), default=None
    )


def remark_without_gain(mem_acc: float, reference: float) -> str:
    """Say that a recommended setting memorizes no less than the one it was to improve on; empty where it does.

    Args:
        mem_acc: what the recommended setting memorizes, the mean over the search's seeds.
        reference: what norm=batch memorizes on the same seeds.
    """
    if mem_acc < reference - ROUNDING:
        return ""
    compared = "more than" if mem_acc > reference + ROUNDING else "as much as"
    return f"it memorizes {compared} norm=batch itself ({mem_acc:.3f} against {reference:.3f}), so nothing was gained"


def _as_points(points: ArrayLike) -> NDArray[np.float64]:
    """Return the points as a float64 matrix [N, D].

    Raises:
        ValueError: they are none, or have a NaN.
    """
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or np.isnan(array).any():
        raise ValueError(f"points are [N, D] numbers without a NaN, not {array.shape} with {np.isnan(array).sum()}")
    return array
