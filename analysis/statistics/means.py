"""Means of a result over members with their 95% interval, by the units that `analysis.statistics.paired` has."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy

from analysis.cells import PAIRING_KEYS
from analysis.metrics import COUNTED
from analysis.statistics.accuracies import OWN, from_frame
from analysis.statistics.paired import CONFIDENCE


@dataclass(frozen=True)
class Mean:
    """A mean over seeds; NaN where there is none.

    Attributes:
        n: the number of seeds, or of models where they share one D'.
        mean: the mean.
        low: the lower end of its two-sided 95% interval; NaN where there is one unit or no spread.
        high: the upper end.
    """

    n: int
    mean: float = np.nan
    low: float = np.nan
    high: float = np.nan


def mean_over_seeds(rows: pd.DataFrame, column: str, count: str = "", strata: Sequence[str] = ()) -> Mean:
    """Return the mean of a column over seeds, each with its mean over its models and cells.

    Models on halves of one D' alone count one by one, conditional on it, but not what an attack makes of them. A seed
    that lacks a cell which another has is left out.

    Args:
        rows: a row for each member and cell, with the columns `seed` and `model`.
        column: the result; rows without it are left out.
        count: of an accuracy, the column with the number of samples that it is a share of; by default that of the
            metric of this name, if it is one.
        strata: the settings that make a cell.
    """
    count = count or COUNTED.get(column, "")
    named = {column: OWN[0], **({count: OWN[1]} if count in rows else {})}
    values = rows[[*PAIRING_KEYS, *strata, *named]].rename(columns=named).dropna(subset=[OWN[0]])
    if values.empty:
        return Mean(0)
    unit = "model" if values["seed"].nunique() == 1 and column != "mia_auc" else "seed"
    by_cell = values.groupby([unit, *strata])[OWN[0]].mean()
    sizes = by_cell.groupby(unit).size()
    whole = sizes.index[sizes == sizes.max()]
    by_unit = by_cell.groupby(unit).mean().loc[whole].to_numpy(float)
    known = from_frame(values, whole, strata)
    if known is not None:
        return Mean(known.n, known.effect, *known.interval(CONFIDENCE))
    n, mean = len(by_unit), float(by_unit.mean())
    if n < 2 or np.ptp(by_unit) <= 1e-12 * max(1.0, abs(mean)):
        return Mean(n, mean)
    interval = scipy.stats.ttest_1samp(by_unit, 0.0).confidence_interval(CONFIDENCE)
    return Mean(n, mean, float(interval.low), float(interval.high))
