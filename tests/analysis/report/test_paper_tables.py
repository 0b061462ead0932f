"""The tables of the 2019 paper, from planted records: our numbers beside the paper's."""

import json

import numpy as np
import pytest

from analysis.load import load
from analysis.report.output import Table, render
from analysis.report.paper_tables import PAPER_TABLES, find_table, paper_table, tables_named
from study.errors import BadInputError
from study.record.results import Results
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis.claims.test_robustness_trained import SWEEPS_OF_CLAIMS as SWEEPS_OF_NETWORKS
from tests.analysis.claims.test_robustness_trained import of_the_paper, write
from tests.analysis.conftest import Outcome, grid, plan, record
from tests.analysis.robust import record_attacked


def recorded(results: Results, trials: tuple[Trial, ...] | None = None) -> None:
    """Each accuracy depends on the arm, the size and the seed; the loss of an attack grows with the size."""
    planned = trials or SWEEPS["input_dimension"].plan(Scale.paper).trials

    def outcome(trial: Trial, seed: int) -> Outcome:
        return {"test_acc": 0.9 + 0.01 * (trial.norm == "batch") + 0.001 * seed, "test_loss": 0.2 * trial.resize / 28}

    record_attacked(results, "input_dimension", planned, lambda trial, *_: 0.5 - trial.resize / 400, outcome)


def table(results: Results, name: str) -> Table:
    found = find_table(name)
    return paper_table(found, [load(results, sweep) for sweep in found.sweeps if sweep in results.sweeps()], results)


def test_table_6_has_our_mean_and_standard_error_beside_the_papers(results: Results):
    recorded(results)
    found = table(results, "g19-t6")
    assert found.headers == [
        "side",
        "norm",
        "clean",
        "the paper's",
        "noise",
        "the paper's",
        "BIM 0.1",
        "the paper's",
        "n",
    ]
    assert len(found.cells) == 6
    # Over seeds 0 to 4 the standard deviation of 0.001 times the seed is 0.00158, and its root of fifth 0.00071.
    assert found.cells[1][:4] == ("28", "batch", "91.20 ± 0.07", "97.88 ± 0.09")
    assert found.cells[0][6:] == ("43.00 ± 0.00", "66.70 ± 0.90", "5")
    row = next(row for row in found.data.to_dict("records") if (row["resize"], row["result"]) == (84, "bim_acc"))
    assert (row["mean"], row["paper"]) == (pytest.approx(0.29), 0.476)


def test_tables_11_and_12_are_ratios_to_their_first_row(results: Results):
    recorded(results)
    linear = table(results, "g19-t11")
    assert [cells[:2] for cells in linear.cells] == [
        *(("28", "0"), ("56", "0"), ("56", "0.01"), ("84", "0"), ("84", "0.0225"), ("112", "0"), ("112", "0.05"))
    ]
    assert linear.cells[0][2] == "90.20 ± 0.07"
    assert linear.cells[1][6:8] == ("2.000 ± 0.000", "1.011 ± 0.007")
    assert linear.cells[1][8].startswith("1.2")
    mlp = table(results, "g19-t12")
    assert mlp.cells[1][2] == f"{0.912 / 0.902:.3f} ± 0.000"
    assert mlp.cells[5][4:6] == (f"{0.29 / 0.43:.3f} ± 0.000", "0.090 ± 0.080")


def test_rows_without_records_have_a_dash_and_the_papers_number(results: Results):
    recorded(results, SWEEPS["input_dimension"].plan(Scale.quick).trials)
    found = table(results, "g19-t6")
    assert found.cells[4][2:4] == ("-", "98.27 ± 0.04")
    assert found.cells[4][-1] == "0"
    assert "on digits" in found.title
    rows = json.loads(render([found], "json"))[0]["rows"]
    assert rows[-1]["mean"] is None


def test_every_row_of_a_table_is_in_its_sweeps():
    for each in PAPER_TABLES:
        trials = [trial for sweep in each.sweeps for trial in SWEEPS[sweep].plan(Scale.paper).trials]
        for row in each.rows:
            levels = {name: level if isinstance(level, tuple) else (level,) for name, level in row.levels.items()}
            here = [
                trial for trial in trials if all(trial.settings()[name] in allowed for name, allowed in levels.items())
            ]
            assert len(here) == 1, (each.name, row.levels)
            assert len(row.numbers) == len(each.columns)


def test_a_table_of_other_records_is_refused(results: Results):
    trials = grid(dataset="mnist", architecture="lenet", norm=("batch", "none"))
    for sweep in ("input_dimension", "mine"):
        plan(results, trials, sweep)
        record(results, trials, sweep=sweep)
    with pytest.raises(BadInputError, match="no records of Table 6"):
        table(results, "g19-t6")
    with pytest.raises(BadInputError, match="from records of input_dimension, not of mine"):
        paper_table(find_table("g19-t6"), [load(results, "mine")], results)
    with pytest.raises(BadInputError, match="g19-t7"):
        find_table("g19-t77")


# Convolutional networks -----------------------------------------------------------------------------------------------


def recorded_networks(results: Results, scale: Scale = Scale.paper, *sweeps: str) -> None:
    """The paper's numbers, of each seed a thousandth more, and a trial that is no row of any table has 50%."""
    for sweep in sweeps or SWEEPS_OF_NETWORKS:
        write(results, SWEEPS[sweep].plan(scale).trials, of_the_paper)


def test_the_tables_come_in_the_papers_order():
    numbers = [int(each.place.removeprefix("Table ")) for each in PAPER_TABLES]
    assert numbers == sorted(set(numbers))
    assert {1, 2, 3, 4, 6, 7, 8, 9, 11, 12} <= set(numbers)


@pytest.mark.parametrize("name", ["g19-t1", "g19-t2", "g19-t3", "g19-t4", "g19-t8", "g19-t9"])
def test_a_table_of_the_papers_own_numbers_has_them_twice(name: str, results: Results):
    recorded_networks(results, Scale.paper, *find_table(name).sweeps)
    for row in table(results, name).data.to_dict("records"):
        if not np.isnan(row["paper"]):
            # Tables 2 and 9 round the same number apart.
            assert row["mean"] == pytest.approx(row["paper"], abs=0.004), row


def test_table_2_has_the_networks_of_two_sweeps(results: Results):
    recorded_networks(results)
    found = table(results, "g19-t2")
    assert [cells[:2] for cells in found.cells] == [
        *(("vgg8", "none"), ("vgg8", "batch"), ("wrn28_10", "fixup"), ("wrn28_10", "batch"))
    ]
    assert found.headers[2:] == [
        *("clean", "the paper's", "noise", "the paper's", "PGD linf", "the paper's", "PGD l2", "the paper's"),
        *("10.1 clean", "the paper's", "10.1 noise", "the paper's", "n"),
    ]
    assert found.cells[1][3] == "88.70 ± 0.10"
    assert not any("grey" in note for note in found.notes)
    assert [cells[-1] for cells in found.cells] == ["5"] * 4


def test_table_2_of_one_sweep_has_dashes_for_the_other(results: Results):
    recorded_networks(results, Scale.paper, "vgg_cifar")
    found = table(results, "g19-t2")
    assert found.cells[2][2:4] == ("-", "94.60 ± 0.10")
    assert found.cells[2][-1] == "0"
    assert found.cells[0][-1] == "5"


def test_table_4_says_how_many_families_its_mean_error_is_over(results: Results):
    recorded_networks(results, Scale.paper, "vgg_cifar")
    found = table(results, "g19-t4")
    # Planted are the four families of noise.
    assert any(note.startswith("Corrupted images: 4 of 19 families, computed;") for note in found.notes)
    assert any("1.9 ± 0.9 points for VGG8" in note for note in found.notes)
    assert found.cells[0][-3:-1] == ("40.00 ± 0.01", "-")
    assert load(results, "vgg_cifar").notes == [
        "vgg_cifar: the corruption error is a mean over 4 of 19 families, computed."
    ]


def test_table_9_says_what_the_papers_fixup_probably_was(results: Results):
    recorded_networks(results, Scale.paper, "wide_resnet")
    assert any("27 May 2019" in note for note in table(results, "g19-t9").notes)


def test_at_quick_scale_a_small_network_stands_in_and_is_named(results: Results):
    recorded_networks(results, Scale.quick)
    rates = table(results, "g19-t3")
    assert [cells[0] for cells in rates.cells[:3]] == ["vgg8 (lenet here)", "vgg8 (lenet here)", "vgg11"]
    assert [cells[-1] for cells in rates.cells[:3]] == ["3", "3", "0"]
    assert "on digits" in rates.title
    assert any(note.startswith("On digits, which is grey,") for note in rates.notes)
    assert [cells[0] for cells in table(results, "g19-t9").cells] == ["wrn28_10 (wrn10_2 here)"] * 2
    assert [cells[0] for cells in table(results, "g19-t1").cells] == ["vgg8", "vgg8"]


def test_the_papers_data_go_before_others_over_all_sweeps(results: Results):
    recorded_networks(results, Scale.paper, "vgg_cifar")
    recorded_networks(results, Scale.quick, "wide_resnet")
    found = table(results, "g19-t2")
    assert "on cifar10:" in found.title
    assert found.cells[3][-1] == "0"


def test_a_table_that_no_records_feed_names_the_sweeps_that_would(results: Results):
    recorded_networks(results, Scale.paper, "vgg_svhn")
    with pytest.raises(BadInputError, match="vgg_cifar and wide_resnet; `python -m sweeps run vgg_cifar` makes them"):
        tables_named(["g19-t2"], [load(results, "vgg_svhn")], results)
