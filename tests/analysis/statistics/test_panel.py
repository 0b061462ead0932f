"""The panel of the norms on planted records."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.load import load
from analysis.statistics.means import mean_over_seeds
from analysis.statistics.paired import holm
from analysis.statistics.panel import LENSES, panel
from study.errors import BadInputError
from study.record.results import Results
from study.trial import Trial
from tests.analysis.conftest import Outcome, frame, grid, plausible
from tests.analysis.robust import record_attacked

NORMS = ("batch", "group", "none")


def found(results: Results, outcome: Any = plausible, **axes: Any) -> pd.DataFrame:
    trials = grid(**{"norm": NORMS, "k": 0.1, "robustness": "pixel", "seed": range(4), **axes})
    record_attacked(results, "mine", trials, outcome=outcome)
    return panel(load(results, "mine").members)


def test_each_norm_has_each_lens_and_its_difference_from_none(results: Results):
    data = found(results)
    assert data["norm"].tolist() == [norm for norm in ("none", "batch", "group") for _ in LENSES]
    assert data["metric"].tolist() == [metric.column for metric in LENSES] * 3
    by_key = data.set_index(["norm", "metric"])
    for norm in ("batch", "group"):
        row = by_key.loc[(norm, "pgd_linf_acc")]
        assert row["difference"] == pytest.approx(row["mean"] - by_key.loc[("none", "pgd_linf_acc"), "mean"])
        assert row["low"] < row["difference"] < row["high"]
        assert (row["reference"], row["alternative"], row["n"]) == ("none", "less", 4)
    assert data.loc[data["norm"] == "none", "difference"].isna().all()


def test_holms_correction_is_over_the_whole_panel(results: Results):
    data = found(results)
    tested = data[data["p"].notna()]
    assert len(tested) > len(LENSES)
    assert tested["p_holm"].tolist() == pytest.approx(holm(tested["p"]).tolist())


def test_what_was_not_measured_is_said_to_be_so(results: Results):
    data = found(results).set_index(["norm", "metric"])
    assert not data.loc[("none", "corruption_error"), "measured"]
    assert np.isnan(data.loc[("none", "corruption_error"), "mean"])
    assert data.loc[("none", "pgd_l2_acc"), "measured"]


def test_over_several_cells_the_unit_is_the_seed(results: Results):
    data = found(results, k=(0.1, 0.3)).set_index(["norm", "metric"])
    assert data.loc[("batch", "mem_acc"), "n"] == 4


def halves_of(seeds: range) -> dict[str, Any]:
    return {"protocol": "splits", "models": 6, "seed": seeds}


def audited(trial: Trial, seed: int) -> Outcome:
    return {**plausible(trial, seed), "mia_attack": "lira_online"}


def test_of_one_d_the_models_count_but_not_for_membership(results: Results):
    data = found(results, audited, **halves_of(range(1))).set_index(["norm", "metric"])
    assert data.loc[("batch", "mem_acc"), "n"] == 6
    assert data.loc[("batch", "mia_auc"), "n"] == 1
    assert np.isnan(data.loc[("batch", "mia_auc"), "mean_low"])
    assert np.isnan(data.loc[("batch", "mia_auc"), "p"])


def test_of_several_d_each_counts_once_for_membership(results: Results):
    data = found(results, audited, **halves_of(range(3))).set_index(["norm", "metric"])
    assert data.loc[("batch", "mia_auc"), "n"] == 3
    assert data.loc[("batch", "mia_auc"), "mean_low"] < data.loc[("batch", "mia_auc"), "mean"]


def test_another_reference_is_tested_on_both_sides(results: Results):
    found(results)
    data = panel(load(results, "mine").members, "batch")
    assert data["norm"].iloc[0] == "batch"
    assert set(data["alternative"].dropna()) == {"two-sided"}
    with pytest.raises(BadInputError, match="layer"):
        panel(load(results, "mine").members, "layer")


def test_one_norm_is_no_panel():
    with pytest.raises(BadInputError, match="one level"):
        panel(frame(grid(norm="batch")))


def test_a_mean_has_the_interval_of_a_t_test():
    rows = pd.DataFrame({"seed": range(3), "model": 0, "weight_norm": [1.0, 2.0, 3.0]})
    mean = mean_over_seeds(rows, "weight_norm")
    # The 97.5% quantile of Student's t with 2 degrees of freedom is 4.3027, and the standard error 1 / sqrt 3.
    assert (mean.n, mean.mean) == (3, 2.0)
    assert (mean.low, mean.high) == (pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-4), pytest.approx(4.48414, abs=1e-4))
    alone = mean_over_seeds(rows[:1], "weight_norm")
    assert (alone.n, alone.mean, np.isnan(alone.low)) == (1, 1.0, True)
    assert mean_over_seeds(rows[:0], "weight_norm").n == 0
