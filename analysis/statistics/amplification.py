"""The predicted amplification of influence, (gamma/sigma)^2, beside the measured ratio of squared gradient norms.

This compares orders of magnitude and is no test. Proposition 5.6 is about one filter's gradient at equal margins, the
measurement about all parameters of trained networks (`study.theory.influence_ratio` says what is held fixed).
"""

import pandas as pd

from analysis.cells import CELL_SETTINGS, PAIRING_KEYS, varying_settings
from study.errors import BadInputError


def amplification(members: pd.DataFrame) -> pd.DataFrame:
    """Return the predicted and the measured amplification of influence by batch norm, cell by cell.

    The paper defines influence as the squared norm of a sample's gradient, and predicts that batch norm multiplies it
    by (gamma/sigma)^2 where both arms give comparable margins. The predicted value is the square of the network's mean
    gamma/sigma. The measured value is the ratio of the squared mean gradient norms of the two arms, for S_out and for
    S_in. Each is the median over seeds.

    Args:
        members: rows of `members` with batch norm and without, recorded with `samples=gradients`.

    Returns:
        A row for each cell: the settings that vary, `n` pairs, `predicted`, `measured_out` and `measured_in`.

    Raises:
        BadInputError: no pair of members has both ratios and gradients.
    """
    keys = [name for name in CELL_SETTINGS if name != "norm"] + PAIRING_KEYS
    usable = members[members["grad_norm_in"].notna()]
    batch, none = (usable[usable["norm"] == norm] for norm in ("batch", "none"))
    columns = ["grad_norm_out", "grad_norm_in"]
    pairs = batch[[*keys, *columns, "gamma_over_sigma"]].merge(none[[*keys, *columns]], on=keys, suffixes=("", "_none"))
    if pairs.empty:
        raise BadInputError(
            "amplification needs members with norm=batch and with norm=none, and samples=gradients; "
            "the sweep influence has them."
        )
    settings = [name for name in varying_settings(pairs.assign(norm="batch")) if name != "norm"] or ["k"]
    rows = pairs.assign(
        predicted=pairs["gamma_over_sigma"] ** 2,
        measured_out=(pairs["grad_norm_out"] / pairs["grad_norm_out_none"]) ** 2,
        measured_in=(pairs["grad_norm_in"] / pairs["grad_norm_in_none"]) ** 2,
    ).groupby(settings)
    medians = rows[["predicted", "measured_out", "measured_in"]].median()
    return medians.assign(n=rows.size()).reset_index()
