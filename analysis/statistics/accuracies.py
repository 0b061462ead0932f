"""Tests of accuracies, each a share of a count, with seeds as clusters.

Near 0 and 1 a t-test over seeds is wrong: where seeds agree by chance it knows no error, and where they vary toward the
middle alone, mean and spread go together. So the variance is that of counts whose seeds vary on the logit scale, model
III of Williams (1982): p (1 - p) / n of the counting, and s^2 (p (1 - p))^2 of the seeds, with s^2 from the variance
that the seeds have beyond the counting. It is taken at the number that is tested, as in a score test, and never below
what the seeds show; Student's t has as many degrees of freedom as for the seeds' mean. An interval is the numbers that
aren't rejected. So seeds with one and the same accuracy have a p-value and an interval like any others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OWN, REFERENCE = ("share", "of"), ("reference_share", "reference_of")
"""The columns of an accuracy with the size of its count, and those of the one that it is compared with."""
STEPS = np.logspace(-6, 0, 120)
"""The shares of the way from an estimate to its bound at which the end of an interval is looked for."""


@dataclass(frozen=True)
class Share:
    """The accuracies of one arm.

    Attributes:
        values: by seed and cell, float64 [S, C].
        counts: the number of samples of each, float64 [S, C].
    """

    values: Floats
    counts: Floats

    @property
    def level(self) -> Floats:
        """The accuracy of each cell over all seeds with half a success and half a failure added, float64 [C]."""
        level: Floats = ((self.values * self.counts).sum(axis=0) + 0.5) / (self.counts.sum(axis=0) + 1)
        return level

    def noise(self, level: Floats) -> Floats:
        """Return the variance of counting at a level of each cell, [..., C], for the mean of one seed over cells."""
        noise: Floats = (_spread(level) / _harmonic(self.counts)).sum(axis=-1) / level.shape[-1] ** 2
        return noise


def _spread(level: Floats) -> Floats:
    return level * (1 - level)


def _harmonic(counts: Floats) -> Floats:
    """Return the harmonic mean over seeds."""
    mean: Floats = 1 / (1 / counts).mean(axis=0)
    return mean


class Accuracies:
    """The mean accuracy of an arm, or how much higher it is than a reference's, over cells and then seeds.

    Attributes:
        n: the number of seeds.
        effect: the mean.
    """

    def __init__(self, arm: Share, reference: Share | None = None) -> None:
        self.arm, self.reference = arm, reference
        values = arm.values if reference is None else arm.values - reference.values
        by_seed = values.mean(axis=1)
        self.n, self.effect = len(by_seed), float(by_seed.mean())
        self._seen = float(by_seed.var(ddof=1))
        levels = self._levels()
        self._counting = self._noise(*levels)
        self._excess = max(0.0, self._seen - float(self._counting)) / float(_of_seeds(*levels))

    def _levels(self) -> tuple[Floats, Floats | None]:
        return self.arm.level, None if self.reference is None else self.reference.level

    def _noise(self, level: Floats, reference: Floats | None) -> Floats:
        own = self.arm.noise(level)
        return own if self.reference is None or reference is None else own + self.reference.noise(reference)

    def variance(self, number: Floats) -> Floats:
        """Return the variance of a seed's effect if the true one is a number [N].

        Of a difference either arm may be the one that is off: the larger variance counts.
        """
        own, reference = self._levels()
        tested: list[tuple[Floats, Floats | None]]
        if reference is None:
            tested = [(np.broadcast_to(number[:, None], (len(number), len(own))), None)]
        else:
            moved = np.clip(reference + number[:, None], 0, 1), np.clip(own - number[:, None], 0, 1)
            tested = [(moved[0], np.broadcast_to(reference, moved[0].shape))]
            tested += [(np.broadcast_to(own, moved[1].shape), moved[1])]
        least = _of_seeds(own, reference)
        variances = [self._noise(*levels) + self._excess * np.maximum(_of_seeds(*levels), least) for levels in tested]
        seen = max(self._seen, float(self._counting))
        largest: Floats = np.maximum(seen, np.max(variances, axis=0))
        return largest

    def t(self, number: Floats) -> Floats:
        """Return Student's t of the effect against a number [N]."""
        t: Floats = (self.effect - number) / np.sqrt(self.variance(number) / self.n)
        return t

    def tail(self, number: float, side: str) -> float:
        """Return the p-value that the effect lies beyond a number on a side, `greater` or `less`."""
        t = float(self.t(np.array([number]))[0])
        return float(scipy.special.stdtr(self.n - 1, -t if side == "greater" else t))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the two-sided interval: the numbers that neither side rejects."""
        critical = float(scipy.special.stdtrit(self.n - 1, (1 + confidence) / 2))
        lowest = 0.0 if self.reference is None else -1.0
        return self._end(lowest, critical), self._end(1.0, critical)

    def _end(self, bound: float, critical: float) -> float:
        numbers = self.effect + (bound - self.effect) * STEPS
        rejected = np.flatnonzero(np.abs(self.t(numbers)) > critical)
        if not len(rejected):
            return bound
        last = float(numbers[rejected[0]])
        before = float(numbers[rejected[0] - 1]) if rejected[0] else self.effect
        return float(
            scipy.optimize.brentq(lambda number: abs(float(self.t(np.array([number]))[0])) - critical, before, last)
        )


def _of_seeds(level: Floats, reference: Floats | None) -> Floats:
    """Return how much seeds vary for a variance of 1 on the logit scale: the sum over cells and arms."""
    total: Floats = (_spread(level) ** 2).sum(axis=-1)
    return total if reference is None else total + (_spread(reference) ** 2).sum(axis=-1)


def from_frame(frame: pd.DataFrame, units: pd.Index, strata: Sequence[str]) -> Accuracies | None:
    """Return the accuracies in the columns `OWN` and `REFERENCE` of a frame; None where they are no known counts.

    Args:
        frame: a row for each cell, seed and model, with the columns.
        units: the units that count, named as their column is, such as `seed`; each must have all cells. An accuracy is
            a mean over the rows of a unit and cell.
        strata: the columns that make a cell.
    """
    if len(units) < 2 or not set(OWN) <= set(frame.columns):
        return None
    sides = [OWN, *([REFERENCE] if set(REFERENCE) <= set(frame.columns) else [])]
    used = frame[frame[units.name].isin(units)]
    columns = [name for side in sides for name in side]
    if used[columns].isna().any(axis=None) or (used[[side[1] for side in sides]] < 1).any(axis=None):
        return None
    by_unit = used.pivot_table(index=units.name, columns=list(strata), values=columns)
    shares = [Share(*(by_unit[name].to_numpy(np.float64).reshape(len(by_unit), -1) for name in side)) for side in sides]
    return Accuracies(*shares)
