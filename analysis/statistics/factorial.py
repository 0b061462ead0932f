"""The effect of each setting over the whole factorial, and how much it differs under another norm.

A linear model has every axis as a category and every interaction of an axis with the norm. All of its coefficients are
random over seeds, which all cells share: effects vary from seed to seed, and so the seed is the unit. The model is
fitted to each seed by itself (Swamy 1970), and an effect has the mean over seeds and Student's t. In a balanced grid
that is the mixed model with a random slope for every column, and its exact test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from analysis.cells import varying_settings, where_active
from analysis.metrics import METRICS, Metric
from analysis.statistics.paired import CONFIDENCE, holm, reference_level
from study.errors import BadInputError
from study.settings import format_value

Floats = NDArray[np.float64]
Place = tuple[Any, ...]
"""The name of a column of the design: the axis and its level, and for an interaction the norm too."""

LIKELY = 0.05
"""The p-value below which members are taken to be lost at a level more often than elsewhere."""


@dataclass(frozen=True)
class Fits:
    """The linear model as it is fitted to each seed by itself, or to all members where there is one seed.

    Attributes:
        coefficients: the coefficients of each seed, float64 [S, C].
        told: the projection onto the contrasts that a seed's members can tell from others, float64 [S, C, C].
        covariance: their covariance from what the model leaves, float64 [C, C], of one seed; else None.
        freedom: the degrees of freedom of that; 0 where nothing is left.
    """

    coefficients: Floats
    told: Floats
    covariance: Floats | None = None
    freedom: int = 0


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
        intervals where seeds don't differ, or less than two tell the effect.

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
        seeds = len(fitted.coefficients)
        tested = [(labels, *_contrast_test(fitted, contrast, design)) for labels, contrast in design.contrasts()]
        fewest = min(told for _, _, told in tested)
        why = "there is one seed, so that intervals are conditional on it." if seeds == 1 else ""
        why = f"some effects are told by {fewest} of {seeds} seeds." if fewest < seeds else why
        if all(np.isnan(test["low"]) and not np.isnan(test["effect"]) for _, test, _ in tested):
            why = "nothing is left to chance, so no interval."
        notes += [f"{metric.label}: {note}" for note in [why, *design.notes] if note]
        rows += [{"metric": metric.column, **labels, **test, **counts} for labels, test, _ in tested]
    if not rows:
        raise BadInputError("there is no setting with two levels that have results, so there is no effect to estimate.")
    notes += losses_note(members)
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


def fit(values: Floats, columns: Floats, seeds: NDArray[Any]) -> Fits:
    """Fit the model to each seed by itself by least squares.

    Args:
        values: the values of the metric, float64 [N].
        columns: the design, float64 [N, C].
        seeds: the seed of each value, int64 [N].
    """
    coefficients, told = [], []
    for seed in np.unique(seeds):
        own = columns[seeds == seed]
        inverse = np.linalg.pinv(own)
        coefficients.append(inverse @ values[seeds == seed])
        told.append(inverse @ own)
    if len(told) > 1:
        return Fits(np.stack(coefficients), np.stack(told))
    rest = values - columns @ coefficients[0]
    freedom = len(values) - int(np.linalg.matrix_rank(columns))
    spread = float(rest @ rest)
    if freedom < 1 or spread <= 1e-20 * max(1.0, float(values @ values)):
        return Fits(np.stack(coefficients), np.stack(told))
    covariance = np.linalg.pinv(columns.T @ columns) * spread / freedom
    return Fits(np.stack(coefficients), np.stack(told), covariance, freedom)


def _contrast_test(fitted: Fits, contrast: Floats, design: Design) -> tuple[dict[str, float], int]:
    """Return an effect with its interval and p-value, and how many seeds tell it.

    All numbers are missing where the grid can't tell the effect from others.
    """
    weights = contrast[design.kept]
    told = np.array([np.allclose(weights @ of_seed, weights, atol=1e-8) for of_seed in fitted.told])
    seeds = len(told)
    if not np.allclose(contrast @ design.estimable, contrast, atol=1e-8):
        return dict.fromkeys(("effect", "low", "high", "p"), np.nan), seeds
    of_seeds = fitted.coefficients[told] @ weights
    count = len(of_seeds)
    effect = float(of_seeds.mean()) if count else np.nan
    error, freedom = 0.0, fitted.freedom
    if fitted.covariance is not None:
        error = float(np.sqrt(weights @ fitted.covariance @ weights))
    elif count > 1:
        error, freedom = float(of_seeds.std(ddof=1)) / np.sqrt(count), count - 1
    if not error > 1e-12 * max(1.0, abs(effect)):
        return {"effect": effect, "low": np.nan, "high": np.nan, "p": np.nan}, count
    reach = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * error
    p = 2 * scipy.stats.t.sf(abs(effect) / error, freedom)
    return {"effect": effect, "low": effect - reach, "high": effect + reach, "p": float(p)}, count


def losses_note(members: pd.DataFrame) -> list[str]:
    """Return a sentence where members are lost at a level, or at one with a norm, more often than elsewhere.

    Each is held against all other members by Fisher's exact test, and the smallest p-value counts, times the number of
    tests. What is left is then no fair sample, and its effects may be off whatever their intervals say.
    """
    lost = (members["status"] != "ok").to_numpy()
    if not lost.any() or lost.all():
        return []
    levels = {
        f"{name}={format_value(level)}": (members[name] == level).to_numpy()
        for name in varying_settings(members)
        for level in where_active(members, name)[name].unique()
    }
    norms = [place for place in levels if place.startswith("norm=")]
    others = [place for place in levels if place not in norms]
    levels |= {f"{norm} {other}": levels[norm] & levels[other] for norm in norms for other in others}
    p_values = {
        place: scipy.stats.fisher_exact(
            [[(lost & here).sum(), (~lost & here).sum()], [(lost & ~here).sum(), (~lost & ~here).sum()]]
        ).pvalue
        for place, here in levels.items()
    }
    if not p_values:
        return []
    place = min(p_values, key=lambda name: p_values[name])
    p, here = min(1.0, len(p_values) * p_values[place]), levels[place]
    if p >= LIKELY:
        return []
    return [
        f"{(lost & here).sum()} of {here.sum()} members are lost at {place}, and {(lost & ~here).sum()} of "
        f"{(~here).sum()} elsewhere (p {p:.2g}): losses depend on the level, and effects may be off by what was lost."
    ]
