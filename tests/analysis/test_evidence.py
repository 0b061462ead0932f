"""The evidence: what verdicts rest on, small, without the machine's folders, and honest about what it lacks."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import app
from analysis.claims.ledger import ledger
from analysis.evidence import MOST_BYTES, parse_every, public_command, take
from analysis.load import load, load_all
from study.errors import BadInputError
from study.record.results import Results
from study.record.schema import SCHEMAS
from study.terminal import main
from sweeps.plan import Plan
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis import planted, robust
from tests.analysis.conftest import DIVERGED, grid, plan, plausible, record, rows

GRID = grid(k=(0, 0.1), norm=("batch", "none"), seed=range(3))


@pytest.fixture
def into(tmp_path: Path) -> Results:
    return Results.at(tmp_path / "evidence")


def written(folder: Results) -> int:
    return sum(path.stat().st_size for path in Path(folder.location).rglob("*") if path.is_file())


def test_verdicts_are_the_same(results: Results, into: Results):
    planted.write(results, SWEEPS["gamma_sigma"].plan(Scale.quick, {}))
    (taken,) = take(results, into)
    assert taken.bytes == written(into) < MOST_BYTES
    found, expected = ({entry.claim.id: entry for entry in ledger(where)} for where in (into, results))
    assert {entry.verdict for entry in expected.values()} > {"held", "not run"}
    for name, entry in expected.items():
        assert found[name].verdict == entry.verdict
        if entry.finding is not None:
            assert found[name].finding.effect == pytest.approx(entry.finding.effect, rel=1e-5)


@pytest.mark.parametrize(("sweep", "tables"), [("influence", {"layers", "margins"}), ("membership", set())])
def test_samples_are_left_out_and_what_takes_them_is_undecided(
    results: Results, into: Results, sweep: str, tables: set[str]
):
    planted.write(results, planted.plan(sweep, Scale.quick))
    take(results, into)
    assert {path.name for path in (Path(into.location) / sweep).iterdir()} == {"members", "plans", "compact", *tables}
    found = {entry.claim.id: entry for entry in ledger(into)}
    taking = [entry for entry in found.values() if entry.finding and entry.claim.table in ("samples", "leakage")]
    assert len(taking) == (7 if sweep == "membership" else 0)
    for entry in taking:
        assert (entry.verdict, entry.finding.notes) == (
            "undecided",
            ("the scores of samples that it takes are not in this folder",),
        )


def test_a_sweep_that_is_being_run_is_taken_trial_by_trial(results: Results, into: Results):
    plan(results, GRID)
    record(results, GRID[:1])
    assert [(taken.trials, taken.added) for taken in take(results, into)] == [(1, 1)]
    with pytest.raises(BadInputError, match="3 of 4 trials have no complete record"):
        load(into, "mine")
    record(results, GRID[1:])
    assert [(taken.trials, taken.added, taken.replaced) for taken in take(results, into)] == [(4, 3, 0)]
    assert load(into, "mine").missing == 0


def test_what_is_missing_is_said(results: Results, into: Results):
    plan(results, GRID)
    record(results, GRID[:3])
    take(results, into)
    (loaded,) = load_all(into, partial=True)
    assert (loaded.planned, loaded.missing, len(loaded.lacking)) == (12, 3, 1)


def test_what_another_folder_recorded_stays(results: Results, into: Results, tmp_path: Path):
    other = Results.at(tmp_path / "other")
    for folder, trials in ((results, GRID[:2]), (other, GRID[2:])):
        plan(folder, trials)
        record(folder, trials)
        take(folder, into)
    assert len(load(into, "mine").members) == 12
    assert len(into.plans("mine")) == 2


def test_a_failure_takes_no_result_away(results: Results, into: Results, tmp_path: Path):
    plan(results, GRID)
    record(results, GRID)
    take(results, into)
    other = Results.at(tmp_path / "other")
    plan(other, GRID)
    record(other, GRID, lambda trial, seed: {"status": "failed", "error": "no room"})
    assert [taken.replaced for taken in take(other, into)] == [0]
    assert set(load(into, "mine").members["status"]) == {"ok"}
    record(other, GRID[:1], lambda trial, seed: DIVERGED)
    assert [taken.replaced for taken in take(other, into)] == [1]


def test_plans_are_small_and_say_the_same(results: Results, into: Results):
    plan(results, GRID)
    record(results, GRID)
    take(results, into)
    assert Plan.saved("mine", into) == Plan.saved("mine", results)
    assert [trial.id for trial in Plan.saved("mine", into).trials] == [trial.id for trial in GRID]
    sizes = [(Path(folder.location) / "mine" / "plans").glob("*.json") for folder in (into, results)]
    small, whole = (sum(path.stat().st_size for path in paths) for paths in sizes)
    assert small < whole / 4


def test_the_folders_of_a_machine_are_not_told(results: Results, into: Results, tmp_path: Path):
    folder = tmp_path / "secret" / "cifar"
    folder.mkdir(parents=True)
    (folder / "train-0.parquet").write_bytes(b"images")
    trials = grid(dataset=f"parquet:{folder}", k=(0.1, 0.2), seed=0)
    plan(results, trials)
    results.write("mine", trials[0].id, {"members": rows(trials[0], plausible)})
    take(results, into)
    texts = "".join(path.read_text() for path in Path(into.location).rglob("*.json"))
    assert "secret" not in texts
    (saved,) = {trial.dataset for trial in Plan.saved("mine", into).trials}
    assert saved == load(into, "mine", partial=True).members["dataset"].iloc[0]
    assert [trial.id for trial in Plan.saved("mine", into).trials] == [trial.id for trial in trials]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            "python -m sweeps run ood --results /home/me/r --data-dir=/d --yes",
            "--results results --data-dir=data --yes",
        ),
        ("python -m sweeps run ood --set dataset=parquet:/home/me/cifar", "--set dataset=parquet:path/to/cifar"),
        (
            "python -m sweeps run ood --set dataset=mnist,parquet:../d/x,digits",
            "dataset=mnist,parquet:path/to/x,digits",
        ),
        ("python -m sweeps run ood --set k=0.1,0.2", "--set k=0.1,0.2"),
        ("python -m sweeps run ood --address ray://10.0.0.1:10001", "--address ray://10.0.0.1:10001"),
    ],
)
def test_a_command_is_told_without_the_folders_of_a_machine(typed: str, told: str):
    assert public_command(typed).endswith(told)


def test_what_is_too_large_is_refused_and_leaves_all_as_it_was(results: Results, into: Results):
    plan(results, GRID)
    record(results, GRID[:2])
    take(results, into)
    before = {path: path.read_bytes() for path in Path(into.location).rglob("*") if path.is_file()}
    record(results, GRID)
    with pytest.raises(BadInputError, match=r"more than 1,000 \(mine .*--every layers=10"):
        take(results, into, most=1000)
    assert {path: path.read_bytes() for path in Path(into.location).rglob("*") if path.is_file()} == before


def test_tables_are_left_out_and_epochs_thinned_by_name(results: Results, into: Results):
    planned = planted.plan("label_noise", Scale.quick, k=(0.05,))
    planted.write(results, planned)
    take(results, into, without=["layers"], every={"epochs": 4})
    assert len(into.read("label_noise", "layers")) == 0
    assert set(into.read("label_noise", "epochs")["epoch"].to_pylist()) == {1, 4, planted.EPOCHS}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"without": ["members"]}, "members"),
        ({"without": ["samples"]}, "samples"),
        ({"every": {"robustness": 2}}, "robustness"),
        ({"sweep": "other"}, "other"),
    ],
)
def test_a_wrong_name_is_refused(results: Results, into: Results, given: dict[str, Any], why: str):
    plan(results, GRID)
    record(results, GRID)
    with pytest.raises(BadInputError, match=f"{why!r}"):
        take(results, into, **given)


def test_a_folder_without_records_is_refused(into: Results, tmp_path: Path):
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInputError, match="holds no records"):
        take(Results.at(tmp_path / "none"), into)
    assert not into.exists()


@pytest.mark.parametrize("text", ["layers", "layers=", "layers=0", "layers=-3", "layers=x"])
def test_every_takes_a_table_and_a_number(text: str):
    with pytest.raises(BadInputError, match="TABLE=N"):
        parse_every([text])
    assert parse_every(["layers=10", "epochs=2"]) == {"layers": 10, "epochs": 2}


def test_the_manifest_says_what_it_has(results: Results, into: Results):
    plan(results, GRID)
    record(results, GRID)
    take(results, into)
    (manifest,) = (Path(into.location) / "mine" / "compact").iterdir()
    assert set(json.loads(manifest.read_text())["shards"]) <= set(SCHEMAS) - {"samples", "images"}


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["tables", "compare", "robustness", "panel"])
def test_the_commands_read_it_as_any_folder(
    results: Results, into: Results, verb: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    robust.record_attacked(results, "mine", grid(norm=("batch", "none"), robustness="pixel", seed=range(3)))
    take(results, into)
    said = []
    for folder in (results, into):
        monkeypatch.setattr(sys, "argv", ["analysis", verb, folder.location, "--format", "csv"])
        with pytest.raises(SystemExit) as ended:
            main(app, "python -m analysis")
        assert not ended.value.code
        said.append(capfd.readouterr().out)
    assert said[0] == said[1] != ""
