import json
from dataclasses import replace

import pytest

from study.data import folders
from study.errors import BadInputError
from study.record.results import Results
from study.record.rows import failed
from study.trial import Trial
from sweeps.plan import Plan
from sweeps.sweep import Scale, product
from tests.sweeps.test_sweep import sweep


def record(results: Results, trial: Trial, status: str = "ok") -> None:
    rows = failed(trial, "boom").members
    results.write("test", trial.id, {"members": [{**row, "status": status} for row in rows], "epochs": []})


def test_every_trial_is_in_exactly_one_state(tmp_path):
    results, plan = Results.at(tmp_path), sweep().plan(Scale.quick)
    ok, bad, wild, absent = plan.trials
    record(results, ok)
    record(results, bad, "failed")
    record(results, wild, "diverged")
    state = plan.state(results)
    assert (state.missing, state.failed) == ((absent,), (bad,))
    assert [state.of(trial) for trial in plan.trials] == ["done", "failed", "diverged", "missing"]
    assert str(state) == "1 done, 1 missing, 1 failed, 1 diverged"
    assert state.error(bad) == "boom"


def test_more_seeds_run_only_the_new_ones(tmp_path):
    results = Results.at(tmp_path)
    for trial in sweep().plan(Scale.quick).trials:
        record(results, trial)
    state = sweep().plan(Scale.quick, {"seed": [1, 2, 3, 4]}).state(results)
    assert [trial.seed for trial in state.missing] == [(3, 4)] * 4
    for trial in state.missing:
        record(results, trial)
    assert not sweep().plan(Scale.quick, {"seed": range(5)}).state(results).missing


def test_a_failed_trial_is_tried_again_as_it_was_recorded(tmp_path):
    results = Results.at(tmp_path)
    wide = sweep(product(k=0.1, seed=range(4))).plan(Scale.quick)
    (first,), (second,) = (sweep(product(k=0.1, seed=seeds)).plan(Scale.quick).trials for seeds in ((0, 1), (2, 3)))
    record(results, first)
    record(results, second, "failed")
    assert [trial.id for trial in wide.state(results).failed] == [second.id]


def test_a_folder_whose_files_changed_since_they_were_planned_is_refused(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "one").write_bytes(b"content")
    results = Results.at(tmp_path / "results")
    sweep(product(dataset=f"parquet:{folder}")).plan(Scale.quick).save(results)
    folders._fingerprint.cache_clear()
    Plan.saved("test", results).check_unchanged()
    (folder / "one").write_bytes(b"other")
    folders._fingerprint.cache_clear()
    with pytest.raises(BadInputError, match="have changed since"):
        Plan.saved("test", results).check_unchanged()


@pytest.mark.parametrize("content", ["{}", "[]", '{"trials": [1]}'])
def test_a_plan_that_is_something_else_is_one_clear_sentence(tmp_path, content):
    (tmp_path / "test" / "plans").mkdir(parents=True)
    (tmp_path / "test" / "plans" / "x.json").write_text(content)
    with pytest.raises(BadInputError, match="damaged; remove it"):
        Plan.saved("test", Results.at(tmp_path))


def test_widening_a_grid_leaves_only_the_new_trials_missing(tmp_path):
    results = Results.at(tmp_path)
    for trial in sweep().plan(Scale.quick).trials:
        record(results, trial)
    wider = sweep().plan(Scale.quick, {"k": [0.1, 0.2, 0.3]}).state(results)
    assert {trial.k for trial in wider.missing} == {0.2}


def test_saved_plans_add_up_and_the_same_plan_is_kept_once(tmp_path):
    results = Results.at(tmp_path)
    narrow, wide = (sweep().plan(Scale.quick, {"k": ks}) for ks in ([0.1], [0.1, 0.2]))
    for plan in (narrow, wide, narrow):
        plan.save(results)
    saved = Plan.saved("test", results)
    assert saved is not None
    assert {trial.id for trial in saved.trials} == {trial.id for trial in wide.trials}
    assert len(list((tmp_path / "test" / "plans").iterdir())) == 2


def test_a_saved_trial_keeps_its_identity_where_its_dataset_folder_is_gone(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "one").write_bytes(b"content")
    plan = sweep(product(dataset=f"parquet:{folder}")).plan(Scale.quick)
    identity = plan.trials[0].id
    results = Results.at(tmp_path / "results")
    plan.save(results)
    (folder / "one").unlink()
    saved = Plan.saved("test", results)
    assert saved is not None
    assert saved.trials[0].id == identity


def test_a_damaged_plan_is_one_clear_sentence(tmp_path):
    (tmp_path / "test" / "plans").mkdir(parents=True)
    (tmp_path / "test" / "plans" / "x.json").write_text("{")
    with pytest.raises(BadInputError, match="damaged; remove it"):
        Plan.saved("test", Results.at(tmp_path))


def test_nothing_planned_is_no_plan(tmp_path):
    assert Plan.saved("test", Results.at(tmp_path)) is None


def test_a_plan_says_what_it_asked_for_in_plain_json(tmp_path):
    plan = replace(sweep().plan(Scale.quick), version=3)
    plan.save(Results.at(tmp_path))
    content = json.loads(next((tmp_path / "test" / "plans").iterdir()).read_text())
    assert (content["sweep"], content["version"], len(content["trials"])) == ("test", 3, 4)
    assert content["trials"][0]["id"] == plan.trials[0].id
    assert content["trials"][0]["seed"] == [0, 1, 2]
