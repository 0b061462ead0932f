import os
import secrets
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest

from study.errors import BadInputError
from study.record.results import Results
from study.terminal import main
from sweeps.__main__ import app
from sweeps.launch import loggers
from sweeps.launch.loggers import PACKAGES, Loggers
from tests.ray_runs import ROOT, TINY, command

MEANS = ("mem_acc", "true_label_acc", "clean_acc", "test_acc", "mia_auc", "seconds")
KEY = secrets.token_hex(20)  # of a length that W&B takes for a key


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two trials, one task of Tune's, were run and logged to all loggers that are installed."""
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("logged")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "WANDB_MODE": "offline",
        "WANDB_API_KEY": KEY,
    }
    log_to = [part for name in PACKAGES for part in ("--log-to", name)]
    arguments = ["run", "quickstart", *TINY, "--limit", "2", "--results", folder / "results", *log_to]
    done = subprocess.run(command("sweeps", *arguments), cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "given up" not in done.stdout
    return folder


@pytest.fixture(scope="module")
def recorded(logged: Path) -> dict[str, dict[str, float]]:
    """The means of each trial by its records."""
    rows = Results.at(logged / "results").read("quickstart", "members").to_pylist()
    trials = {row["trial"] for row in rows}
    assert len(trials) == 2
    return {
        trial: {name: fmean(row[name] for row in rows if row["trial"] == trial) for name in MEANS} for trial in trials
    }


def scalars(file: Path) -> Iterator[tuple[str, float]]:
    """What TensorBoard's event file says, frame by frame: a length and its checksum, an event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content = file.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        yield from ((value.tag, value.simple_value) for value in event.summary.value)
        content = content[16 + length :]


@pytest.mark.ray
@pytest.mark.slow
def test_tensorboard_has_a_folder_of_each_trial_beside_its_records(logged: Path, recorded):
    files = list((logged / "results" / "quickstart" / "tensorboard").glob("*/events.out.tfevents.*"))
    assert sorted(file.parent.name for file in files) == sorted(recorded)
    for file in files:
        found = dict(scalars(file))
        assert "_hparams_/experiment" in found
        for name, mean in recorded[file.parent.name].items():
            assert found[f"ray/tune/{name}"] == pytest.approx(mean, rel=1e-6)


@pytest.mark.ray
@pytest.mark.slow
def test_mlflow_has_a_run_of_each_trial_with_its_settings_and_means(logged: Path, recorded):
    with closing(sqlite3.connect(logged / "mlflow.db")) as store:
        runs = dict(
            store.execute(
                "select runs.name, run_uuid from runs join experiments using (experiment_id)"
                " where experiments.name = 'quickstart' and status = 'FINISHED'"
            )
        )
        assert set(runs) == set(recorded)
        for trial, run in runs.items():
            settings = dict(store.execute("select key, value from params where run_uuid = ?", [run]))
            assert {settings[name] for name in ("dataset", "epochs", "seed")} == {"digits", "3", "0,1"}
            assert not settings.keys() & {"task", "results", "environment"}
            metrics = dict(store.execute("select key, value from metrics where run_uuid = ?", [run]))
            assert {name: metrics[name] for name in MEANS} == pytest.approx(recorded[trial])


@pytest.mark.ray
@pytest.mark.slow
def test_wandb_has_a_run_of_each_trial_and_its_key_is_nowhere(logged: Path, recorded):
    runs = {file.stem.split("-")[1]: file.read_bytes() for file in logged.glob("wandb/offline-run-*/run-*.wandb")}
    assert set(runs) == set(recorded)
    for content in runs.values():
        assert all(word.encode() in content for word in ("quickstart", "mem_acc", "architecture", "lenet"))
    # Which of Ray's sessions was that run's is not known here.
    logs = list(Path("/tmp/ray").glob("session_*/logs/runtime_env_agent.log"))
    assert logs
    files = [*logs, *(path for path in logged.rglob("*") if path.is_file())]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_without_the_option_none_of_the_packages_is_loaded():
    modules = "sweeps.launch.trials, sweeps.tuning.search, sweeps.launch.loggers"
    code = f"import {modules}, sys; print({set(PACKAGES.values())} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_a_package_that_is_missing_is_named_with_what_brings_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    arguments = ["run", "quickstart", "--results", str(tmp_path / "results"), "--log-to", "tensorboard"]
    monkeypatch.setattr(sys, "argv", ["sweeps", *arguments])
    with pytest.raises(SystemExit) as ended:
        main(app, "python -m sweeps")
    sentence = "error: tensorboard logging needs tensorboardX; pip install 'normleak[tensorboard]'.\n"
    assert (ended.value.code, capfd.readouterr().err) == (2, sentence)


def test_tensorboard_is_refused_where_there_is_no_folder_for_it():
    with pytest.raises(BadInputError, match=r"go to a results folder, not to s3://bucket/study;"):
        Loggers(["tensorboard"], Results.at("s3://key:secret@bucket/study"), print)


TASK = SimpleNamespace(
    trial_id="1",
    experiment_dir_name="launch",
    config={"task": {"ids": ["a"], "trials": [{"epochs": 3, "seed": (0, 1)}]}},
    last_result={"result": {"trials": {"a": {"mem_acc": 0.5, "mia_auc": None}}}},
)
"""One of Tune's trials, which has carried one of the plan."""


def test_a_logger_that_fails_is_given_up_and_said_once(tmp_path: Path):
    messages: list[str] = []
    (logger,) = Loggers(["tensorboard"], Results.at(tmp_path), messages.append).of("sweep")
    (tmp_path / "sweep").write_text("no folder")
    for _ in range(2):
        logger.on_trial_complete(1, [], TASK)
    logger.on_experiment_end([])
    (message,) = messages
    assert message.startswith("tensorboard logging is given up, records are not: ")


def test_what_was_not_measured_is_left_out(tmp_path: Path):
    loggers = Loggers(["tensorboard", "tensorboard"], Results.at(tmp_path), print)
    (logger,) = loggers.of("sweep")
    assert loggers.of("sweep") == [logger]
    logger.on_trial_complete(1, [], TASK)
    (file,) = (tmp_path / "sweep" / "tensorboard" / "a").iterdir()
    assert [tag for tag, _ in scalars(file) if tag.startswith("ray/")] == ["ray/tune/mem_acc"]
