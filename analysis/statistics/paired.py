"""Paired tests of one arm against another, over matching cells and seeds.

The arms share flips, split, batch order and initial weights seed by seed. So the difference within a pair is the arm's
doing, and the spread between seeds is no part of it. Accuracies are tested as shares of counts
(`analysis.statistics.accuracies`), anything else by t-tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from analysis.cells import CELL_SETTINGS, PAIRING_KEYS, inactive_settings, varying_settings, with_companions_folded
from analysis.metrics import COUNTED, METRICS, Metric
from analysis.statistics.accuracies import OWN, REFERENCE, Accuracies, from_frame
from study.errors import BadInputError, unknown
from study.settings import format_value
from study.trial import parse

CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedTest:
    """A paired test of arm minus reference; None where the pairs don't determine a value.

    Attributes:
        n: the number of pairs.
        difference: the mean difference.
        low: the lower end of its two-sided 95% interval.
        high: the upper end.
        effect: Cohen's d of the differences, their mean over their standard deviation.
        p: the p-value under the metric's alternative.
    """

    n: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    effect: float | None = None
    p: float | None = None


def paired_test(arm: np.ndarray, reference: np.ndarray, alternative: str) -> PairedTest:
    """Test the differences within pairs.

    One pair has a difference but no interval. Where all differences are equal there is no spread to test against.

    Args:
        arm: the arm's values, float64 [n] without NaN.
        reference: the reference's values in the same order, likewise.
        alternative: `greater`, `less` or `two-sided`.

    Example:
        >>> test = paired_test(np.array([0.9, 0.8, 1.0]), np.array([0.1, 0.1, 0.1]), "greater")
        >>> f"{test.difference:+.1f} [{test.low:+.2f}, {test.high:+.2f}], p {test.p:.3f}"
        '+0.8 [+0.55, +1.05], p 0.003'
    """
    differences = arm - reference
    n = len(differences)
    if n == 0:
        return PairedTest(0)
    mean = float(differences.mean())
    if n == 1 or np.ptp(differences) <= 1e-12 * max(1.0, abs(mean)):
        return PairedTest(n, difference=mean)
    interval = scipy.stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return PairedTest(
        n,
        difference=mean,
        low=float(interval.low),
        high=float(interval.high),
        effect=mean / float(differences.std(ddof=1)),
        p=float(scipy.stats.ttest_1samp(differences, 0.0, alternative=alternative).pvalue),
    )


def compare(
    members: pd.DataFrame,
    factor: str,
    reference: str | None = None,
    alternative: str | None = None,
    partial: bool = False,
    metrics: Sequence[Metric] = METRICS,
) -> pd.DataFrame:
    """Test every other level of a factor against the reference level, cell by cell and over all cells.

    The unit of a test is the seed, which over all cells counts with its mean over them. Where each level has its own
    value of another setting (`cells.companions`), both are compared together.

    Args:
        members: rows of `members`, one for each member.
        factor: the setting whose levels are the arms.
        reference: the level that the others are compared with; by default `none` where there is one, else the first.
        alternative: the alternative of every test. By default it is each metric's own where the factor is the norm and
            the reference is `none`, for which the paper predicts a direction, and `two-sided` for anything else.
        partial: leave out members that have no partner instead of refusing them.
        metrics: the metrics that are compared.

    Returns:
        A row for each metric, arm and cell, then a row over all cells. The columns are `metric`, `arm`, `reference`,
        the settings that vary (empty in the row over all cells), those of `PairedTest`, `p_holm` (corrected over the
        rows of cells, and over the rows over all cells) and `excluded` (the pairs left out because a member failed,
        diverged or is missing).

    Raises:
        BadInputError: the factor is no setting or has one level, the reference is none of its levels, or a member has
            no partner in the other arm.
    """
    if factor not in CELL_SETTINGS:
        raise unknown("factor", factor, CELL_SETTINGS)
    members = with_companions_folded(members, factor)
    levels = sorted(members[factor].unique().tolist())
    base = reference_level(factor, levels, reference)
    strata = [name for name in varying_settings(members) if name != factor]
    rows: list[dict[str, Any]] = []
    for arm in (level for level in levels if level != base):
        pairs = _pairs(members, factor, arm, base, partial, metrics)
        for metric in metrics:
            expected = metric.alternative if (factor, base) == ("norm", "none") else "two-sided"
            rows += _tests(pairs, metric, strata, alternative or expected, {"arm": arm, "reference": base})
    table = pd.DataFrame(rows)
    numbers = ["difference", "low", "high", "effect", "p"]
    table[numbers] = table[numbers].astype(float)  # None, where the pairs don't determine a value, becomes NaN
    corrected = [holm(part["p"]) for _, part in table.groupby("overall")]
    return table.assign(p_holm=pd.concat(corrected)).drop(columns="overall")


def holm(p_values: pd.Series) -> pd.Series:
    """Return the p-values with Holm's correction; missing ones stay missing and don't count.

    Example:
        >>> holm(pd.Series([0.01, 0.03, np.nan])).tolist()
        [0.02, 0.03, nan]
    """
    # The one of statsmodels collects all garbage of the process each time, which can take most of a second.
    known = p_values.dropna().astype(float).sort_values()
    corrected: pd.Series = (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1.0)
    return corrected.reindex(p_values.index)


def reference_level(factor: str, levels: list[Any], reference: str | None = None) -> Any:
    """Return the level that a factor's others are compared with: the named one, else `none`, else the first.

    Args:
        factor: the setting.
        levels: all of its levels in order.
        reference: the level that a user names.

    Raises:
        BadInputError: there is only one level, or the named one is not among them.
    """
    if len(levels) < 2:
        raise BadInputError(f"{factor} has one level here, {format_value(levels[0])}, so there is nothing to compare.")
    if reference is None:
        return "none" if "none" in levels else levels[0]
    named = parse([f"{factor}={reference}"])[factor]  # as a sweep takes it: 0.10 is 0.1
    if len(named) > 1 or named[0] not in levels:
        raise unknown(f"level of {factor}", reference, map(format_value, levels))
    return named[0]


def _pairs(
    members: pd.DataFrame, factor: str, arm: Any, reference: Any, partial: bool, metrics: Sequence[Metric]
) -> pd.DataFrame:
    """Pair the members of two arms by every other setting and the seed: columns `<metric>_arm` and `<metric>_ref`.

    Settings that are inactive in an arm don't count: a member with k=0 is the partner of any kind of corruption.
    """
    columns = [name for name in CELL_SETTINGS if name != factor] + [
        *PAIRING_KEYS,
        "status",
        *(metric.column for metric in metrics),
        *dict.fromkeys(count for count in COUNTED.values() if count in members),
    ]
    inactive = {level: inactive_settings(factor, level) for level in (arm, reference)}
    sides = [
        members.loc[members[factor] == level, [name for name in columns if name not in inactive[level]]]
        for level in (arm, reference)
    ]
    unmatched = {factor, *inactive[arm], *inactive[reference]}
    keys = [name for name in CELL_SETTINGS if name not in unmatched] + PAIRING_KEYS
    pairs: pd.DataFrame = sides[0].merge(sides[1], on=keys, how="outer", suffixes=("_arm", "_ref"), indicator=True)
    unpaired = pairs[pairs["_merge"] != "both"]
    if len(unpaired) and not partial:
        first, varying = unpaired.iloc[0], [name for name in keys if members[name].nunique() > 1]
        cell = ", ".join(f"{name}={format_value(first[name])}" for name in varying)
        arms = f"{factor}={format_value(arm)} and {factor}={format_value(reference)}"
        raise BadInputError(
            f"{len(unpaired)} members have no partner across {arms}, "
            f"such as {cell or 'the only one'}; --partial leaves them out."
        )
    return pairs


def _tests(
    pairs: pd.DataFrame, metric: Metric, strata: list[str], alternative: str, arms: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the rows of one metric: a test in each cell, then one over all of them where there are several."""
    labels = {"metric": metric.column, **arms}
    cells = list(pairs.groupby(strata)) if strata else []
    if len(cells) < 2:
        return [
            {
                **labels,
                **dict(zip(strata, *(cell for cell, _ in cells), strict=True)),
                **_test(pairs, metric, alternative),
            }
        ]
    rows = [
        {**labels, **dict(zip(strata, cell, strict=True)), **_test(part, metric, alternative)} for cell, part in cells
    ]
    return [*rows, {**labels, **_test(pairs, metric, alternative, strata)}]


def _test(pairs: pd.DataFrame, metric: Metric, alternative: str, strata: Sequence[str] = ()) -> dict[str, Any]:
    """Return one test; over several cells, which `strata` tell apart, it is a test of each seed's mean over them.

    Cells share flips, order and initial weights seed by seed, so that their differences go together: taken as pairs of
    their own they would give p-values that are too small. A seed that lacks a cell which another seed has is left out.
    So do the models of one seed, each trained on its own half of the one D', so that a seed counts with its mean over
    them. Of one D' alone the models count one by one, conditional on it, but not what an attack makes of them: their
    shadows are one another.
    """
    columns = {f"{metric.column}_arm": OWN[0], f"{metric.column}_ref": REFERENCE[0]}
    if f"{metric.counted}_arm" in pairs:
        columns |= {f"{metric.counted}_arm": OWN[1], f"{metric.counted}_ref": REFERENCE[1]}
    values = pairs[[*PAIRING_KEYS, *strata, *columns]].rename(columns=columns)
    values = values.dropna(subset=[OWN[0], REFERENCE[0]])
    unit = "model" if values["seed"].nunique() == 1 and metric.column != "mia_auc" else "seed"
    by_cell = values.groupby([unit, *strata])[[OWN[0], REFERENCE[0]]].mean()
    sizes = by_cell.groupby(unit).size()
    whole = sizes.index[sizes == sizes.max()]
    means = by_cell.groupby(unit).mean().loc[whole]
    excluded = (pairs[["status_arm", "status_ref"]] != "ok").any(axis=1)
    known = from_frame(values, whole, strata)
    arm, reference = (means[share].to_numpy(float) for share in (OWN[0], REFERENCE[0]))
    tested = (
        paired_test(arm, reference, alternative)
        if known is None
        else _counted_test(known, arm - reference, alternative)
    )
    return {
        **vars(tested),
        "alternative": alternative,
        "excluded": int(excluded.sum()),
        "overall": bool(strata),
    }


def _counted_test(known: Accuracies, differences: np.ndarray, alternative: str) -> PairedTest:
    """Return the test of accuracies that are shares of counts."""
    low, high = known.interval(CONFIDENCE)
    tails = {side: known.tail(0.0, side) for side in ("greater", "less")}
    p = min(1.0, 2 * min(tails.values())) if alternative == "two-sided" else tails[alternative]
    deviation = float(differences.std(ddof=1))
    effect = known.effect / deviation if deviation > 1e-12 else None
    return PairedTest(known.n, known.effect, low, high, effect, p)


def units_note(members: pd.DataFrame) -> list[str]:
    """Return a sentence on what counts where models are trained on halves of one D'; none where there are no such."""
    halves = members[members["protocol"] == "splits"]
    if halves.empty:
        return []
    if halves["seed"].nunique() == 1:
        return [
            "n counts the models on halves of one D', and all is conditional on it; of their attacks there is no test."
        ]
    return ["a seed counts with the mean over its models, which share its D'."]
