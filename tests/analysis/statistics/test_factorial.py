import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.metrics import select_metrics
from analysis.statistics.factorial import effects
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
    assert of(table, "norm", "batch")["p"] < 1e-3
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


def test_a_balanced_interval_is_that_of_the_effect_over_seeds(members, table):
    # In a mixed model with a random slope an effect's error is its mean square by seed.
    by_seed = members.groupby(["seed", "lr"])["mem_acc"].mean().unstack()
    wanted = stats.ttest_1samp(by_seed[1e-3] - by_seed[1e-4], 0)
    row, interval = of(table, "lr", 1e-3), wanted.confidence_interval(0.95)
    assert (row["low"], row["high"], row["p"]) == pytest.approx((interval.low, interval.high, wanted.pvalue))


@pytest.mark.slow
def test_where_an_effect_varies_over_seeds_its_interval_holds_the_mean():
    """Without a random slope these intervals, at 95%, hold it in .77 of cases."""
    draws, generator = 150, np.random.default_rng(0)
    members = frame(grid(norm=("batch", "none"), lr=(1e-4, 1e-3), k=(0.1, 0.3), seed=range(5)), planted)
    batch, seeds = (members["norm"] == "batch").to_numpy(), members["seed"].to_numpy()
    held = 0
    for _ in range(draws):
        of_seed, slope = 0.1 * generator.normal(size=5), 0.05 * generator.normal(size=5)
        noise = 0.02 * generator.normal(size=len(members))
        drawn = members.assign(mem_acc=0.3 + of_seed[seeds] + batch * (BATCH + slope[seeds]) + noise)
        row = of(effects(drawn, MEMORIZATION)[0], "norm", "batch")
        held += row["low"] <= BATCH <= row["high"]
    assert held >= stats.binom.ppf(0.005, draws, 0.95)


def test_losses_that_depend_on_a_level_are_told_and_others_are_not():
    def diverging(at: float) -> pd.DataFrame:
        def outcome(trial: Trial, seed: int) -> Outcome:
            corner = (trial.norm, trial.lr) == ("none", 1e-3)
            spread_out = int(trial.id[:4], 16) % 5 == seed
            return DIVERGED if (corner and seed > at if at < 4 else spread_out) else planted(trial, seed)

        return frame(grid(norm=("batch", "none"), lr=(1e-4, 1e-3), k=(0.1, 0.2, 0.3), seed=range(5)), outcome)

    _, notes = effects(diverging(1), MEMORIZATION)
    assert notes[-1].startswith("9 of 15 members are lost at norm=none lr=0.001, and 0 of 45 elsewhere (p 5.8e-06)")
    everywhere = diverging(4)
    assert (everywhere["status"] != "ok").sum() == 12
    assert not any("lost" in note for note in effects(everywhere, MEMORIZATION)[1])


@pytest.mark.slow
def test_of_null_effects_one_in_twenty_is_called_one_within_one_seed_too():
    draws, generator = 200, np.random.default_rng(0)
    members = frame(grid(norm=("batch", "none"), lr=(1e-4, 1e-3), k=(0.1, 0.2, 0.3), seed=0), planted)
    found = [
        of(effects(members.assign(mem_acc=generator.normal(size=len(members))), MEMORIZATION)[0], "lr", 1e-3)["p"]
        for _ in range(draws)
    ]
    low, high = stats.binom.interval(0.99, draws, 0.05)
    assert low <= (np.array(found) < 0.05).sum() <= high


def test_one_seed_has_intervals_that_are_conditional_on_it_and_it_is_said():
    table, notes = effects(frame(grid(**AXES, seed=0), planted), MEMORIZATION)
    assert notes == ["memorization: there is one seed, so that intervals are conditional on it."]
    assert of(table, "norm", "batch")["low"] < BATCH + BOTH / 3 < of(table, "norm", "batch")["high"]


def test_an_effect_that_a_seed_does_not_tell_is_that_of_the_others():
    def outcome(trial: Trial, seed: int) -> Outcome:
        return DIVERGED if (trial.lr, seed) == (1e-3, 2) else planted(trial, seed)

    members = frame(grid(norm=("batch", "none"), lr=(1e-4, 1e-3), k=(0.1, 0.3), seed=range(4)), outcome)
    table, notes = effects(members, MEMORIZATION)
    assert notes[0] == "memorization: some effects are told by 3 of 4 seeds."
    others = members[members["seed"] != 2].groupby("lr")["mem_acc"].mean()
    assert of(table, "lr", 1e-3)["effect"] == pytest.approx(others[1e-3] - others[1e-4])


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
