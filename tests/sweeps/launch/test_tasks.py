import platform
from pathlib import Path

import pytest

from study.record.results import Results
from study.trial import Trial
from sweeps.launch import tasks
from sweeps.launch.tasks import NoDataError, NotWrittenError, Task, write

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


def test_means_are_over_the_members_that_have_the_result():
    members = [{"mem_acc": 0.5, "mia_auc": None}, {"mem_acc": 0.7, "mia_auc": None}]
    means = tasks._means(members)
    assert means["mem_acc"] == pytest.approx(0.6)
    assert (means["mia_auc"], means["seconds"]) == (None, None)
