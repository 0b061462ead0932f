import os
import subprocess
import sys
import time

import pytest

from study.errors import BadInputError
from study.record import Results
from study.trial import Trial
from sweeps import launch
from sweeps.launch import Cluster, connected, schedule


@pytest.fixture(scope="module")
def pool():
    with connected(Cluster(workers=2, device="cpu")) as workers:
        yield workers


def test_tasks_run_at_once_in_workers_that_are_used_again(pool, tmp_path):
    def work(task, report):
        (tmp_path / str(os.getpid())).touch()
        deadline = time.monotonic() + 100
        # Nothing ends before two processes have begun.
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return {"square": task["x"] ** 2, "process": os.getpid()}

    outcome = schedule([{"x": x} for x in range(8)], work, pool, lambda _: None)
    assert [outcome.results[x]["square"] for x in range(8)] == [x**2 for x in range(8)]
    assert len({result["process"] for result in outcome.results.values()}) == pool.workers == 2


def test_progress_is_weighted_by_the_work_and_ends_at_one(pool):
    told: list[float] = []

    def work(task, report):
        for step in range(4):
            time.sleep(0.3)
            report((step + 1) / 4)
        return {}

    schedule([{}, {}], work, pool, told.append, weights=[1.0, 3.0])
    assert told == sorted(told)
    assert told[-1] == 1.0
    # Both tasks go in quarters; the second counts three times as much.
    assert set(told) <= {(first + 3 * second) / 16 for first in range(5) for second in range(5)}
    assert any(0 < fraction < 1 for fraction in told)


def test_a_task_that_fails_is_tried_three_times_and_takes_no_other_with_it(pool, tmp_path):
    def work(task, report):
        tries = tmp_path / str(task["x"])
        with tries.open("a") as log:
            log.write(".")
        if task["x"] == "raises":
            raise ValueError("no such thing")
        if task["x"] == "dies":
            os._exit(1)
        if task["x"] == "once" and len(tries.read_text()) == 1:
            raise RuntimeError("only at first")
        return {"x": task["x"]}

    names = ["fine", "raises", "dies", "once"]
    outcome = schedule([{"x": name} for name in names], work, pool, lambda _: None)
    assert {names[position] for position in outcome.results} == {"fine", "once"}
    assert {names[position]: error for position, error in outcome.errors.items()} == {
        "raises": "ValueError: no such thing",
        "dies": "its worker process died: out of memory, a crash, or killed from outside",
    }
    assert {name: len((tmp_path / name).read_text()) for name in names} == {
        "fine": 1,
        "raises": 3,
        "dies": 3,
        "once": 2,
    }


SMALL = {"epochs": 1, "batch_size": 256, "corruption": "label"}


def outcomes(results: Results) -> dict[tuple[str, int], str]:
    """The status of each member, every one of which has one row."""
    rows = results.read("test", "members").to_pylist()
    found = {(row["trial"], row["seed"]): row["status"] for row in rows}
    assert len(found) == len(rows)
    return found


def test_trials_with_few_members_train_side_by_side_and_each_has_the_numbers_of_its_plan(pool, tmp_path):
    trials = [Trial(lr=lr, k=k, **SMALL) for lr in (1e-3, 1e-2) for k in (0.1, 0.2)]
    told: list[float] = []
    found = {}
    for name, asked in (("whole", trials), ("part", trials[2:3])):
        results = Results.at(tmp_path / name)
        whole = launch.run_trials(asked, "test", results, tmp_path, pool, told.append, "grouped", trials)
        assert whole.errors == {}
        assert outcomes(results) == {(trial.id, 0): "ok" for trial in asked}
        rows = results.read("test", "members").to_pylist()
        assert {(row["lr"], row["k"], row["backend"]) for row in rows} == {(t.lr, t.k, "grouped") for t in asked}
        found[name] = next(row for row in rows if row["trial"] == trials[2].id)
        assert told == sorted(told)
        assert told.pop() == 1
        told.clear()
    assert found["whole"]["pack"] > 1
    for name in ("pack", "mem_acc", "mem_loss", "clean_loss", "test_loss", "mia_auc"):
        assert found["whole"][name] == found["part"][name]


def test_a_trial_that_cannot_be_run_is_recorded_with_its_reason_and_takes_no_other_of_its_bundle_with_it(
    pool, tmp_path, monkeypatch
):
    monkeypatch.setattr(launch, "MAX_FAILURES", 0)  # each further try starts another worker
    results = Results.at(tmp_path)
    # Refused by `sweeps run` beforehand; here it reaches a worker.
    trials = [Trial(k=1e-5, seed=(0, 1), **SMALL), Trial(k=0.1, **SMALL), Trial(k=0.2, **SMALL)]
    launch.run_trials(trials, "test", results, tmp_path, pool, lambda _: None)
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


def test_where_memory_runs_out_a_bundle_is_tried_in_halves_and_at_last_member_by_member(pool, tmp_path, monkeypatch):
    ordinary = launch.run_and_record

    def killed_for_memory(task, report):
        members = sum(len(settings["seed"]) for settings in task["trials"])
        with (tmp_path / "tries").open("a") as log:
            log.write(f"{members} {task['backend']}\n")
        if members > 1 and task["backend"] != "single":
            os._exit(1)
        return ordinary(task, report)

    monkeypatch.setattr(launch, "run_and_record", killed_for_memory)
    monkeypatch.setattr(launch, "MAX_FAILURES", 0)
    # Two bundles, of 2 members each; in the second one trial has both.
    monkeypatch.setattr(launch, "in_bundles", lambda trials, *_: [trials[:2], trials[2:]])
    results = Results.at(tmp_path / "results")
    trials = (Trial(k=0.1, **SMALL), Trial(k=0.2, **SMALL), Trial(k=0.3, seed=(0, 1), **SMALL))
    launch.run_trials(trials, "test", results, tmp_path, pool, lambda _: None)
    assert outcomes(results) == {(trial.id, seed): "ok" for trial in trials for seed in trial.seed}
    tries = (tmp_path / "tries").read_text().split("\n")[:-1]
    assert sorted(tries) == ["1 auto", "1 auto", "2 auto", "2 auto", "2 single"]


def test_workers_compute_with_one_thread(pool, tmp_path):
    def work(task, report):
        launch.run_and_record(task, report)
        import torch

        return {"threads": torch.get_num_threads(), "omp": os.environ["OMP_NUM_THREADS"]}

    task = {
        "trials": [Trial(k=0.1, epochs=1).settings()],
        "ids": [Trial(k=0.1, epochs=1).id],
        "recorded": [Trial(k=0.1, epochs=1).id],
        "sweep": "s",
        "results": str(tmp_path),
        "data_dir": str(tmp_path),
        "backend": "auto",
    }
    result = schedule([task], work, pool, lambda _: None).results[0]
    assert (result["threads"], result["omp"]) == (1, "1")


def test_a_local_ray_asks_for_a_token_that_lies_in_no_file(tmp_path):
    shown = "import os, sweeps.launch; print(os.environ['RAY_AUTH_MODE'], len(os.environ['RAY_AUTH_TOKEN']))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", shown], env={**clean, "HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["token", "64"]
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_is_not_there_is_one_clear_sentence():
    with pytest.raises(BadInputError, match=r"no Ray cluster at '127\.0\.0\.1:9'"), connected(Cluster("127.0.0.1:9")):
        pass
