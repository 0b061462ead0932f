import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from analysis.load import load_all
from study.errors import BadInputError
from study.record.results import Results
from study.run import run
from study.terminal import main
from sweeps.__main__ import app
from sweeps.launch.cluster import connect
from sweeps.launch.launch import Cluster, Launch
from sweeps.lock import exclusive
from sweeps.plan import Plan
from sweeps.tuning.search import Search
from sweeps.tuning.space import cells
from sweeps.tuning.stages import Tuning
from tests.patience import wait_until
from tests.ray_runs import ROOT, Command, command
from tests.sweeps.test_main import refused

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

BUDGET = 3
SMALL = {"subset": [200], "epochs": [1], "seed": [0, 1]}
SETTINGS = [part for name, values in SMALL.items() for part in ("--set", f"{name}={','.join(map(str, values))}")]
TUNE = [
    "tune",
    "regularizer",
    "--trials",
    str(BUDGET),
    "--fresh-seeds",
    "2",
    "--max-accuracy-loss",
    "1",
    "--workers",
    "1",
    "--backend",
    "single",
    *SETTINGS,
    "-y",
]
CELL = cells(SMALL, fresh=2, tune_lr=False)[0]


@pytest.fixture(scope="module")
def tuned(sweeps: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuning whose driver was killed in the midst of its first search, and that was then taken up again.

    Its references are there already: each stage starts workers of its own.
    """
    results = tmp_path_factory.mktemp("tuned") / "results"
    for trial in CELL.references:
        Results.at(results).write("tune_regularizer", trial.id, run(trial, Path(), backend="single").tables)
    driver = subprocess.Popen(command("sweeps", *TUNE, "--results", results), cwd=ROOT, stdout=subprocess.DEVNULL)
    references, members = len(CELL.references), results / "tune_regularizer" / "members"
    wait_until(lambda: driver.poll() is not None or len(list(members.glob("*.parquet"))) > references)
    assert driver.poll() is None
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    left_behind = studies(results)["tpe"].get_trials(states=(TrialState.COMPLETE,))
    assert len(left_behind) < BUDGET

    done = sweeps(*TUNE, "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tpe 3 of 3 settings, random 3 of 3 settings" in done.stdout
    after = studies(results)["tpe"].get_trials()[: len(left_behind)]
    assert [trial.values for trial in after] == [trial.values for trial in left_behind]
    return results


def studies(results: Path) -> dict[str, optuna.Study]:
    """Opened as a user would, or a dashboard."""
    storage = f"sqlite:///{results}/tune_regularizer/optuna.db"
    names = {name.split("/")[1]: name for name in optuna.get_all_study_names(storage)}
    return {search: optuna.load_study(study_name=name, storage=storage) for search, name in names.items()}


def members(results: Path, sweep: str) -> pd.DataFrame:
    return Results.at(results).read(sweep, "members").to_pandas()


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_search_ends_with_exactly_its_budget_and_nothing_left_running(tuned: Path):
    found = studies(tuned)
    assert set(found) == {"tpe", "random"}
    for search, study in found.items():
        assert study.study_name == CELL.study(search, 0)
        assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE", "MAXIMIZE"]
        assert study.metric_names == ["mem_acc", "val_mia_auc", "val_acc"]
        states = [trial.state for trial in study.trials]
        assert states.count(TrialState.COMPLETE) == BUDGET
        assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL}
        # Taken up again, the sampler suggests others than it began with.
        suggested = [trial.user_attrs["trial"] for trial in study.trials if trial.user_attrs]
        assert len(set(suggested)) == len(suggested) >= BUDGET


@pytest.mark.ray
@pytest.mark.slow
def test_the_objectives_are_means_over_seeds_on_samples_that_are_no_test_samples(tuned: Path):
    for search, folder in (("tpe", "tune_regularizer"), ("random", "tune_regularizer_random")):
        rows = members(tuned, folder)
        assert set(rows["validation"]) == {0.2}
        assert (rows["val_acc"] != rows["test_acc"]).any()
        means = rows.groupby("trial")[["mem_acc", "val_mia_auc", "val_acc"]].mean()
        for trial in studies(tuned)[search].get_trials(states=(TrialState.COMPLETE,)):
            assert trial.values == pytest.approx(means.loc[trial.user_attrs["trial"]].tolist())


@pytest.mark.ray
@pytest.mark.slow
def test_the_confirmation_has_every_arm_on_fresh_seeds(tuned: Path):
    rows = members(tuned, "tune_regularizer_confirm")
    assert set(rows["seed"]) == {2, 3}
    assert set(rows["seed"]).isdisjoint(members(tuned, "tune_regularizer")["seed"])
    assert set(rows["n_in"] + rows["n_out"]) == {160}
    assert set(rows.groupby("trial").size()) == {2}
    searches = tuple(Search(CELL, name, BUDGET, 0, Results.at(tuned)) for name in ("tpe", "random"))
    recommended = Tuning(CELL, searches, 1.0, Results.at(tuned)).recommended
    plan = Plan.saved("tune_regularizer_confirm", Results.at(tuned))
    assert plan is not None
    assert plan.trials == CELL.confirmation(recommended)
    assert set(rows["trial"]) == {trial.id for trial in plan.trials}


@pytest.mark.ray
@pytest.mark.slow
def test_a_finished_tuning_trains_nothing_and_its_folders_read_like_any_other(
    tuned: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    before = {path: path.stat().st_mtime_ns for path in tuned.rglob("*.parquet")}
    for arguments in (TUNE, ["status", "tune_regularizer_confirm"]):
        monkeypatch.setattr(sys, "argv", ["sweeps", *arguments, "--results", str(tuned)])
        with pytest.raises(SystemExit) as ended:
            main(app, "python -m sweeps")
        assert not ended.value.code
    shown = capfd.readouterr().out
    assert "about to run" not in shown
    assert shown.count(" recommended ") == 1
    assert f"next: python -m analysis tradeoff {tuned}" in shown
    assert "tune_regularizer_confirm: 7 trials, 14 members: 7 done, 0 missing, 0 failed, 0 diverged" in shown
    assert {path: path.stat().st_mtime_ns for path in tuned.rglob("*.parquet")} == before
    assert [(each.sweep, each.missing) for each in load_all(Results.at(tuned))] == [
        ("tune_regularizer", 0),
        ("tune_regularizer_confirm", 0),
        ("tune_regularizer_random", 0),
    ]


@pytest.mark.slow
@pytest.mark.ray
def test_a_setting_that_diverges_is_a_failed_trial_and_a_record_that_is_refused_is_none(tmp_path: Path):
    (cell,) = cells({"subset": [200], "epochs": [1], "seed": [0], "lr": [1e30]}, fresh=2, tune_lr=False)
    search = Search(cell, "tpe", 2, 0, Results.at(tmp_path))
    refusing = Search(CELL, "tpe", 2, 0, Results.at(tmp_path / "refusing"))
    (tmp_path / "refusing" / "tune_regularizer").mkdir(parents=True)
    (tmp_path / "refusing" / "tune_regularizer" / "epochs").touch()  # no folder
    with exclusive(search.results, search.sweep), connect(Cluster(workers=2, device="cpu")) as pool:
        with pytest.raises(OSError, match=r"records could not be written to .*none is half-written"):
            refusing.run(Launch("refusing", refusing.results, str(tmp_path)), pool, lambda *_: None)
        assert refusing.results.done("tune_regularizer") == set()
        search.run(Launch("diverging", search.results, str(tmp_path)), pool, lambda *_: None)
        # A round that measured nothing is the last.
        states = [trial.state for trial in studies(tmp_path)["tpe"].trials]
        assert states == [TrialState.FAIL] * 2
    assert search.remaining == 2
    assert set(members(tmp_path, "tune_regularizer")["status"]) == {"diverged"}
    with sqlite3.connect(tmp_path / "tune_regularizer" / "optuna.db") as storage:
        assert storage.execute("select count(*) from trial_values").fetchone() == (0,)
    storage.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["regulariser"], "unknown tuning 'regulariser': did you mean 'regularizer'?"),
        (["regularizer", "--set", "alpha=0.9"], "alpha is what the tuning decides; leave it out."),
        (["regularizer", "--set", "subset=2000"], "subset of digits must be 0 for all of it"),
        (["regularizer", "--results", "s3://bucket/prefix"], "not to s3://bucket/prefix."),
        (["regularizer", "--trials", "0"], "'--trials'"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
):
    results = [] if "--results" in arguments else ["--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["sweeps", "tune", *arguments, *results, "-y"])
    with pytest.raises(SystemExit) as ended:
        main(app, "python -m sweeps")
    errors = capfd.readouterr().err
    assert ended.value.code == 2
    assert errors.startswith("error: ")
    assert sentence in errors
    assert errors.count("\n") == 1


def test_a_file_that_is_no_storage_is_named(tmp_path: Path):
    path = tmp_path / "tune_regularizer" / "optuna.db"
    path.parent.mkdir()
    path.write_text("mine, and no database at all")
    with pytest.raises(BadInputError, match=f"{path} can't be used as Optuna's storage"):
        _ = Search(CELL, "tpe", 2, 0, Results.at(tmp_path)).remaining


@pytest.mark.parametrize(
    "name", ["what?", "a%20b", "a b", "#1", "x=1&y", "{SCHEMA_VERSION}", "{0}", "ümläut 结果", "a:b@c", "100%"]
)
def test_the_studies_lie_beside_the_records_whatever_the_name_of_the_folder(tmp_path: Path, name: str):
    results = Results.at(tmp_path / name)
    path = tmp_path / name / "tune_regularizer" / "optuna.db"
    path.parent.mkdir(parents=True)
    search = Search(CELL, "tpe", 2, 0, results)
    directions = ["minimize", "minimize", "maximize"]
    study = optuna.create_study(storage=search._storage(), study_name=CELL.study("tpe", 0), directions=directions)
    space = {
        "one_minus_alpha": optuna.distributions.FloatDistribution(1e-4, 0.5, log=True),
        "kind": optuna.distributions.CategoricalDistribution(("log", "hinge")),
    }
    params = {"one_minus_alpha": 0.1, "kind": "log"}
    study.add_trial(optuna.trial.create_trial(values=[0.1, 0.2, 0.3], params=params, distributions=space))
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]
    assert search.remaining == 1


def test_a_tuning_and_a_retry_of_its_comparison_do_not_run_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with exclusive(Results.at(tmp_path), "tune_regularizer_confirm"):
        assert "has tune_regularizer_confirm in" in refused(capfd, monkeypatch, app, *TUNE, "--results", str(tmp_path))
