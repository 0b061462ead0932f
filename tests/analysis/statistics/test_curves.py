from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.load import load
from analysis.metrics import select_metrics
from analysis.statistics.curves import curves
from study.errors import BadInputError
from study.record.results import Results
from tests.analysis.conftest import DIVERGED, grid, plan, rows, shard

TRIALS = grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3))


def write(results: Results, lost: int | None = None) -> None:
    """Two points a member: the seed, and the seed plus 10 k; a member of the last trial may have diverged."""
    plan(results, TRIALS)
    for trial in TRIALS:
        diverged = lost if trial == TRIALS[-1] else None
        members = rows(trial, lambda _, seed, diverged=diverged: DIVERGED if seed == diverged else {"mem_acc": 0.5})
        points = [
            {"trial": trial.id, "member": seed, "epoch": epoch, "mem_acc": seed + (10 * trial.k if epoch == 4 else 0)}
            for seed in trial.seed
            for epoch in (2, 4)
            if seed != diverged
        ]
        results.write("mine", trial.id, {"members": members, "epochs": points})


def test_each_epoch_of_a_cell_is_a_mean_over_its_seeds(results: Results):
    write(results, lost=2)
    table = curves(load(results, "mine"), results, select_metrics(["mem_acc", "mia_auc"]))
    assert list(table.columns) == ["k", "norm", "epoch", "mem_acc_mean", "mem_acc_sd", "n", "excluded"]
    assert table.iloc[[0, 1, 3]].to_numpy().tolist() == [
        [0.1, "batch", 2, 1.0, 1.0, 3, 0],
        [0.1, "batch", 4, 2.0, 1.0, 3, 0],
        [0.1, "none", 4, 2.0, 1.0, 3, 0],
    ]
    last = table.iloc[-1]
    assert last.tolist()[:4] == [0.3, "none", 4, 3.5]
    assert (last["mem_acc_sd"], last["n"], last["excluded"]) == (pytest.approx(0.5**0.5), 2, 1)
    assert len(table) == 8


@pytest.mark.parametrize("members", [1, 4, 6])
def test_curves_are_the_same_however_many_are_read_at_once(members: int, results: Results, monkeypatch):
    write(results, lost=2)
    loaded = load(results, "mine")
    at_once = curves(loaded, results, select_metrics(["mem_acc"]))
    monkeypatch.setattr("analysis.statistics.curves.MEMBERS_AT_ONCE", members)
    pd.testing.assert_frame_equal(curves(loaded, results, select_metrics(["mem_acc"])), at_once)


def test_a_curve_that_is_missing_or_doubled_is_refused(results: Results):
    write(results)
    place = shard(results, TRIALS[0]).parents[1] / "epochs" / f"{TRIALS[0].id}.parquet"
    rows = pq.read_table(place)
    pq.write_table(pa.concat_tables([rows, rows]), place)
    with pytest.raises(BadInputError, match=f"3 members have an epoch twice in their curve, such as {TRIALS[0].id}/0"):
        curves(load(results, "mine"), results)
    place.unlink()
    with pytest.raises(BadInputError, match=f"3 members have no curve, such as {TRIALS[0].id}/0"):
        curves(load(results, "mine"), results)


def test_what_is_measured_at_the_end_has_no_curve(results: Results):
    write(results)
    with pytest.raises(BadInputError, match="mia_auc has no curve"):
        curves(load(results, "mine"), results, select_metrics(["mia_auc"]))


def test_one_setting_that_varies_is_enough(results: Results):
    write(results)
    loaded = load(results, "mine")
    alone = replace(loaded, members=loaded.members[loaded.members["k"] == 0.1])
    table = curves(alone, results, select_metrics(["mem_acc"]))
    assert table["norm"].tolist() == ["batch", "batch", "none", "none"]
    assert table["epoch"].tolist() == [2, 4, 2, 4]
