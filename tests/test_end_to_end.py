import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from analysis.load import load
from analysis.report.tables import summary
from study.record.results import Results
from study.record.rows import failed
from sweeps.plan import Plan
from tests.ray_runs import TINY, Command
from tests.sweeps.test_main import assert_same_science

pytestmark = pytest.mark.ray


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


def test_a_finished_sweep_runs_nothing_and_changes_no_record(sweeps: Command, finished: Path):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")}
    done = sweeps("run", "quickstart", *TINY, "--results", finished)
    assert done.returncode == 0
    assert "4 done, 0 missing" in done.stdout
    assert "about to run" not in done.stdout
    assert done.stdout.splitlines()[-1] == f"next: python -m analysis tables {finished} --sweep quickstart"
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.parquet")} == before


def test_status_counts_what_was_planned(sweeps: Command, finished: Path):
    done = sweeps("status", "quickstart", "--results", finished)
    assert done.stdout.strip() == "quickstart: 4 trials, 8 members: 4 done, 0 missing, 0 failed, 0 diverged"
    every = sweeps("status", "--results", finished)
    (row,) = (line for line in every.stdout.splitlines() if "quickstart" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["quickstart", "4", "8", "4", "0", "0", "0"]


def test_a_damaged_shard_is_named_by_who_reads_it_and_left_as_it_is(sweeps: Command, finished: Path, tmp_path: Path):
    subprocess.run(["cp", "-r", finished, tmp_path / "results"], check=True)
    shard = min((tmp_path / "results" / "quickstart" / "members").iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    refused = sweeps("status", "quickstart", "--results", tmp_path / "results")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert str(shard) in refused.stderr
    assert shard.stat().st_size == 100


@pytest.mark.slow
def test_a_failed_trial_of_a_compacted_sweep_is_run_again_and_compacted_again(
    sweeps: Command, finished: Path, tmp_path: Path
):
    results, where = Results.at(tmp_path / "results"), ["quickstart", "--results", tmp_path / "results"]
    subprocess.run(["cp", "-r", finished, results.location], check=True)
    plan = Plan.saved("quickstart", results)
    assert plan is not None
    results.write("quickstart", plan.trials[0].id, failed(plan.trials[0], "out of luck").tables)
    assert sweeps("compact", *where).stdout == "quickstart: 10 shards are now 3 files\n"
    assert sum(path.suffix == ".parquet" for path in Path(results.location).rglob("*")) == 3

    retried = sweeps("retry", *where, "--failed")
    assert retried.returncode == 0, retried.stdout + retried.stderr
    assert "3 done, 0 missing, 1 failed" in retried.stdout
    assert_same_science(results, Results.at(finished))
    # A trial that has rows in two files is compacted at the end of the run.
    frame = pd.read_parquet(Path(results.location) / "quickstart" / "members")
    assert not frame.duplicated(["trial", "member"]).any()
    assert sweeps("compact", *where).stdout == "quickstart: nothing to compact\n"


def test_nothing_is_logged_elsewhere_unasked(finished: Path):
    assert not list(finished.rglob("*tfevents*"))
    assert not (finished / "quickstart" / "tensorboard").exists()
