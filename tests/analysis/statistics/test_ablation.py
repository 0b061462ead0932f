import numpy as np
import pandas as pd
import pytest

from analysis.metrics import select_metrics
from analysis.statistics.ablation import ablation
from study.errors import BadInputError
from study.trial import Trial
from tests.analysis.conftest import DIVERGED, Outcome, frame, grid

MEMORIZED = {"adam": (0.25, 0.75, 0.5), "sgd": (0.5, 0.75, None)}
TRIALS = grid(k=0.1, optimizer=("adam", "sgd"), seed=range(3))


def outcome(trial: Trial, seed: int) -> Outcome:
    memorized = MEMORIZED[trial.optimizer][seed]
    return DIVERGED if memorized is None else {"mem_acc": memorized, "clean_acc": 0.5}


def values(**of: float | None):
    """Members whose memorization and test accuracy depend on one setting's level alone."""

    def planted(trial: Trial, seed: int) -> Outcome:
        value = of[trial.optimizer]
        return DIVERGED if value is None else {"mem_acc": value, "test_acc": value}

    return frame(grid(k=0.1, optimizer=tuple(of), seed=(0, 1)), planted)


def best(table: pd.DataFrame, metric: str) -> list[str]:
    return table[(table["metric"] == metric) & table["best"]]["optimizer"].tolist()


def test_levels_worked_out_by_hand():
    """Adam's mean is 0.5, its deviations -0.25, 0.25 and 0 make sqrt(0.125 / 2) = 0.25.

    The two pairs differ by 0.25 and 0: mean 0.125, standard deviation 0.25 / sqrt 2, so d = 0.7071 and t = 1, which
    with one degree of freedom has p = 0.5; the interval is 12.7062 standard errors of 0.125 to either side.
    """
    table = ablation(frame(TRIALS, outcome), "optimizer", metrics=select_metrics(["mem_acc"]))
    adam, sgd = table.to_dict("records")
    assert (adam["optimizer"], adam["mean"], adam["n"], adam["excluded"], adam["best"]) == ("adam", 0.5, 3, 0, True)
    assert adam["sd"] == pytest.approx(0.25)
    assert pd.isna(adam["difference"])
    assert (sgd["mean"], sgd["n"], sgd["excluded"], sgd["pairs"], sgd["best"]) == (0.625, 2, 1, 2, False)
    assert (sgd["difference"], sgd["effect"], sgd["p"], sgd["p_holm"]) == pytest.approx(
        (0.125, 0.70711, 0.5, 0.5), 1e-4
    )
    assert (sgd["low"], sgd["high"]) == pytest.approx((0.125 - 1.58828, 0.125 + 1.58828), 1e-4)


def test_the_reference_can_be_named_and_comes_first():
    table = ablation(frame(TRIALS, outcome), "optimizer", "sgd", select_metrics(["mem_acc"]))
    assert table["optimizer"].tolist() == ["sgd", "adam"]
    assert table["difference"].tolist()[1] == -0.125


def test_the_best_leaks_least_and_is_most_accurate_and_those_that_tie_are_best_together():
    table = ablation(values(adam=0.5, adamw=0.25, sgd=0.5, rmsprop=None), "optimizer")
    assert best(table, "mem_acc") == ["adamw"]
    assert sorted(best(table, "test_acc")) == ["adam", "sgd"]
    assert best(table, "mia_auc") == []


def test_nothing_is_best_where_all_are_equal_or_there_is_one():
    assert not ablation(values(adam=0.5, sgd=0.5), "optimizer")["best"].any()
    assert not ablation(values(adam=0.5, sgd=None), "optimizer")["best"].any()


def test_over_all_cells_the_unit_is_the_seed():
    def planted(trial: Trial, seed: int) -> Outcome:
        return {"mem_acc": seed + trial.k + (0.1 * (1 + seed) if trial.norm == "batch" else 0)}

    members = frame(grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3)), planted)
    none, batch = ablation(members, "norm", metrics=select_metrics(["mem_acc"]), marginal=True).to_dict("records")
    assert (none["n"], none["mean"], none["sd"]) == pytest.approx((3, 1.2, 1.0))  # 0.2, 1.2, 2.2
    assert (batch["pairs"], batch["difference"], batch["effect"]) == pytest.approx((3, 0.2, 2.0))  # 0.1, 0.2, 0.3
    cells = ablation(members, "norm", metrics=select_metrics(["mem_acc"]))
    assert cells[["k", "norm", "n"]].to_numpy().tolist() == [
        [k, norm, 3] for k in (0.1, 0.3) for norm in ("none", "batch")
    ]
    assert np.allclose(cells["p_holm"].dropna(), 2 * cells["p"].dropna())


def test_means_over_different_cells_are_not_held_against_each_other():
    def planted(trial: Trial, seed: int) -> Outcome:
        return DIVERGED if (trial.k, trial.norm) == (0.3, "none") else {"mem_acc": trial.k + 0.1 * seed}

    table = ablation(frame(grid(k=(0.1, 0.3), norm=("batch", "none"), seed=(0, 1)), planted), "norm", marginal=True)
    assert not table["best"].any()
    assert table[table["metric"] == "mem_acc"]["excluded"].tolist() == [2, 0]


def test_one_seed_has_a_mean_and_a_difference_and_no_test():
    table = ablation(frame(grid(k=0.1, norm=("batch", "none"), seed=0)), "norm")
    assert table["difference"].notna().sum() == 5
    assert table[["sd", "low", "p", "p_holm", "effect"]].isna().all(axis=None)


def test_a_level_that_is_switched_off_is_held_against_every_cell_of_the_others():
    members = frame(grid(k=0, seed=(0, 1)) + grid(k=0.1, corruption=("label", "ood"), seed=(0, 1)))
    table = ablation(members, "k", metrics=select_metrics(["clean_acc"]))
    assert table[["corruption", "k", "n"]].to_numpy().tolist() == [
        [corruption, k, 2] for corruption in ("label", "ood") for k in (0.0, 0.1)
    ]


def test_a_missing_pair_is_refused_unless_part_of_the_grid_will_do():
    members = frame(TRIALS, outcome).iloc[:-2]
    with pytest.raises(BadInputError, match="no partner"):
        ablation(members, "optimizer")
    assert ablation(members, "optimizer", partial=True)["pairs"].dropna().tolist()[0] == 1
