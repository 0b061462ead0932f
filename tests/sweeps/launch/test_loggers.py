import json
import os
import secrets
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from study.errors import BadInputError
from study.record.results import Results
from study.terminal import main
from sweeps.__main__ import app
from sweeps.launch import loggers
from sweeps.launch.loggers import PACKAGES, Loggers
from tests.patience import PATIENCE_S, wait_until
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


@pytest.fixture(scope="module")
def curves(logged: Path) -> dict[str, dict[tuple[str, int], float]]:
    """The points of each trial's curves by its records, by the metric and member and by the epoch."""
    rows = Results.at(logged / "results").read("quickstart", "epochs").to_pylist()
    assert len(rows) == 2 * 2 * 3, "two trials, two seeds, three epochs"
    found: dict[str, dict[tuple[str, int], float]] = {}
    for row in rows:
        for name in ("mem_acc", "clean_loss"):
            found.setdefault(row["trial"], {})[f"{name}/seed_{row['member']}", row["epoch"]] = row[name]
    return found


def scalars(file: Path) -> Iterator[tuple[str, float]]:
    """The tags and values of TensorBoard's event file."""
    yield from ((tag, value) for tag, _, value in points(file))


def points(file: Path) -> Iterator[tuple[str, int, float]]:
    """What TensorBoard's event file says, frame by frame: a length and its checksum, an event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    content = file.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        yield from ((value.tag, event.step, value.simple_value) for value in event.summary.value)
        content = content[16 + length :]


@pytest.mark.ray
@pytest.mark.slow
def test_tensorboard_has_a_folder_of_each_trial_beside_its_records(logged: Path, recorded, curves):
    files = list((logged / "results" / "quickstart" / "tensorboard").glob("*/events.out.tfevents.*"))
    assert sorted(file.parent.name for file in files) == sorted(recorded)
    for file in files:
        found = dict(scalars(file))
        assert "_hparams_/experiment" in found
        for name, mean in recorded[file.parent.name].items():
            assert found[f"ray/tune/{name}"] == pytest.approx(mean, rel=1e-6)
        by_epoch = {(tag.removeprefix("ray/tune/"), step): value for tag, step, value in points(file)}
        expected = curves[file.parent.name]
        assert {key: by_epoch[key] for key in expected} == pytest.approx(expected, rel=1e-6)
        assert by_epoch["mem_acc", 3] == found["ray/tune/mem_acc"], "means are of the last epoch"


@pytest.mark.ray
@pytest.mark.slow
def test_mlflow_has_a_run_of_each_trial_with_its_settings_curves_and_means(logged: Path, recorded, curves):
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
            rows = store.execute("select key, step, value from metrics where run_uuid = ?", [run])
            metrics = {(key, step): value for key, step, value in rows}
            assert {name: metrics[name, 3] for name in MEANS} == pytest.approx(recorded[trial])
            assert {key: metrics[key] for key in curves[trial]} == pytest.approx(curves[trial])


def wandb_records(file: Path) -> Iterator[bytes]:
    """The records of the file that W&B keeps offline, a log as LevelDB's: their parts, with 7 bytes before each."""
    content, place, record, block = file.read_bytes(), 7, b"", 2**15
    while place < len(content):
        if block - place % block < 7:  # no room for another part
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def wandb_points(file: Path) -> Iterator[dict[str, Any]]:
    """The points of a W&B run, and over what they are shown."""
    from wandb.proto.wandb_internal_pb2 import Record

    for content in wandb_records(file):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "metric":
            yield {"metric": record.metric.name or record.metric.glob_name, "over": record.metric.step_metric}
        items = record.history.item
        yield {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.mark.ray
@pytest.mark.slow
def test_wandb_has_the_curves_of_each_trial_over_the_epochs(logged: Path, curves):
    files = list(logged.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == len(curves)
    for file in files:
        found = list(wandb_points(file))
        assert {"metric": "*", "over": "epoch"} in found
        expected = curves[file.stem.split("-")[1]]
        by_epoch = {(name, point["epoch"]): point[name] for point in found for name in point if "epoch" in point}
        assert {key: by_epoch[key] for key in expected} == pytest.approx(expected)


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
    num_failures=0,
    experiment_dir_name="launch",
    config={"task": {"ids": ["a"], "trials": [{"epochs": 3, "seed": (4, 7), "models": 1}]}},
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


def told(epoch: int) -> dict[str, Any]:
    """What a task reports of the second member of its trial after an epoch."""
    return {"curves": [("a", 1, [{"epoch": epoch, "step": 9 * epoch, "mem_acc": epoch / 10, "val_acc": None}])]}


def test_the_curves_of_a_long_trial_are_logged_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loggers, "LIVE_AFTER_S", 0.0)
    (logger,) = Loggers(["tensorboard"], Results.at(tmp_path), print).of("sweep")
    epochs = count(1)

    def logged() -> list[tuple[str, int, float]]:
        # TensorBoard's writer has a thread of its own: what it is given is on the disk with one of the next epochs.
        logger.on_trial_result(1, [], TASK, told(next(epochs)))
        files = (tmp_path / "sweep").glob("tensorboard/a/events*")
        return [point for file in files for point in points(file) if point[0].startswith("ray/")]

    curve = [("ray/tune/mem_acc/seed_7", epoch, pytest.approx(epoch / 10)) for epoch in range(1, 10_000)]
    found = wait_until(logged)
    assert found == curve[: len(found)]
    logger.on_trial_complete(1, [], TASK)
    logger.on_experiment_end([])
    (file,) = (tmp_path / "sweep" / "tensorboard" / "a").iterdir()
    told_of = [point for point in points(file) if point[0].startswith("ray/")]
    assert told_of == [*curve[: next(epochs) - 1], ("ray/tune/mem_acc", 3, 0.5)]


def test_the_curves_of_a_short_trial_are_logged_at_its_end(tmp_path: Path):
    (logger,) = Loggers(["tensorboard"], Results.at(tmp_path), print).of("sweep")
    for epoch in (1, 2):
        logger.on_trial_result(1, [], TASK, told(epoch))
    assert logger._thread.wait(PATIENCE_S)
    assert not (tmp_path / "sweep" / "tensorboard").exists()
    logger.on_trial_complete(1, [], TASK)
    logger.on_experiment_end([])
    (file,) = (tmp_path / "sweep" / "tensorboard" / "a").iterdir()
    assert [step for tag, step, _ in points(file) if tag == "ray/tune/mem_acc/seed_7"] == [1, 2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SQLAlchemy, by mlflow
@pytest.mark.parametrize("how", ["on_trial_recover", "on_trial_error", "on_experiment_end"])
def test_a_try_that_leaves_no_record_is_a_run_that_failed_and_the_next_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    pytest.importorskip("mlflow")
    monkeypatch.setattr(loggers, "LIVE_AFTER_S", 0.0)
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        (logger,) = Loggers(["mlflow"], Results.at(tmp_path), print).of("sweep")
        logger.on_trial_result(1, [], TASK, told(1))
        getattr(logger, how)(*((1, [], TASK) if how != "on_experiment_end" else ([],)))
        logger.on_trial_result(1, [], TASK, told(1))
        logger.on_trial_complete(1, [], TASK)
        logger.on_experiment_end([])
        runs = mlflow.search_runs(experiment_names=["sweep"], output_format="list")
    finally:
        mlflow.set_tracking_uri(before)
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]
    assert {run.info.run_name for run in runs} == {"a"}


def test_a_curve_is_named_after_its_seed_and_its_model():
    settings = {"seed": (4, 7), "models": 3}
    assert loggers._points(settings, 5, [{"epoch": 2, "step": 8, "mem_acc": 0.5}]) == {
        2: {"mem_acc/seed_7_model_2": 0.5}
    }


def test_what_was_not_measured_is_left_out(tmp_path: Path):
    loggers = Loggers(["tensorboard", "tensorboard"], Results.at(tmp_path), print)
    (logger,) = loggers.of("sweep")
    assert loggers.of("sweep") == [logger]
    logger.on_trial_complete(1, [], TASK)
    logger.on_experiment_end([])
    (file,) = (tmp_path / "sweep" / "tensorboard" / "a").iterdir()
    assert [tag for tag, _ in scalars(file) if tag.startswith("ray/")] == ["ray/tune/mem_acc"]
