import platform
from collections.abc import Sequence
from pathlib import Path

import pytest

from study.record.results import Results
from study.trial import Trial
from sweeps.launch import tasks
from sweeps.launch.tasks import NoDataError, NotWrittenError, Point, Task, write

TRIAL = Trial(k=0.1)


def task(trial: Trial, data_dir: Path, planned_id: str = "") -> Task:
    return {
        "trials": [trial.settings()],
        "ids": [planned_id or trial.id],
        "data_dir": str(data_dir),
        "environment": {},
    }


def test_data_that_a_node_lacks_or_has_otherwise_is_said_of_the_node_and_not_of_the_trial(monkeypatch, tmp_path):
    monkeypatch.setattr(tasks, "NO_DATA_WAIT_S", 0.0)
    assert tasks.prepare(task(TRIAL, tmp_path)) == [TRIAL]
    missing = Trial(dataset="tiny_imagenet", k=0.1)
    with pytest.raises(NoDataError, match=f"on node {platform.node()}: tiny_imagenet is not in"):
        tasks.prepare(task(missing, tmp_path))
    with pytest.raises(NoDataError, match="tiny_imagenet is not in"):
        tasks.prepare(task(Trial(k=0.1, corruption="ood", ood="tiny_imagenet"), tmp_path))
    with pytest.raises(NoDataError, match="the files of digits are not those"):
        tasks.prepare(task(TRIAL, tmp_path, "another"))


@pytest.mark.parametrize(("refusals", "written"), [(0, True), (2, True), (3, False)])
def test_a_record_that_is_refused_is_written_again_before_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusals: int, written: bool
):
    tries: list[str] = []

    def refuse_at_first(self: Results, sweep: str, trial: str, tables: object) -> None:
        tries.append(trial)
        if len(tries) <= refusals:
            raise OSError("no space left")

    monkeypatch.setattr(Results, "write", refuse_at_first)
    monkeypatch.setattr(tasks, "WRITES_AGAIN_AFTER_S", (0.0, 0.0))
    if written:
        write(Results.at(tmp_path), "test", TRIAL, {})
        assert tries == [TRIAL.id] * (refusals + 1)
    else:
        with pytest.raises(NotWrittenError, match="no space left"):
            write(Results.at(tmp_path), "test", TRIAL, {})
        assert len(tries) == 3


BUNDLE = tuple(
    Trial(k=0.1, subset=60, epochs=1, batch_size=16, lr=lr, norm="none", weights="final", seed=(0, 1))
    for lr in (0.01, 0.02)
)


@pytest.fixture
def bundle(tmp_path: Path) -> Task:
    """A task of two trials that train side by side, of which the second is to be recorded."""
    return {
        "trials": [trial.settings() for trial in BUNDLE],
        "ids": [trial.id for trial in BUNDLE],
        "recorded": [BUNDLE[1].id],
        **{"results": str(tmp_path), "sweep": "test", "data_dir": "nowhere", "environment": {}},
        **{"device": "cpu", "backend": "grouped", "sharing": 1},
    }


def test_of_the_trials_that_are_recorded_the_weights_are_kept(tmp_path: Path, bundle: Task):
    tasks.run_and_record(bundle, lambda _: None)
    kept = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.safetensors"))
    assert kept == [Path("test", "weights", BUNDLE[1].id, f"{member}.safetensors") for member in (0, 1)]
    assert Results.at(tmp_path).done("test") == {BUNDLE[1].id}


@pytest.mark.parametrize("wanted", [True, False])
def test_the_curves_of_the_trials_that_are_recorded_are_reported_where_they_are_wanted(
    tmp_path: Path, bundle: Task, wanted: bool
):
    reported: list[Point] = []

    def report(fraction: float, points: Sequence[Point] = ()) -> None:
        reported.extend(points)

    tasks.run_and_record({**bundle, "curves": wanted}, report)
    assert [(trial, member) for trial, member, _ in reported] == [(BUNDLE[1].id, member) for member in (0, 1)] * wanted
    rows = Results.at(tmp_path).read("test", "epochs").to_pylist()
    for (_, _, points), row in zip(reported, rows, strict=False):
        assert [point["mem_acc"] for point in points] == [row["mem_acc"]]


def test_a_trial_whose_weights_can_not_be_kept_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Task
):
    monkeypatch.setattr(tasks, "WRITES_AGAIN_AFTER_S", (0.0,))
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "weights").write_text("no folder")
    with pytest.raises(NotWrittenError):
        tasks.run_and_record(bundle, lambda _: None)
    assert Results.at(tmp_path).done("test") == set()


def test_means_are_over_the_members_that_have_the_result():
    members = [{"mem_acc": 0.5, "mia_auc": None}, {"mem_acc": 0.7, "mia_auc": None}]
    means = tasks._means(members)
    assert means["mem_acc"] == pytest.approx(0.6)
    assert (means["mia_auc"], means["seconds"]) == (None, None)
