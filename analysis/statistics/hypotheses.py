"""The tests of claims: each takes effects, one for each cell and seed, and returns what they say of a hypothesis.

The unit is the seed, as in `analysis.statistics.paired`: cells share their random streams, so a seed counts with its
mean over them. A seed that lacks a cell which another seed has is left out of that mean, and a note says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.cells import PAIRING_KEYS
from analysis.statistics.paired import CONFIDENCE, PairedTest, paired_test
from study.settings import format_value

ALPHA = round(1 - CONFIDENCE, 9)
"""The level of significance."""
OTHER_SIDE = {"greater": "less", "less": "greater"}


@dataclass(frozen=True)
class Effects:
    """The measured effects that a claim is about, one for each cell and seed.

    Attributes:
        frame: the columns `strata`, `seed`, `model` and `effect`, which is float64 without NaN.
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
        n: the number of seeds or models, or of cells where cells are counted, or of settings that were searched.
        effect: the estimate; None where there is none.
        low: the lower end of its two-sided 95% interval; None where there is no spread.
        high: the upper end of the interval.
        p: the p-value, one-sided in the direction that is claimed, or two-sided of a tuning; None where there is no
            spread.
        complete: whether what is claimed beside the p-value is so, such as the sign in every cell.
        contradicted: whether the records contradict the claim, such as an interval wholly on the other side.
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
        """Return the verdict: `held`, `not held` or `undecided`.

        Args:
            p_corrected: the p-value, corrected for all hypotheses that were tested together.
        """
        if self.contradicted:
            return "not held"
        held = p_corrected is not None and p_corrected < ALPHA and self.complete
        return "held" if held else "undecided"


def above(effects: Effects, alternative: str, margin: float = 0.0, size: float | None = None) -> Finding:
    """Test that the mean effect lies beyond the margin.

    It is contradicted by an interval wholly on the margin's other side or, where a size is claimed, wholly short of it.

    Args:
        effects: the effects of each cell and seed.
        alternative: the side of the margin that is claimed, `greater` or `less`.
        margin: the number that the effect must exceed.
        size: the size that is claimed, if any.
    """
    table, lacking = _by_seed(effects)
    finding = _t_test(table.mean(axis=1).to_numpy(float), alternative, margin)
    contradicted = finding.contradicted or (size is not None and _is_short_of(finding, alternative, size))
    return replace(finding, contradicted=contradicted, notes=(*effects.notes, *lacking, *finding.notes))


def every_cell(effects: Effects, alternative: str, margin: float = 0.0, size: float | None = None) -> Finding:
    """Test that the effect lies beyond the margin in every cell: its mean significantly, and each cell's by its sign.

    It is contradicted by what contradicts `above`, and by one cell whose interval lies wholly on the other side. The
    intervals of m cells are at 1 - 0.05/m, so that together they are at 95%.

    Args:
        effects: see `above`.
        alternative: see `above`.
        margin: see `above`.
        size: the size of the mean, see `above`.
    """
    overall = above(effects, alternative, margin, size)
    cells = _effects_by_cell(effects)
    means = {name: float(values.mean()) for name, values in cells.items()}
    lacking = [name for name, mean in means.items() if not _is_beyond(mean, margin, alternative)]
    opposed = [
        name
        for name, values in cells.items()
        if (p := _t_test(values, OTHER_SIDE[alternative], margin).p) is not None and p < ALPHA / 2 / len(cells)
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


def some_level(effects: Effects, alternative: str, of: str, margin: float = 0.0) -> Finding:
    """Test that the mean effect lies beyond the margin at one level of a setting at least.

    The best level counts, with its p-value times the number of levels. It is contradicted where the intervals of all
    levels lie wholly on the other side.

    Args:
        effects: see `above`.
        alternative: see `above`.
        of: the setting, one of the strata unless it has one level.
        margin: see `above`.
    """
    if of not in effects.strata:
        return above(effects, alternative, margin)
    rest = tuple(name for name in effects.strata if name != of)
    findings = {
        level: above(Effects(part, rest), alternative, margin) for level, part in effects.frame.groupby(of, sort=True)
    }
    level, best = min(findings.items(), key=lambda item: 1.0 if item[1].p is None else item[1].p)
    return replace(
        best,
        p=None if best.p is None else min(1.0, best.p * len(findings)),
        contradicted=all(finding.contradicted for finding in findings.values()),
        notes=(f"the best of {len(findings)} levels, {of}={format_value(level)}", *effects.notes, *best.notes),
    )


def trend(effects: Effects, alternative: str, along: str) -> Finding:
    """Test that the effect grows, or falls, along a setting: by the mean over seeds of the least-squares slope.

    Args:
        effects: see `above`.
        alternative: `greater` where the effect is claimed to grow, `less` where it is claimed to fall.
        along: the setting, whose levels are numbers; each combination of the other strata has a slope of its own.
    """
    if along not in effects.strata or effects.frame[along].nunique() < 2:
        return Finding(0, notes=(*effects.notes, f"{along} has one level here"))
    rest = tuple(name for name in effects.strata if name != along)
    table = effects.frame.pivot(index=[*rest, *PAIRING_KEYS], columns=along, values="effect")
    whole = table.dropna()
    centered = table.columns.to_numpy(float) - table.columns.to_numpy(float).mean()
    slopes = whole.to_numpy(float) @ centered / (centered @ centered)
    frame = whole.index.to_frame(index=False).assign(effect=slopes)
    lost = len(table) - len(whole)
    notes = (f"{lost} left out for lacking a level of {along}",) if lost else ()
    finding = above(Effects(frame, rest, (*effects.notes, *notes)), alternative)
    return replace(finding, notes=(f"slope over {along}", *finding.notes))


def most_cells(effects: Effects, alternative: str, but: str) -> Finding:
    """Test that the effect has the claimed sign in more than half of the cells, by a sign test over cells.

    It takes the cells as independent. The interval of the share is Clopper and Pearson's. An effect of 0 counts against
    the claim.

    Args:
        effects: see `above`.
        alternative: see `above`.
        but: a setting that tells no cells apart; a cell's effect is the mean over its levels.
    """
    strata = tuple(name for name in effects.strata if name != but)
    means = [values.mean() for values in _effects_by_cell(replace(effects, strata=strata)).values()]
    hits = sum(_is_beyond(mean, 0.0, alternative) for mean in means)
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
    """Test that the mean of a logarithm of ratios is within a factor of 1, by two one-sided tests.

    Args:
        effects: see `above`; logarithms.
        factor: the factor, above 1.
    """
    bound = log(factor)
    from_below, from_above = above(effects, "greater", -bound), above(effects, "less", bound)
    p = None if from_below.p is None or from_above.p is None else max(from_below.p, from_above.p)
    return replace(from_below, p=p, contradicted=from_below.contradicted or from_above.contradicted)


def mean_of_intervals(
    intervals: Sequence[tuple[float, float, float]], n: int, alternative: str, margin: float = 0.0
) -> Finding:
    """Test that the mean of effects that come with intervals lies beyond the margin.

    The cells share samples and seeds, so their errors go together: the interval is the mean of theirs, as wide as it
    can be. The p-value is that of a normal error with this interval.

    Args:
        intervals: the effect of each cell with the ends of its 95% interval.
        n: the number of models of each.
        alternative: see `above`.
        margin: see `above`.
    """
    effect, low, high = (float(values) for values in np.mean(np.asarray(intervals, dtype=np.float64), axis=0))
    signs = [_is_beyond(of_cell, margin, alternative) for of_cell, _, _ in intervals]
    notes = (f"in {sum(signs)} of {len(signs)} cells",)
    if high - low <= 1e-12:
        return Finding(n, effect, notes=(*notes, "no spread to test against"))
    error = (high - low) / (2 * stats.norm.ppf(1 - ALPHA / 2))
    z = (effect - margin) / error * (1 if alternative == "greater" else -1)
    contradicted = high < margin if alternative == "greater" else low > margin
    return Finding(n, effect, low, high, float(stats.norm.sf(z)), contradicted=contradicted, notes=notes)


def as_ratios(finding: Finding) -> Finding:
    """Return a finding on logarithms of ratios as one on the ratios."""
    effect, low, high = (None if value is None else exp(value) for value in (finding.effect, finding.low, finding.high))
    return replace(finding, effect=effect, low=low, high=high)


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Return Spearman's rho of two rows of numbers [N], and its two-sided p-value by permutation.

    The permutations are all of them for few numbers, else 9,999 at random. The usual approximation gives p = 0 to three
    numbers that happen to be in order.
    """
    x, y = (stats.zscore(stats.rankdata(values)) for values in (one, other))
    test = stats.permutation_test(
        (x,),
        lambda permuted, axis: (permuted * y).mean(axis=axis),
        permutation_type="pairings",
        vectorized=True,
        rng=0,
    )
    return float(test.statistic), float(test.pvalue)


def _t_test(values: np.ndarray, alternative: str, margin: float) -> Finding:
    """Test values, one for each seed, against the margin by a one-sided t-test, with their 95% interval."""
    if len(values) and not np.isfinite(values).all():
        return Finding(len(values), notes=("an effect is not finite",))
    test = paired_test(values, np.full(len(values), margin), alternative)
    if test.low is None or test.high is None or test.difference is None:
        return _without_interval(test, margin)
    low, high = test.low + margin, test.high + margin
    contradicted = high < margin if alternative == "greater" else low > margin
    return Finding(test.n, test.difference + margin, low, high, test.p, contradicted=contradicted)


def _without_interval(test: PairedTest, margin: float) -> Finding:
    """Return the finding of a test that has no interval, with the reason."""
    effect = None if test.difference is None else test.difference + margin
    why = f"too few pairs (n = {test.n})" if test.n < 2 else "no spread to test against"
    return Finding(test.n, effect, notes=(why,))


def _by_seed(effects: Effects) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the effects with a row for each seed and a column for each cell, and a note of the seeds left out."""
    if not effects.strata:
        return effects.frame.set_index(PAIRING_KEYS)[["effect"]], ()
    table = effects.frame.pivot(index=PAIRING_KEYS, columns=list(effects.strata), values="effect")
    whole = table.dropna()
    lost = len(table) - len(whole)
    return whole, (f"{lost} of {len(table)} left out for lacking a cell",) if lost else ()


def _effects_by_cell(effects: Effects) -> dict[str, np.ndarray]:
    """Return the effects of each cell by its settings in words; a seed counts once, with its mean."""
    strata = list(effects.strata)
    grouped = effects.frame.groupby([*strata, *PAIRING_KEYS], sort=True)["effect"].mean().reset_index()
    cells = list(grouped.groupby(strata, sort=True)) if strata else [((), grouped)] if len(grouped) else []
    return {
        " ".join(f"{name}={format_value(level)}" for name, level in zip(strata, cell, strict=True)): (
            part["effect"].to_numpy(float)
        )
        for cell, part in cells
    }


def _is_beyond(value: float, margin: float, alternative: str) -> bool:
    return value > margin if alternative == "greater" else value < margin


def _is_short_of(finding: Finding, alternative: str, size: float) -> bool:
    """Return whether the interval lies wholly short of a claimed size."""
    if finding.low is None or finding.high is None:
        return False
    return finding.high < size if alternative == "greater" else finding.low > size


def _list_cells(cells: Sequence[str]) -> str:
    """Return the first three cells, and how many more there are."""
    shown = "; ".join(cells[:3])
    return shown if len(cells) <= 3 else f"{shown} and {len(cells) - 3} more"
