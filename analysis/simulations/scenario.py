"""A scenario is a world whose truth is known; its measures are what the statistics make of it, over many replicates."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, isnan, nan, sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Number = float | bool | None | tuple[float, float]
"""What a replicate says of a measure: a number, whether something was so, or the two parts of a ratio of means.

None or NaN where it has nothing to say.
"""
Draw = Callable[[np.random.Generator], Iterable[Number]]
"""Draws a replicate, and returns a number for each measure of its scenario."""
ERRORS_ALLOWED = 3.0
"""How many Monte Carlo errors an estimate may lie beyond its bound: that many by chance in one of 700 rows."""


@dataclass(frozen=True)
class Measure:
    """Something that is measured of a scenario, and the bound that it is held to.

    Attributes:
        name: what the mean over replicates is, such as `false "held"`.
        nominal: what it is supposed to be.
        least: the least that it may be.
        most: the most that it may be.
    """

    name: str
    nominal: float
    least: float = -inf
    most: float = inf


@dataclass(frozen=True)
class Scenario:
    """A world of known truth.

    Attributes:
        name: the world in a few words, of its own within the question.
        draw: makes a replicate of it and measures that.
        measures: what is measured, in the order of what `draw` returns.
        replicates: how many replicates the whole audit draws.
    """

    name: str
    draw: Draw
    measures: tuple[Measure, ...]
    replicates: int


@dataclass(frozen=True)
class Row:
    """What the audit found of one measure.

    Attributes:
        question: the question, a key of `registry.QUESTIONS`.
        scenario: the world.
        measured: what was measured.
        nominal: what it is supposed to be.
        least: the least that it may be.
        most: the most that it may be.
        estimate: the mean over replicates; NaN where none had a number.
        error: its Monte Carlo error, one standard deviation.
        replicates: the number of replicates that had a number.
    """

    question: str
    scenario: str
    measured: str
    nominal: float
    least: float
    most: float
    estimate: float
    error: float
    replicates: int

    @property
    def within(self) -> bool:
        """Whether it lies within its bound, or beyond it by no more than chance.

        A bound of 0 or 1 has no room for chance: what is never so is not seen once.
        """
        below, above = (0.0 if end in (0, 1) else ERRORS_ALLOWED * self.error for end in (self.least, self.most))
        return self.least - below <= self.estimate <= self.most + above


def replicate(scenario: Scenario, generator: np.random.Generator) -> Floats:
    """Return what one replicate says of each measure, as the parts of a ratio: float64 [measures, 2]."""
    numbers = list(scenario.draw(generator))
    assert len(numbers) == len(scenario.measures), scenario.name
    parts = [number if isinstance(number, tuple) else (nan if number is None else number, 1.0) for number in numbers]
    return np.array(parts, dtype=np.float64)


def rows(question: str, scenario: Scenario, drawn: Sequence[Floats]) -> list[Row]:
    """Return the row of each measure from the replicates that were drawn, each float64 [measures, 2]."""
    found = []
    for measure, parts in zip(scenario.measures, np.stack(drawn, axis=1), strict=True):
        known = parts[~np.isnan(parts).any(axis=1)]
        estimate, error = _mean_ratio(known)
        bound = (measure.nominal, measure.least, measure.most)
        found.append(Row(question, scenario.name, measure.name, *bound, estimate, error, len(known)))
    return found


def _mean_ratio(parts: Floats) -> tuple[float, float]:
    """Return the ratio of two means, from [replicates, 2], with its error to first order."""
    n = len(parts)
    if not n or not parts[:, 1].any():
        return nan, nan
    above, below = parts.mean(axis=0)
    ratio = float(above / below)
    error = float(np.sqrt(((parts[:, 0] - ratio * parts[:, 1]) ** 2).mean() / n) / below)
    if np.isin(parts[:, 0], (0.0, 1.0)).all() and (parts[:, 1] == 1).all():
        # Of a rate that happens to be 0 or 1 the error is not 0 (Agresti and Coull 1998).
        rate = (above * n + 2) / (n + 4)
        error = max(error, sqrt(rate * (1 - rate) / (n + 4))) if ratio in (0.0, 1.0) else error
    return ratio, nan if isnan(error) else error
