import dataclasses
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.metrics import METRICS, select_metrics
from analysis.statistics.paired import PairedTest, compare, holm, paired_test, units_note
from study.errors import BadInputError
from study.trial import Trial
from tests.analysis.conftest import DIVERGED, Outcome, frame, grid

ALTERNATIVES = ("greater", "less", "two-sided")
MEASURED = ["difference", "low", "high", "effect", "p"]
GRID = grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3))
DIFFERENCES = {0.1: (0.1, 0.2, 0.3), 0.3: (0.4, 0.4, 0.7)}
"""Memorization with batch norm less that without, by k and seed."""


def planted(trial: Trial, seed: int) -> Outcome:
    """The differences above in memorization, on top of what the seed does to every member that has it."""
    shared = 0.01 * 3**seed + trial.k
    others = dict.fromkeys(("clean_acc", "test_acc", "mia_auc"), shared)
    if trial.k == 0:
        return others
    memorized = shared + (DIFFERENCES[trial.k][seed] if trial.norm == "batch" else 0.0)
    return {**others, "mem_acc": memorized, "true_label_acc": 1 - memorized}


def of(table: pd.DataFrame, metric: str = "mem_acc", **cell: object) -> pd.Series:
    """The one row of a metric in a cell; a setting that is None is that of the row over all cells."""
    found = table[table["metric"] == metric]
    for name, value in cell.items():
        found = found[found[name].isna() if value is None else found[name] == value]
    assert len(found) == 1
    return found.iloc[0]


def refusal(members: pd.DataFrame, factor: str = "norm", reference: str | None = None) -> str:
    with pytest.raises(BadInputError) as caught:
        compare(members, factor, reference)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The test itself


def test_three_pairs_worked_out_by_hand():
    # Differences 0.1, 0.2, 0.3: mean 0.2, standard deviation sqrt((0.01 + 0 + 0.01) / 2) = 0.1, so d = 2 and
    # t = 0.2 / (0.1 / sqrt 3) = 2 sqrt 3. With 2 degrees of freedom P(T < t) = 1/2 + t / (2 sqrt(2 + t^2)), which here
    # is 1/2 + sqrt 3 / sqrt 14; and t(97.5%) = 4.30265, so the interval is 0.2 +- 4.30265 * 0.1 / sqrt 3.
    arm, reference = np.array([0.9, 0.8, 1.0]), np.array([0.8, 0.6, 0.7])
    below = 0.5 + math.sqrt(3 / 14)
    for alternative, p in {"greater": 1 - below, "less": below, "two-sided": 2 * (1 - below)}.items():
        found = paired_test(arm, reference, alternative)
        assert found.n == 3
        assert found.difference == pytest.approx(0.2)
        assert found.effect == pytest.approx(2)
        assert found.p == pytest.approx(p)
        assert (found.low, found.high) == pytest.approx((0.2 - 0.248414, 0.2 + 0.248414), abs=1e-6)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30).filter(
        lambda pairs: np.ptp([arm - reference for arm, reference in pairs]) > 1e-6
    ),
    st.sampled_from(ALTERNATIVES),
)
def test_the_test_is_the_paired_one_of_scipy(pairs: list[tuple[float, float]], alternative: str):
    arm, reference = np.array(pairs).T
    found, expected = paired_test(arm, reference, alternative), stats.ttest_rel(arm, reference, alternative=alternative)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    two_sided = stats.ttest_rel(arm, reference).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((two_sided.low, two_sided.high))


def test_one_sided_tests_look_the_way_that_they_say():
    low, high = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5, 0.7, 0.6, 0.9])
    assert paired_test(high, low, "greater").p < 0.05
    assert paired_test(low, high, "greater").p > 0.95
    assert paired_test(high, low, "less").p > 0.95
    assert paired_test(low, high, "less").p < 0.05


def test_where_the_arms_do_not_differ_one_test_in_twenty_says_that_they_do():
    draws = 1000
    generator = np.random.default_rng(0)
    # What a seed does to both members of a pair is far larger than what is their own, and must not matter.
    shared = generator.normal(size=(draws, 1, 5))
    arms = shared + 0.1 * generator.normal(size=(draws, 2, 5))
    low, high = stats.binom.interval(0.99, draws, 0.05)
    for alternative in ("greater", "two-sided"):
        found = [paired_test(arm, reference, alternative) for arm, reference in arms]
        assert low <= sum(test.p < 0.05 for test in found) <= high
        assert low <= sum(not test.low <= 0 <= test.high for test in found) <= high


@pytest.mark.parametrize(
    ("arm", "reference", "expected"),
    [
        ([], [], PairedTest(0)),
        ([0.75], [0.5], PairedTest(1, difference=0.25)),
        ([0.5, 0.25, 1.0], [0.5, 0.25, 1.0], PairedTest(3, difference=0.0)),
        ([0.75, 0.5, 1.0], [0.5, 0.25, 0.75], PairedTest(3, difference=0.25)),
        ([1.0, 1.0], [0.0, 0.0], PairedTest(2, difference=1.0)),
    ],
)
def test_pairs_without_spread_have_a_difference_but_no_p(arm: list, reference: list, expected: PairedTest):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paired_test(np.array(arm), np.array(reference), "greater") == expected


def test_a_spread_of_mere_rounding_is_none():
    # In binary, 0.3 - 0.1, 0.5 - 0.3 and 0.9 - 0.7 differ in their last digits.
    found = paired_test(np.array([0.3, 0.5, 0.9]), np.array([0.1, 0.3, 0.7]), "two-sided")
    assert found.difference == pytest.approx(0.2)
    assert (found.p, found.low, found.effect) == (None, None, None)


# Holm's correction


def test_holm_worked_out_by_hand():
    # In order: 0.005 x 4 = 0.02, 0.01 x 3 = 0.03, 0.03 x 2 = 0.06, and 0.04 x 1 = 0.04, which may not fall below 0.06.
    corrected = holm(pd.Series([0.01, 0.04, None, 0.03, 0.005], index=[7, 3, 5, 1, 2], dtype=float))
    assert corrected.tolist() == pytest.approx([0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True)
    assert corrected.index.tolist() == [7, 3, 5, 1, 2]


def test_holm_is_that_of_statsmodels():
    p_values = np.random.default_rng(0).choice(np.linspace(0, 0.3, 20), 30)  # with ties
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(pd.Series(p_values)), expected, rtol=1e-12)


def test_holm_stays_a_probability_and_leaves_one_p_as_it_is():
    assert holm(pd.Series([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(pd.Series([0.2, None], dtype=float)).tolist() == pytest.approx([0.2, math.nan], nan_ok=True)
    assert holm(pd.Series([None, None], dtype=float)).isna().all()


# A whole comparison


def test_every_cell_and_all_of_them_are_tested_over_matching_seeds():
    table = compare(frame(GRID, planted), "norm")
    assert len(table) == len(METRICS) * 3
    # Over all cells a seed counts once, with its mean over them.
    of_seeds = [(low + high) / 2 for low, high in zip(DIFFERENCES[0.1], DIFFERENCES[0.3], strict=True)]
    for k, differences in [*DIFFERENCES.items(), (None, of_seeds)]:
        row, expected = of(table, k=k), stats.ttest_1samp(differences, 0, alternative="greater")
        assert (row["arm"], row["reference"], row["n"], row["excluded"]) == ("batch", "none", len(differences), 0)
        assert row["difference"] == pytest.approx(np.mean(differences))
        assert row["effect"] == pytest.approx(np.mean(differences) / np.std(differences, ddof=1))
        assert row["p"] == pytest.approx(expected.pvalue)


def test_the_correction_is_over_all_cells_and_apart_from_the_rows_over_them():
    table = compare(frame(GRID, planted), "norm")
    for part in (table[table["k"].notna()], table[table["k"].isna()]):
        pd.testing.assert_series_equal(part["p_holm"], holm(part["p"]), check_names=False)
    # Memorization and true label; the other metrics are equal in both arms.
    cells = table[table["k"].notna() & table["p"].notna()]
    assert len(cells) == 4
    assert cells["p_holm"].min() == pytest.approx(4 * cells["p"].min())


def test_cells_that_repeat_each_other_make_no_p_smaller():
    def outcome(trial: Trial, seed: int) -> Outcome:
        return planted(dataclasses.replace(trial, k=0.1), seed)

    one = compare(frame(grid(k=0.1, norm=("batch", "none"), seed=range(3)), outcome), "norm")
    many = compare(frame(grid(k=(0.1, 0.2, 0.3), norm=("batch", "none"), seed=range(3)), outcome), "norm")
    assert of(many, k=None)["p"] == pytest.approx(of(one)["p"])


def test_pairs_are_found_by_cell_and_seed_and_not_by_their_place():
    members = frame(GRID, planted)
    expected = compare(members, "norm")
    for seed in range(3):
        shuffled = members.sample(frac=1, random_state=seed)
        pd.testing.assert_frame_equal(compare(shuffled, "norm"), expected)


def test_what_a_seed_does_to_both_arms_cancels():
    def shifted(trial: Trial, seed: int) -> Outcome:
        return {name: value + 10 * (seed - 1) for name, value in planted(trial, seed).items()}

    expected, found = (compare(frame(GRID, outcome), "norm") for outcome in (planted, shifted))
    pd.testing.assert_frame_equal(found[MEASURED], expected[MEASURED], check_exact=False, rtol=1e-9, atol=1e-12)
    assert found["p"].notna().sum() == 6


def test_diverged_members_are_left_out_with_their_partners_and_counted():
    def outcome(trial: Trial, seed: int) -> Outcome:
        return DIVERGED if (trial.k, seed) == (0.3, 1) or (trial.norm, seed) == ("none", 2) else planted(trial, seed)

    table = compare(frame(GRID, outcome), "norm")
    for metric in METRICS:
        assert [of(table, metric.column, k=k)["excluded"] for k in (0.1, 0.3, None)] == [1, 2, 3]
        assert [of(table, metric.column, k=k)["n"] for k in (0.1, 0.3, None)] == [2, 1, 1]
    assert of(table, k=0.1)["difference"] == pytest.approx((0.1 + 0.2) / 2)


def test_clean_members_have_no_memorization_to_test_and_are_not_counted_as_excluded():
    table = compare(frame(grid(k=(0, 0.1), norm=("batch", "none"), seed=range(3)), planted), "norm")
    assert of(table, k=0)[["n", "excluded"]].tolist() == [0, 0]
    assert of(table, k=None)[["n", "excluded"]].tolist() == [3, 0]
    assert of(table, "clean_acc", k=None)["n"] == 3


def test_a_comparison_within_one_cell_has_one_row_a_metric():
    table = compare(frame(grid(k=0.1, norm=("batch", "none"), seed=range(3)), planted), "norm")
    assert table["metric"].tolist() == [metric.column for metric in METRICS]
    assert of(table)["difference"] == pytest.approx(0.2)


def test_one_seed_has_differences_but_no_test():
    table = compare(frame(grid(k=(0.1, 0.3), norm=("batch", "none"), seed=0), planted), "norm")
    assert of(table, k=0.1)["difference"] == pytest.approx(0.1)
    assert of(table, k=0.1)[["low", "high", "effect", "p", "p_holm"]].isna().all()
    assert of(table, k=None)["n"] == 1


# Partners


def alone() -> pd.DataFrame:
    """The grid without one of its members."""
    members = frame(GRID, planted)
    missing = (members["k"] == 0.3) & (members["norm"] == "none") & (members["seed"] == 2)
    assert missing.sum() == 1
    return members[~missing]


def test_a_member_without_a_partner_is_refused_by_name():
    message = refusal(alone())
    assert message.startswith("1 members have no partner across norm=batch and norm=none, such as k=0.3, seed=2")
    assert "--partial" in message


def test_a_member_without_a_partner_is_left_out_and_counted_if_that_was_asked_for():
    table = compare(alone(), "norm", partial=True)
    assert of(table, k=0.1)[["n", "excluded"]].tolist() == [3, 0]
    assert of(table, k=0.3)[["n", "excluded"]].tolist() == [2, 1]
    assert of(table, k=0.3)["difference"] == pytest.approx(0.4)
    assert of(table, k=None)[["n", "excluded"]].tolist() == [2, 1]


def test_arms_that_share_no_cell_leave_nothing_to_test():
    members = frame(grid(k=0.1, norm="batch", seed=range(3)) + grid(k=0.3, norm="none", seed=range(3)), planted)
    assert "6 members have no partner" in refusal(members)
    table = compare(members, "norm", partial=True)
    assert set(table["n"]) == {0}
    assert of(table, k=None)["excluded"] == 6


# Factors, references and alternatives


def test_norms_are_held_against_none_in_the_direction_that_the_paper_claims():
    members = frame(grid(k=0.1, norm=("none", "layer", "batch"), seed=range(3)), planted)
    table = compare(members, "norm")
    assert table["arm"].unique().tolist() == ["batch", "layer"]
    assert set(table["reference"]) == {"none"}
    assert {metric.column: metric.alternative for metric in METRICS} == dict(
        table[["metric", "alternative"]].drop_duplicates().itertuples(index=False, name=None)
    )
    assert of(table, "mem_acc", arm="batch")["alternative"] == "greater"
    assert of(table, "true_label_acc", arm="batch")["alternative"] == "less"


def test_nothing_else_has_a_direction():
    members = frame(grid(k=0.1, norm=("none", "batch"), lr=(1e-3, 1e-4), seed=range(3)), planted)
    assert set(compare(members, "norm", "batch")["alternative"]) == {"two-sided"}
    assert set(compare(members, "lr")["alternative"]) == {"two-sided"}


def test_an_alternative_that_the_user_names_holds_for_every_metric():
    members = frame(GRID, planted)
    table, other = (compare(members, "norm", alternative=alternative) for alternative in ("less", "greater"))
    assert set(table["alternative"]) == {"less"}
    assert of(table, k=None)["p"] == pytest.approx(1 - of(other, k=None)["p"])


def test_turning_the_comparison_round_turns_the_signs():
    members = frame(GRID, planted)
    forth, back = (compare(members, "norm", reference, "two-sided") for reference in ("none", "batch"))
    assert set(back["arm"]) == {"none"}
    np.testing.assert_allclose(back["difference"], -forth["difference"])
    np.testing.assert_allclose(back["low"], -forth["high"])
    np.testing.assert_allclose(back["p"], forth["p"])


def test_each_of_several_arms_is_tested_in_each_cell():
    norms = ("batch", "none", "group", "instance")
    table = compare(frame(grid(k=(0.1, 0.3), norm=norms, seed=range(3)), planted), "norm")
    assert len(table) == len(METRICS) * 3 * 3
    assert of(table, arm="batch", k=0.3)["difference"] == pytest.approx(0.5)
    assert of(table, arm="group", k=0.3)["difference"] == 0


def test_a_numeric_factor_is_held_against_its_smallest_level():
    def by_lr(trial: Trial, seed: int) -> Outcome:
        return {"test_acc": 0.5 + 0.01 * seed + {1e-4: 0, 1e-3: 0.1, 1e-2: 0.2}[trial.lr] * (1 + seed)}

    table = compare(frame(grid(lr=(1e-2, 1e-4, 1e-3), k=0.1, seed=range(3)), by_lr), "lr")
    assert set(table["reference"]) == {1e-4}
    assert of(table, "test_acc", arm=1e-3)["difference"] == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert of(table, "test_acc", arm=1e-2)["difference"] == pytest.approx((0.2 + 0.4 + 0.6) / 3)


def rising_with_k(trial: Trial, seed: int) -> Outcome:
    return {"clean_acc": 0.5 + trial.k * (1 + seed)}


def test_the_reference_may_be_spelled_as_in_a_sweep():
    members = frame(grid(k=(0, 0.1, 0.3), lr=(1e-3, 1e-5), seed=range(3)), rising_with_k)
    for spelled, level in {"0": 0.0, "0.10": 0.1, "3e-1": 0.3}.items():
        assert set(compare(members, "k", spelled)["reference"]) == {level}
    assert set(compare(members, "lr", "0.00001")["reference"]) == {1e-5}


def test_clean_members_are_the_partners_of_corrupted_ones():
    # Without corruption there is nothing to corrupt by: k=0 has corruption=none, and is still the same cell's partner.
    members = frame(grid(k=(0, 0.1, 0.3), norm=("batch", "none"), seed=range(3)), rising_with_k)
    table = compare(members, "k")
    assert of(table, "clean_acc", arm=0.1, norm="batch")["difference"] == pytest.approx(0.1 * 2)
    assert of(table, "clean_acc", arm=0.3, norm=None)[["n", "reference"]].tolist() == [3, 0.0]
    against_some = compare(members, "k", "0.1")
    assert of(against_some, "clean_acc", arm=0.0, norm="none")["difference"] == pytest.approx(-0.1 * 2)
    assert of(against_some, "clean_acc", arm=0.3, norm="none")["difference"] == pytest.approx(0.2 * 2)


@pytest.mark.parametrize("corruption", ["label", "ood"])
def test_whatever_corrupts_a_member_its_partner_is_the_clean_one(corruption: str):
    members = frame(grid(k=(0, 0.1), corruption=corruption, seed=range(3)), rising_with_k)
    for factor in ("k", "corruption"):
        row = of(compare(members, factor), "clean_acc")
        assert (row["n"], row["difference"]) == (3, pytest.approx(0.1 * 2))


def test_corruptions_are_partners_at_the_same_k():
    members = frame(grid(k=(0.1, 0.3), corruption=("label", "ood"), seed=range(3)), rising_with_k)
    table = compare(members, "corruption")
    assert set(table["arm"] + " " + table["reference"]) == {"ood label"}
    assert of(table, "clean_acc", k=0.3)[["n", "difference"]].tolist() == [3, 0]


def test_corruption_is_held_against_none_at_each_k():
    members = frame(grid(k=(0, 0.1, 0.3), seed=range(3)), rising_with_k)
    table = compare(members, "corruption")
    assert set(table["arm"] + " " + table["reference"]) == {"label none"}
    for k in (0.1, 0.3):
        assert of(table, "clean_acc", k=k)["difference"] == pytest.approx(k * 2)
    assert of(table, "clean_acc", k=None)["n"] == 3


def test_a_regularizer_is_held_against_none_whatever_its_weight():
    trials = grid(k=0.1, alpha=(0.9, 1), regularizer="hinge", seed=range(3))
    members = frame(trials, lambda trial, seed: {"mem_acc": trial.alpha * (1 + seed)})
    assert of(compare(members, "regularizer"), alpha=0.9)["difference"] == pytest.approx(-0.1 * 2)
    by_weight = compare(members, "alpha", "1", "less")
    assert of(by_weight, arm=0.9)["difference"] == pytest.approx(-0.1 * 2)


def test_a_clean_member_without_a_partner_is_still_refused():
    members = frame(grid(k=(0, 0.1), norm="batch", seed=range(3)) + grid(k=0.1, norm="none", seed=range(3)), planted)
    assert "3 members have no partner across k=0.1 and k=0, such as norm=none, seed=0" in refusal(members, "k")


@pytest.mark.parametrize(
    ("factor", "reference", "said"),
    [
        ("nrom", None, "unknown factor 'nrom': did you mean 'norm'?"),
        ("seed", None, "unknown factor 'seed'"),
        ("mem_acc", None, "unknown factor 'mem_acc'"),
        ("lr", None, "lr has one level here, 0.0001, so there is nothing to compare."),
        ("norm", "non", "unknown level of norm 'non': did you mean 'none'?"),
        ("norm", "group", "unknown level of norm 'group': choose from batch, none."),
        ("norm", "batch,none", "unknown level of norm 'batch,none'"),
        ("k", "0.2", "unknown level of k '0.2'"),
        ("k", "a third", "k takes a number, not 'a third'."),
    ],
)
def test_what_can_not_be_compared_is_refused_naming_the_nearest(factor: str, reference: str | None, said: str):
    assert said in refusal(frame(GRID, planted), factor, reference)


def test_models_that_are_one_anothers_shadows_are_one_unit_of_an_attack():
    members = on_halves(3)
    members["mia_auc"] += 0.01 * members["model"]
    table = compare(members, "norm")
    assert (of(table, "mia_auc")["n"], of(table, "test_acc")["n"]) == (3, 3)
    assert units_note(members) == ["a seed counts with the mean over its models, which share its D'."]


def on_halves(seeds: int) -> pd.DataFrame:
    """Six models on halves of the D' of each seed, in both arms."""
    trials = grid(k=0.1, norm=("batch", "none"), protocol="splits", models=6, seed=range(seeds))
    members = frame(trials).loc[lambda rows: rows.index.repeat(6)].reset_index(drop=True)
    return members.assign(model=members.groupby(["norm", "seed"]).cumcount())


def test_of_one_d_alone_the_models_count_and_it_is_said():
    members = on_halves(1)
    members["test_acc"] += 0.01 * members["model"] * (members["norm"] == "batch")
    table = compare(members, "norm")
    assert (of(table, "mia_auc")["n"], of(table, "test_acc")["n"]) == (1, 6)
    assert "all is conditional on it" in units_note(members)[0]
    assert units_note(frame(GRID, planted)) == []


@pytest.mark.slow
def test_where_arms_differ_by_their_d_alone_one_test_in_twenty_finds_a_difference():
    """A set D' shifts all of its models: as pairs of their own they find one in five of these."""
    draws, seeds, generator = 200, 3, np.random.default_rng(0)
    members = on_halves(seeds)
    batch = (members["norm"] == "batch").to_numpy()
    found = 0
    for _ in range(draws):
        of_set, of_model = generator.normal(size=seeds), generator.normal(size=len(members))
        noise = 0.5 + 0.01 * (of_set[members["seed"]] + of_model)
        drawn = members.assign(clean_acc=np.where(batch, noise, 0.5))
        table = compare(drawn, "norm", alternative="two-sided", metrics=select_metrics(["clean_acc"]))
        found += table["p"].iloc[0] < 0.05
    assert found <= stats.binom.ppf(0.995, draws, 0.05)


def test_all_against_nothing_on_all_seeds_has_a_p_and_so_have_equal_arms():
    members = frame(grid(k=0.1, norm=("batch", "none"), seed=range(5))).assign(n_out=144)
    for none, likely in ((0.0, False), (1.0, True)):
        arms = members.assign(mem_acc=np.where(members["norm"] == "batch", 1.0, none))
        row = of(compare(arms, "norm", alternative="two-sided"))
        assert (row["difference"], row["p"] > 0.9, row["p"] < 1e-6) == (1.0 - none, likely, not likely)
        assert row["low"] <= row["difference"] <= row["high"]
