import os
import platform
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from study.data.load import load
from study.record.results import Results
from study.speed import timings
from study.trial import Trial
from study.worker import has_environment, use_one_thread
from sweeps.launch import trials as trials_module
from sweeps.launch.cluster import Pool
from sweeps.launch.launch import Launch
from sweeps.launch.schedule import MAX_FAILURES, WORKER_DIED, Outcome, schedule
from sweeps.launch.tasks import run_and_record
from sweeps.launch.trials import run_trials
from tests.patience import wait_until
from tests.study.data.sources import encoded, pixels, write_parquet

SMALL = {"epochs": 1, "batch_size": 256, "corruption": "label"}


def outcomes(results: Results) -> dict[tuple[str, int], str]:
    """The status of each member, every one of which has one row."""
    rows = results.read("test", "members").to_pylist()
    statuses = {(row["trial"], row["seed"]): row["status"] for row in rows}
    assert len(statuses) == len(rows)
    return statuses


def known_to_pay(trial: Trial, members: int) -> dict[str, Any]:
    """Leave a pack of so many to be found in the cache for workers like this process, as if timed."""
    use_one_thread()
    data = load(trial.dataset, Path(), trial.subset)
    timed = [timings.Choice("grouped", 1, 1.0), timings.Choice("grouped", members, 0.1)]
    key = timings.key_of(trial, data.shape, data.classes, backend="grouped", process=(1, has_environment()))
    timings.write(timings.cache_file(), key, timed)
    return {}


@pytest.mark.slow
@pytest.mark.ray
def test_trials_with_few_members_train_side_by_side_and_each_has_the_numbers_of_its_plan(one, tmp_path):
    trials = [Trial(lr=lr, k=k, **SMALL) for lr in (1e-3, 1e-2) for k in (0.1, 0.2)]
    assert schedule([{}], lambda task, report: known_to_pay(trials[0], 2), one, lambda *_: None).errors == {}
    fractions: list[float] = []
    rows_of = {}
    for name, asked in (("whole", trials), ("part", trials[2:3])):
        results = Results.at(tmp_path / name)
        launch = Launch("test", results, str(tmp_path), tuple(asked), tuple(trials), backend="grouped")
        run_trials(launch, one, lambda fraction, _: fractions.append(fraction))
        assert outcomes(results) == {(trial.id, 0): "ok" for trial in asked}
        rows = results.read("test", "members").to_pylist()
        assert {(row["lr"], row["k"], row["backend"]) for row in rows} == {(t.lr, t.k, "grouped") for t in asked}
        rows_of[name] = next(row for row in rows if row["trial"] == trials[2].id)
        assert fractions == sorted(fractions)
        assert fractions.pop() == 1
        fractions.clear()
    assert rows_of["whole"]["pack"] == 2
    for name in ("pack", "mem_acc", "mem_loss", "clean_loss", "test_loss", "mia_auc"):
        assert rows_of["whole"][name] == rows_of["part"][name]


@pytest.mark.slow
@pytest.mark.ray
def test_a_trial_that_cannot_be_run_is_recorded_with_its_reason_and_takes_no_other_of_its_bundle_with_it(
    one, tmp_path, monkeypatch
):
    monkeypatch.setattr(trials_module, "MAX_FAILURES", 0)  # each further try starts another worker
    results = Results.at(tmp_path)
    # Refused by `sweeps run` beforehand; here it reaches a worker.
    trials = (Trial(k=1e-5, seed=(0, 1), **SMALL), Trial(k=0.1, **SMALL), Trial(k=0.2, **SMALL))
    run_trials(Launch("test", results, str(tmp_path), trials), one, lambda *_: None)
    assert outcomes(results) == {
        (trials[0].id, 0): "failed",
        (trials[0].id, 1): "failed",
        (trials[1].id, 0): "ok",
        (trials[2].id, 0): "ok",
    }
    rows = results.read("test", "members").to_pylist()
    assert {row["mem_acc"] is None for row in rows if row["status"] == "failed"} == {True}
    error = next(row["error"] for row in rows if row["status"] == "failed")
    assert error.endswith("BadInputError: k=1e-05 corrupts none of 1437 samples; take a larger k, or k=0.")


@pytest.mark.slow
@pytest.mark.ray
def test_many_tasks_are_given_to_tune_in_waves_that_are_one_run_to_the_user(one, tmp_path, monkeypatch):
    sizes = []

    def counted(tasks, *arguments):
        sizes.append(len(tasks))
        assert {task["time_limit"] for task in tasks} == {1000}
        return schedule(tasks, *arguments)

    monkeypatch.setattr(trials_module, "WAVE", 1)
    monkeypatch.setattr(trials_module, "WAVE_PER_WORKER", 2)
    monkeypatch.setattr(trials_module, "MAX_FAILURES", 0)
    monkeypatch.setattr(trials_module, "schedule", counted)
    results, told = Results.at(tmp_path), []
    trials = tuple(Trial(k=k, **SMALL) for k in (1e-5, 0.1, 0.2))
    launch = Launch("test", results, str(tmp_path), trials, backend="single", time_limit=1000)
    whole = run_trials(launch, one, lambda fraction, counts: told.append((fraction, dict(counts))))
    assert sizes == [2, 1]
    assert sorted(outcomes(results).values()) == ["failed", "ok", "ok"]
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {sum(counts.values()) for _, counts in told} == {3}
    # What has failed is known before the second wave begins.
    assert {"done": 1, "missing": 1, "failed": 1, "diverged": 0} in [counts for _, counts in told[:-1]]
    assert told[-1][1] == {"done": 2, "missing": 0, "failed": 1, "diverged": 0}
    ended = [row["started"] for row in results.read("test", "members").to_pylist() if row["status"] == "ok"]
    assert whole.seconds > (max(ended) - min(ended)).total_seconds()


def in_the_way(results: Results) -> None:
    """Leave a file where a compaction would make its folder, which stops root as well."""
    Path(results.location, "test").mkdir()
    Path(results.location, "test", "compact").touch()


@pytest.mark.parametrize(
    ("compacts", "refused", "expected"),
    # Of each wave one file is left, and then of both; the last one has but one trial.
    [(True, False, [3, 4, 2]), (False, False, [3, 6, 7]), (True, True, [3, 6, 7])],
    ids=["holder", "shard", "no folder"],
)
def test_records_are_compacted_after_each_wave_by_who_holds_the_sweep(
    compacts, refused, expected, tmp_path, monkeypatch
):
    """Nothing is trained."""
    files = []

    def record(tasks, *_):
        for task in tasks:
            (trial,) = task["ids"]
            results.write("test", trial, {"members": [{"trial": trial, "member": 0, "seed": 0, "status": "ok"}]})
        files.append(len(results.store.list("test/members")))
        return Outcome()

    trials = tuple(Trial(k=k / 10, **SMALL) for k in range(1, 8))
    units = [trials_module._Unit((trial,), frozenset({trial.cell}), "single") for trial in trials]
    monkeypatch.setattr(trials_module, "make_units", lambda *_: units)
    monkeypatch.setattr(trials_module, "schedule", record)
    monkeypatch.setattr(trials_module, "WAVE", 3)
    results = Results.at(tmp_path)
    results.store.many = 2
    if refused:
        in_the_way(results)
    whole = run_trials(
        Launch("test", results, str(tmp_path), trials, compacts=compacts), SimpleNamespace(workers=0), lambda *_: None
    )
    assert ("exists" in whole.uncompacted) == refused, whole.uncompacted
    assert outcomes(results) == {(trial.id, 0): "ok" for trial in trials}
    assert files == expected
    assert len(results.store.list("test/members")) == files[-1]


def in_two(launch: Launch, pool: Pool) -> list[trials_module._Unit]:
    """The first two trials in one unit, the others in another."""
    cells = frozenset(trial.cell for trial in launch.trials)
    parts = (launch.trials[:2], launch.trials[2:])
    return [trials_module._Unit(part, cells, launch.backend) for part in parts if part]


@pytest.mark.slow
@pytest.mark.ray
def test_where_memory_runs_out_a_bundle_is_tried_in_halves_and_at_last_member_by_member(pool, tmp_path, monkeypatch):
    def killed_for_memory(task, report):
        members = sum(len(settings["seed"]) for settings in task["trials"])
        with (tmp_path / "tries").open("a") as log:
            log.write(f"{members} {task['backend']}\n")
        if members > 1 and task["backend"] != "single":
            os._exit(1)
        return run_and_record(task, report)

    monkeypatch.setattr(trials_module, "run_and_record", killed_for_memory)
    monkeypatch.setattr(trials_module, "MAX_FAILURES", 0)
    # Two bundles, of 2 members each; in the second one trial has both.
    monkeypatch.setattr(trials_module, "make_units", in_two)
    results = Results.at(tmp_path / "results")
    trials = (Trial(k=0.1, **SMALL), Trial(k=0.2, **SMALL), Trial(k=0.3, seed=(0, 1), **SMALL))
    progress: list[tuple[float, int]] = []
    launch = Launch("test", results, str(tmp_path), trials)
    run_trials(launch, pool, lambda part, _: progress.append((part, len(results.done("test")))))
    assert outcomes(results) == {(trial.id, seed): "ok" for trial in trials for seed in trial.seed}
    # All is done when all is recorded, and not while something is being tried again.
    assert progress == sorted(progress)
    assert {recorded for part, recorded in progress if part == 1.0} == {3}
    tries = (tmp_path / "tries").read_text().split("\n")[:-1]
    assert sorted(tries) == ["1 auto", "1 auto", "2 auto", "2 auto", "2 single"]


@pytest.mark.slow
@pytest.mark.ray
def test_what_is_recorded_of_a_bundle_that_fails_stays_and_is_not_run_again(one, tmp_path, monkeypatch):
    def dying_at_the_second_record(task, report):
        with (tmp_path / "tries").open("a") as log:
            log.write(" ".join(task["recorded"]) + "\n")
        write = Results.write

        def write_one(self, sweep, trial, tables):
            if trial == trials[1].id:
                os._exit(1)
            write(self, sweep, trial, tables)
            if trial == trials[2].id:
                os._exit(1)

        Results.write = write_one
        return run_and_record(task, report)

    monkeypatch.setattr(trials_module, "run_and_record", dying_at_the_second_record)
    monkeypatch.setattr(trials_module, "MAX_FAILURES", 0)
    monkeypatch.setattr(trials_module, "make_units", in_two)
    results = Results.at(tmp_path / "results")
    trials = tuple(Trial(k=k, **SMALL) for k in (0.1, 0.2, 0.3))
    run_trials(Launch("test", results, str(tmp_path), trials, backend="grouped"), one, lambda *_: None)
    assert outcomes(results) == {(trials[0].id, 0): "ok", (trials[1].id, 0): "failed", (trials[2].id, 0): "ok"}
    tries = (tmp_path / "tries").read_text().split("\n")[:-1]
    # The third had its record when its worker died; of the first two, the second was tried alone.
    assert sorted(tries) == sorted([f"{trials[0].id} {trials[1].id}", trials[1].id, trials[2].id])


@pytest.mark.slow
@pytest.mark.ray
def test_workers_that_are_killed_go_on_from_their_checkpoints_a_bundle_as_a_whole(pool, tmp_path, monkeypatch):
    def held_at_half(task, report):
        from study import run

        together, log = run.run_together, tmp_path / task["ids"][0]
        first = not log.exists()

        def logged(trials, data_dir, device, progress, *rest, **more):
            def reported(fraction):
                with log.open("a") as lines:
                    lines.write(f"{os.getpid()} {fraction}\n")
                time.sleep(1000 if first and fraction == 0.5 else 0)

            return together(trials, data_dir, device, reported, *rest, **more, save_every_s=0)

        run.run_together = logged
        try:
            return run_and_record(task, report)
        finally:
            run.run_together = together

    monkeypatch.setattr(trials_module, "run_and_record", held_at_half)
    monkeypatch.setattr(trials_module, "make_units", in_two)
    trials = tuple(Trial(k=k, **{**SMALL, "epochs": 4}) for k in (0.1, 0.2, 0.3))
    logs = [tmp_path / trials[0].id, tmp_path / trials[2].id]

    def kill() -> None:
        for log in logs:
            wait_until(lambda log=log: log.exists() and " 0.5" in log.read_text())
            os.kill(int(log.read_text().split()[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    results = Results.at(tmp_path / "results")
    run_trials(Launch("test", results, str(tmp_path), trials, backend="vmap"), pool, lambda *_: None)
    killer.join()
    assert outcomes(results) == {(trial.id, 0): "ok" for trial in trials}
    for log in logs:
        reported = [(process, float(fraction)) for process, fraction in map(str.split, log.read_text().splitlines())]
        # No epoch comes twice, and those after the half are another process's.
        assert [fraction for _, fraction in reported] == sorted({fraction for _, fraction in reported})
        assert reported[-1][1] == 1
        assert {process for process, fraction in reported if fraction <= 0.5} == {reported[0][0]}
        assert {process for process, fraction in reported if fraction > 0.5} == {reported[-1][0]} != {reported[0][0]}
    assert not any(results.checkpoints("test").holds(trial.id) for trial in trials)


@pytest.mark.slow
@pytest.mark.ray
def test_data_that_no_node_has_leaves_trials_missing_and_ends_the_run_with_a_sentence(one, tmp_path):
    """The files change after the plan was made: nodes have others than it was made with."""
    folder, results = tmp_path / "data", Results.at(tmp_path / "results")
    for split in ("train", "test"):
        images = [encoded(pixel) for pixel in pixels(20, 8, 8)]
        write_parquet(folder / f"{split}-0.parquet", images, list(range(10)) * 2)
    trials = tuple(Trial(dataset=f"parquet:{folder}", k=0.1, epochs=1, lr=lr) for lr in (1e-4, 2e-4))
    assert len({trial.id for trial in trials}) == 2
    write_parquet(folder / "test-0.parquet", images, list(range(10)) * 2, label="labels")
    launch = Launch("test", results, "", trials, backend="single")
    said = f"data could not be had on node {platform.node()}: the files of parquet:.* are not those"
    with pytest.raises(OSError, match=said):
        run_trials(launch, one, lambda *_: None)
    assert not results.sweeps()


def test_a_trial_that_tune_gives_up_before_its_last_try_is_tried_again(tmp_path):
    """As it does where a worker dies while it is made ready for a trial."""
    results, trial = Results.at(tmp_path), Trial(k=0.1)
    outcome = Outcome(errors={0: WORKER_DIED}, given_up_early={0})
    launch = Launch("test", results, str(tmp_path), (trial,))
    units = [trials_module._Unit((trial,), frozenset([trial.cell]), "auto")]
    for retries in range(1, MAX_FAILURES + 1):
        units, _ = trials_module._settle_errors(units, outcome, MAX_FAILURES, launch)
        assert [(unit.trials, unit.retries) for unit in units] == [((trial,), retries)]
    assert trials_module._settle_errors(units, outcome, MAX_FAILURES, launch)[0] == []
    assert outcomes(results) == {(trial.id, 0): "failed"}
