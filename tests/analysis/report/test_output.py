import io
import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.metrics import select_metrics
from analysis.report.output import Best, Output, Table, render
from analysis.report.tables import ablation_table
from analysis.statistics.ablation import ablation
from study.errors import BadInputError
from tests.analysis.conftest import frame
from tests.analysis.statistics.test_ablation import TRIALS, outcome

GOLDEN = Path(__file__).parents[2] / "golden"
SUFFIXES = {"text": "txt", "markdown": "md", "latex": "tex", "csv": "csv", "json": "json"}


@pytest.fixture
def table() -> Table:
    """Worked out in test_ablation; all clean accuracies are 0.5."""
    levels = ablation(frame(TRIALS, outcome), "optimizer", metrics=select_metrics(["mem_acc", "clean_acc"]))
    shown = ablation_table(levels, "optimizer", "mine: optimizer")
    shown.notes.append("mine: 50% & more.")
    return shown


@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
def test_what_a_person_reads_is_the_golden_table(table: Table, form: str):
    golden = GOLDEN / f"optimizer.{SUFFIXES[form]}"
    assert render([table], form) == golden.read_text(encoding="utf-8")


def test_what_a_program_reads_has_the_golden_numbers(table: Table):
    golden = pd.read_csv(GOLDEN / "optimizer.csv")
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(render([table], "csv"))), golden, rtol=1e-12)
    (found,), (wanted,) = json.loads(render([table], "json")), json.loads((GOLDEN / "optimizer.json").read_text())
    assert (found["title"], found["notes"]) == (wanted["title"], wanted["notes"])
    assert [list(row) for row in found["rows"]] == [list(row) for row in wanted["rows"]]
    pd.testing.assert_frame_equal(pd.DataFrame(found["rows"]), pd.DataFrame(wanted["rows"]), rtol=1e-12)


def test_what_is_special_in_a_format_is_escaped():
    shown = Table("a_b | 5%", pd.DataFrame({"x": [1]}), ["a_b"], ["x & y"])
    shown.add_row("ood_100% {x}", Best("<1"))
    latex, markdown = render([shown], "latex"), render([shown], "markdown")
    assert r"ood\_100\% \{x\} & \textbf{$<$1} \\" in latex
    assert r"a\_b & x \& y \\" in latex
    assert r"\caption{a\_b | 5\%.}" in latex
    assert r"| ood\_100% {x} | **\<1** |" in markdown
    assert r"**a\_b \| 5%**" in markdown


def test_whatever_is_a_command_to_latex_is_printed_in_cells_headers_and_captions():
    marks = r"~ _ % & # { } \\ ^ $ a-b"
    shown = Table(marks, pd.DataFrame({"x": [1]}), [marks], ["x"], notes=[marks])
    shown.add_row(marks, Best(marks))
    latex = render([shown], "latex")
    one = r"\textasciitilde{} \_ \% \& \# \{ \} \textbackslash{}\textbackslash{} \textasciicircum{} \$ a-b"
    assert latex.count(one) == 5
    assert rf"{one} & \textbf{{{one}}} \\" in latex


def test_json_has_null_for_whatever_is_no_number():
    data = pd.DataFrame({"x": [1.5, float("nan"), float("inf")], "n": pd.array([1, None, 2], "Int64")})
    (found,) = json.loads(render([Table("t", data, [], ["x"])], "json"))
    assert found["rows"] == [{"x": 1.5, "n": 1}, {"x": None, "n": None}, {"x": None, "n": 2}]


def test_numbers_keep_all_their_digits():
    value = 0.1 + 0.2
    shown = Table("t", pd.DataFrame({"x": [value]}), [], ["x"])
    assert json.loads(render([shown], "json"))[0]["rows"][0]["x"] == value
    assert render([shown], "csv") == f"x\n{value!r}\n"


def test_several_tables_stand_in_one_file_in_order(table: Table, tmp_path: Path):
    Output("csv", tmp_path / "tables.csv").show([table, Table("t", pd.DataFrame({"x": [1]}), [], ["x"])])
    read = pd.read_csv(tmp_path / "tables.csv")
    assert list(read.columns) == ["table", *table.data.columns, "x"]
    assert read["table"].tolist() == [table.title] * len(table.data) + ["t"]
    assert read["x"].tolist()[-1] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tables.csv"]


def test_a_file_that_can_not_be_written_is_refused_and_nothing_is_left(table: Table, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    for place in ("folder", "nowhere/tables.csv"):
        with pytest.raises(BadInputError, match="tables can't be written to"):
            Output("csv", tmp_path / place).show([table])
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_an_unknown_format_gets_the_nearest():
    with pytest.raises(BadInputError, match="unknown format 'latx': did you mean 'latex'"):
        Output("latx")
