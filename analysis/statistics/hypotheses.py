"""The tests of claims: each takes effects, one for each cell and seed, and returns what they say of a hypothesis.

The unit is the seed, that is its D', as in `analysis.statistics.paired`: cells share their random streams, so a seed
counts with its mean over them. A seed that lacks a cell which another seed has is left out of that mean, and a note
says so. Models that were trained on halves of one D' share it and are one another's shadows, so that they count with
their mean. Where there is one D' alone, the unit is the cell, as in C.5 of the paper, and what is said is conditional
on this D'. Accuracies are tested as shares of counts (`analysis.statistics.accuracies`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, exp, log, sqrt
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from analysis.statistics.accuracies import OWN, REFERENCE, Accuracies, from_frame
from analysis.statistics.paired import CONFIDENCE
from study.settings import format_value

ALPHA = round(1 - CONFIDENCE, 9)
"""The level of significance."""
FEWEST_CELLS = 3
"""The fewest cells whose spread is compared."""
Size = tuple[float, float]
"""A size that is claimed, from its least to its greatest value."""
OTHER_SIDE = {"greater": "less", "less": "greater"}


@dataclass(frozen=True)
class Effects:
    """The measured effects that a claim is about, one for each cell and seed.

    Attributes:
        frame: the columns `strata`, `seed`, `model` and `effect`, which is float64 without NaN, and, for a claim about
            two things at once, `beside`, likewise. Of accuracies also the columns of `accuracies.OWN` and, where they
            are compared with others, `accuracies.REFERENCE`; those of what is beside begin with `beside_`.
        strata: the columns that make a cell; none where there is one cell.
        notes: what was left out, and why.
    """

    frame: pd.DataFrame
    strata: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def of_beside(self) -> "Effects":
        """Return what is beside the effects as effects."""
        own = [name for name in (*OWN, *REFERENCE) if name in self.frame]
        beside = {f"beside_{name}": name for name in (*OWN, *REFERENCE)}
        frame = self.frame.drop(columns=["effect", *own]).rename(columns={"beside": "effect", **beside})
        return replace(self, frame=frame)


@dataclass(frozen=True)
class Finding:
    """What the effects say of a hypothesis, before the correction for the number of hypotheses.

    Attributes:
        n: the number of seeds, or of cells where cells are counted, of targets of an attack, or of settings that were
            searched.
        effect: the estimate; None where there is none.
        low: the lower end of its two-sided 95% interval; None where there is no spread.
        high: the upper end of the interval.
        p: the p-value that what is claimed is so, one-sided; None where there is no spread.
        p_against: the p-value that it is not so, such as a test of the other side; None likewise.
        p_beyond: the p-value that there is more of it than is claimed, where a size is claimed.
        complete: whether what is claimed beside the p-value is so, such as the sign at a level.
        notes: what a reader should know of it.
    """

    n: int
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_against: float | None = None
    p_beyond: float | None = None
    complete: bool = True
    notes: tuple[str, ...] = ()

    @property
    def p_values(self) -> tuple[float | None, float | None, float | None]:
        """The p-values of the verdicts `held`, `not held` and `exceeded`."""
        return self.p, self.p_against, self.p_beyond

    def verdict(self, p: float | None, p_against: float | None = None, p_beyond: float | None = None) -> str:
        """Return the verdict: `held`, `exceeded`, `not held` or `undecided`.

        Args:
            p: the p-value, corrected for all verdicts that were possible.
            p_against: the p-value of the contradiction, likewise.
            p_beyond: the p-value that there is more of it, likewise.
        """
        if _is_significant(p_against):
            return "not held"
        if not _is_significant(p) or not self.complete:
            return "undecided"
        return "exceeded" if _is_significant(p_beyond) else "held"


def _is_significant(p: float | None) -> bool:
    return p is not None and p < ALPHA


def above(effects: Effects, alternative: str, margin: float = 0.0, size: Size | None = None) -> Finding:
    """Test that the mean effect lies beyond the margin.

    It is contradicted by a mean on the margin's other side or, where a size is claimed, short of it; by one beyond the
    size it is exceeded.

    Args:
        effects: the effects of each cell and seed.
        alternative: the side of the margin that is claimed, `greater` or `less`.
        margin: the number that the effect must exceed.
        size: the size that is claimed, if any.
    """
    by_cell, lacking = _by_unit(effects)
    known = None if by_cell.index.name != "seed" else from_frame(effects.frame, by_cell.index, effects.strata)
    finding = (
        _t_test(by_cell.mean(axis=1).to_numpy(float), alternative, margin, size)
        if known is None
        else _decided(_found(known), known.tail, alternative, margin, size)
    )
    return replace(finding, notes=(*effects.notes, *lacking, *finding.notes))


def _found(known: Accuracies) -> Finding:
    """Return the finding on accuracies, without p-values."""
    return Finding(known.n, known.effect, *known.interval(CONFIDENCE))


def every_cell(effects: Effects, alternative: str, margin: float = 0.0, size: Size | None = None) -> Finding:
    """Test that the effect lies beyond the margin in every cell, each by its own seeds.

    This is an intersection-union test (Berger 1982): all cells must pass theirs, so that the p-value is the largest of
    the cells', whatever they have in common. It is contradicted by one cell on the other side, and by what contradicts
    `above`; of m cells and their mean the smallest such p-value counts, times m + 1. The estimate is the mean.

    Args:
        effects: see `above`.
        alternative: see `above`.
        margin: see `above`.
        size: the size of the mean, see `above`.
    """
    overall = above(effects, alternative, margin, size)
    cells = {name: above(cell, alternative, margin) for name, cell in _cells(effects).items()}
    beyond = {
        name: cell.effect is not None and _is_beyond(cell.effect, margin, alternative) for name, cell in cells.items()
    }
    return _in_every_cell(overall, cells, [name for name, here in beyond.items() if not here])


def _in_every_cell(overall: Finding, cells: Mapping[str, Finding], lacking: Sequence[str]) -> Finding:
    """Return the finding on a mean as one on all cells, of which some lack the sign that is claimed."""
    notes = [f"in {len(cells) - len(lacking)} of {len(cells)} cells"] if cells else []
    if len(cells) < 2:
        return replace(overall, notes=(*notes, *overall.notes))
    p_values = {name: 1.0 if cell.p is None else cell.p for name, cell in cells.items()}
    weakest = max(p_values, key=lambda name: p_values[name])
    against = [cell.p_against for cell in (overall, *cells.values()) if cell.p_against is not None]
    opposed = [name for name, cell in cells.items() if _is_significant(_times(len(cells), cell.p_against))]
    notes += [f"not in {_list_cells(lacking)}"] if lacking else []
    notes += [f"significantly the other way in {_list_cells(opposed)}"] if opposed else []
    notes += [] if lacking else [f"the p is the largest of the cells', that of {weakest}"]
    return replace(
        overall,
        p=None if all(cell.p is None for cell in cells.values()) else p_values[weakest],
        p_against=_times(len(cells) + 1, min(against)) if against else None,
        notes=(*notes, *overall.notes),
    )


def same_level(effects: Effects, alternative: str, of: str, margin: float, least_beside: float) -> Finding:
    """Test that at one and the same level of a setting two things are so: the effect's and that of what is beside it.

    At a level both must be shown, so the larger p-value counts; the best level counts, with its p-value times the
    number of levels. In every cell of that level both must have the claimed sign. It is contradicted where at each
    level one of the two is on the other side: a level's p-value is twice the smaller of both, and the largest of the
    levels' counts.

    Args:
        effects: see `above`, with the column `beside`.
        alternative: see `above`.
        of: the setting, one of the strata unless it has one level.
        margin: see `above`.
        least_beside: the number that the mean of `beside` must exceed.
    """
    parts = effects.frame.groupby(of, sort=True) if of in effects.strata else [(None, effects.frame)]
    rest = tuple(name for name in effects.strata if name != of)
    levels = [_at_level(level, Effects(part, rest), alternative, margin, least_beside) for level, part in parts]
    if not levels:
        return Finding(0, notes=effects.notes)
    # Where no p-value tells levels apart, that one is shown which has both signs and most of the effect.
    sign = 1 if alternative == "greater" else -1
    best = min(levels, key=lambda at: (1.0 if at.p is None else at.p, not at.signs, -sign * (at.own.effect or 0.0)))
    shown = "" if best.level is None else f", {of}={format_value(best.level)}"
    beside = "nothing" if best.beside.effect is None else f"{best.beside.effect:.3f}"
    return replace(
        best.own,
        p=_times(len(levels), best.p),
        p_against=_largest([at.p_against for at in levels]),
        complete=best.signs,
        notes=(
            f"the best of {len(levels)} levels{shown}",
            f"beside it {beside}, where more than {least_beside:g} is asked for",
            *effects.notes,
            *best.own.notes,
        ),
    )


@dataclass(frozen=True)
class _AtLevel:
    """Both things that are claimed of one level, and whether both have the claimed sign in every cell of it."""

    level: Any
    own: Finding
    beside: Finding
    signs: bool

    @property
    def p(self) -> float | None:
        return _largest([self.own.p, self.beside.p])

    @property
    def p_against(self) -> float | None:
        return _smallest_of_all([self.own.p_against, self.beside.p_against])


def _at_level(level: Any, effects: Effects, alternative: str, margin: float, least_beside: float) -> _AtLevel:
    beside = effects.of_beside()
    return _AtLevel(
        level,
        above(effects, alternative, margin),
        above(beside, "greater", least_beside),
        _has_sign(effects, alternative, margin) and _has_sign(beside, "greater", least_beside),
    )


def _times(count: int, p: float | None) -> float | None:
    """Return a p-value corrected for so many tests, or None where there is none."""
    return None if p is None else min(1.0, count * p)


def _largest(p_values: Sequence[float | None]) -> float | None:
    """Return the p-value that all of several are so; None where one is not known."""
    known = [p for p in p_values if p is not None]
    return max(known) if known and len(known) == len(p_values) else None


def _smallest_of_all(p_values: Sequence[float | None]) -> float | None:
    """Return the p-value that any of several is so: the smallest, times their number; None where none is known."""
    known = [p for p in p_values if p is not None]
    return _times(len(p_values), min(known)) if known else None


def monotone(effects: Effects, alternative: str, along: str, everywhere: bool = True) -> Finding:
    """Test that the effect grows, or falls, with a setting, however far apart its levels are.

    Page's trend test ranks each seed's effects, means over the other strata, along the levels. Between two levels a
    trend is a difference, and the test a t-test. The estimate is the mean over seeds of Kendall's tau, 1 where the
    effect grows from each level to the next, and -1 where it falls.

    It is contradicted by a trend the other way and, where it is claimed `everywhere`, by two levels that differ the
    other way: the smallest p-value counts, times the number of pairs and one. It isn't held either where two levels do
    so at 97.5% for all pairs.

    Args:
        effects: see `above`.
        alternative: `greater` where the effect is claimed to grow, `less` where it is claimed to fall.
        along: the setting, whose levels are numbers. Only levels that all other strata have are compared.
        everywhere: whether the claim is about any two levels, and not about the association alone.
    """
    if along not in effects.strata or effects.frame[along].nunique() < 2:
        return Finding(0, notes=(*effects.notes, f"{along} has one level here"))
    table, notes = _by_level(effects, along)
    levels, values = table.columns.to_list(), table.to_numpy(float)
    notes = (*notes, *effects.notes)
    if len(values) < 2 or not np.isfinite(values).all():
        why = f"too few pairs (n = {len(values)})" if len(values) < 2 else "an effect is not finite"
        return Finding(len(values), notes=(*notes, why))
    means = values.mean(axis=0)
    ends = f"from {means[0]:.3g} at {along}={format_value(levels[0])} to {means[-1]:.3g} at {format_value(levels[-1])}"
    taus = np.array([float(scipy.stats.kendalltau(range(len(levels)), row).statistic) for row in values])
    taus = np.nan_to_num(taus)  # all equal: neither grows nor falls
    tau = _t_test(taus, alternative, 0.0)
    against = _pairs_against(table, alternative) if everywhere else {}
    reversed_pairs = [pair for pair, p in against.items() if p < ALPHA / 2 / len(against)]
    said = [f"Kendall's tau over {along}", ends]
    said += [f"significantly the other way between {along}={', '.join(reversed_pairs[:3])}"] if reversed_pairs else []
    return Finding(
        len(values),
        effect=float(taus.mean()),
        low=None if tau.low is None else max(tau.low, -1.0),
        high=None if tau.high is None else min(tau.high, 1.0),
        p=_trend_p(values, alternative),
        p_against=_smallest_of_all([_trend_p(values, OTHER_SIDE[alternative]), *against.values()]),
        complete=not reversed_pairs,
        notes=(*said, *notes),
    )


def most_cells(effects: Effects, alternative: str, but: str, share: float) -> Finding:
    """Test that at least a share of the cells has an effect of the claimed sign, each by its own seeds.

    The cells are what they are and no sample of others: what is unknown is each one's sign. Of m cells it is claimed
    that u have it. The p-value is that of the partial conjunction (Benjamini and Heller 2008), m - u + 1 times the u-th
    smallest of the cells', whatever they have in common. Likewise it is contradicted by m - u + 1 cells of the other
    sign, and exceeded by u + 1 of the claimed one. The estimate is the share of cells with the sign, and its interval
    counts as such those that have it significantly, and all but those that have the other significantly, at 97.5% for
    all cells together on either side.

    Args:
        effects: see `above`.
        alternative: see `above`.
        but: a setting that tells no cells apart; a cell's effect is the mean over its levels.
        share: the share that is claimed.
    """
    strata = tuple(name for name in effects.strata if name != but)
    cells = [above(cell, alternative) for cell in _cells(replace(effects, strata=strata), apart=(but,)).values()]
    if not cells:
        return Finding(0, notes=effects.notes)
    of_sign, of_other = [cell.p for cell in cells], [cell.p_against for cell in cells]
    count, needed = len(cells), ceil(share * len(cells) - 1e-9)
    hits = sum(cell.effect is not None and _is_beyond(cell.effect, 0.0, alternative) for cell in cells)
    surely, opposed = (
        sum(p is not None and p < ALPHA / 2 / count for p in p_values) for p_values in (of_sign, of_other)
    )
    return Finding(
        count,
        effect=hits / count,
        low=surely / count,
        high=(count - opposed) / count,
        p=_p_of_some(of_sign, needed),
        p_against=_p_of_some(of_other, count - needed + 1),
        p_beyond=_p_of_some(of_sign, needed + 1),
        notes=(
            f"{hits} of {count} cells, {surely} of them significantly",
            *([f"{opposed} significantly the other way"] if opposed else []),
            f"claimed of {needed}",
            *effects.notes,
        ),
    )


def _p_of_some(p_values: Sequence[float | None], needed: int) -> float | None:
    """Return the p-value that so many of several are so, at least; None where none is known or there aren't as many."""
    if all(p is None for p in p_values) or needed > len(p_values):
        return None
    ordered = sorted(1.0 if p is None else p for p in p_values)
    return _times(len(p_values) - needed + 1, ordered[needed - 1])


def unaffected(effects: Effects, along: str, most: float) -> Finding:
    """Test that the effect changes by less than so much from the lowest to the highest level of a setting.

    These are two one-sided tests, and it is contradicted by either in reverse.

    Args:
        effects: see `above`.
        along: the setting, whose levels are numbers.
        most: the change that is too much.
    """
    if along not in effects.strata or effects.frame[along].nunique() < 2:
        return Finding(0, notes=(*effects.notes, f"{along} has one level here"))
    table, notes = _by_level(effects, along)
    lowest, highest = table.columns[0], table.columns[-1]
    change = _change(effects, along, lowest, highest)
    from_below, from_above = above(change, "greater", -most), above(change, "less", most)
    means = table[lowest].mean(), table[highest].mean()
    ends = f"change from {means[0]:.3g} at {along}={format_value(lowest)} to {means[1]:.3g} at {format_value(highest)}"
    return replace(_both(from_below, from_above), notes=(ends, *notes, *from_below.notes))


def _change(effects: Effects, along: str, lowest: Any, highest: Any) -> Effects:
    """Return the effects at the highest level of a setting less those at the lowest."""
    rest = tuple(name for name in effects.strata if name != along)
    sides = [effects.frame[effects.frame[along] == level].drop(columns=along) for level in (highest, lowest)]
    pairs = sides[0].merge(sides[1], on=[*rest, "seed", "model"], suffixes=("", "_lowest"))
    reference = {f"{name}_lowest": of for name, of in zip(OWN, REFERENCE, strict=True)}
    pairs = pairs.rename(columns=reference).assign(effect=pairs["effect"] - pairs["effect_lowest"])
    return Effects(pairs, rest, effects.notes)


def go_together(effects: Effects) -> Finding:
    """Test that the effect and what is beside it go together over cells: Spearman's rho, by permutation of cells.

    Args:
        effects: see `above`, with the column `beside`.
    """
    own, other = _pairs_of_cells(effects)
    if len(own) < FEWEST_CELLS or not (np.ptp(own) and np.ptp(other)):
        return Finding(len(own), notes=(*effects.notes, f"too few different values in {len(own)} cells"))
    rho, p = rank_correlation(own, other, "greater")
    _, p_other = rank_correlation(own, other, "less")
    notes = ("Spearman's rho over cells", *effects.notes)
    return Finding(len(own), rho, p=p, p_against=p_other, notes=notes)


def within_factor(effects: Effects, factor: float) -> Finding:
    """Test that the mean of a logarithm of ratios is within a factor of 1, by two one-sided tests.

    Args:
        effects: see `above`; logarithms.
        factor: the factor, above 1.
    """
    return within(effects, log(factor))


def within(effects: Effects, most: float) -> Finding:
    """Test that the mean is smaller than so much on either side, by two one-sided tests.

    Args:
        effects: see `above`.
        most: the number.
    """
    return _both(above(effects, "greater", -most), above(effects, "less", most))


def within_factor_everywhere(effects: Effects, factor: float) -> Finding:
    """Test what `within_factor` does in every cell; see `every_cell`.

    Args:
        effects: see `within_factor`.
        factor: see `within_factor`.
    """
    bound = log(factor)
    cells = {name: within_factor(cell, factor) for name, cell in _cells(effects).items()}
    outside = {
        name: f"{name} (x{exp(cell.effect):.2g})"
        for name, cell in cells.items()
        if cell.effect is not None and abs(cell.effect) > bound
    }
    return _in_every_cell(within_factor(effects, factor), cells, list(outside.values()))


def spread_alike(effects: Effects, factor: float) -> Finding:
    """Test that effects vary over cells as much as what is beside them, within a factor, by two one-sided tests.

    Cells are the units, each with its mean over models and seeds, and come in pairs, so the ratio of the variances is
    tested as Pitman and Morgan do. The estimate is the logarithm of the ratio of standard deviations.

    Args:
        effects: see `above`, with the column `beside`.
        factor: the factor, above 1.
    """
    own, other = _pairs_of_cells(effects)
    n = len(own)
    if n < FEWEST_CELLS or min(np.ptp(own), np.ptp(other)) <= 1e-12:
        why = f"too few cells (n = {n})" if n < FEWEST_CELLS else "no spread to test against"
        return Finding(n, notes=(*effects.notes, why))
    variances = float(own.var(ddof=1) / other.var(ddof=1))
    unexplained = max(1 - float(np.corrcoef(own, other)[0, 1]) ** 2, 1e-12)
    student = scipy.stats.t(n - 2)

    def t_against(ratio: float) -> float:
        return (variances - ratio) * sqrt((n - 2) / (4 * variances * ratio * unexplained))

    below, above_it = t_against(factor**-2), t_against(factor**2)

    k = 1 + 2 * unexplained * student.ppf(1 - ALPHA / 2) ** 2 / (n - 2)
    half = log(k + sqrt(k**2 - 1)) / 2
    effect = log(variances) / 2
    return Finding(
        *(n, effect, effect - half, effect + half),
        p=float(max(student.sf(below), student.cdf(above_it))),
        p_against=float(min(1.0, 2 * min(student.cdf(below), student.sf(above_it)))),
        notes=("n counts cells", *effects.notes),
    )


def mean_of_intervals(
    intervals: Sequence[tuple[float, float, float]],
    n: int,
    alternative: str,
    margin: float = 0.0,
    size: Size | None = None,
    each: bool = False,
) -> Finding:
    """Test that the mean of effects that come with intervals lies beyond the margin.

    The cells share samples and seeds, so their errors go together: the interval is the mean of theirs, as wide as it
    can be. The p-value is that of a normal error with this interval.

    Args:
        intervals: the effect of each cell with the ends of its 95% interval.
        n: the number of models of each.
        alternative: see `above`.
        margin: see `above`.
        size: see `above`.
        each: whether it is claimed of every cell, as in `every_cell`.
    """
    effect, low, high = (float(values) for values in np.mean(np.asarray(intervals, dtype=np.float64), axis=0))
    cells = {f"cell {place}": _normal_test(n, *one, alternative, margin) for place, one in enumerate(intervals, 1)}
    lacking = [
        name
        for name, (of_cell, _, _) in zip(cells, intervals, strict=True)
        if not _is_beyond(of_cell, margin, alternative)
    ]
    overall = _normal_test(n, effect, low, high, alternative, margin, size)
    if each:
        return _in_every_cell(overall, cells, lacking)
    notes = (f"in {len(cells) - len(lacking)} of {len(cells)} cells",)
    return replace(overall, notes=(*notes, *overall.notes))


def _normal_test(
    n: int, effect: float, low: float, high: float, alternative: str, margin: float, size: Size | None = None
) -> Finding:
    """Return the finding on an effect that comes with an interval, whose error is taken to be normal."""
    if high - low <= 1e-12:
        return Finding(n, effect, notes=("no spread to test against",))
    error = (high - low) / (2 * scipy.stats.norm.ppf(1 - ALPHA / 2))

    def tail(number: float, side: str) -> float:
        return float(scipy.stats.norm.sf((effect - number) / error * (1 if side == "greater" else -1)))

    return _decided(Finding(n, effect, low, high), tail, alternative, margin, size)


def as_ratios(finding: Finding) -> Finding:
    """Return a finding on logarithms of ratios as one on the ratios."""
    effect, low, high = (None if value is None else exp(value) for value in (finding.effect, finding.low, finding.high))
    return replace(finding, effect=effect, low=low, high=high)


def rank_correlation(
    one: NDArray[np.float64], other: NDArray[np.float64], alternative: str = "two-sided"
) -> tuple[float, float]:
    """Return Spearman's rho of two rows of numbers [N], and its p-value by permutation.

    The permutations are all of them for few numbers, else 9,999 at random. The usual approximation gives p = 0 to three
    numbers that happen to be in order.
    """
    x, y = (scipy.stats.zscore(scipy.stats.rankdata(values)) for values in (one, other))
    test = scipy.stats.permutation_test(
        (x,),
        lambda permuted, axis: (permuted * y).mean(axis=axis),
        permutation_type="pairings",
        alternative=alternative,
        vectorized=True,
        rng=0,
    )
    return float(test.statistic), float(test.pvalue)


def _t_test(values: np.ndarray, alternative: str, margin: float, size: Size | None = None) -> Finding:
    """Test values, one for each seed, against the margin by one-sided t-tests, with their 95% interval."""
    if len(values) and not np.isfinite(values).all():
        return Finding(len(values), notes=("an effect is not finite",))
    n, effect = len(values), float(values.mean()) if len(values) else 0.0
    if n < 2:
        return Finding(n, effect if n else None, notes=(f"too few pairs (n = {n})",))
    if np.ptp(values) <= 1e-12 * max(1.0, abs(effect)):
        return Finding(n, effect, notes=("no spread to test against",))
    error = float(values.std(ddof=1)) / sqrt(n)

    def tail(number: float, side: str) -> float:
        t = (effect - number) / error
        return float(scipy.special.stdtr(n - 1, -t if side == "greater" else t))

    reach = float(scipy.special.stdtrit(n - 1, 1 - ALPHA / 2)) * error
    return _decided(Finding(n, effect, effect - reach, effect + reach), tail, alternative, margin, size)


def _decided(
    found: Finding, tail: Callable[[float, str], float], alternative: str, margin: float, size: Size | None
) -> Finding:
    """Return a finding with its p-values.

    Args:
        found: the finding without them.
        tail: returns the p-value that the effect lies beyond a number on a side, `greater` or `less`.
        alternative: the side that is claimed.
        margin: the number that the effect must exceed.
        size: the size that is claimed, if any: short of it the claim is contradicted, and beyond it exceeded.
    """
    least, most = (margin, None) if size is None else size if alternative == "greater" else size[::-1]
    return replace(
        found,
        p=tail(margin, alternative),
        p_against=tail(least, OTHER_SIDE[alternative]),
        p_beyond=None if most is None else tail(most, alternative),
    )


def _both(one: Finding, other: Finding) -> Finding:
    """Return the finding of two one-sided tests that must both be passed."""
    return replace(
        one,
        p=_largest([one.p, other.p]),
        p_against=_smallest_of_all([one.p_against, other.p_against]),
    )


def _pairs_of_cells(effects: Effects) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean effect of each cell, and the mean of what is beside it."""
    own, other = (
        np.array([_mean_over_seeds(cell) for cell in _cells(one).values()], np.float64)
        for one in (effects, effects.of_beside())
    )
    return own, other


def _has_sign(effects: Effects, alternative: str, margin: float) -> bool:
    """Return whether the mean of every cell lies beyond the margin."""
    return all(_is_beyond(_mean_over_seeds(cell), margin, alternative) for cell in _cells(effects).values())


def _by_level(effects: Effects, along: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the means over the other strata, a row for each seed and a column for each level, and what was left out.

    A level counts if all combinations of the other strata have it, and a seed if it has all that count.
    """
    rest = [name for name in effects.strata if name != along]
    by_level = effects.frame.pivot_table(index="seed", columns=[*rest, along], values="effect")
    if not rest:
        table = by_level
        notes = []
    else:
        columns = by_level.columns.to_frame(index=False)
        others = len(columns[rest].drop_duplicates())
        shared = columns.groupby(along).size()
        levels = list(shared.index[shared == others])
        kept = by_level.loc[:, by_level.columns.get_level_values(along).isin(levels)]
        whole = kept.dropna()
        table = whole.T.groupby(level=along).mean().T
        notes = [f"over the {len(levels)} levels of {along} that all have"] if len(levels) < len(shared) else []
    lost = len(by_level) - len(table.dropna())
    notes += [f"{lost} of {len(by_level)} left out for lacking a level of {along}"] if lost else []
    return table.dropna().sort_index(axis=1), tuple(notes)


def _trend_p(values: NDArray[np.float64], alternative: str) -> float | None:
    """Return the p-value that rows of values [seeds, levels] grow, or fall, along the levels."""
    rising = values if alternative == "greater" else values[:, ::-1]
    if values.shape[1] < 2:
        return None
    if values.shape[1] == 2:
        return _t_test(rising[:, 1] - rising[:, 0], "greater", 0.0).p
    return float(scipy.stats.page_trend_test(rising).pvalue)


def _pairs_against(table: pd.DataFrame, alternative: str) -> dict[str, float]:
    """Return the p-values that two levels differ the other way, by the pair in words, where they have a spread."""
    pairs = {
        f"{format_value(one)} and {format_value(other)}": _t_test(
            (table[other] - table[one]).to_numpy(float), OTHER_SIDE[alternative], 0.0
        ).p
        for one, other in combinations(table.columns, 2)
    }
    return {pair: p for pair, p in pairs.items() if p is not None}


def _by_unit(effects: Effects) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the effects [units, cells] with the units in the index, and notes on what they are.

    A unit is a seed, and one that lacks a cell is left out; or a cell, where all models share one D'.
    """
    frame = effects.frame
    models = frame.groupby("seed")["model"].nunique()
    if len(models) == 1 and (models > 1).any():
        cells = [_mean_over_seeds(cell) for cell in _cells(effects).values()]
        return pd.DataFrame({"effect": cells}), ("n counts cells, and all is conditional on their one D'",)
    if not effects.strata:
        return frame.groupby("seed")[["effect"]].mean(), ()
    table = frame.pivot_table(index="seed", columns=list(effects.strata), values="effect")
    whole = table.dropna()
    lost = len(table) - len(whole)
    return whole, (f"{lost} of {len(table)} left out for lacking a cell",) if lost else ()


def _cells(effects: Effects, apart: tuple[str, ...] = ()) -> dict[str, Effects]:
    """Return the effects of each cell by its settings in words.

    Args:
        effects: the effects.
        apart: settings that tell no cells apart, over whose levels a seed's effect is a mean.
    """
    strata = list(effects.strata)
    within = tuple(name for name in apart if name in effects.frame)
    if not strata:
        return {"": Effects(effects.frame, within)} if len(effects.frame) else {}
    return {
        " ".join(f"{name}={format_value(level)}" for name, level in zip(strata, cell, strict=True)): Effects(
            part, within
        )
        for cell, part in effects.frame.groupby(strata, sort=True)
    }


def _mean_over_seeds(effects: Effects) -> float:
    """Return the mean effect, of which a seed counts once."""
    return float(effects.frame.groupby("seed")["effect"].mean().mean())


def _is_beyond(value: float, margin: float, alternative: str) -> bool:
    return value > margin if alternative == "greater" else value < margin


def _list_cells(cells: Sequence[str]) -> str:
    """Return the first three cells, and how many more there are."""
    shown = "; ".join(cells[:3])
    return shown if len(cells) <= 3 else f"{shown} and {len(cells) - 3} more"
