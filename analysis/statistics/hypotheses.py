"""The tests of claims: each takes effects, one for each cell and seed, and returns what they say of a hypothesis.

The unit is the seed, that is its D', as in `analysis.statistics.paired`: cells share their random streams, so a seed
counts with its mean over them. A seed that lacks a cell which another seed has is left out of that mean, and a note
says so. Models that were trained on halves of one D' share it and are one another's shadows, so that they count with
their mean. Of such there is often one seed; where there are fewer than `FEWEST_SEEDS`, the unit is the cell, as in C.5
of the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, exp, log, sqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.paired import CONFIDENCE, PairedTest, paired_test
from study.settings import format_value

ALPHA = round(1 - CONFIDENCE, 9)
"""The level of significance."""
FEWEST_SEEDS = 3
"""The fewest seeds of models on halves that are units of a test; with fewer its units are the cells."""
FEWEST_CELLS = 3
"""The fewest cells whose spread is compared."""
Size = tuple[float, float]
"""A size that is claimed, from its least to its greatest value."""
OTHER_SIDE = {"greater": "less", "less": "greater"}
FEWEST_EQUAL = 3
"""The fewest seeds with one and the same value that say something without a spread."""


@dataclass(frozen=True)
class Effects:
    """The measured effects that a claim is about, one for each cell and seed.

    Attributes:
        frame: the columns `strata`, `seed`, `model` and `effect`, which is float64 without NaN, and, for a claim about
            two things at once, `beside`, likewise.
        strata: the columns that make a cell; none where there is one cell.
        notes: what was left out, and why.
    """

    frame: pd.DataFrame
    strata: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What the effects say of a hypothesis, before the correction for the number of hypotheses.

    Attributes:
        n: the number of seeds, or of cells where cells are counted, of targets of an attack, or of settings that were
            searched.
        effect: the estimate; None where there is none.
        low: the lower end of its two-sided 95% interval; None where there is no spread.
        high: the upper end of the interval.
        p: the p-value, one-sided in the direction that is claimed, or two-sided of a tuning; None where there is no
            spread.
        complete: whether what is claimed beside the p-value is so, such as the sign in every cell.
        contradicted: whether the records contradict the claim, such as an interval wholly on the other side.
        exceeded: whether there is more of it than is claimed, with an interval wholly beyond the claimed number.
        notes: what a reader should know of it.
    """

    n: int
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    complete: bool = True
    contradicted: bool = False
    exceeded: bool = False
    notes: tuple[str, ...] = ()

    def verdict(self, p_corrected: float | None) -> str:
        """Return the verdict: `held`, `exceeded`, `not held` or `undecided`.

        Args:
            p_corrected: the p-value, corrected for all hypotheses that were tested together.
        """
        if self.contradicted:
            return "not held"
        if p_corrected is None or p_corrected >= ALPHA or not self.complete:
            return "undecided"
        return "exceeded" if self.exceeded else "held"


def above(
    effects: Effects, alternative: str, margin: float = 0.0, size: Size | None = None, equal_counts: bool = False
) -> Finding:
    """Test that the mean effect lies beyond the margin.

    It is contradicted by an interval wholly on the margin's other side or, where a size is claimed, wholly short of it;
    by one wholly beyond the size it is exceeded.

    Args:
        effects: the effects of each cell and seed.
        alternative: the side of the margin that is claimed, `greater` or `less`.
        margin: the number that the effect must exceed.
        size: the size that is claimed, if any.
        equal_counts: where the seeds have one and the same value, such as an accuracy of 1, compare that with the
            margin as it is, if there are `FEWEST_EQUAL` of them; else it is undecided for lack of spread.
    """
    values, lacking = _by_unit(effects)
    finding = _t_test(values, alternative, margin, equal_counts)
    return replace(_with_size(finding, alternative, size), notes=(*effects.notes, *lacking, *finding.notes))


def every_cell(
    effects: Effects, alternative: str, margin: float = 0.0, size: Size | None = None, equal_counts: bool = False
) -> Finding:
    """Test that the effect lies beyond the margin in every cell: its mean significantly, and each cell's by its sign.

    It is contradicted by what contradicts `above`, and by one cell whose interval lies wholly on the other side. The
    intervals of m cells are at 1 - 0.05/m, so that together they are at 95%.

    Args:
        effects: see `above`.
        alternative: see `above`.
        margin: see `above`.
        size: the size of the mean, see `above`.
        equal_counts: see `above`.
    """
    overall = above(effects, alternative, margin, size, equal_counts)
    cells = _effects_by_cell(effects)
    means = {name: float(values.mean()) for name, values in cells.items()}
    lacking = [name for name, mean in means.items() if not _is_beyond(mean, margin, alternative)]
    opposed = [
        name
        for name, values in cells.items()
        if (p := _t_test(values, OTHER_SIDE[alternative], margin, equal_counts).p) is not None
        and p < ALPHA / 2 / len(cells)
    ]
    notes = [f"in {len(cells) - len(lacking)} of {len(cells)} cells"] if cells else []
    notes += [f"not in {_list_cells(lacking)}"] if lacking and len(cells) > 1 else []
    notes += [f"significantly the other way in {_list_cells(opposed)}"] if opposed and len(cells) > 1 else []
    return replace(
        overall,
        complete=not lacking,
        contradicted=overall.contradicted or bool(opposed),
        notes=(*notes, *overall.notes),
    )


def same_level(effects: Effects, alternative: str, of: str, margin: float, least_beside: float) -> Finding:
    """Test that at one and the same level of a setting two things are so: the effect's and that of what is beside it.

    At a level both must be shown, so the larger p-value counts; the best level counts, with its p-value times the
    number of levels. In every cell of that level both must have the claimed sign. It is contradicted where at each
    level one of the two intervals lies wholly on the other side, at 97.5% each, so that both are at 95%.

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
        p=None if best.p is None else min(1.0, best.p * len(levels)),
        complete=best.signs,
        contradicted=all(at.refuted for at in levels),
        notes=(
            f"the best of {len(levels)} levels{shown}",
            f"beside it {beside}, where more than {least_beside:g} is asked for",
            *effects.notes,
            *best.own.notes,
        ),
    )


@dataclass(frozen=True)
class _AtLevel:
    """Both things that are claimed of one level: their tests, the larger p-value, and what signs and intervals say."""

    level: Any
    own: Finding
    beside: Finding
    signs: bool
    refuted: bool

    @property
    def p(self) -> float | None:
        if self.own.p is None or self.beside.p is None:
            return None
        return max(self.own.p, self.beside.p)


def _at_level(level: Any, effects: Effects, alternative: str, margin: float, least_beside: float) -> _AtLevel:
    beside = replace(effects, frame=effects.frame.assign(effect=effects.frame["beside"]))
    return _AtLevel(
        level,
        above(effects, alternative, margin),
        above(beside, "greater", least_beside, equal_counts=True),
        _has_sign(effects, alternative, margin) and _has_sign(beside, "greater", least_beside),
        _is_refuted(effects, alternative, margin) or _is_refuted(beside, "greater", least_beside),
    )


def monotone(effects: Effects, alternative: str, along: str, everywhere: bool = True) -> Finding:
    """Test that the effect grows, or falls, with a setting, however far apart its levels are.

    Page's trend test ranks each seed's effects, means over the other strata, along the levels. Between two levels a
    trend is a difference, and the test a t-test. The estimate is the mean over seeds of Kendall's tau, 1 where the
    effect grows from each level to the next, and -1 where it falls.

    It is contradicted by a trend the other way and, where it is claimed `everywhere`, by two levels that differ the
    other way, at 97.5% for all pairs of levels together.

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
    taus = np.array([float(stats.kendalltau(range(len(levels)), row).statistic) for row in values])
    taus = np.nan_to_num(taus)  # all equal: neither grows nor falls
    tau = _t_test(taus, alternative, 0.0)
    reversed_pairs = _reversed_pairs(table, alternative) if everywhere else []
    said = [f"Kendall's tau over {along}", ends]
    said += [f"significantly the other way between {along}={', '.join(reversed_pairs[:3])}"] if reversed_pairs else []
    p, p_other = _trend_p(values, alternative), _trend_p(values, OTHER_SIDE[alternative])
    return Finding(
        len(values),
        effect=float(taus.mean()),
        low=None if tau.low is None else max(tau.low, -1.0),
        high=None if tau.high is None else min(tau.high, 1.0),
        p=p,
        complete=not reversed_pairs,
        contradicted=bool(reversed_pairs) or (p_other is not None and p_other < ALPHA / 2),
        notes=(*said, *notes),
    )


def most_cells(effects: Effects, alternative: str, but: str, share: float) -> Finding:
    """Test that at least a share of the cells has an effect of the claimed sign, each by its own seeds.

    The cells are what they are and no sample of others: what is unknown is each one's sign. Of m cells it is claimed
    that u have it. The p-value is that of the partial conjunction (Benjamini and Heller 2008), m - u + 1 times the u-th
    smallest of the cells', whatever they have in common. The estimate is the share of cells with the sign, and its
    interval counts as such those that have it significantly, and all but those that have the other significantly, at
    97.5% for all cells together on either side.

    Args:
        effects: see `above`.
        alternative: see `above`.
        but: a setting that tells no cells apart; a cell's effect is the mean over its levels.
        share: the share that is claimed.
    """
    strata = tuple(name for name in effects.strata if name != but)
    cells = list(_effects_by_cell(replace(effects, strata=strata)).values())
    if not cells:
        return Finding(0, notes=effects.notes)
    of_sign, of_other = (
        [_t_test(values, side, 0.0).p for values in cells] for side in (alternative, OTHER_SIDE[alternative])
    )
    count, needed = len(cells), ceil(share * len(cells) - 1e-9)
    hits = sum(_is_beyond(values.mean(), 0.0, alternative) for values in cells)
    surely, opposed = (
        sum(p is not None and p < ALPHA / 2 / count for p in p_values) for p_values in (of_sign, of_other)
    )
    ordered = sorted(1.0 if p is None else p for p in of_sign)
    return Finding(
        count,
        effect=hits / count,
        low=surely / count,
        high=(count - opposed) / count,
        p=None if all(p is None for p in of_sign) else min(1.0, (count - needed + 1) * ordered[needed - 1]),
        contradicted=count - opposed < needed,
        exceeded=surely > needed,
        notes=(
            f"{hits} of {count} cells, {surely} of them significantly",
            *([f"{opposed} significantly the other way"] if opposed else []),
            f"claimed of {needed}",
            *effects.notes,
        ),
    )


def unaffected(effects: Effects, along: str, most: float) -> Finding:
    """Test that the effect changes by less than so much from the lowest to the highest level of a setting.

    These are two one-sided tests. It is contradicted by an interval of the change that lies wholly beyond.

    Args:
        effects: see `above`.
        along: the setting, whose levels are numbers.
        most: the change that is too much.
    """
    if along not in effects.strata or effects.frame[along].nunique() < 2:
        return Finding(0, notes=(*effects.notes, f"{along} has one level here"))
    table, notes = _by_level(effects, along)
    change = (table.iloc[:, -1] - table.iloc[:, 0]).to_numpy(float)
    from_below, from_above = _t_test(change, "greater", -most, True), _t_test(change, "less", most, True)
    lowest, highest = table.iloc[:, 0].mean(), table.iloc[:, -1].mean()
    low, high = (format_value(table.columns[end]) for end in (0, -1))
    ends = f"change from {lowest:.3g} at {along}={low} to {highest:.3g} at {high}"
    return replace(_both(from_below, from_above), notes=(ends, *notes, *effects.notes, *from_below.notes))


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
    return Finding(len(own), rho, p=p, contradicted=p_other < ALPHA / 2, notes=notes)


def within_factor(effects: Effects, factor: float) -> Finding:
    """Test that the mean of a logarithm of ratios is within a factor of 1, by two one-sided tests.

    Args:
        effects: see `above`; logarithms.
        factor: the factor, above 1.
    """
    bound = log(factor)
    from_below = above(effects, "greater", -bound, equal_counts=True)
    from_above = above(effects, "less", bound, equal_counts=True)
    return _both(from_below, from_above)


def within_factor_everywhere(effects: Effects, factor: float) -> Finding:
    """Test what `within_factor` does, and that every cell's mean is within the factor.

    It is contradicted by one cell whose interval lies wholly outside. The intervals of m cells are at 1 - 0.05/m.

    Args:
        effects: see `within_factor`.
        factor: see `within_factor`.
    """
    sides = (every_cell(effects, "greater", -log(factor)), every_cell(effects, "less", log(factor)))
    overall = within_factor(effects, factor)
    means = {name: float(values.mean()) for name, values in _effects_by_cell(effects).items()}
    outside = [f"{name} (x{exp(mean):.2g})" for name, mean in means.items() if abs(mean) > log(factor)]
    notes = [f"in {len(means) - len(outside)} of {len(means)} cells"] if means else []
    notes += [f"not in {_list_cells(outside)}"] if outside and len(means) > 1 else []
    return replace(
        overall,
        complete=overall.complete and not outside,
        contradicted=any(side.contradicted for side in sides),
        notes=(*notes, *overall.notes),
    )


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
    student = stats.t(n - 2)

    def t_against(ratio: float) -> float:
        return (variances - ratio) * sqrt((n - 2) / (4 * variances * ratio * unexplained))

    k = 1 + 2 * unexplained * student.ppf(1 - ALPHA / 2) ** 2 / (n - 2)
    half = log(k + sqrt(k**2 - 1)) / 2
    effect = log(variances) / 2
    return Finding(
        *(n, effect, effect - half, effect + half),
        p=float(max(student.sf(t_against(factor**-2)), student.cdf(t_against(factor**2)))),
        contradicted=abs(effect) - half > log(factor),
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
    signs = [_is_beyond(of_cell, margin, alternative) for of_cell, _, _ in intervals]
    notes = (f"in {sum(signs)} of {len(signs)} cells",)
    opposed = each and any(
        _p_of_interval(*of_cell, margin, OTHER_SIDE[alternative]) < ALPHA / 2 / len(signs) for of_cell in intervals
    )
    if high - low <= 1e-12:
        return Finding(n, effect, notes=(*notes, "no spread to test against"))
    contradicted = high < margin if alternative == "greater" else low > margin
    finding = Finding(
        *(n, effect, low, high, _p_of_interval(effect, low, high, margin, alternative)),
        complete=all(signs) or not each,
        contradicted=contradicted or opposed,
        notes=notes,
    )
    return _with_size(finding, alternative, size)


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
    x, y = (stats.zscore(stats.rankdata(values)) for values in (one, other))
    test = stats.permutation_test(
        (x,),
        lambda permuted, axis: (permuted * y).mean(axis=axis),
        permutation_type="pairings",
        alternative=alternative,
        vectorized=True,
        rng=0,
    )
    return float(test.statistic), float(test.pvalue)


def _t_test(values: np.ndarray, alternative: str, margin: float, equal_counts: bool = False) -> Finding:
    """Test values, one for each seed, against the margin by a one-sided t-test, with their 95% interval."""
    if len(values) and not np.isfinite(values).all():
        return Finding(len(values), notes=("an effect is not finite",))
    test = paired_test(values, np.full(len(values), margin), alternative)
    if test.low is None or test.high is None or test.difference is None:
        return _without_interval(test, margin, alternative, equal_counts)
    low, high = test.low + margin, test.high + margin
    contradicted = high < margin if alternative == "greater" else low > margin
    return Finding(test.n, test.difference + margin, low, high, test.p, contradicted=contradicted)


def _without_interval(test: PairedTest, margin: float, alternative: str, equal_counts: bool) -> Finding:
    """Return the finding of a test that has no interval, with the reason."""
    effect = None if test.difference is None else test.difference + margin
    if effect is None or test.n < 2:
        return Finding(test.n, effect, notes=(f"too few pairs (n = {test.n})",))
    if not equal_counts or test.n < FEWEST_EQUAL:
        return Finding(test.n, effect, notes=("no spread to test against",))
    beyond, short = (_is_beyond(effect, margin, side) for side in (alternative, OTHER_SIDE[alternative]))
    return Finding(
        *(test.n, effect, effect, effect, 0.0 if beyond else 1.0),
        contradicted=short,
        notes=("the same in all seeds",),
    )


def _p_of_interval(effect: float, low: float, high: float, margin: float, alternative: str) -> float:
    """Return the one-sided p-value of an effect whose error is normal and has this 95% interval."""
    error = max(high - low, 1e-12) / (2 * stats.norm.ppf(1 - ALPHA / 2))
    return float(stats.norm.sf((effect - margin) / error * (1 if alternative == "greater" else -1)))


def _both(one: Finding, other: Finding) -> Finding:
    """Return the finding of two one-sided tests that must both be passed."""
    p = None if one.p is None or other.p is None else max(one.p, other.p)
    return replace(one, p=p, contradicted=one.contradicted or other.contradicted)


def _pairs_of_cells(effects: Effects) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean effect of each cell, and the mean of what is beside it."""
    beside = replace(effects, frame=effects.frame.assign(effect=effects.frame.get("beside")))
    own, other = (
        np.array([values.mean() for values in _effects_by_cell(one).values()], np.float64) for one in (effects, beside)
    )
    return own, other


def _is_refuted(effects: Effects, alternative: str, margin: float) -> bool:
    """Return whether the mean lies on the margin's other side, at 97.5%: for one of two things that must both be so."""
    values, _ = _by_unit(effects)
    other = _t_test(values, OTHER_SIDE[alternative], margin, equal_counts=True)
    return other.p is not None and other.p < ALPHA / 4


def _has_sign(effects: Effects, alternative: str, margin: float) -> bool:
    """Return whether the mean of every cell lies beyond the margin."""
    return all(_is_beyond(values.mean(), margin, alternative) for values in _effects_by_cell(effects).values())


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
    return float(stats.page_trend_test(rising).pvalue)


def _reversed_pairs(table: pd.DataFrame, alternative: str) -> list[str]:
    """Return the pairs of levels whose difference is significantly the other way, all pairs together at 97.5%."""
    pairs = list(combinations(table.columns, 2))
    return [
        f"{format_value(one)} and {format_value(other)}"
        for one, other in pairs
        if (p := _t_test((table[other] - table[one]).to_numpy(float), OTHER_SIDE[alternative], 0.0).p) is not None
        and p < ALPHA / 2 / len(pairs)
    ]


def _by_unit(effects: Effects) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the effect of each unit, a seed's mean over cells or a cell's over models, and notes on what they are."""
    models = effects.frame.groupby("seed")["model"].nunique()
    if len(models) < FEWEST_SEEDS and (models > 1).any():
        cells = [float(values.mean()) for values in _effects_by_cell(effects).values()]
        return np.array(cells), (f"n counts cells, for their models share {len(models)} D'",)
    if not effects.strata:
        return effects.frame.groupby("seed")["effect"].mean().to_numpy(float), ()
    table = effects.frame.pivot_table(index="seed", columns=list(effects.strata), values="effect")
    whole = table.dropna()
    lost = len(table) - len(whole)
    return whole.mean(axis=1).to_numpy(float), (f"{lost} of {len(table)} left out for lacking a cell",) if lost else ()


def _effects_by_cell(effects: Effects) -> dict[str, np.ndarray]:
    """Return the effects of each cell by its settings in words; a seed counts once, with its mean."""
    strata = list(effects.strata)
    grouped = effects.frame.groupby([*strata, "seed"], sort=True)["effect"].mean().reset_index()
    cells = list(grouped.groupby(strata, sort=True)) if strata else [((), grouped)] if len(grouped) else []
    return {
        " ".join(f"{name}={format_value(level)}" for name, level in zip(strata, cell, strict=True)): (
            part["effect"].to_numpy(float)
        )
        for cell, part in cells
    }


def _is_beyond(value: float, margin: float, alternative: str) -> bool:
    return value > margin if alternative == "greater" else value < margin


def _with_size(finding: Finding, alternative: str, size: Size | None) -> Finding:
    """Return a finding that a size is claimed of: contradicted wholly short of it, and exceeded wholly beyond it."""
    if size is None or finding.low is None or finding.high is None:
        return finding
    below, above_it = finding.high < size[0], finding.low > size[1]
    short, beyond = (below, above_it) if alternative == "greater" else (above_it, below)
    return replace(finding, contradicted=finding.contradicted or short, exceeded=beyond)


def _list_cells(cells: Sequence[str]) -> str:
    """Return the first three cells, and how many more there are."""
    shown = "; ".join(cells[:3])
    return shown if len(cells) <= 3 else f"{shown} and {len(cells) - 3} more"
