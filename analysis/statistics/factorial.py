"""What each setting does over the whole factorial, and how much more or less it does under another norm.

A linear model has every axis as a category and every interaction of an axis with the norm. Its intercept is random over
seeds, which all cells share. The intervals take what is left of a member as its own: they speak of the grid's average,
and are narrower than those of `compare`, which ask how much the effect itself varies from seed to seed.
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

from analysis.cells import switched_on, varying
from analysis.metrics import METRICS, Metric
from analysis.statistics.paired import CONFIDENCE, holm, reference_level
from study.errors import BadInputError

Floats = NDArray[np.float64]
Place = tuple[Any, ...]
"""A column of the design: the axis and its level, and for an interaction the norm too."""

BOUNDARY = 1e-3
"""The seeds' variance over that of the rest below which it is at its boundary: the optimizer only comes close."""


@dataclass(frozen=True)
class Fit:
    """A fitted linear model.

    Attributes:
        coefficients: float64 [C].
        covariance: theirs, float64 [C, C].
        freedom: the degrees of freedom of their t; 0 where there is no spread to test against.
        why: why it is least squares rather than the mixed model; empty where it is not.
    """

    coefficients: Floats
    covariance: Floats
    freedom: int
    why: str = ""


def effects(members: pd.DataFrame, metrics: Sequence[Metric] = METRICS) -> tuple[pd.DataFrame, list[str]]:
    """Each axis's effect averaged over the levels of all others, and its interaction with the norm.

    Args:
        members: rows of `members`, one a member.
        metrics: what is modelled, each by itself.

    Returns:
        A row for each metric and effect, and what is to be said of the models. The columns: `metric`, `axis`, `level`
        and `reference`; `norm` and `norm_reference`, of an interaction, which is how much greater the effect is with
        the one than with the other; `effect` with its 95% interval `low` to `high`; `p`, two-sided, and `p_holm` over
        all rows; `n` and `excluded` members. What the grid can't tell from other effects is missing, as are intervals
        where nothing is left to chance.

    Raises:
        BadInputError: no setting has two levels.
    """
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for metric in metrics:
        usable = members[members[metric.column].notna()]
        if not varying(usable):
            continue
        counts = {"n": len(usable), "excluded": int((members["status"] != "ok").sum())}
        design = Design(usable)
        fitted = fit(usable[metric.column].to_numpy(float), design.columns, usable["seed"].to_numpy())
        notes += [f"{metric.label}: {note}" for note in [fitted.why, *design.notes] if note]
        for named, contrast in design.contrasts():
            rows.append({"metric": metric.column, **named, **_tested(fitted, contrast, design), **counts})
    if not rows:
        raise BadInputError("there is no setting with two levels that have results, so there is no effect to estimate.")
    table = pd.DataFrame(rows)
    table.insert(list(table.columns).index("p") + 1, "p_holm", holm(table["p"]))
    return table, notes


class Design:
    """The columns of the model: a constant, every axis but its reference level, and their products with the norm.

    Attributes:
        axes: the levels of each axis, the reference first.
        columns: float64 [N, C], those that don't follow from others.
        notes: what the grid can't tell.
    """

    def __init__(self, members: pd.DataFrame) -> None:
        self.axes = {name: _levels(members, name) for name in varying(members)}
        self.crossed = [name for name in self.axes if name != "norm" and self._is_crossed(members, name)]
        found: dict[Place, NDArray[np.bool_]] = {
            (name, at): (members[name] == at).to_numpy() for name in self.axes for at in self.axes[name][1:]
        }
        for name in self.crossed:
            for at in self.axes[name][1:]:
                found |= {(name, at, norm): found[name, at] & found["norm", norm] for norm in self.axes["norm"][1:]}
        every = np.column_stack([np.ones(len(members)), *found.values()]).astype(float)
        points = np.unique(every, axis=0)
        self.places: dict[Place, int] = {place: number for number, place in enumerate(found, start=1)}
        self.kept = _independent(points)
        self.told = np.linalg.pinv(points) @ points
        self.columns = every[:, self.kept]
        nested = [name for name in self.axes if "norm" in self.axes and name not in (*self.crossed, "norm")]
        self.notes = [
            f"{name} has no interaction with the norm, for not all of its levels are there with every norm."
            for name in nested
        ]

    def _is_crossed(self, members: pd.DataFrame, name: str) -> bool:
        on = switched_on(members, name)
        both = on[["norm", name]].drop_duplicates()
        return "norm" in self.axes and len(both) == len(self.axes["norm"]) * on[name].nunique()

    def contrasts(self) -> list[tuple[Mapping[str, Any], Floats]]:
        """Every effect with the weights [C of all columns] of the coefficients that make it."""
        found: list[tuple[Mapping[str, Any], Floats]] = []
        for axis, (reference, *others) in self.axes.items():
            for at in others:
                named = {"axis": axis, "level": at, "reference": reference, "norm": None, "norm_reference": None}
                found.append((named, self._weights({(axis, at): 1.0, **self._averaged(axis, at)})))
        for axis in self.crossed:
            reference, *others = self.axes[axis]
            held, *norms = self.axes["norm"]
            for at in others:
                for norm in norms:
                    named = {"axis": axis, "level": at, "reference": reference, "norm": norm, "norm_reference": held}
                    found.append((named, self._weights({(axis, at, norm): 1.0})))
        return found

    def _averaged(self, axis: str, at: Any) -> dict[Place, float]:
        """The interactions in an effect: averaged over all norms, or for a norm's own over the levels of each axis."""
        if axis != "norm":
            norms = self.axes["norm"] if axis in self.crossed else []
            return {(axis, at, norm): 1 / len(norms) for norm in norms[1:]}
        return {
            (other, there, at): 1 / len(self.axes[other]) for other in self.crossed for there in self.axes[other][1:]
        }

    def _weights(self, weights: Mapping[Place, float]) -> Floats:
        contrast = np.zeros(len(self.places) + 1)
        for place, weight in weights.items():
            contrast[self.places[place]] = weight
        return contrast


def _levels(members: pd.DataFrame, axis: str) -> list[Any]:
    """The levels where the axis means anything, the reference first."""
    levels = sorted(switched_on(members, axis)[axis].unique().tolist())
    held = reference_level(axis, levels)
    return [held, *(at for at in levels if at != held)]


def _independent(points: Floats) -> list[int]:
    """The columns that don't follow from those before them."""
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
    """The mixed model by restricted maximum likelihood, or least squares where seeds make no difference.

    Args:
        values: float64 [N].
        columns: float64 [N, C], linearly independent.
        seeds: of each value, int64 [N].
    """
    plain = OLS(values, columns).fit()
    freedom = len(values) - columns.shape[1]
    if freedom < 1 or plain.ssr <= 1e-20 * max(1.0, float(values @ values)):
        return Fit(plain.params, np.zeros_like(columns.T @ columns), 0, "nothing is left to chance, so no interval.")
    least = Fit(plain.params, plain.cov_params(), freedom)
    groups = len(np.unique(seeds))
    if groups < 2:
        return _because(least, "there is one seed.")
    if freedom <= groups - 1:
        return _because(least, "there are too few members for a random intercept.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the variance at its boundary, which is looked at here
        try:
            mixed = MixedLM(values, columns, groups=seeds).fit(reml=True)
        except (np.linalg.LinAlgError, ValueError):
            return _because(least, "the mixed model is singular.")
    variance = float(np.asarray(mixed.cov_re)[0, 0])
    if not mixed.converged:
        return _because(least, "the mixed model did not converge.")
    if not variance > BOUNDARY * mixed.scale:
        return _because(least, "the seeds' variance is next to zero.")
    count = columns.shape[1]
    covariance = np.asarray(mixed.cov_params())[:count, :count]
    return Fit(np.asarray(mixed.fe_params), covariance, freedom - (groups - 1))


def _because(least: Fit, why: str) -> Fit:
    return Fit(least.coefficients, least.covariance, least.freedom, f"least squares without a random intercept: {why}")


def _tested(fitted: Fit, contrast: Floats, design: Design) -> dict[str, float]:
    if not np.allclose(contrast @ design.told, contrast, atol=1e-8):
        return dict.fromkeys(("effect", "low", "high", "p"), np.nan)
    weights = contrast[design.kept]
    effect = float(weights @ fitted.coefficients)
    error = float(np.sqrt(weights @ fitted.covariance @ weights))
    if fitted.freedom < 1 or not error > 0:
        return {"effect": effect, "low": np.nan, "high": np.nan, "p": np.nan}
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, fitted.freedom) * error
    p = 2 * stats.t.sf(abs(effect) / error, fitted.freedom)
    return {"effect": effect, "low": effect - reach, "high": effect + reach, "p": float(p)}
