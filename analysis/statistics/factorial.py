"""The effect of each setting over the whole factorial, and how much it differs under another norm.

A linear model has every axis as a category and every interaction of an axis with the norm. Its intercept is random over
seeds, which all cells share. The intervals take the residual of a member as independent: they speak of the grid's
average, and are narrower than those of `paired.compare`, which ask how much the effect varies from seed to seed.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.regression.mixed_linear_model import MixedLM

from analysis.cells import varying_settings, where_active
from analysis.metrics import METRICS, Metric
from analysis.statistics.paired import CONFIDENCE, holm, reference_level
from study.errors import BadInputError

Floats = NDArray[np.float64]
Place = tuple[Any, ...]
"""The name of a column of the design: the axis and its level, and for an interaction the norm too."""

BOUNDARY = 1e-3
"""The seeds' variance over the residual's below which it counts as 0, which the optimizer only comes close to."""


@dataclass(frozen=True)
class Fit:
    """A fitted linear model.

    Attributes:
        coefficients: the coefficients, float64 [C].
        covariance: their covariance, float64 [C, C].
        freedom: the degrees of freedom of their t; 0 where there is no spread to test against.
        why: the reason why it is least squares rather than the mixed model; empty where it is the mixed model.
    """

    coefficients: Floats
    covariance: Floats
    freedom: int
    why: str = ""


def effects(members: pd.DataFrame, metrics: Sequence[Metric] = METRICS) -> tuple[pd.DataFrame, list[str]]:
    """Estimate each axis's effect, averaged over the levels of all others, and its interaction with the norm.

    Args:
        members: rows of `members`, one for each member.
        metrics: the metrics, each of which is modelled by itself.

    Returns:
        A row for each metric and effect, and notes on the models. The columns are `metric`, `axis`, `level` and
        `reference`; `norm` and `norm_reference` of an interaction, which is how much greater the effect is with the
        one norm than with the other; `effect` with its 95% interval `low` to `high`; `p`, two-sided, and `p_holm` over
        all rows; `n` and `excluded` members. An effect that the grid can't tell from others is missing, as are
        intervals where there is no residual.

    Raises:
        BadInputError: no setting has two levels.
    """
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for metric in metrics:
        usable = members[members[metric.column].notna()]
        if not varying_settings(usable):
            continue
        counts = {"n": len(usable), "excluded": int((members["status"] != "ok").sum())}
        design = Design(usable)
        fitted = fit(usable[metric.column].to_numpy(float), design.columns, usable["seed"].to_numpy())
        notes += [f"{metric.label}: {note}" for note in [fitted.why, *design.notes] if note]
        for labels, contrast in design.contrasts():
            rows.append({"metric": metric.column, **labels, **_contrast_test(fitted, contrast, design), **counts})
    if not rows:
        raise BadInputError("there is no setting with two levels that have results, so there is no effect to estimate.")
    table = pd.DataFrame(rows)
    table.insert(list(table.columns).index("p") + 1, "p_holm", holm(table["p"]))
    return table, notes


class Design:
    """The columns of the model: a constant, every axis but its reference level, and their products with the norm.

    Attributes:
        axes: the levels of each axis, the reference first.
        crossed: the axes that have an interaction with the norm.
        places: the position of each column among all, after the constant.
        kept: the positions of the columns that don't follow from others.
        estimable: the projection onto the contrasts that the grid can tell from others, float64 [all, all].
        columns: the kept columns, float64 [N, C].
        notes: what the grid can't tell.
    """

    def __init__(self, members: pd.DataFrame) -> None:
        self.axes = {name: _levels_from_reference(members, name) for name in varying_settings(members)}
        self.crossed = [name for name in self.axes if name != "norm" and self._is_crossed(members, name)]
        by_place: dict[Place, NDArray[np.bool_]] = {
            (name, level): (members[name] == level).to_numpy() for name in self.axes for level in self.axes[name][1:]
        }
        for name in self.crossed:
            for level in self.axes[name][1:]:
                for norm in self.axes["norm"][1:]:
                    by_place[name, level, norm] = by_place[name, level] & by_place["norm", norm]
        columns = np.column_stack([np.ones(len(members)), *by_place.values()]).astype(float)
        points = np.unique(columns, axis=0)
        self.places: dict[Place, int] = {place: number for number, place in enumerate(by_place, start=1)}
        self.kept = _independent(points)
        self.estimable = np.linalg.pinv(points) @ points
        self.columns = columns[:, self.kept]
        nested = [name for name in self.axes if "norm" in self.axes and name not in (*self.crossed, "norm")]
        self.notes = [
            f"{name} has no interaction with the norm, for not all of its levels are there with every norm."
            for name in nested
        ]

    def _is_crossed(self, members: pd.DataFrame, name: str) -> bool:
        """Return whether every level of an axis occurs with every norm."""
        active = where_active(members, name)
        both = active[["norm", name]].drop_duplicates()
        return "norm" in self.axes and len(both) == len(self.axes["norm"]) * active[name].nunique()

    def contrasts(self) -> list[tuple[Mapping[str, Any], Floats]]:
        """Return every effect with its weights, one for each of all columns' coefficients."""
        contrasts: list[tuple[Mapping[str, Any], Floats]] = []
        for axis, (reference, *others) in self.axes.items():
            for level in others:
                labels = {"axis": axis, "level": level, "reference": reference, "norm": None, "norm_reference": None}
                contrasts.append((labels, self._weights({(axis, level): 1.0, **self._mean_interactions(axis, level)})))
        for axis in self.crossed:
            reference, *others = self.axes[axis]
            base, *norms = self.axes["norm"]
            for level in others:
                for norm in norms:
                    labels = {"axis": axis, "level": level, "reference": reference}
                    labels |= {"norm": norm, "norm_reference": base}
                    contrasts.append((labels, self._weights({(axis, level, norm): 1.0})))
        return contrasts

    def _mean_interactions(self, axis: str, level: Any) -> dict[Place, float]:
        """Return the weights of an effect's interactions: means over norms, or for a norm over each axis's levels."""
        if axis != "norm":
            norms = self.axes["norm"] if axis in self.crossed else []
            return {(axis, level, norm): 1 / len(norms) for norm in norms[1:]}
        return {
            (other, other_level, level): 1 / len(self.axes[other])
            for other in self.crossed
            for other_level in self.axes[other][1:]
        }

    def _weights(self, weights: Mapping[Place, float]) -> Floats:
        """Return weights by column name as float64 [all columns]."""
        contrast = np.zeros(len(self.places) + 1)
        for place, weight in weights.items():
            contrast[self.places[place]] = weight
        return contrast


def _levels_from_reference(members: pd.DataFrame, axis: str) -> list[Any]:
    """Return the levels of an axis where it is active, the reference first."""
    levels = sorted(where_active(members, axis)[axis].unique().tolist())
    base = reference_level(axis, levels)
    return [base, *(level for level in levels if level != base)]


def _independent(points: Floats) -> list[int]:
    """Return the positions of the columns that don't follow from those before them."""
    kept: list[int] = []
    basis = np.zeros((len(points), 0))
    for place, column in enumerate(points.T):
        rest = column - basis @ (basis.T @ column)
        rest -= basis @ (basis.T @ rest)
        if np.linalg.norm(rest) > 1e-9 * max(1.0, float(np.linalg.norm(column))):
            kept.append(place)
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return kept


def fit(values: Floats, columns: Floats, seeds: NDArray[Any]) -> Fit:
    """Fit the mixed model by restricted maximum likelihood, or least squares where seeds make no difference.

    Args:
        values: the values of the metric, float64 [N].
        columns: the design, float64 [N, C], linearly independent.
        seeds: the seed of each value, int64 [N].
    """
    plain = OLS(values, columns).fit()
    freedom = len(values) - columns.shape[1]
    if freedom < 1 or plain.ssr <= 1e-20 * max(1.0, float(values @ values)):
        return Fit(plain.params, np.zeros_like(columns.T @ columns), 0, "nothing is left to chance, so no interval.")
    least = Fit(plain.params, plain.cov_params(), freedom)
    groups = len(np.unique(seeds))
    if groups < 2:
        return _least_squares_because(least, "there is one seed.")
    if freedom <= groups - 1:
        return _least_squares_because(least, "there are too few members for a random intercept.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a variance at its boundary, which is handled below
        try:
            mixed = MixedLM(values, columns, groups=seeds).fit(reml=True)
        except (np.linalg.LinAlgError, ValueError):
            return _least_squares_because(least, "the mixed model is singular.")
    variance = float(np.asarray(mixed.cov_re)[0, 0])
    if not mixed.converged:
        return _least_squares_because(least, "the mixed model did not converge.")
    if not variance > BOUNDARY * mixed.scale:
        return _least_squares_because(least, "the seeds' variance is next to zero.")
    count = columns.shape[1]
    covariance = np.asarray(mixed.cov_params())[:count, :count]
    return Fit(np.asarray(mixed.fe_params), covariance, freedom - (groups - 1))


def _least_squares_because(least: Fit, why: str) -> Fit:
    """Return the fit by least squares with the reason for it."""
    return Fit(least.coefficients, least.covariance, least.freedom, f"least squares without a random intercept: {why}")


def _contrast_test(fitted: Fit, contrast: Floats, design: Design) -> dict[str, float]:
    """Return an effect with its interval and p-value; all are missing where the grid can't tell it from others."""
    if not np.allclose(contrast @ design.estimable, contrast, atol=1e-8):
        return dict.fromkeys(("effect", "low", "high", "p"), np.nan)
    weights = contrast[design.kept]
    effect = float(weights @ fitted.coefficients)
    error = float(np.sqrt(weights @ fitted.covariance @ weights))
    if fitted.freedom < 1 or not error > 0:
        return {"effect": effect, "low": np.nan, "high": np.nan, "p": np.nan}
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, fitted.freedom) * error
    p = 2 * stats.t.sf(abs(effect) / error, fitted.freedom)
    return {"effect": effect, "low": effect - reach, "high": effect + reach, "p": float(p)}
