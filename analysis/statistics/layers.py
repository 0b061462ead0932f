"""The layers of networks at the end of training, beside what they were before it."""

import pandas as pd

from analysis.load import KEY


def last_and_first(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return each layer's last values and, beside them under names that end in `_start`, those before training.

    Args:
        rows: rows of `layers`, with `trial`, `member`, `epoch`, `depth` and the columns.
        columns: what is wanted of epoch 0 too; it is missing where the record has no such epoch, before version 3.
    """
    last = rows[rows["epoch"] == rows.groupby(KEY)["epoch"].transform("max")].drop(columns="epoch")
    first = rows[rows["epoch"] == 0][[*KEY, "depth", *columns]]
    return last.merge(first, on=[*KEY, "depth"], how="left", suffixes=("", "_start"))
