import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.metrics import select_metrics
from analysis.statistics.factorial import effects, fit
from study.errors import BadInputError
from study.trial import Trial
from tests.analysis.conftest import DIVERGED, Outcome, frame, grid

AXES = {
    "k": (0.1, 0.3),
    "norm": ("batch", "group", "none"),
    "optimizer": ("adam", "rmsprop", "sgd"),
    "lr": (1e-4, 1e-3),
}
MEMORIZATION = select_metrics(["mem_acc"])
SGD, BATCH, BOTH = 0.1, 0.3, 0.06
"""What is planted: sgd over adam, batch norm over none, and what sgd adds where there is batch norm."""


def planted(trial: Trial, seed: int, spread: float = 0.05) -> Outcome:
    noise = np.random.default_rng([seed, int(trial.id[:8], 16)]).normal()
    sgd, batch = trial.optimizer == "sgd", trial.norm == "batch"
    mean = SGD * sgd + BATCH * batch + BOTH * (sgd and batch)
    return {"mem_acc": 0.2 + 0.2 * seed + mean + spread * noise}


def of(table: pd.DataFrame, axis: str, level: object, norm: str | None = None) -> pd.Series:
    rows = table[(table["axis"] == axis) & (table["level"] == level)]
    rows = rows[rows["norm"].isna()] if norm is None else rows[rows["norm"] == norm]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.fixture(scope="module")
def members() -> pd.DataFrame:
    return frame(grid(**AXES, seed=range(4)), planted)


@pytest.fixture(scope="module")
def table(members: pd.DataFrame) -> pd.DataFrame:
    found, notes = effects(members, MEMORIZATION)
    assert notes == []
    return found


def test_what_was_planted_is_within_the_intervals(table: pd.DataFrame):
    # Averaged over three norms, a third of the members have what sgd adds with batch norm; and the other way round.
    expected = {
        ("optimizer", "sgd", None): SGD + BOTH / 3,
        ("optimizer", "sgd", "batch"): BOTH,
        ("optimizer", "sgd", "group"): 0,
        ("norm", "batch", None): BATCH + BOTH / 3,
        ("norm", "group", None): 0,
        ("lr", 1e-3, None): 0,
        ("k", 0.3, "batch"): 0,
    }
    for key, effect in expected.items():
        row = of(table, *key)
        assert row["low"] < effect < row["high"], key
        assert row["high"] - row["low"] < 0.12  # the seeds, 0.2 apart, are not in it
    assert of(table, "norm", "batch")["p_holm"] < 1e-6
    assert len(table) == (1 + 2 + 2 + 1) + 2 * (1 + 2 + 1)


def test_where_the_design_is_balanced_an_effect_is_the_difference_of_marginal_means(members, table):
    for axis, levels in AXES.items():
        means = members.groupby(axis)["mem_acc"].mean()
        for level in levels:
            if level != "none" and level != table[table["axis"] == axis]["reference"].iloc[0]:
                reference = of(table, axis, level)["reference"]
                assert of(table, axis, level)["effect"] == pytest.approx(means[level] - means[reference], abs=1e-8)
    means = members.groupby(["optimizer", "norm"])["mem_acc"].mean()
    gained = {norm: means["sgd", norm] - means["adam", norm] for norm in AXES["norm"]}
    found = of(table, "optimizer", "sgd", "batch")["effect"]
    assert found == pytest.approx(gained["batch"] - gained["none"], abs=1e-8)


def test_a_balanced_interval_is_that_of_the_analysis_of_variance(members, table):
    # Two-way, seeds as blocks: what is left after seeds and the model, over its degrees of freedom.
    design = pd.get_dummies(members[["norm", "k", "optimizer", "lr", "seed"]].astype(str), drop_first=True)
    crossed = pd.DataFrame(
        {
            (norm, column): design[f"norm_{norm}"] & design[column]
            for norm in ("group", "none")
            for column in design
            if not column.startswith(("norm", "seed"))
        }
    )
    columns = np.column_stack([np.ones(len(members)), design, crossed]).astype(float)
    rest = members["mem_acc"] - columns @ np.linalg.lstsq(columns, members["mem_acc"])[0]
    freedom = len(members) - columns.shape[1]
    error = np.sqrt(rest @ rest / freedom * 2 / (len(members) / 2))
    row = of(table, "lr", 1e-3)
    assert row["high"] - row["low"] == pytest.approx(2 * stats.t.ppf(0.975, freedom) * error, rel=1e-3)


def test_of_null_effects_one_in_twenty_is_called_one():
    draws, generator = 1000, np.random.default_rng(0)
    columns = np.column_stack([np.ones(24), np.tile([0, 1], 12), np.repeat([0, 1], 12)]).astype(float)
    found = [fit(generator.normal(size=24), columns, np.zeros(24)) for _ in range(draws)]
    t = np.array([one.coefficients[1] / np.sqrt(one.covariance[1, 1]) for one in found])
    low, high = stats.binom.interval(0.99, draws, 0.05)
    assert low <= (2 * stats.t.sf(np.abs(t), found[0].freedom) < 0.05).sum() <= high


def test_with_one_seed_it_is_least_squares_and_says_so():
    table, notes = effects(frame(grid(**AXES, seed=0), planted), MEMORIZATION)
    assert notes == ["memorization: least squares without a random intercept: there is one seed."]
    assert of(table, "norm", "batch")["low"] < BATCH + BOTH / 3 < of(table, "norm", "batch")["high"]


def test_with_seeds_that_make_no_difference_it_is_least_squares_and_says_so():
    def alike(trial: Trial, seed: int) -> Outcome:
        return {"mem_acc": 0.1 * (seed % 2) * (-1) ** (trial.norm == "none")}

    _, notes = effects(frame(grid(norm=("batch", "none"), k=(0.1, 0.3), lr=(1e-4, 1e-3), seed=range(4)), alike))
    assert "the seeds' variance is next to zero." in notes[0]


def test_where_nothing_is_left_to_chance_there_is_no_interval():
    found, notes = effects(
        frame(grid(**AXES, seed=0), lambda *member: {"mem_acc": planted(*member, spread=0)["mem_acc"]})
    )
    assert of(found, "norm", "batch")["effect"] == pytest.approx(BATCH + BOTH / 3)
    assert found[["low", "high", "p", "p_holm"]].isna().all(axis=None)
    assert notes == ["memorization: nothing is left to chance, so no interval."]


def test_a_setting_that_only_one_norm_has_gets_an_effect_but_no_interaction():
    regularized = grid(k=(0.1, 0.3), norm="batch", regularizer="hinge", alpha=0.9, seed=range(3))
    trials = grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3)) + regularized

    def outcome(trial: Trial, seed: int) -> Outcome:
        return {"mem_acc": planted(trial, seed)["mem_acc"] - 0.2 * (trial.alpha < 1)}

    members = frame(trials, outcome)
    table, notes = effects(members, MEMORIZATION)
    batch = members[members["norm"] == "batch"].groupby("alpha")["mem_acc"].mean()
    assert of(table, "alpha", 1.0)["effect"] == pytest.approx(batch[1.0] - batch[0.9], abs=1e-6)
    assert notes == [
        "memorization: alpha has no interaction with the norm, for not all of its levels are there with every norm."
    ]
    assert len(table) == 3 + 1


def test_what_the_grid_can_not_tell_apart_is_missing():
    trials = grid(norm="batch", lr=1e-4, k=0.1, seed=range(3)) + grid(norm="none", lr=1e-3, k=0.1, seed=range(3))
    table, _ = effects(frame(trials, planted), MEMORIZATION)
    assert table["effect"].isna().all()
    assert table["n"].tolist() == [6, 6]


def test_members_without_a_result_are_counted():
    def outcome(trial: Trial, seed: int) -> Outcome:
        return DIVERGED if (trial.lr, trial.norm, seed) == (1e-3, "batch", 1) else planted(trial, seed)

    table, _ = effects(
        frame(grid(norm=("batch", "none"), lr=(1e-4, 1e-3), k=0.1, seed=range(3)), outcome), MEMORIZATION
    )
    assert set(zip(table["n"], table["excluded"], strict=True)) == {(11, 1)}


def test_one_cell_has_no_effects():
    with pytest.raises(BadInputError, match="no effect to estimate"):
        effects(frame(grid(k=0.1, seed=range(3))))
