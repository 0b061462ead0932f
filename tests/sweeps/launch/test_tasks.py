from pathlib import Path

import pytest

from study.errors import BadInputError
from study.record.results import Results
from study.trial import Trial
from sweeps.launch import tasks
from sweeps.launch.tasks import NotWrittenError, check_unchanged, write

TRIAL = Trial(k=0.1)


def test_a_trial_whose_files_are_others_on_the_node_is_refused():
    check_unchanged(TRIAL, TRIAL.id)
    with pytest.raises(BadInputError, match="the files of digits on this node are not those"):
        check_unchanged(TRIAL, "another")


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
