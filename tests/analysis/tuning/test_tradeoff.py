"""Tuned cells, from records whose front, recommendation and differences are known by hand."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.load import load
from analysis.report import tables
from analysis.tuning import figures
from analysis.tuning.tradeoff import (
    TunedCell,
    arm_table,
    comparisons,
    front_table,
    hypervolumes,
    reference_point,
    tuned_cells,
)
from study.errors import BadInputError
from study.record.results import Results
from study.trial import Trial
from tests.analysis.conftest import DIVERGED, Outcome, plan, record
from tests.analysis.figures.drawn import check_legible

SWEEP = "tune_regularizer"
BASE = Trial(k=0.1, validation=0.2, seed=(0, 1))
NONE = replace(BASE, norm="none")
FRESH = tuple(range(5, 10))
STARTED = datetime(2026, 1, 1, tzinfo=UTC)

Values = tuple[float, float, float] | None
"""The means of mem_acc, val_mia_auc and val_acc; None for a setting that diverges."""


def setting(kind: str, alpha: float, base: Trial = BASE, **changes: Any) -> Trial:
    return replace(base, regularizer=kind, alpha=alpha, **changes)


LOG_LOW, LOG, HINGE = setting("log", 0.5), setting("log", 0.9), setting("hinge", 0.95)
BEATEN, HIGH, LOST = setting("hinge", 0.5), setting("hinge", 0.99), setting("log", 0.99)
SEARCHED: dict[Trial, Values] = {
    HIGH: (0.6, 0.6, 0.95),
    LOG_LOW: (0.1, 0.52, 0.9),
    LOG: (0.3, 0.55, 0.93),
    HINGE: (0.3, 0.55, 0.93),
    BEATEN: (0.2, 0.53, 0.89),
    LOST: None,
}
REFERENCES: dict[Trial, Values] = {BASE: (0.9, 0.7, 0.935), NONE: (0.2, 0.5, 0.92)}
RANDOM: dict[Trial, Values] = {setting("log", 0.7): (0.4, 0.6, 0.9)}


def write(results: Results, tried: Mapping[Trial, Values], sweep: str = SWEEP, test: float = 0.9) -> None:
    """Records of settings in the order in which they started; seeds differ, and their mean is what is asked for."""
    for number, (trial, values) in enumerate(tried.items()):
        sides = dict(zip(trial.seed, np.linspace(-0.01, 0.01, len(trial.seed)), strict=True))

        started = {"started": STARTED + timedelta(minutes=number)}
        own = values, sides, started

        def outcome(trial: Trial, seed: int, own: Any = own) -> Outcome:
            values, sides, started = own
            if values is None:
                return {**DIVERGED, **started}
            names = dict(zip(("mem_acc", "val_mia_auc", "val_acc"), values, strict=True))
            beside = {"test_acc": test - 0.1 * values[0], "mia_auc": values[1], "clean_acc": 0.995}
            return {**{name: value + sides[seed] for name, value in (names | beside).items()}, **started}

        record(results, [trial], outcome, sweep)


def confirm(results: Results, arms: Mapping[Trial, Iterable[float]], tested: float = -0.02) -> None:
    """Records on fresh seeds: for each arm what it memorizes less on each, and `tested` its gain in test accuracy."""
    fresh = {replace(trial, seed=FRESH): tuple(less) for trial, less in arms.items()}
    plan(results, fresh, f"{SWEEP}_confirm")
    for trial, less in fresh.items():

        def outcome(trial: Trial, seed: int, less: tuple[float, ...] = less) -> Outcome:
            place = FRESH.index(seed)
            gain = tested + 0.001 * (place % 2) if any(less) else 0.0
            common = {"mem_acc": 0.9 + 0.01 * place - less[place], "clean_acc": 0.995}
            return {**common, "test_acc": 0.9 + 0.01 * place + gain, "mia_auc": 0.6 - less[place] / 10, "val_acc": 0.9}

        record(results, [trial], outcome, f"{SWEEP}_confirm")


def everything(results: Results) -> None:
    write(results, REFERENCES | SEARCHED)
    write(results, RANDOM, f"{SWEEP}_random")
    less = {BASE: 5 * [0.0], HINGE: [0.5, 0.6, 0.7, 0.6, 0.6], NONE: [0.3, 0.4, 0.3, 0.3, 0.3]}
    rivals = [{"norm": "group"}, {"weight_decay": 5e-4}, {"stopping": "best"}, {"label_smoothing": 0.1}]
    rest = {replace(BASE, **rival): [0.01, 0.02, 0.0, 0.01, 0.0] for rival in rivals}
    confirm(results, {**less, **rest})


def tuned_cells_of(results: Results, max_loss: float = 0.01) -> list[TunedCell]:
    names = [SWEEP, f"{SWEEP}_random", f"{SWEEP}_confirm"]
    frames = [load(results, name).members if name in results.sweeps() else None for name in names]
    assert frames[0] is not None
    return tuned_cells(frames[0], frames[1], frames[2], max_loss)


def only_cell(results: Results, max_loss: float = 0.01) -> TunedCell:
    (tuning,) = tuned_cells_of(results, max_loss)
    return tuning


# The search


def test_settings_are_means_over_seeds_in_the_order_in_which_they_started(results: Results):
    everything(results)
    searched = only_cell(results).searched
    assert searched["trial"].tolist() == [trial.id for trial in SEARCHED]
    for row, (trial, values) in zip(searched.to_dict("records"), SEARCHED.items(), strict=True):
        assert (row["regularizer"], row["alpha"], row["n"]) == (trial.regularizer, trial.alpha, 2)
        means = [row[name] for name in ("mem_acc", "val_mia_auc", "val_acc")]
        assert row["status"] == ("ok" if values else "diverged")
        assert means == pytest.approx(values or 3 * [np.nan], nan_ok=True)


def test_the_front_is_what_nothing_beats_with_ties_by_alpha(results: Results):
    everything(results)
    table = front_table(only_cell(results))
    assert table["setting"].tolist() == ["log", "log", "hinge", "hinge", "norm=batch", "norm=none"]
    assert table["alpha"].tolist()[:4] == [0.5, 0.9, 0.95, 0.99]
    assert table["recommended"].tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("max_loss", "trial"),
    [(0.0, HIGH), (0.005, HINGE), (0.01, HINGE), (0.034, HINGE), (0.035, LOG_LOW), (0.9, LOG_LOW)],
)
def test_the_recommended_setting_memorizes_least_within_the_budget(results: Results, max_loss: float, trial: Trial):
    write(results, REFERENCES | SEARCHED)
    best = only_cell(results, max_loss).recommended
    assert best is not None
    assert best["trial"] == trial.id


def test_nothing_is_recommended_where_all_lose_more(results: Results):
    write(results, {**REFERENCES, BASE: (0.9, 0.7, 0.97)} | SEARCHED)
    tuning = only_cell(results)
    assert tuning.recommended is None
    assert tables.recommendation(tuning) == (
        "Nothing is recommended: no searched setting is at most 0.01 below norm=batch's validation accuracy of 0.970; "
        "the nearest has 0.950."
    )


def test_a_setting_that_memorizes_more_than_the_reference_is_called_so(results: Results):
    write(results, {**REFERENCES, BASE: (0.25, 0.7, 0.935)} | SEARCHED)
    assert tables.recommendation(only_cell(results)).endswith(
        "; it memorizes more than norm=batch itself (0.300 against 0.250), so nothing was gained."
    )


def test_the_test_set_decides_nothing(results: Results, tmp_path):
    everything(results)
    other = Results.at(tmp_path / "other")
    write(other, REFERENCES | dict(list(SEARCHED.items())[:2]))
    write(other, dict(list(SEARCHED.items())[2:]), test=0.2)
    for one, another in zip(tuned_cells_of(results), tuned_cells_of(other), strict=True):
        assert one.recommended_arm == another.recommended_arm
        assert set(one.usable.query("front")["trial"]) == set(another.usable.query("front")["trial"])


def test_one_setting_is_a_front_of_its_own(results: Results):
    write(results, {**REFERENCES, LOG: (0.3, 0.55, 0.93)})
    tuning = only_cell(results)
    assert tuning.recommended_arm == "regularizer=log alpha=0.9"
    check_legible(figures.tradeoff_figure([tuning]))


def test_where_all_diverged_nothing_is_recommended_or_drawn(results: Results):
    write(results, {**REFERENCES, LOG: None, HINGE: None})
    tuning = only_cell(results)
    assert (len(tuning.usable), tuning.recommended) == (0, None)
    assert tables.recommendation(tuning) == "Nothing is recommended: no searched setting gave a result."
    assert hypervolumes(tuning)["hypervolume"].tolist() == [0, 0]
    with pytest.raises(BadInputError, match="no searched setting gave a result"):
        figures.tradeoff_figure([tuning])


def test_a_reference_that_diverged_is_held_against_nobody(results: Results):
    write(results, {BASE: None, NONE: (0.2, 0.5, 0.92), LOG: (0.3, 0.55, 0.93)})
    tuning = only_cell(results)
    assert tuning.recommended is None
    assert "norm=batch gave no result" in tables.recommendation(tuning)
    check_legible(figures.tradeoff_figure([tuning]))


def test_without_its_reference_a_tuning_is_not_over(results: Results):
    write(results, {NONE: (0.2, 0.5, 0.92), LOG: (0.3, 0.55, 0.93)})
    with pytest.raises(BadInputError, match="no networks with norm=batch to compare with yet"):
        tuned_cells_of(results)


def test_references_alone_are_no_search(results: Results):
    write(results, REFERENCES)
    with pytest.raises(BadInputError, match="no setting was searched yet"):
        tuned_cells_of(results)


# The cells


def test_each_cell_has_an_answer_of_its_own(results: Results):
    write(results, REFERENCES | SEARCHED)
    other = {replace(trial, k=0.3): values for trial, values in REFERENCES.items()}
    write(results, {**other, setting("log", 0.9, replace(BASE, k=0.3)): (0.5, 0.6, 0.95)})
    one, another = tuned_cells_of(results)
    assert (one.title, another.title) == tuple(f"dataset=digits architecture=lenet k={k}" for k in (0.1, 0.3))
    assert (len(one.searched), len(another.searched)) == (6, 1)
    assert another.accuracy == pytest.approx(0.935)


def test_other_seeds_are_another_search(results: Results):
    write(results, REFERENCES | SEARCHED)
    later = replace(BASE, seed=(2, 3))
    write(results, {later: (0.9, 0.7, 0.91), setting("hinge", 0.9, later): (0.3, 0.55, 0.93)})
    one, another = tuned_cells_of(results)
    assert [one.title[-9:], another.title[-9:]] == ["seeds=0,1", "seeds=2,3"]
    assert (one.accuracy, another.accuracy) == (pytest.approx(0.935), pytest.approx(0.91))


def test_a_learning_rate_that_is_searched_is_part_of_the_setting(results: Results):
    rates = {setting("log", 0.9, lr=lr): (mem, 0.55, 0.93) for lr, mem in ((0.001, 0.3), (0.002, 0.2))}
    write(results, REFERENCES | rates)
    tuning = only_cell(results)
    assert tuning.recommended_arm == "regularizer=log alpha=0.9 lr=0.002"
    assert len(tuning.searched) == 2


# The hypervolume


def test_hypervolume_is_the_volume_by_hand_over_trials(results: Results):
    write(results, {**REFERENCES, LOG_LOW: (0.1, 0.52, 0.9), LOST: None, LOG: (0.3, 0.55, 0.93)})
    write(results, {setting("log", 0.7): (0.4, 0.6, 0.89)}, f"{SWEEP}_random")
    tuning = only_cell(results)
    assert reference_point(tuning) == pytest.approx({"mem_acc": 0.9, "val_mia_auc": 0.7, "val_acc": 0.89})
    table = hypervolumes(tuning)
    alone, second, shared = 0.8 * 0.18 * 0.01, 0.6 * 0.15 * 0.04, 0.6 * 0.15 * 0.01
    assert table[table["search"] == "TPE"]["hypervolume"].tolist() == pytest.approx(
        [alone, alone, alone + second - shared]
    )
    # What is as bad as the reference point in one objective dominates nothing before it.
    assert table[table["search"] == "random"]["hypervolume"].tolist() == pytest.approx([0], abs=1e-12)
    assert tables.hypervolume_sentence(tuning).startswith("Hypervolume after 1 trial: TPE 0.00144, random ")


def test_without_random_search_it_is_said(results: Results):
    write(results, REFERENCES | SEARCHED)
    tuning = only_cell(results)
    assert set(hypervolumes(tuning)["search"]) == {"TPE"}
    assert tables.hypervolume_sentence(tuning).endswith("; there is no random search to compare it with.")


# On fresh seeds


def test_a_difference_on_fresh_seeds_is_paired(results: Results):
    everything(results)
    table = comparisons(only_cell(results))
    assert table["arm"].tolist()[:2] == ["regularizer=hinge alpha=0.95", "label_smoothing=0.1"]
    assert len(table) == 4 * 6
    (row,) = table[(table["metric"] == "mem_acc") & (table["arm"] == "regularizer=hinge alpha=0.95")].to_dict("records")
    less = np.array([0.5, 0.6, 0.7, 0.6, 0.6])
    assert (row["n"], row["difference"]) == (5, pytest.approx(-0.6))
    assert row["effect"] == pytest.approx(-0.6 / np.sqrt(0.005))
    assert row["p"] == pytest.approx(stats.ttest_1samp(less, 0).pvalue)
    assert (row["low"], row["high"]) == pytest.approx(-0.6 + np.array([-1, 1]) * stats.t.ppf(0.975, 4) * np.sqrt(0.001))
    known = np.sort(table["p"].dropna())
    wanted = np.minimum(1, np.maximum.accumulate(known * np.arange(len(known), 0, -1)))
    np.testing.assert_allclose(np.sort(table["p_holm"].dropna()), wanted)


def test_the_arms_are_shown_with_what_they_buy_and_cost(results: Results):
    everything(results)
    table = arm_table(only_cell(results))
    assert table["arm"].tolist()[:2] == ["", "regularizer=hinge alpha=0.95"]
    assert set(table["arm"].tolist()[2:]) == {
        *("norm=none", "norm=group", "weight_decay=0.0005", "stopping=best", "label_smoothing=0.1")
    }
    reference, best = table.iloc[0], table.iloc[1]
    assert (reference["mem_acc_mean"], best["mem_acc_mean"]) == pytest.approx((0.92, 0.32))
    assert (best["mem_acc_difference"], best["mia_auc_difference"]) == pytest.approx((-0.6, -0.06))
    assert best["test_acc_difference"] == pytest.approx(-0.0196)
    assert table["recommended"].tolist() == [False, True, *(5 * [False])]
    assert (table["n"].tolist(), table["excluded"].tolist()) == (7 * [5], 7 * [0])


def test_seeds_of_the_search_are_not_fresh(results: Results):
    write(results, {replace(trial, seed=(0, 5)): values for trial, values in (REFERENCES | SEARCHED).items()})
    confirm(results, {BASE: 5 * [0.0], HINGE: 5 * [0.5]})
    assert set(only_cell(results).confirmed["seed"]) == {6, 7, 8, 9}


def test_an_arm_that_diverged_is_counted(results: Results):
    write(results, REFERENCES | SEARCHED)
    confirm(results, {BASE: 5 * [0.0], HINGE: 5 * [0.5]})
    lost = replace(NONE, seed=FRESH)
    plan(results, [lost], f"{SWEEP}_confirm")
    record(results, [lost], lambda trial, seed: DIVERGED, f"{SWEEP}_confirm")
    tuning = only_cell(results)
    row = arm_table(tuning).set_index("arm").loc["norm=none"]
    assert (row["n"], row["excluded"]) == (0, 5)
    table = comparisons(tuning)
    assert table[table["arm"] == "norm=none"]["excluded"].tolist() == 4 * [5]
    assert table[table["arm"] == "norm=none"]["p_holm"].isna().all()


def test_without_confirmation_there_are_no_tests(results: Results):
    write(results, REFERENCES | SEARCHED)
    tuning = only_cell(results)
    assert comparisons(tuning).empty
