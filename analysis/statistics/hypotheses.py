"""The tests of claims: effects in, one for each cell and seed, and out what they say of a hypothesis.

The unit is the seed, as in `analysis.statistics.paired`: cells share their random streams, so a seed counts with its
mean over them. A seed that lacks a cell which another has is left out of that mean, and said to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
import pandas as pd
from scipy import stats

from analysis.cells import STREAMS, level
from analysis.statistics.paired import CONFIDENCE, PairedTest, paired_test

ALPHA = 1 - CONFIDENCE
OTHER_SIDE = {"greater": "less", "less": "greater"}


@dataclass(frozen=True)
class Effects:
    """What a claim is about, measured: one effect for each cell and seed.

    Attributes:
        frame: the columns `strata`, `seed`, `model` and `effect`, float64 without NaN.
        strata: the columns that make a cell; none where there is one.
        notes: what was left out, and why.
    """

    frame: pd.DataFrame
    strata: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What the effects say of a hypothesis, before the correction for how many were tested.

    Attributes:
        n: the number of seeds or models, or of cells where those are counted.
        effect: the estimate; None where there is none.
        low: the lower end of its two-sided 95% interval; None where there is no spread.
        high: the upper end.
        p: the one-sided p-value in the direction that is claimed; None where there is no spread.
        complete: whether whatever is claimed beside the p is so, such as the sign in every cell.
        contradicted: whether the interval lies where the claim doesn't allow it.
        notes: what a reader should know of it.
    """

    n: int
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    complete: bool = True
    contradicted: bool = False
    notes: tuple[str, ...] = ()

    def verdict(self, p_corrected: float | None) -> str:
        """`held`, `not held` or `undecided`.

        Args:
            p_corrected: the p-value, corrected for all that were tested together.
        """
        if self.contradicted:
            return "not held"
        held = p_corrected is not None and p_corrected < ALPHA and self.complete
        return "held" if held else "undecided"


def above(effects: Effects, alternative: str, margin: float = 0.0, size: float | None = None) -> Finding:
    """The mean effect lies beyond the margin.

    It is contradicted by an interval wholly on the margin's other side or, where a size is claimed, wholly short of it.

    Args:
        effects: of each cell and seed.
        alternative: `greater` or `less`, the side of the margin that is claimed.
        margin: what the effect is to exceed.
        size: what it is claimed to be, if anything.
    """
    table, lacking = _by_stream(effects)
    found = _tested(table.mean(axis=1).to_numpy(float), alternative, margin)
    contradicted = found.contradicted or (size is not None and _short_of(found, alternative, size))
    return replace(found, contradicted=contradicted, notes=(*effects.notes, *lacking, *found.notes))


def every_cell(effects: Effects, alternative: str, margin: float = 0.0, size: float | None = None) -> Finding:
    """The effect lies beyond the margin in every cell: the mean significantly, and each by its sign.

    It is contradicted, beside what contradicts `above`, by one cell whose interval lies wholly on the other side; the
    intervals of m cells are at 1 - 0.05/m, so that together they are at 95%.

    Args:
        effects: see `above`.
        alternative: see `above`.
        margin: see `above`.
        size: see `above`, of the mean.
    """
    overall = above(effects, alternative, margin, size)
    cells = _cells(effects)
    means = {name: float(values.mean()) for name, values in cells.items()}
    lacking = [name for name, mean in means.items() if not _beyond(mean, margin, alternative)]
    opposed = [
        name
        for name, values in cells.items()
        if (p := _tested(values, OTHER_SIDE[alternative], margin).p) is not None and p < ALPHA / 2 / len(cells)
    ]
    notes = [f"in {len(cells) - len(lacking)} of {len(cells)} cells"] if cells else []
    notes += [f"not in {_named(lacking)}"] if lacking and len(cells) > 1 else []
    notes += [f"significantly the other way in {_named(opposed)}"] if opposed and len(cells) > 1 else []
    return replace(
        overall,
        complete=not lacking,
        contradicted=overall.contradicted or bool(opposed),
        notes=(*notes, *overall.notes),
    )


def some_level(effects: Effects, alternative: str, of: str, margin: float = 0.0) -> Finding:
    """The mean effect lies beyond the margin at one level of a setting at least: the best, its p times their number.

    It is contradicted where the intervals of all levels lie wholly on the other side.

    Args:
        effects: see `above`.
        alternative: see `above`.
        of: the setting, one of the strata unless it has one level.
        margin: see `above`.
    """
    if of not in effects.strata:
        return above(effects, alternative, margin)
    rest = tuple(name for name in effects.strata if name != of)
    found = {at: above(Effects(part, rest), alternative, margin) for at, part in effects.frame.groupby(of, sort=True)}
    best, shown = min(found.items(), key=lambda each: 1.0 if each[1].p is None else each[1].p)
    return replace(
        shown,
        p=None if shown.p is None else min(1.0, shown.p * len(found)),
        contradicted=all(each.contradicted for each in found.values()),
        notes=(f"the best of {len(found)} levels, {of}={level(best)}", *effects.notes, *shown.notes),
    )


def trend(effects: Effects, alternative: str, along: str) -> Finding:
    """The effect grows, or falls, along a setting: the mean over seeds of the least-squares slope.

    Args:
        effects: see `above`.
        alternative: `greater` where it is to grow, `less` where it is to fall.
        along: the setting, a number; the other strata get slopes of their own.
    """
    if along not in effects.strata or effects.frame[along].nunique() < 2:
        return Finding(0, notes=(*effects.notes, f"{along} has one level here"))
    rest = tuple(name for name in effects.strata if name != along)
    table = effects.frame.pivot(index=[*rest, *STREAMS], columns=along, values="effect")
    whole = table.dropna()
    at = table.columns.to_numpy(float) - table.columns.to_numpy(float).mean()
    slopes = whole.to_numpy(float) @ at / (at @ at)
    frame = whole.index.to_frame(index=False).assign(effect=slopes)
    lost = len(table) - len(whole)
    notes = (f"{lost} left out for lacking a level of {along}",) if lost else ()
    found = above(Effects(frame, rest, (*effects.notes, *notes)), alternative)
    return replace(found, notes=(f"slope over {along}", *found.notes))


def most_cells(effects: Effects, alternative: str, but: str) -> Finding:
    """The effect has the claimed sign in more than half of the cells: a sign test that takes cells as independent.

    The interval of the share is Clopper and Pearson's. An effect of nothing has no sign and counts against the claim.

    Args:
        effects: see `above`.
        alternative: see `above`.
        but: a setting that tells no cells apart: the effect of a cell is the mean over its levels.
    """
    strata = tuple(name for name in effects.strata if name != but)
    means = [values.mean() for values in _cells(replace(effects, strata=strata)).values()]
    hits = sum(_beyond(mean, 0.0, alternative) for mean in means)
    if not means:
        return Finding(0, notes=effects.notes)
    test = stats.binomtest(hits, len(means), 0.5, alternative="greater")
    share = stats.binomtest(hits, len(means), 0.5).proportion_ci(CONFIDENCE)
    return Finding(
        len(means),
        effect=hits / len(means),
        low=float(share.low),
        high=float(share.high),
        p=float(test.pvalue),
        contradicted=bool(share.high < 0.5),
        notes=(f"{hits} of {len(means)} cells", *effects.notes),
    )


def within_factor(effects: Effects, factor: float) -> Finding:
    """The mean of a logarithm of ratios lies within a factor of 1: two one-sided tests, the larger p counting.

    Args:
        effects: see `above`; logarithms.
        factor: above 1.
    """
    bound = log(factor)
    found, below = above(effects, "greater", -bound), above(effects, "less", bound)
    p = None if found.p is None or below.p is None else max(found.p, below.p)
    return replace(found, p=p, contradicted=found.contradicted or below.contradicted)


def averaged(intervals: Sequence[tuple[float, float, float]], n: int, alternative: str, margin: float = 0.0) -> Finding:
    """The mean of effects that come with intervals lies beyond the margin.

    The cells share samples and seeds, so their errors go together: the interval is the mean of theirs, as wide as it
    can be. p is that of a normal error with this interval.

    Args:
        intervals: the effect of each cell with the ends of its 95% interval.
        n: how many models each is over.
        alternative: see `above`.
        margin: see `above`.
    """
    effect, low, high = (float(values) for values in np.mean(np.asarray(intervals, dtype=np.float64), axis=0))
    signs = [_beyond(each, margin, alternative) for each, _, _ in intervals]
    notes = (f"in {sum(signs)} of {len(signs)} cells",)
    if high - low <= 1e-12:
        return Finding(n, effect, notes=(*notes, "no spread to test against"))
    error = (high - low) / (2 * stats.norm.ppf(1 - ALPHA / 2))
    z = (effect - margin) / error * (1 if alternative == "greater" else -1)
    contradicted = high < margin if alternative == "greater" else low > margin
    return Finding(n, effect, low, high, float(stats.norm.sf(z)), contradicted=contradicted, notes=notes)


def in_ratios(finding: Finding) -> Finding:
    """A finding on logarithms of ratios, told in ratios."""
    effect, low, high = (None if value is None else exp(value) for value in (finding.effect, finding.low, finding.high))
    return replace(finding, effect=effect, low=low, high=high)


def _tested(values: np.ndarray, alternative: str, margin: float) -> Finding:
    """The one-sided t-test of values, one a seed, against the margin, and their 95% interval."""
    if len(values) and not np.isfinite(values).all():
        return Finding(len(values), notes=("an effect is not finite",))
    test = paired_test(values, np.full(len(values), margin), alternative)
    if test.low is None or test.high is None or test.difference is None:
        return _untested(test, margin)
    low, high = test.low + margin, test.high + margin
    contradicted = high < margin if alternative == "greater" else low > margin
    return Finding(test.n, test.difference + margin, low, high, test.p, contradicted=contradicted)


def _untested(test: PairedTest, margin: float) -> Finding:
    effect = None if test.difference is None else test.difference + margin
    why = f"too few pairs (n = {test.n})" if test.n < 2 else "no spread to test against"
    return Finding(test.n, effect, notes=(why,))


def _by_stream(effects: Effects) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The effects with a row a seed and a column a cell, without the seeds that lack one; and how many those are."""
    if not effects.strata:
        return effects.frame.set_index(STREAMS)[["effect"]], ()
    table = effects.frame.pivot(index=STREAMS, columns=list(effects.strata), values="effect")
    whole = table.dropna()
    lost = len(table) - len(whole)
    return whole, (f"{lost} of {len(table)} left out for lacking a cell",) if lost else ()


def _cells(effects: Effects) -> dict[str, np.ndarray]:
    """The effects of each cell, by its settings in words; each stream counts once with its mean."""
    strata = list(effects.strata)
    grouped = effects.frame.groupby([*strata, *STREAMS], sort=True)["effect"].mean().reset_index()
    cells = list(grouped.groupby(strata, sort=True)) if strata else [((), grouped)] if len(grouped) else []
    return {
        " ".join(f"{name}={level(at)}" for name, at in zip(strata, cell, strict=True)): part["effect"].to_numpy(float)
        for cell, part in cells
    }


def _beyond(value: float, margin: float, alternative: str) -> bool:
    return value > margin if alternative == "greater" else value < margin


def _short_of(found: Finding, alternative: str, size: float) -> bool:
    if found.low is None or found.high is None:
        return False
    return found.high < size if alternative == "greater" else found.low > size


def _named(cells: Sequence[str]) -> str:
    shown = "; ".join(cells[:3])
    return shown if len(cells) <= 3 else f"{shown} and {len(cells) - 3} more"
