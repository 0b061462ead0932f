"""The amplification of influence by batch norm, measured and as Proposition 5.6 of the paper predicts it.

Influence is the squared norm of a sample's gradient. Eq. 11 predicts its ratio between the arms: (gamma/sigma)^2 times
that of the squared sigmoids phi(-m) of the sample's own margin in each arm, which is next to nothing where batch norm
has memorized a sample and the other arm has not. The equation is about one filter, and the measurement about all
parameters of trained networks (`study.theory.influence_ratio` says what is held fixed), so the table compares orders of
magnitude.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.cells import CELL_SETTINGS, PAIRING_KEYS, varying_settings
from analysis.load import KEY, Loaded
from study.errors import BadInputError
from study.record.results import Results
from study.theory import log_influence_ratio

GRADIENTS = ["margins", "norms"]
"""The columns that `with_gradients` adds."""


def with_gradients(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return the members with the margin and the gradient norm of each of their atypical samples.

    Args:
        sweep: the sweep's name.
        members: rows of `members`.
        results: the folder that they were loaded from.

    Returns:
        The members with `margins` and `norms`, float64 [S_out] each, in the order of D', which the arms of a seed
        share; missing where no gradients were recorded.
    """
    columns = [*KEY, "sample", "group", "is_member", "score", "grad_norm"]
    rows = results.read(sweep, "samples", columns, trials=set(members["trial"])).to_pandas()
    rows = rows[(rows["group"] != "clean") & rows["is_member"]].dropna(subset=["score", "grad_norm"])
    by_member = rows.sort_values("sample").groupby(KEY)
    arrays = pd.DataFrame(
        {
            into: by_member[column].agg(lambda values: values.to_numpy(np.float64))
            for into, column in zip(GRADIENTS, ("score", "grad_norm"), strict=True)
        }
    )
    return members.merge(arrays.reset_index(), on=KEY, how="left")


def log_over_equation(row: pd.Series, gamma_over_sigma: float) -> float:
    """Return the logarithm of a pair's measured ratio of influence over that of Eq. 11, the median over its samples.

    The median, for the gradient of a sample that is known all too well may be 0 in float32.

    Args:
        row: `margins_arm`, `margins_ref`, `norms_arm` and `norms_ref` of the two members, with batch norm and without.
        gamma_over_sigma: the equation's ratio; 1 leaves what batch norm adds at equal margins.

    Returns:
        NaN where the samples of the two aren't there, or aren't the same.
    """
    margins, reference_margins, norms, reference_norms = (
        row[f"{name}_{side}"] for name in GRADIENTS for side in ("arm", "ref")
    )
    if not all(isinstance(each, np.ndarray) for each in (margins, reference_margins, norms, reference_norms)):
        return float("nan")
    if len(norms) != len(reference_norms) or not len(norms) or not gamma_over_sigma > 0:
        return float("nan")
    measured = 2 * (_log(norms) - _log(reference_norms))
    over = measured - log_influence_ratio(gamma_over_sigma, margins, reference_margins)
    known = over[~np.isnan(over)]  # 0 over 0
    return float(np.median(known)) if len(known) else float("nan")


def amplification(loaded: Loaded, results: Results) -> pd.DataFrame:
    """Return the predicted and the measured amplification of influence by batch norm, cell by cell.

    Args:
        loaded: a sweep's members with batch norm and without, recorded with `samples=gradients`.
        results: the folder that they were loaded from.

    Returns:
        A row for each cell, each number the median over seeds: the settings that vary, `n` pairs, `predicted`, the
        square of the network's mean gamma/sigma, for equal margins; `measured_out` and `measured_in`, the ratio of the
        squared mean gradient norms for S_out and S_in; and `over_equation`, the measured ratio of a flipped sample over
        that of Eq. 11 with its own margins.

    Raises:
        BadInputError: no pair of members has both ratios and gradients.
    """
    keys = [name for name in CELL_SETTINGS if name != "norm"] + PAIRING_KEYS
    usable = loaded.members[loaded.members["grad_norm_in"].notna()]
    batch, none = (usable[usable["norm"] == norm] for norm in ("batch", "none"))
    if not batch[keys].merge(none[keys], on=keys).size:
        raise BadInputError(
            "amplification needs members with norm=batch and with norm=none, and samples=gradients; "
            "the sweep influence has them."
        )
    columns = ["grad_norm_out", "grad_norm_in", *GRADIENTS]
    batch, none = (with_gradients(loaded.sweep, arm, results) for arm in (batch, none))
    pairs = batch[[*keys, *columns, "gamma_over_sigma"]].merge(
        none[[*keys, *columns]], on=keys, suffixes=("_arm", "_ref")
    )
    settings = [name for name in varying_settings(pairs.assign(norm="batch")) if name != "norm"] or ["k"]
    rows = pairs.assign(
        predicted=pairs["gamma_over_sigma"] ** 2,
        measured_out=(pairs["grad_norm_out_arm"] / pairs["grad_norm_out_ref"]) ** 2,
        measured_in=(pairs["grad_norm_in_arm"] / pairs["grad_norm_in_ref"]) ** 2,
        over_equation=np.exp([log_over_equation(row, row["gamma_over_sigma"]) for _, row in pairs.iterrows()]),
    ).groupby(settings)
    medians = rows[["predicted", "measured_out", "measured_in", "over_equation"]].median()
    return medians.assign(n=rows.size()).reset_index()


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of values: minus infinity at 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms: NDArray[np.float64] = np.log(values)
    return logarithms
