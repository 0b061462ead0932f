import re
from pathlib import Path

import pandas as pd

from analysis.load import load
from analysis.report.tables import summary
from study.record.results import Results
from tests.ray_runs import Command


def test_the_sweep_on_ray_gives_the_golden_table(finished: Path):
    """Golden: an independent loop over the same flips, order and initial weights, written with bare torch layers.

    Rounding differs between two ways to write a sum, which after three epochs moves a sample or two over the border.
    """
    golden = pd.read_csv(Path(__file__).parent / "golden" / "three_epochs.csv")
    found = summary(load(Results.at(finished), "quickstart").members)
    assert list(found.columns) == list(golden.columns)
    pd.testing.assert_frame_equal(found, golden, check_exact=False, atol=0.015, rtol=0, check_dtype=False)


def test_the_analysis_prints_its_table_test_and_figures(sweeps: Command, finished: Path, tmp_path: Path):
    tables = sweeps("tables", finished, module="analysis")
    compared = sweeps("compare", finished, "--factor", "norm", module="analysis")
    drawn = sweeps("figures", finished, "--figures", tmp_path, module="analysis")
    assert (tables.returncode, compared.returncode, drawn.returncode) == (0, 0, 0), tables.stderr + compared.stderr
    for label in ("memorization", "true label", "clean", "test", "MIA AUC", "±"):
        assert label in tables.stdout
    assert len(re.findall("batch [<>] none", compared.stdout)) == 15
    for name in ("fig1", "fig18"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert str(tmp_path / f"{name}.png") in drawn.stdout
    assert f"records: {finished}/quickstart" in drawn.stdout
