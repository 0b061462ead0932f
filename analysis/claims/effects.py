"""The effects that claims are about: what is measured of each pair of members, or of each member of one arm.

An effect takes a frame of pairs, whose results end in `_arm` and `_ref`, or of members of one arm, and returns a number
a row. An effect that is a ratio returns its logarithm.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.metrics import COUNTED
from analysis.statistics.accuracies import OWN, REFERENCE
from analysis.statistics.amplification import log_over_equation
from analysis.statistics.mechanism import Curve, log_rate_ratio, log_speedup
from study.theory import predicted_amplification

Effect = Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Measured:
    """An effect that is a column as it is, or the arm's less the reference's.

    Attributes:
        column: the column.
        sides: the endings of the columns that it is made of: of one, or of two whose difference it is.
    """

    column: str
    sides: tuple[str, ...] = ("",)

    def __call__(self, rows: pd.DataFrame) -> pd.Series:
        """Return the effect of each row."""
        own, *reference = (rows[self.column + side] for side in self.sides)
        return own - reference[0] if reference else own

    def counts(self, rows: pd.DataFrame) -> dict[str, pd.Series]:
        """Return the columns that `analysis.statistics.accuracies` tests, of an accuracy; none of anything else."""
        if self.column not in COUNTED or COUNTED[self.column] + self.sides[0] not in rows:
            return {}
        found: dict[str, pd.Series] = {}
        for side, (share, of) in zip(self.sides, (OWN, REFERENCE), strict=False):
            found |= {share: rows[self.column + side], of: rows[COUNTED[self.column] + side]}
        return found


def counts(effect: Effect | None, rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the columns that an effect's accuracies are tested by; none where it isn't made of accuracies."""
    return effect.counts(rows) if isinstance(effect, Measured) else {}


def difference(column: str) -> Effect:
    """Return the effect: the arm's value less the reference's."""
    return Measured(column, ("_arm", "_ref"))


def ratio(column: str) -> Effect:
    """Return the effect: the logarithm of the arm's value over the reference's."""
    return lambda pairs: _log(pairs[f"{column}_arm"]) - _log(pairs[f"{column}_ref"])


def value(column: str) -> Effect:
    """Return the effect: the value of the claim's only arm."""
    return Measured(column)


def of_arm(column: str) -> Effect:
    """Return the effect: the arm's value, whatever the reference's."""
    return Measured(column, ("_arm",))


def of_reference(column: str) -> Effect:
    """Return the effect: the reference's value, whatever the arm's."""
    return Measured(column, ("_ref",))


def layer_ratio(members: pd.DataFrame) -> pd.Series:
    """Return the logarithm of a layer's gamma/sigma at the end of training, that of its median channel."""
    return _log(members["ratio_median"])


def growth(column: str) -> Effect:
    """Return the effect: the logarithm of what a layer has at the end of training over what it had before."""
    return lambda members: _log(members[column]) - _log(members[f"{column}_start"])


def layer_ratio_beyond(least: float) -> Effect:
    """Return the effect: the logarithm of a layer's gamma/sigma over `least` or its initial one, whichever is larger.

    Above a ratio of 1 it says that training took gamma/sigma above both.
    """
    return lambda members: layer_ratio(members) - _log(members["ratio_median_start"].clip(lower=least))


def corrupted_over_clean_gradients(members: pd.DataFrame) -> pd.Series:
    """Return the logarithm of a member's gradient norm on corrupted samples over that on clean ones."""
    return _log(members["grad_norm_out"]) - _log(members["grad_norm_in"])


def gradient_contrast(pairs: pd.DataFrame) -> pd.Series:
    """Return how much further, as a logarithm, the arm's corrupted gradients stand out from its clean ones."""
    return ratio("grad_norm_out")(pairs) - ratio("grad_norm_in")(pairs)


def amplification_of_influence(pairs: pd.DataFrame) -> pd.Series:
    """Return the logarithm of the ratio of the arms' influence, the squared gradient norm of corrupted samples."""
    return 2 * ratio("grad_norm_out")(pairs)


def amplification_over_prediction(pairs: pd.DataFrame) -> pd.Series:
    """Return the logarithm of the measured amplification over (gamma/sigma)^2, the predicted one at equal margins."""
    return amplification_of_influence(pairs) - _log(pairs["gamma_over_sigma_arm"].map(predicted_amplification))


def amplification_at_equal_margins(pairs: pd.DataFrame) -> pd.Series:
    """Return the logarithm of a flipped sample's ratio of influence over that of its squared sigmoids (Eq. 11)."""
    return _by_pair(pairs, lambda row: log_over_equation(row, 1.0))


def amplification_over_equation(pairs: pd.DataFrame) -> pd.Series:
    """Return the logarithm of a flipped sample's ratio of influence over all of Eq. 11, its own margins included."""
    return _by_pair(pairs, lambda row: log_over_equation(row, row["gamma_over_sigma_arm"]))


def speedup(pairs: pd.DataFrame) -> pd.Series:
    """Return the logarithm of how many times as long the reference takes to memorize as the arm (A.2)."""
    return _by_curves(pairs, lambda arm, reference, _: log_speedup(arm, reference))


def speedup_over_prediction(pairs: pd.DataFrame) -> pd.Series:
    """Return the logarithm of the arms' ratio of rates in Eq. 28 over (gamma/sigma)^2, the predicted one (Eq. 29)."""
    return _by_curves(pairs, lambda arm, reference, ratio: log_rate_ratio(arm, reference) - 2 * float(np.log(ratio)))


def _by_curves(pairs: pd.DataFrame, of: Callable[[Curve, Curve, float], float]) -> pd.Series:
    columns = (pairs["curve_arm"], pairs["curve_ref"], pairs["gamma_over_sigma_arm"])
    values = [
        np.nan if arm is None or reference is None else of(arm, reference, ratio)
        for arm, reference, ratio in zip(*columns, strict=True)
    ]
    return pd.Series(values, index=pairs.index, dtype=float)


def pull_of_outliers(members: pd.DataFrame) -> pd.Series:
    """Return the logarithm of one S_out sample's part of gamma's gradient over that of one S_in sample, by layer."""
    return _log(members["size_out"]) - _log(members["size_in"])


def memorization_less_accuracy(pairs: pd.DataFrame) -> pd.Series:
    """Return the arms' difference in memorization less the size of their difference in test accuracy."""
    return difference("mem_acc")(pairs) - difference("test_acc")(pairs).abs()


def privacy_less_utility(pairs: pd.DataFrame) -> pd.Series:
    """Return what the reference spares in membership AUC less what it loses in test accuracy, point for point."""
    return difference("mia_auc")(pairs) - difference("test_acc")(pairs)


def _by_pair(pairs: pd.DataFrame, of: Callable[[pd.Series], float]) -> pd.Series:
    return pd.Series([of(row) for _, row in pairs.iterrows()], index=pairs.index, dtype=float)


def _log(values: pd.Series) -> pd.Series:
    """Return the logarithm of values: minus infinity at 0."""
    with np.errstate(divide="ignore"):
        logarithms: pd.Series = values.astype(float).map(np.log)
    return logarithms
