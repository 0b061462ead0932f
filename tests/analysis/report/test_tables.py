import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from analysis.metrics import select_metrics
from analysis.report.output import Table
from analysis.report.tables import comparison_table, pivot, pivot_table, summary, summary_table
from analysis.statistics.paired import compare
from study.trial import Trial
from tests.analysis.conftest import DIVERGED, Outcome, frame, grid

GOLDEN = Path(__file__).parents[2] / "golden"
RECORDED = pd.read_csv(GOLDEN / "members.csv", keep_default_na=False).set_index(["k", "norm", "seed"])
TRIALS = grid(k=(0, 0.1, 0.3), norm=("batch", "none"), seed=range(3))
LONG = "parquet:cifar10-jpeg@1a2b3c4d"


def recorded(trial: Trial, seed: int) -> Outcome:
    """The member's row of the golden file; an empty field is null."""
    row = RECORDED.loc[(trial.k, trial.norm, seed)]
    return {name: value if name == "status" else float(value) for name, value in row.items() if value != ""}


def printed(table: Table, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(table.rich())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def body(table: Table, width: int = 160) -> list[list[str]]:
    """The cells below the header, line by line."""
    lines = printed(table, width).splitlines()
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]


# Summaries


def test_a_summary_is_the_table_worked_out_by_hand():
    """The standard deviations have n - 1 below: three values a step apart have one step.

    Two values have their distance over sqrt 2: 0.1 and 0.3 have 0.1414. And 0.1, 0.1, 0.4 are 0.1, 0.1, 0.2 from their
    mean, which makes sqrt(0.06 / 2) = 0.1732. One value has none.
    """
    # Only an empty field is a missing value; to pandas, the word none would be one too.
    golden = pd.read_csv(GOLDEN / "summary.csv", keep_default_na=False, na_values=[""])
    found = summary(frame(TRIALS, recorded))
    pd.testing.assert_frame_equal(found, golden, check_exact=False, rtol=0, atol=1e-9, check_dtype=False)


def test_the_summary_is_printed_with_a_dash_where_there_is_nothing():
    shown = [" ".join(cells) for cells in body(summary_table(summary(frame(TRIALS, recorded)), "title"))]
    assert shown == [
        "0 batch - - 0.980 ± 0.010 0.920 ± 0.020 0.500 ± 0.000 3 0",
        "0 none - - 0.900 0.850 0.510 1 2",
        "0.1 batch 0.900 ± 0.100 0.100 ± 0.100 0.960 ± 0.020 0.800 ± 0.000 0.650 ± 0.050 3 0",
        "0.1 none 0.200 ± 0.141 0.800 ± 0.141 0.900 ± 0.000 0.860 ± 0.028 0.510 ± 0.014 2 1",
        "0.3 batch - - - - - 0 3",
        "0.3 none 0.200 ± 0.173 0.700 ± 0.173 0.850 ± 0.050 0.750 ± 0.050 0.500 ± 0.050 3 0",
    ]


def test_cells_come_in_the_order_of_their_settings_and_numbers_by_size():
    trials = grid(dataset=("mnist", "digits"), k=(0.1, 0.05), norm=("none", "batch"), epochs=(10, 9), seed=0)
    table = summary(frame(trials))
    assert list(table.columns[:4]) == ["dataset", "k", "norm", "epochs"]
    cells = list(table[["dataset", "k", "norm", "epochs"]].itertuples(index=False, name=None))
    assert cells == sorted(cells)
    assert len(cells) == 16


def test_the_levels_of_a_setting_are_side_by_side_as_in_table_1():
    trials = grid(
        dataset=("mnist", "cifar10"), k=(0.01, 0.05), norm=("layer", "none"), architecture=("vit",), seed=range(2)
    )
    accuracies = {("mnist", 0.01, "layer"): 0.99, ("mnist", 0.01, "none"): 0.05, ("cifar10", 0.05, "layer"): 0.9}

    def outcome(trial: Trial, seed: int) -> Outcome:
        middle = accuracies.get((trial.dataset, trial.k, trial.norm), 0.5)
        return {"mem_acc": middle + 0.01 * (2 * seed - 1)}

    table = pivot_table(pivot(frame(trials, outcome), "dataset", select_metrics(["mem_acc"])), "")
    assert [table.left, table.right] == [["metric", "k", "norm"], ["cifar10", "mnist"]]
    assert table.cells[:2] == [
        ("memorization", "0.01", "layer", "0.500 ± 0.014", "0.990 ± 0.014"),
        ("memorization", "0.01", "none", "0.500 ± 0.014", "0.050 ± 0.014"),
    ]
    assert table.cells[2][3] == "0.900 ± 0.014"
    holes = frame([trial for trial in trials if (trial.dataset, trial.k) != ("mnist", 0.01)], outcome)
    assert [row[-1] for row in pivot_table(pivot(holes, "dataset", select_metrics(["mem_acc"])), "").cells][:2] == [
        "-"
    ] * 2


def test_one_cell_is_one_row_under_its_norm():
    table = summary(frame(grid(k=0.1, norm="group", seed=range(3))))
    assert table[["norm", "n", "excluded"]].to_numpy().tolist() == [["group", 3, 0]]
    assert body(summary_table(table, "title"))[0][0] == "group"


def test_counts_are_whole_numbers_where_every_setting_is_a_number():
    table = summary(frame(grid(k=(0.1, 0.3), batch_size=(32, 256), lr=(1e-5, 1e-3), seed=range(3))))
    for line, cell in zip(body(summary_table(table, "title")), table.itertuples(), strict=True):
        assert line[:3] == [f"{cell.k:g}", "0.00001" if cell.lr == 1e-5 else "0.001", str(cell.batch_size)]
        assert line[-2:] == ["3", "0"]


def test_a_grid_in_which_every_member_diverged_still_has_its_rows():
    table = summary(frame(grid(k=0.1, norm=("batch", "none"), seed=range(3)), lambda trial, seed: DIVERGED))
    assert body(summary_table(table, "title")) == [
        [norm, "-", "-", "-", "-", "-", "0", "3"] for norm in ("batch", "none")
    ]


# Comparisons


def test_a_comparison_is_printed_as_it_was_tested():
    gains = {0.1: (0.1, 0.2, 0.3), 0.3: (0.3, 0.3, 0.3)}

    def outcome(trial: Trial, seed: int) -> Outcome:
        return {"mem_acc": 0.5 + (gains[trial.k][seed] if trial.norm == "batch" else 0)}

    members = frame(grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3)), outcome)
    shown = body(comparison_table(compare(members, "norm"), "title"))
    # Worked out in test_compare. Over both cells the seeds' means are 0.2, 0.25 and 0.3: mean 0.25, standard deviation
    # 0.05, so d = 5, t = 8.660 and p = 0.0065, with an interval of 4.30265 * 0.05 / sqrt 3 = 0.124 to either side.
    assert shown[:4] == [
        ["memorization", "batch > none", "0.1", "3", "+0.200", "[-0.048, +0.448]", "2.0", "0.037", "0.037", "0"],
        ["memorization", "batch > none", "0.3", "3", "+0.300", "-", "-", "-", "-", "0"],
        ["memorization", "batch > none", "all", "3", "+0.250", "[+0.126, +0.374]", "5.0", "0.007", "0.007", "0"],
        ["true label", "batch < none", "0.1", "0", "-", "-", "-", "-", "-", "0"],
    ]


def test_the_levels_of_a_numeric_factor_are_shown_as_a_user_would_type_them():
    shown = body(comparison_table(compare(frame(grid(lr=(1e-3, 1e-5), k=0.1, seed=range(3))), "lr"), "title"))
    assert {line[1] for line in shown} == {"0.001 ≠ 0.00001"}


# On narrow terminals


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_number_is_cut_off_however_narrow_the_terminal(width: int):
    members = frame(grid(dataset="digits", k=(0.1, 0.3), norm=("batch", "none"), seed=range(3)))
    both = pd.concat([members, members.assign(dataset=LONG)])
    cells, tests = summary(both), compare(both, "norm")
    for table in (summary_table(cells, "title"), comparison_table(tests, "title")):
        text = printed(table, width)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width
    numbers = [f"{value:.3f}" for value in cells["mem_acc_mean"]]
    numbers += [f"{value:.3f}" for value in cells["mia_auc_sd"]]
    text = printed(summary_table(cells, "title"), width)
    assert [number for number in numbers if number not in text] == []
