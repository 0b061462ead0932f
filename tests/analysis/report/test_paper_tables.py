"""The tables of the 2019 paper, from planted records: our numbers beside the paper's."""

import json

import pytest

from analysis.load import load
from analysis.report.output import Table, render
from analysis.report.paper_tables import PAPER_TABLES, find_table, paper_table
from study.errors import BadInputError
from study.record.results import Results
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis.conftest import Outcome, grid, plan, record
from tests.analysis.robust import record_attacked


def recorded(results: Results, trials: tuple[Trial, ...] | None = None) -> None:
    """Each accuracy depends on the arm, the size and the seed; the loss of an attack grows with the size."""
    planned = trials or SWEEPS["input_dimension"].plan(Scale.paper).trials

    def outcome(trial: Trial, seed: int) -> Outcome:
        return {"test_acc": 0.9 + 0.01 * (trial.norm == "batch") + 0.001 * seed, "test_loss": 0.2 * trial.resize / 28}

    record_attacked(results, "input_dimension", planned, lambda trial, *_: 0.5 - trial.resize / 400, outcome)


def table(results: Results, name: str) -> Table:
    return paper_table(find_table(name), load(results, "input_dimension"), results)


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


def test_every_row_of_a_table_is_in_its_sweep():
    for each in PAPER_TABLES:
        trials = SWEEPS[each.sweep].plan(Scale.paper).trials
        for row in each.rows:
            here = [trial for trial in trials if row.levels.items() <= trial.settings().items()]
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
        paper_table(find_table("g19-t6"), load(results, "mine"), results)
    with pytest.raises(BadInputError, match="g19-t7"):
        find_table("g19-t77")
