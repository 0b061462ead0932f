"""Records that earlier versions wrote are read, tabulated, counted as done and gone on with."""

import shutil
from pathlib import Path

import pytest

from analysis.load import load
from analysis.report.tables import summary
from analysis.statistics.curves import curves
from analysis.statistics.membership import audit_cells
from study.record.results import Results
from sweeps import registry
from sweeps.__main__ import app
from sweeps.sweep import Scale

GOLDEN = sorted((Path(__file__).parent / "golden").glob("schema_*"))
AXES = {"epochs": (2,), "seed": (0, 1), "k": (0.1,)}


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy, for what is run writes plans."""
    shutil.copytree(request.param, tmp_path / "copy")
    return tmp_path / "copy"


def test_they_are_tabulated(folder: Path):
    results = Results.at(folder / "shards")
    loaded = load(results, "quickstart")
    table = summary(loaded.members).set_index("norm")
    assert table["mem_acc_mean"].round(3).to_dict() == {"batch": 0.007, "none": 0.045}
    assert table["n"].tolist() == [2, 2]
    assert len(curves(loaded, results)) == 4


@pytest.mark.parametrize("form", ["shards", "compacted"])
def test_their_models_are_audited(folder: Path, form: str):
    results = Results.at(folder / form)
    audited = audit_cells(load(results, "membership"), results)
    assert [cell.scores.shape for cell in audited] == [(1, 6, 120)] * 2
    assert results.read("membership", "images").num_rows == 24


def test_they_are_counted_as_done(folder: Path, capsys: pytest.CaptureFixture[str]):
    for form, sweep in (("shards", "quickstart"), ("shards", "membership"), ("compacted", "membership")):
        app(["status", sweep, "--results", str(folder / form)], standalone_mode=False)
        assert "2 done, 0 missing, 0 failed, 0 diverged" in capsys.readouterr().out


def test_they_are_gone_on_with(folder: Path, capsys: pytest.CaptureFixture[str]):
    results = Results.at(folder / "shards")
    before = {path: path.read_bytes() for path in Path(results.location).rglob("*.parquet")}
    overrides = [f"--set={name}={','.join(map(str, levels))}" for name, levels in AXES.items()]
    app(["run", "quickstart", *overrides, "--results", results.location, "--yes"], standalone_mode=False)
    assert "2 trials, 4 members: 2 done, 0 missing" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in Path(results.location).rglob("*.parquet")} == before
    # Of a wider grid, what is new is run.
    wider = registry.sweep("quickstart").plan(Scale.quick, {**AXES, "seed": (0, 1, 2)}).state(results)
    assert [trial.seed for trial in wider.missing] == [(2,), (2,)]


def test_they_are_compacted_with_those_of_today(folder: Path):
    results = Results.at(folder / "shards")
    before = results.read("membership", "samples")
    shards = list((folder / "shards" / "membership").glob("*/*.parquet"))
    assert results.compact("membership") == (len(shards), len({shard.parent for shard in shards}))
    assert results.read("membership", "samples").to_pylist() == before.to_pylist()
