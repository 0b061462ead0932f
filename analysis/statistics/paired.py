"""The test: one arm against another, paired over matching cells and seeds.

The arms share flips, split, batch order and initial weights seed by seed, so their difference within a pair is what
the arm does; the spread between seeds is not in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.cells import SETTINGS, STREAMS, level, silenced, varying
from analysis.metrics import METRICS, Metric
from study.errors import BadInputError, unknown
from study.trial import parse

CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test of arm minus reference; None where the pairs don't determine a value.

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
    """The test over pairs, both float64 [n] without NaN.

    One pair has a difference but no interval; where all differences are equal there is no spread to test against.

    Args:
        arm: the arm's values.
        reference: the reference's values, in the same order.
        alternative: `greater`, `less` or `two-sided`.
    """
    differences = arm - reference
    n = len(differences)
    if n == 0:
        return PairedTest(0)
    mean = float(differences.mean())
    if n == 1 or np.ptp(differences) <= 1e-12 * max(1.0, abs(mean)):
        return PairedTest(n, difference=mean)
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return PairedTest(
        n,
        difference=mean,
        low=float(interval.low),
        high=float(interval.high),
        effect=mean / float(differences.std(ddof=1)),
        p=float(stats.ttest_1samp(differences, 0.0, alternative=alternative).pvalue),
    )


def compare(
    members: pd.DataFrame,
    factor: str,
    reference: str | None = None,
    alternative: str | None = None,
    partial: bool = False,
    metrics: Sequence[Metric] = METRICS,
) -> pd.DataFrame:
    """Every other level of a factor against the reference, cell by cell and over all cells.

    The unit of a test is the seed, which over all cells counts with its mean over them.

    Args:
        members: rows of `members`, one a member.
        factor: a setting; its levels are the arms.
        reference: the level to hold the others against; by default `none` for norms, else the first in order.
        alternative: the hypothesis of every test; by default each metric's own where the factor is the norm and the
            reference is `none`, for which the paper predicts a direction, and `two-sided` for anything else.
        partial: leave out members that have no partner instead of refusing them.
        metrics: what is compared.

    Returns:
        One row for each metric, arm and cell, then one over all cells, with the columns `metric`, `arm`, `reference`,
        one for each setting that varies (empty in the row over all cells), those of `PairedTest`, `p_holm`, corrected
        over the rows of cells and over those over all cells, and `excluded`, the pairs left out because a member
        failed, diverged or is missing.

    Raises:
        BadInputError: the factor is no setting or has one level, the reference is none of its levels, or a member has
            no partner in the other arm.
    """
    if factor not in SETTINGS:
        raise unknown("factor", factor, SETTINGS)
    levels = sorted(members[factor].unique().tolist())
    held = reference_level(factor, levels, reference)
    strata = [name for name in varying(members) if name != factor]
    rows: list[dict[str, Any]] = []
    for arm in (other for other in levels if other != held):
        pairs = _pairs(members, factor, arm, held, partial)
        for metric in metrics:
            expected = metric.alternative if (factor, held) == ("norm", "none") else "two-sided"
            rows += _tests(pairs, metric, strata, alternative or expected, {"arm": arm, "reference": held})
    table = pd.DataFrame(rows)
    measured = ["difference", "low", "high", "effect", "p"]
    table[measured] = table[measured].astype(float)  # None, where the pairs don't determine a value, becomes NaN
    corrected = [holm(part["p"]) for _, part in table.groupby("overall")]
    return table.assign(p_holm=pd.concat(corrected)).drop(columns="overall")


def holm(p_values: pd.Series) -> pd.Series:
    """Holm's correction over those p-values that there are; the others stay missing."""
    corrected = pd.Series(np.nan, index=p_values.index, dtype=float)
    known = p_values.notna()
    if known.any():
        corrected[known] = multipletests(p_values[known].astype(float), method="holm")[1]
    return corrected


def reference_level(factor: str, levels: list[Any], reference: str | None = None) -> Any:
    """The level to hold the others against, of all that a factor has: the one named, else `none`, else the first.

    Raises:
        BadInputError: there is one level, or the one named is none of them.
    """
    if len(levels) < 2:
        raise BadInputError(f"{factor} has one level here, {level(levels[0])}, so there is nothing to compare.")
    if reference is None:
        return "none" if "none" in levels else levels[0]
    named = parse([f"{factor}={reference}"])[factor]  # as a sweep takes it: 0.10 is 0.1
    if len(named) > 1 or named[0] not in levels:
        raise unknown(f"level of {factor}", reference, map(level, levels))
    return named[0]


def _pairs(members: pd.DataFrame, factor: str, arm: Any, reference: Any, partial: bool) -> pd.DataFrame:
    """Both arms side by side, matched on every other setting and the seed: columns `<metric>_arm`, `<metric>_ref`.

    An arm that is switched off, such as k=0, is the partner of the other arm whatever it corrupts.
    """
    columns = [name for name in SETTINGS if name != factor] + [
        *STREAMS,
        "status",
        *(metric.column for metric in METRICS),
    ]
    silent = {at: silenced(factor, at) for at in (arm, reference)}
    sides = [
        members.loc[members[factor] == at, [name for name in columns if name not in silent[at]]]
        for at in (arm, reference)
    ]
    unmatched = {factor, *silent[arm], *silent[reference]}
    keys = [name for name in SETTINGS if name not in unmatched] + STREAMS
    pairs: pd.DataFrame = sides[0].merge(sides[1], on=keys, how="outer", suffixes=("_arm", "_ref"), indicator=True)
    alone = pairs[pairs["_merge"] != "both"]
    if len(alone) and not partial:
        cell = ", ".join(f"{name}={level(alone.iloc[0][name])}" for name in keys if members[name].nunique() > 1)
        raise BadInputError(
            f"{len(alone)} members have no partner across {factor}={level(arm)} and {factor}={level(reference)}, "
            f"such as {cell or 'the only one'}; --partial leaves them out."
        )
    return pairs


def _tests(
    pairs: pd.DataFrame, metric: Metric, strata: list[str], alternative: str, arms: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows of one metric: a test in each cell, then one over all of them where there are several."""
    named = {"metric": metric.column, **arms}
    cells = list(pairs.groupby(strata)) if strata else []
    if len(cells) < 2:
        return [
            {
                **named,
                **dict(zip(strata, *(cell for cell, _ in cells), strict=True)),
                **_test(pairs, metric, alternative),
            }
        ]
    rows = [
        {**named, **dict(zip(strata, cell, strict=True)), **_test(part, metric, alternative)} for cell, part in cells
    ]
    return [*rows, {**named, **_test(pairs, metric, alternative, overall=True)}]


def _test(pairs: pd.DataFrame, metric: Metric, alternative: str, overall: bool = False) -> dict[str, Any]:
    """One test; over several cells it is of each seed's mean over them.

    Cells share flips, order and initial weights seed by seed, so that their differences go together: taken as pairs of
    their own they would give p-values that are too small. A seed that lacks a cell which another has is left out. The
    models of one seed, each on its half of D', count one by one.
    """
    values = pairs[[*STREAMS, f"{metric.column}_arm", f"{metric.column}_ref"]].dropna()
    if overall:
        streams = values.groupby(STREAMS)
        values = streams.mean()[streams.size() == streams.size().max()].reset_index()
    excluded = (pairs[["status_arm", "status_ref"]] != "ok").any(axis=1)
    arm, reference = (values[f"{metric.column}_{side}"].to_numpy(float) for side in ("arm", "ref"))
    return {
        **vars(paired_test(arm, reference, alternative)),
        "alternative": alternative,
        "excluded": int(excluded.sum()),
        "overall": overall,
    }
