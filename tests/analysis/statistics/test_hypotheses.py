import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics.hypotheses import (
    Effects,
    Finding,
    above,
    as_ratios,
    every_cell,
    go_together,
    mean_of_intervals,
    monotone,
    most_cells,
    rank_correlation,
    same_level,
    spread_alike,
    unaffected,
    within_factor,
)

DRAWS, FEW = 1000, 60


def effects(values: object, name: str = "k", at: tuple[float, ...] = ()) -> Effects:
    """Effects from a table with a row a cell and a column a seed; NaN where there is none."""
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    rows = [
        {name: level, "seed": seed, "model": 0, "effect": value}
        for level, cell in zip(at or range(len(table)), table, strict=True)
        for seed, value in enumerate(cell)
    ]
    return Effects(pd.DataFrame(rows).dropna(), (name,) if len(table) > 1 else ())


def drawn(cells: int, shift: float = 0.0, seeds: int = 5) -> np.ndarray:
    """Effects [draws, cells, seeds] that cells of a seed share in part, as their random streams make them do."""
    generator = np.random.default_rng(0)
    return shift + generator.normal(size=(DRAWS, 1, seeds)) + generator.normal(size=(DRAWS, cells, seeds))


def numbers(finding: Finding) -> tuple[float | None, ...]:
    return finding.effect, finding.low, finding.high, finding.p


# Known answers


def test_a_mean_over_cells_worked_out_by_hand():
    # Means over cells 0.25, 0.3, 0.5: mean 0.35, sd sqrt(0.0175), t = 0.35 sqrt(3 / 0.0175) = sqrt 21. With 2 degrees
    # of freedom P(T > t) = 1/2 - t / (2 sqrt(2 + t^2)) = 1/2 - sqrt(21 / 23) / 2, and t(97.5%) = 4.30265.
    finding = above(effects([[0.1, 0.2, 0.3], [0.4, 0.4, 0.7]]), "greater")
    half = 4.302653 * math.sqrt(0.0175 / 3)
    assert finding.n == 3
    assert numbers(finding) == pytest.approx((0.35, 0.35 - half, 0.35 + half, 0.5 - math.sqrt(21 / 23) / 2))
    assert finding.p_against == pytest.approx(0.5 + math.sqrt(21 / 23) / 2)


def test_a_trend_worked_out_by_hand():
    # All of three seeds rise over three levels: of the 6^3 ways to order them one is as much of a trend.
    finding = monotone(effects([[0.1, 0.2, 0.3], [0.4, 0.4, 0.7], [0.5, 0.8, 0.9]], at=(0.1, 0.3, 0.9)), "greater", "k")
    assert (finding.n, finding.effect, finding.low) == (3, 1.0, None)
    assert finding.p == pytest.approx(1 / 6**3)
    assert "from 0.2 at k=0.1 to 0.733 at 0.9" in finding.notes


def test_between_two_levels_a_trend_is_a_difference():
    # Differences 0.3, 0.2, 0.4: mean 0.3, sd 0.1, t = 3 sqrt 3.
    finding = monotone(effects([[0.1, 0.2, 0.3], [0.4, 0.4, 0.7]], at=(0.1, 0.3)), "greater", "k")
    assert finding.p == pytest.approx(0.5 - math.sqrt(27 / 29) / 2)


def signs(*cells: int) -> Effects:
    """Cells that all have a sign of their own beyond doubt."""
    return effects([[sign * size for size in (1.0, 1.01, 1.02, 0.99)] for sign in cells])


@pytest.mark.parametrize(
    ("others", "verdict"), [(2, "held"), (0, "exceeded"), (1, "exceeded"), (3, "not held"), (4, "not held")]
)
def test_of_18_in_20_cells_each_has_its_sign_by_its_own_seeds(others: int, verdict: str):
    finding = most_cells(signs(*[1] * (20 - others), *[-1] * others), "greater", "lr", 0.9)
    assert (finding.n, finding.effect) == (20, 1 - others / 20)
    assert (finding.low, finding.high) == (finding.effect, finding.effect)  # no cell is in doubt
    assert finding.verdict(*finding.p_values) == verdict


def test_the_p_of_a_share_is_that_of_the_partial_conjunction():
    table = np.random.default_rng(3).normal(0.5, 1.0, size=(5, 6))
    each = sorted(above(effects([cell]), "greater").p or 1 for cell in table)
    # Of five cells four are claimed: twice the fourth smallest.
    assert most_cells(effects(table), "greater", "lr", 0.8).p == pytest.approx(2 * each[3])


def test_cells_in_doubt_leave_a_share_open():
    table = effects([*[[1.0, 1.01, 1.02, 0.99]] * 17, *[[1.0, -0.8, 0.4, -0.3]] * 3])
    finding = most_cells(table, "greater", "lr", 0.9)
    assert (finding.low, finding.high, finding.verdict(*finding.p_values)) == (0.85, 1.0, "undecided")
    assert "20 of 20 cells, 17 of them significantly" in finding.notes


def test_a_cell_of_the_share_is_the_mean_over_what_tells_none_apart():
    finding = most_cells(effects([[1.0], [-0.5]]), "greater", "k", 0.9)
    assert (finding.n, finding.effect) == (1, 1.0)


def test_an_effect_of_nothing_has_no_sign():
    assert most_cells(effects([[0.0, 0.0], [1.0, 1.0]]), "greater", "lr", 0.9).effect == 0.5
    assert every_cell(effects([[0.0, 0.0], [1.0, 1.1]]), "greater").notes[:2] == ("in 1 of 2 cells", "not in k=0")


def test_a_mean_of_intervals_is_tested_with_their_mean_width():
    finding = mean_of_intervals([(0.04, 0.02, 0.06), (0.06, 0.04, 0.08)], 16, "greater", 0.03)
    assert (finding.n, *numbers(finding)[:3]) == (16, pytest.approx(0.05), pytest.approx(0.03), pytest.approx(0.07))
    # The half width is 1.96 errors, and the margin is one half width away.
    assert finding.p == pytest.approx(0.025)
    assert mean_of_intervals([(0.01, 0.0, 0.02)], 16, "greater", 0.03).p_against == pytest.approx(
        0.5 * math.erfc(3.919928 / math.sqrt(2)), rel=1e-4
    )


# Simulated effects


def test_effects_that_are_there_are_found_and_those_the_other_way_are_contradicted():
    table = drawn(4, shift=8.0)[0]
    for test in (above, every_cell):
        right, wrong = test(effects(table), "greater"), test(effects(table), "less")
        assert (right.verdict(*right.p_values), wrong.verdict(*wrong.p_values)) == ("held", "not held")
    rising = table * np.arange(4)[:, None]
    right, wrong = monotone(effects(rising), "greater", "k"), monotone(effects(rising), "less", "k")
    assert (right.verdict(*right.p_values), wrong.verdict(*wrong.p_values)) == ("held", "not held")


def test_where_there_is_no_effect_one_test_in_twenty_finds_one():
    low, high = stats.binom.interval(0.99, DRAWS, 0.05)
    findings = [above(effects(table), "greater") for table in drawn(1)]
    assert low <= sum((finding.p or 1) < 0.05 for finding in findings) <= high
    assert low <= sum((finding.p_against or 1) < 0.05 for finding in findings) <= high


def test_claims_on_every_cell_are_no_easier_and_refuted_no_more_often_than_they_should():
    findings = [every_cell(effects(table), "greater") for table in drawn(3)[:FEW]]
    verdicts = [finding.verdict(*finding.p_values) for finding in findings]
    assert verdicts.count("held") <= stats.binom.ppf(0.995, len(findings), 0.05)
    assert verdicts.count("not held") <= stats.binom.ppf(0.995, len(findings), 0.05)


@pytest.mark.slow
def test_every_cell_is_held_where_one_has_no_effect_no_more_often_than_one_test_in_twenty():
    tables = drawn(5)[: 3 * FEW] + np.array([[9.0], [9.0], [9.0], [9.0], [0.0]])
    findings = [every_cell(effects(table), "greater") for table in tables]
    held = sum(finding.verdict(*finding.p_values) == "held" for finding in findings)
    assert held <= stats.binom.ppf(0.995, len(tables), 0.05)
    assert held >= stats.binom.ppf(0.005, len(tables), 0.05)  # it gives nothing away either


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.3, 0.5])
def test_most_cells_are_held_where_one_too_few_has_an_effect_no_more_often_than_they_should(correlation: float):
    # Of ten cells nine are claimed; eight have an effect beyond doubt, and two have none.
    generator = np.random.default_rng(2)
    common, own = generator.normal(size=(FEW, 1, 5)), generator.normal(size=(FEW, 10, 5))
    tables = correlation**0.5 * common + (1 - correlation) ** 0.5 * own + 9.0 * (np.arange(10)[:, None] < 8)
    findings = [most_cells(effects(table), "greater", "lr", 0.9) for table in tables]
    assert sum((finding.p or 1) < 0.05 for finding in findings) <= stats.binom.ppf(0.995, len(tables), 0.05)
    nothing = [
        most_cells(effects(table - 9.0 * (np.arange(10)[:, None] < 8)), "greater", "lr", 0.9) for table in tables
    ]
    for p_values in ([one.p for one in nothing], [one.p_against for one in nothing]):
        assert sum((p or 1) < 0.05 for p in p_values) <= stats.binom.ppf(0.995, len(tables), 0.05)


def test_two_things_at_the_best_of_several_levels_are_found_no_more_often_than_they_should():
    # The one thing is there at every level and the other at none, so that what is found is an error.
    tables = drawn(3)[:FEW]
    findings = [same_level(with_beside(table - 9, table), "less", "k", 0.0, 0.0) for table in tables]
    assert sum((finding.p or 1) < 0.05 for finding in findings) <= stats.binom.ppf(0.995, len(findings), 0.05)


def test_a_trend_is_found_where_there_is_none_no_more_often_than_it_should_be():
    findings = [monotone(effects(table), "greater", "k") for table in drawn(4)[: 4 * FEW]]
    for count in (
        sum((finding.p or 1) < 0.05 for finding in findings),
        sum((finding.p_against or 1) < 0.05 for finding in findings),
    ):
        assert count <= stats.binom.ppf(0.995, len(findings), 0.05)


def test_the_p_of_intervals_is_right_where_their_error_is():
    generator = np.random.default_rng(1)
    findings = [
        mean_of_intervals([(z, z - 1.959964, z + 1.959964)], 9, "greater") for z in generator.normal(size=DRAWS)
    ]
    low, high = stats.binom.interval(0.99, DRAWS, 0.05)
    assert low <= sum((finding.p or 1) < 0.05 for finding in findings) <= high


# Margins, sizes, every and some


def test_a_margin_is_to_be_exceeded():
    table = effects([[0.020, 0.021, 0.019, 0.020]])
    more, less = above(table, "greater", 0.01), above(table, "greater", 0.03)
    assert (more.verdict(*more.p_values), less.verdict(*less.p_values)) == ("held", "not held")
    assert (less.p or 0) > 0.99


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.020, 0.021, 0.019, 0.020), "not held"),
        ((0.030, 0.034, 0.031, 0.029), "held"),
        ((0.028, 0.028, 0.028, 0.0281), "held"),  # about three points, though the interval has no 3
        ((0.300, 0.310, 0.290, 0.300), "exceeded"),
        ((-0.01, 0.07, 0.02, 0.05), "undecided"),
    ],
)
def test_a_claimed_size_is_what_an_interval_is_compatible_with(values: tuple[float, ...], verdict: str):
    finding = above(effects([values]), "greater", size=(0.025, 0.035))
    assert finding.verdict(*finding.p_values) == verdict
    mirrored = above(effects([[-value for value in values]]), "less", size=(-0.035, -0.025))
    assert mirrored.verdict(*mirrored.p_values) == verdict
    interval = (finding.effect, finding.low, finding.high)
    of_interval = mean_of_intervals([interval], 4, "greater", 0.0, (0.025, 0.035))
    assert of_interval.verdict(*of_interval.p_values) == verdict


def test_one_cell_of_the_other_sign_leaves_a_claim_on_every_cell_open_and_a_significant_one_refutes_it():
    open_ = every_cell(effects([[1.0, 1.1, 1.2, 0.9], [-0.1, 0.1, 0.1, -0.2]]), "greater")
    assert open_.verdict(*open_.p_values) == "undecided"
    assert open_.notes == ("in 1 of 2 cells", "not in k=1")
    refuted = every_cell(effects([[1.0, 1.1, 1.2, 0.9], [-0.1, -0.1, -0.1001, -0.1]]), "greater")
    assert refuted.verdict(*refuted.p_values) == "not held"
    assert "significantly the other way in k=1" in refuted.notes


def with_beside(values: object, beside: object, at: tuple[float, ...] = ()) -> Effects:
    """Effects with what is beside them, a row a level of k and a column a seed."""
    own = effects(values, at=at)
    return Effects(own.frame.assign(beside=effects(beside, at=at).frame["effect"]), own.strata)


LESS, MORE = [-0.25, -0.24, -0.26, -0.25], [0.6, 0.63, 0.62, 0.61]
CLEAN, UNCLEAN = [0.99, 0.98, 0.99, 0.985], [0.40, 0.41, 0.42, 0.40]


@pytest.mark.parametrize(
    ("values", "beside", "verdict"),
    [
        ([LESS, MORE], [UNCLEAN, CLEAN], "not held"),  # each is so at some level, and at none are both
        ([MORE, LESS], [UNCLEAN, CLEAN], "held"),
        ([LESS, LESS], [UNCLEAN, UNCLEAN], "not held"),
        ([MORE, LESS], [UNCLEAN, [0.99, 0.91, 0.97, 0.98]], "undecided"),
    ],
)
def test_two_things_are_asked_for_at_one_and_the_same_level(values: list, beside: list, verdict: str):
    finding = same_level(with_beside(values, beside, (0.5, 0.9)), "less", "k", 0.0, 0.95)
    assert finding.verdict(*finding.p_values) == verdict


def test_the_best_level_is_shown_at_a_price():
    finding = same_level(with_beside([MORE, LESS], [UNCLEAN, CLEAN], (0.5, 0.9)), "less", "k", 0.0, 0.95)
    own, beside = above(effects([LESS]), "less"), above(effects([CLEAN]), "greater", 0.95)
    assert finding.p == pytest.approx(2 * max(own.p or 0, beside.p or 0))
    assert numbers(finding)[:3] == numbers(own)[:3]
    assert "the best of 2 levels, k=0.9" in finding.notes


@pytest.mark.parametrize(
    ("levels", "verdict"),
    [
        ((0.05, 0.9, 0.6, 0.3), "not held"),  # of a positive slope where the levels crowd at the end
        ((0.05, 0.3, 0.9, 0.9), "held"),
        ((0.9, 0.6, 0.3, 0.05), "not held"),
        ((0.3, 0.3, 0.3, 0.3), "undecided"),
    ],
)
def test_what_is_monotone_does_not_depend_on_how_far_apart_levels_are(levels: tuple[float, ...], verdict: str):
    noise = 0.01 * np.random.default_rng(2).normal(size=(4, 5))
    finding = monotone(effects(np.array(levels)[:, None] + noise, at=(0.5, 0.9, 0.99, 0.999)), "greater", "k")
    assert finding.verdict(*finding.p_values) == verdict


def test_an_association_bears_two_levels_in_reverse_order():
    noise = 0.01 * np.random.default_rng(2).normal(size=(4, 5))
    table = effects(np.array((5.0, 2.0, 2.5, 1.0))[:, None] + noise)
    everywhere, by_and_large = (monotone(table, "less", "k", everywhere) for everywhere in (True, False))
    assert [finding.verdict(*finding.p_values) for finding in (everywhere, by_and_large)] == ["not held", "held"]
    assert "significantly the other way between k=1 and 2" in everywhere.notes


def test_a_trend_is_over_the_levels_that_all_have():
    table = pd.DataFrame(
        {"k": k, "network": network, "seed": seed, "model": 0, "effect": k + 0.1 * seed}
        for network, ks in (("short", (0, 1, 2)), ("long", (0, 1, 2, 3)))
        for k in ks
        for seed in range(4)
    )
    finding = monotone(Effects(table, ("network", "k")), "greater", "k")
    assert (finding.n, finding.p) == (4, pytest.approx(6.0**-4))
    assert "over the 3 levels of k that all have" in finding.notes


def test_within_a_factor_asks_for_both_sides():
    near, far, open_ = (np.log([row]) for row in ([1.1, 0.9, 1.0, 1.05], [5, 6, 5.5, 5.2], [0.2, 5.0, 1.0, 2.0]))
    verdicts = [(finding := within_factor(effects(row), 2.0)).verdict(*finding.p_values) for row in (near, far, open_)]
    assert verdicts == ["held", "not held", "undecided"]
    assert as_ratios(within_factor(effects(far), 2.0)).effect == pytest.approx(stats.gmean([5, 6, 5.5, 5.2]))


@pytest.mark.parametrize(("change", "verdict"), [(0.01, "held"), (-0.01, "held"), (-0.3, "not held")])
def test_what_changes_little_from_end_to_end_is_unaffected(change: float, verdict: str):
    ends = np.array([0.95, 0.96, 0.95, 0.94])
    finding = unaffected(effects([ends, ends, ends + change * np.array([1, 1.1, 0.9, 1.0])]), "k", 0.05)
    assert (finding.effect, finding.verdict(*finding.p_values)) == (pytest.approx(change), verdict)


def counted(values: object, samples: float, reference: object = None) -> Effects:
    """Accuracies that are shares of so many samples, or their differences from a reference's."""
    own = effects(values)
    frame = own.frame.assign(share=own.frame["effect"], of=samples)
    if reference is not None:
        other = effects(reference).frame["effect"]
        frame = frame.assign(reference_share=other, reference_of=samples, effect=frame["effect"] - other)
    return Effects(frame, own.strata)


def test_what_is_perfect_in_every_seed_is_held_by_how_many_samples_it_is_perfect_of():
    few, many = (every_cell(counted([[1.0] * 4, [1.0] * 4], of), "greater", 0.99) for of in (20, 2000))
    assert (few.verdict(*few.p_values), many.verdict(*many.p_values)) == ("undecided", "held")
    one_off = every_cell(counted([[1.0] * 4, [0.9] * 4], 2000), "greater", 0.99)
    assert one_off.verdict(*one_off.p_values) == "not held"


def test_all_against_nothing_on_all_seeds_is_a_finding_and_so_is_no_difference_on_any():
    all_or_nothing = above(counted([[1.0] * 5], 144, [[0.0] * 5]), "greater")
    assert all_or_nothing.verdict(*all_or_nothing.p_values) == "held"
    assert all_or_nothing.low > 0.97
    same = above(counted([[1.0] * 5], 144, [[1.0] * 5]), "greater", size=(0.025, 0.035))
    assert (same.effect, same.verdict(*same.p_values)) == (0.0, "not held")
    assert -0.02 < same.low < 0 < same.high < 0.02


def test_what_does_not_change_on_any_seed_is_unaffected():
    for change, verdict in ((0.0, "held"), (-0.3, "not held")):
        finding = unaffected(counted([[0.95] * 4, [0.95] * 4, [0.95 + change] * 4], 1000), "k", 0.05)
        assert (finding.effect, finding.verdict(*finding.p_values)) == (pytest.approx(change), verdict)


def test_of_intervals_each_is_asked_for_where_each_is_claimed():
    far, near, short = (0.2, 0.18, 0.22), (0.02, -0.01, 0.05), (-0.03, -0.04, -0.02)
    verdicts = [
        (finding := mean_of_intervals([far, other], 16, "greater", 0.01, each=each)).verdict(*finding.p_values)
        for other in (near, short)
        for each in (False, True)
    ]
    assert verdicts == ["held", "undecided", "held", "not held"]
    open_ = mean_of_intervals([far, (0.0, -0.03, 0.03)], 16, "greater", 0.01, each=True)
    assert open_.verdict(*open_.p_values) == "undecided"


# Models that share their D'


def of_models(values: np.ndarray) -> Effects:
    """Effects from an array [cells, seeds, models]."""
    rows = [
        {"k": k, "seed": seed, "model": model, "effect": value}
        for (k, seed, model), value in np.ndenumerate(np.asarray(values, dtype=np.float64))
    ]
    return Effects(pd.DataFrame(rows), ("k",) if len(values) > 1 else ())


def test_models_of_one_d_are_no_units_and_its_cells_are():
    table = np.random.default_rng(4).normal(0.1, 0.02, size=(4, 1, 16))
    finding = above(of_models(table), "greater")
    assert (finding.n, finding.p) == (4, pytest.approx(above(effects([table.mean(axis=(1, 2))]), "greater").p))
    assert "n counts cells, and all is conditional on their one D'" in finding.notes
    alone = every_cell(of_models(table[:1]), "greater")
    assert (alone.n, alone.verdict(*alone.p_values)) == (1, "undecided")


def test_of_several_d_each_is_a_unit_with_its_models_mean():
    table = np.random.default_rng(4).normal(0.1, 0.02, size=(2, 5, 16))
    finding = above(of_models(table), "greater")
    assert (finding.n, finding.p) == (5, pytest.approx(above(effects(table.mean(axis=2)), "greater").p))


def in_pairs(own: object, beside: object) -> Effects:
    """Cells of one D', each with a value and what is beside it."""
    pairs = enumerate(zip(np.asarray(own, float), np.asarray(beside, float), strict=True))
    rows = [{"k": k, "seed": 0, "model": 0, "effect": one, "beside": other} for k, (one, other) in pairs]
    return Effects(pd.DataFrame(rows), ("k",))


def test_a_ratio_of_spreads_is_that_of_pitman_and_morgan():
    own, other = np.random.default_rng(5).normal(size=(2, 12)) * [[2.0], [1.0]]
    finding = spread_alike(in_pairs(own, other), 2.0)
    assert math.exp(finding.effect) == pytest.approx(own.std() / other.std())
    for bound in (finding.low, finding.high):  # at either end sum and difference are as correlated as 5% allow
        scaled = other * math.exp(bound)
        assert stats.pearsonr(own + scaled, own - scaled).pvalue == pytest.approx(0.05)


def test_what_goes_together_over_cells_is_told_by_rank():
    own = [0.1, 0.2, 0.3, 0.5, 0.6, 0.9]
    up, down = (go_together(in_pairs(own, other)) for other in ([1, 2, 3, 4, 5, 600], [6, 5, 4, 3, 2, 1]))
    assert (up.n, up.effect, up.p, up.verdict(*up.p_values)) == (6, pytest.approx(1), pytest.approx(1 / 720), "held")
    assert (down.effect, down.verdict(*down.p_values)) == (pytest.approx(-1), "not held")
    flat = go_together(in_pairs([0.5] * 6, own))
    assert flat.verdict(*flat.p_values) == "undecided"


@pytest.mark.parametrize(("times", "verdict"), [(1.1, "held"), (5.0, "not held"), (2.0, "undecided")])
def test_spreads_are_alike_within_a_factor(times: float, verdict: str):
    common, noise = np.random.default_rng(6).normal(size=(2, 15))
    finding = spread_alike(in_pairs(times * common + 0.1 * noise, common), 2.0)
    assert finding.verdict(*finding.p_values) == verdict
    few = spread_alike(in_pairs(common[:2], noise[:2]), 2.0)
    assert (few.verdict(*few.p_values), few.notes) == ("undecided", ("too few cells (n = 2)",))


# What doesn't determine a value


@pytest.mark.parametrize(
    ("values", "note"),
    [([[0.5]], "too few pairs (n = 1)"), ([[0.5, 0.5, 0.5]], "no spread"), ([[0.0, 0.0]], "no spread")],
)
def test_too_few_and_all_equal_effects_are_undecided(values: list, note: str):
    for finding in (above(effects(values), "greater"), every_cell(effects(values), "greater")):
        assert (finding.effect, finding.low, finding.p) == (values[0][0], None, None)
        assert finding.verdict(None) == "undecided"
        assert any(note in said for said in finding.notes)


def test_no_effect_at_all_is_undecided():
    nothing = Effects(pd.DataFrame({name: [] for name in ("seed", "model", "effect")}))
    for finding in (
        above(nothing, "greater"),
        every_cell(nothing, "greater"),
        most_cells(nothing, "greater", "k", 0.9),
    ):
        assert (finding.n, finding.effect, finding.verdict(None)) == (0, None, "undecided")


def test_an_effect_without_bound_is_undecided():
    finding = above(effects([[math.inf, 1.0, 2.0]]), "greater")
    assert (finding.effect, finding.verdict(None)) == (None, "undecided")
    assert finding.notes == ("an effect is not finite",)


def test_a_seed_without_all_cells_is_left_out_and_said_to_be():
    finding = above(effects([[0.1, 0.2, 0.3], [0.4, math.nan, 0.7]]), "greater")
    assert (finding.n, finding.effect) == (2, pytest.approx((0.25 + 0.5) / 2))
    assert finding.notes == ("1 of 3 left out for lacking a cell",)


def test_one_level_has_no_trend():
    finding = monotone(effects([[0.1, 0.2]]), "greater", "k")
    assert (finding.n, finding.notes) == (0, ("k has one level here",))


# Rank correlation


def test_a_rank_correlation_of_few_is_exact():
    # In order are two of the six orders of three, counted on both sides.
    assert rank_correlation(np.array([0.5, 0.9, 0.99]), np.array([0.1, 0.2, 0.9])) == pytest.approx((1, 1 / 3))
    some, others = np.random.default_rng(1).normal(size=(2, 30))
    rho, p = rank_correlation(some, others)
    wanted = stats.spearmanr(some, others)
    assert rho == pytest.approx(wanted.statistic)
    assert p == pytest.approx(wanted.pvalue, abs=0.02)
