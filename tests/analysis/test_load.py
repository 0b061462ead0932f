import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.load import Loaded, load, load_all, with_missing
from study.errors import BadInputError
from study.record.results import Results
from study.record.schema import SCHEMA_VERSION, SCHEMAS
from study.settings import SETTINGS
from study.trial import Trial
from tests.analysis.conftest import DIVERGED, Outcome, grid, plan, plausible, record, rows, shard

GRID = grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3))
EXTRA = Trial(k=0.2, seed=(0, 1))


@pytest.fixture
def complete(results: Results) -> Results:
    """Four planned trials of three members, all recorded."""
    plan(results, GRID)
    record(results, GRID)
    return results


def refusal(results: Results, partial: bool = False, sweep: str = "mine") -> str:
    with pytest.raises(BadInputError) as caught:
        load(results, sweep, partial)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def counts(loaded: Loaded) -> tuple[int, int, int]:
    return len(loaded.members), loaded.planned, loaded.missing


# Complete grids


@pytest.mark.parametrize("partial", [False, True])
def test_a_complete_grid_is_taken_as_it_was_recorded(complete: Results, partial: bool):
    loaded = load(complete, "mine", partial)
    assert (loaded.sweep, *counts(loaded)) == ("mine", 12, 12, 0)
    assert list(loaded.members.columns) == [*SCHEMAS["members"].names, "n_attacked"]
    for trial in GRID:
        members = loaded.members[loaded.members["trial"] == trial.id]
        assert members["seed"].tolist() == [0, 1, 2]
        assert members["mem_acc"].tolist() == [plausible(trial, seed)["mem_acc"] for seed in range(3)]


def test_the_place_may_be_a_uri(complete: Results):
    by_uri = Results.at(Path(complete.location).as_uri())
    pd.testing.assert_frame_equal(load(by_uri, "mine").members, load(complete, "mine").members)


def test_members_that_failed_or_diverged_are_records_like_others(results: Results):
    plan(results, GRID)
    record(results, GRID, lambda trial, seed: DIVERGED if seed == 1 else plausible(trial, seed))
    loaded = load(results, "mine")
    assert counts(loaded) == (12, 12, 0)
    diverged = loaded.members[loaded.members["status"] == "diverged"]
    assert len(diverged) == 4
    assert diverged["test_acc"].isna().all()


def test_what_several_launches_planned_is_expected_together(results: Results):
    for part in (GRID[:2], GRID[2:], GRID[:2]):
        plan(results, part)
    record(results, GRID[:2])
    assert "2 of 4 trials have no complete record" in refusal(results)
    record(results, GRID[2:])
    assert counts(load(results, "mine")) == (12, 12, 0)


def test_all_sweeps_are_loaded_unless_one_is_named(complete: Results):
    for sweep, trials in {"another": GRID[:1], "unfinished": GRID}.items():
        plan(complete, trials, sweep)
        record(complete, trials[:1], sweep=sweep)
    assert [(one.sweep, one.missing) for one in load_all(complete, partial=True)] == [
        ("another", 0),
        ("mine", 0),
        ("unfinished", 9),
    ]
    assert [one.sweep for one in load_all(complete, "another")] == ["another"]
    with pytest.raises(BadInputError, match="unfinished: 3 of 4 trials"):
        load_all(complete)


# A network that two trials trained


def test_a_network_that_two_launches_trained_counts_once(results: Results):
    # Two launches at once may train the same seeds in different trials.
    few, more = grid(k=0.1, norm=("batch", "none"), seed=(0, 1)), grid(k=0.1, norm=("batch", "none"), seed=range(5))
    for trials in (few, more):
        plan(results, trials)
        record(results, trials)
    loaded = load(results, "mine")
    assert counts(loaded) == (10, 10, 0)
    assert sorted(loaded.members.groupby("norm")["seed"].apply(sorted)) == [list(range(5))] * 2


@pytest.mark.parametrize("lost", [0, 1])
def test_of_a_network_trained_twice_a_record_with_results_is_kept(results: Results, lost: int):
    twice = (Trial(k=0.1, seed=(0, 1)), Trial(k=0.1, seed=(0, 1, 2)))

    def outcome(trial: Trial, seed: int) -> Outcome:
        return {"status": "failed", "error": "boom"} if trial == twice[lost] else plausible(trial, seed)

    plan(results, twice)
    record(results, twice, outcome)
    members = load(results, "mine").members.sort_values("seed")
    assert members["status"].tolist() == ["ok", "ok", "ok" if lost == 0 else "failed"]


# Holes


def test_a_missing_trial_is_refused_by_its_settings_or_counted(complete: Results):
    # What is expected comes from the plan: what is left looks like a grid of its own.
    shard(complete, GRID[1]).unlink()
    message = refusal(complete)
    assert f"mine: 1 of 4 trials have no complete record, such as [{GRID[1]}]" in message
    assert f"python -m sweeps retry mine --results {complete}" in message
    assert "--partial" in message
    assert counts(load(complete, "mine", partial=True)) == (9, 12, 3)


def test_a_whole_arm_that_is_missing_is_missed(complete: Results):
    for trial in GRID:
        if trial.norm == "none":
            shard(complete, trial).unlink()
    assert "2 of 4 trials" in refusal(complete)
    assert counts(load(complete, "mine", partial=True)) == (6, 12, 6)


def test_a_missing_member_of_a_trial_is_refused_or_counted(complete: Results):
    complete.write("mine", GRID[2].id, {"members": rows(GRID[2])[:2], "epochs": []})
    assert f"1 of 4 trials have no complete record, such as [{GRID[2]}]" in refusal(complete)
    assert counts(load(complete, "mine", partial=True)) == (11, 12, 1)


def test_what_a_partial_grid_lacks_is_named_up_to_three_trials(results: Results):
    trials = grid(k=(0.1, 0.2, 0.3), norm=("batch", "none"), seed=range(2))
    plan(results, trials)
    record(results, trials[5:])
    (said,) = load(results, "mine", partial=True).notes
    named = "; ".join(f"[{trial}]" for trial in trials[:3])
    assert said == f"mine: 10 of 12 planned members are missing, of {named}; and 2 more."


@pytest.mark.parametrize("partial", [False, True])
def test_a_sweep_without_any_record_is_refused(results: Results, partial: bool):
    plan(results, GRID)
    assert ("none of its 12 planned members has a record yet" if partial else "4 of 4 trials") in refusal(
        results, partial
    )


@pytest.mark.parametrize("partial", [False, True])
def test_a_shard_that_was_set_aside_is_no_record(complete: Results, partial: bool):
    path = shard(complete, GRID[0])
    path.rename(f"{path}.damaged")
    if partial:
        assert counts(load(complete, "mine", partial)) == (9, 12, 3)
    else:
        assert "1 of 4 trials" in refusal(complete)


# Members that nobody asked for, and members that are there twice


def test_an_unplanned_member_is_refused_by_name_or_taken_in(complete: Results):
    record(complete, [EXTRA])
    assert f"mine: 2 members are in no plan, such as {EXTRA.id}/0; --partial includes them." in refusal(complete)
    loaded = load(complete, "mine", partial=True)
    assert counts(loaded) == (14, 12, 0)
    assert loaded.notes == ["mine: 2 members are in no plan and are included."]


@pytest.mark.parametrize("partial", [False, True])
def test_without_any_plan_there_is_nothing_to_be_held_against(results: Results, partial: bool):
    record(results, GRID[:1])
    assert counts(load(results, "mine", partial)) == (3, 3, 0)


@pytest.mark.parametrize("partial", [False, True])
def test_a_copied_shard_is_refused_by_name(complete: Results, partial: bool):
    path = shard(complete, GRID[0])
    shutil.copy(path, path.with_name("copy.parquet"))
    assert f"mine: 3 members are recorded twice, such as {GRID[0].id}/0." in refusal(complete, partial)


@pytest.mark.parametrize("partial", [False, True])
def test_a_member_that_is_twice_in_its_shard_is_refused(complete: Results, partial: bool):
    members = rows(GRID[0])
    complete.write("mine", GRID[0].id, {"members": [*members, members[2]], "epochs": []})
    assert f"1 members are recorded twice, such as {GRID[0].id}/2" in refusal(complete, partial)


# Places and files that are not what they should be


def test_a_place_without_records_is_refused(tmp_path: Path):
    with pytest.raises(BadInputError, match="there is no results folder"):
        load_all(Results.at(tmp_path / "nowhere"))
    for sweep in (None, "mine"):
        with pytest.raises(BadInputError, match="holds no records; run a sweep first: python -m sweeps run"):
            load_all(Results.at(tmp_path), sweep)


def test_an_unknown_sweep_names_the_nearest(complete: Results):
    with pytest.raises(BadInputError, match=r"unknown sweep in .*'mien': did you mean 'mine'"):
        load_all(complete, "mien")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"trial": ["a"], "member": [0]}), path)


def newer(path: Path) -> None:
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"normleak_schema_version": str(SCHEMA_VERSION + 1).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncated, "is truncated or no Parquet file"),
        (foreign, "is no record of members"),
        (newer, f"has schema version {SCHEMA_VERSION + 1}"),
    ],
)
def test_a_spoiled_shard_is_refused_by_its_path(complete: Results, spoil, said: str, partial: bool):
    path = shard(complete, GRID[1])
    spoil(path)
    message = refusal(complete, partial)
    assert said in message
    assert str(path) in message


def test_every_setting_can_be_read_back(complete: Results):
    first = load(complete, "mine").members.set_index("trial").loc[GRID[0].id].iloc[0]
    assert {name: first[name] for name in SETTINGS if name != "seed"} == {
        name: value for name, value in GRID[0].settings().items() if name != "seed"
    }


# What is missing, as rows


def test_a_network_that_was_planned_and_has_no_record_is_a_row_without_results(complete: Results):
    assert with_missing(load(complete, "mine"), complete)["status"].eq("ok").all()
    shard(complete, GRID[1]).unlink()
    found = with_missing(load(complete, "mine", partial=True), complete)
    lost = found[found["status"] == "missing"]
    assert len(found) == 12
    assert set(lost["cell"]) == {GRID[1].cell}
    assert sorted(lost["seed"]) == list(GRID[1].seed)
    assert lost["mem_acc"].isna().all()
    for name, value in GRID[1].settings().items():
        assert name == "seed" or set(lost[name]) == {value}


def test_a_missing_network_has_its_folder_by_the_name_under_which_others_are_recorded(results: Results, tmp_path: Path):
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train" / "a.png").write_bytes(b"pixels")
    trials = grid(dataset=f"imagefolder:{tmp_path / 'mine'}", k=0.1, norm=("batch", "none"), seed=0)
    plan(results, trials)
    record(results, trials[:1])
    found = with_missing(load(results, "mine", partial=True), results)
    assert sorted(found["status"]) == ["missing", "ok"]
    assert found["dataset"].nunique() == 1
    assert found["dataset"].iloc[0].startswith("imagefolder:mine@")
