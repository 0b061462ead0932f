"""How often the label is among the first five classes, and what is left of both accuracies on others' images.

They are in the table `robustness`, and are joined to the members here: Tables 5 and 10 of the 2019 paper are of them.
"""

import pandas as pd

from analysis.load import KEY
from study.record.results import Results

TOP5 = ("clean_top5", "noise_top5", "pgd_linf_top5")
"""The share of images whose label is among the first five: as they are, under noise, and under the attack in linf."""
TRANSFERRED = ("transfer_acc", "transfer_top5")
"""The accuracy, and that of the first five, on images that fool the source."""
SHOWN = "n_shown"
"""How many images these are shares of."""


def with_top5(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return the members with `TOP5`, `TRANSFERRED` and `SHOWN`, NaN for what was not measured."""
    columns = [*KEY, "suite", "perturbation", "norm", "epsilon", "clip_low", "split", "n", "acc", "top5"]
    rows = results.read(sweep, "robustness", columns, trials=set(members["trial"])).to_pandas()
    rows = rows[rows["split"] == "test"]
    of_paper, transferred = (rows[rows["suite"] == suite] for suite in ("paper2019", "transfer"))
    noise = of_paper[of_paper["perturbation"] == "noise"].sort_values("epsilon").drop_duplicates(KEY)
    # In colour it is the clipped PGD that is the paper's, and on digits BIM.
    pgd = (of_paper["perturbation"] == "pgd") & (of_paper["norm"] == "linf") & of_paper["clip_low"].notna()
    attacked = of_paper[pgd | (of_paper["perturbation"] == "bim")]
    parts = (of_paper[of_paper["perturbation"] == "clean"], noise, attacked, transferred, transferred)
    for name, part in zip((*TOP5, *TRANSFERRED), parts, strict=True):
        column = "acc" if name == "transfer_acc" else "top5"
        members = members.merge(part[[*KEY, column]].rename(columns={column: name}), on=KEY, how="left")
    shown = pd.concat([of_paper, transferred]).groupby(KEY)["n"].first().rename(SHOWN).reset_index()
    return members.merge(shown, on=KEY, how="left")
