import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from study.data.load import load
from study.errors import BadInputError
from study.record.results import Results
from study.speed import backend_choice
from study.trial import Trial
from study.worker import use_one_thread
from sweeps.bundles import SPEED, Advice
from sweeps.launch import cluster
from sweeps.launch import schedule as schedule_module
from sweeps.launch import tasks as tasks_module
from sweeps.launch import trials as trials_module
from sweeps.launch.cluster import Cluster, connected
from sweeps.launch.schedule import schedule


@pytest.fixture(scope="module")
def pool():
    with connected(Cluster(workers=2, device="cpu")) as workers:
        yield workers


@pytest.fixture
def one(pool):
    """One of the workers, each of which takes seconds to start."""
    return replace(pool, workers=1)


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


def known_to_pay(trial: Trial, members: int) -> dict[str, Any]:
    """Leave a pack of so many to be found in the cache for workers like this process, as if timed."""
    use_one_thread()
    data = load(trial.dataset, Path(), trial.subset)
    kind = backend_choice._cache_key(trial, data.shape, data.classes, "cpu", "grouped")
    timings = [backend_choice.Choice("grouped", 1, 1.0), backend_choice.Choice("grouped", members, 0.1)]
    cache = backend_choice._cache_file()
    backend_choice._write(cache, {**backend_choice._read(cache), kind: [asdict(timing) for timing in timings]})
    return {}


def test_trials_with_few_members_train_side_by_side_and_each_has_the_numbers_of_its_plan(one, tmp_path):
    trials = [Trial(lr=lr, k=k, **SMALL) for lr in (1e-3, 1e-2) for k in (0.1, 0.2)]
    assert schedule([{}], lambda task, report: known_to_pay(trials[0], 2), one, lambda _: None).errors == {}
    told: list[float] = []
    found = {}
    for name, asked in (("whole", trials), ("part", trials[2:3])):
        results = Results.at(tmp_path / name)
        trials_module.run_trials(asked, "test", results, tmp_path, one, told.append, "grouped", trials)
        assert outcomes(results) == {(trial.id, 0): "ok" for trial in asked}
        rows = results.read("test", "members").to_pylist()
        assert {(row["lr"], row["k"], row["backend"]) for row in rows} == {(t.lr, t.k, "grouped") for t in asked}
        found[name] = next(row for row in rows if row["trial"] == trials[2].id)
        assert told == sorted(told)
        assert told.pop() == 1
        told.clear()
    assert found["whole"]["pack"] == 2
    for name in ("pack", "mem_acc", "mem_loss", "clean_loss", "test_loss", "mia_auc"):
        assert found["whole"][name] == found["part"][name]


def test_a_trial_that_cannot_be_run_is_recorded_with_its_reason_and_takes_no_other_of_its_bundle_with_it(
    one, tmp_path, monkeypatch
):
    monkeypatch.setattr(schedule_module, "MAX_FAILURES", 0)  # each further try starts another worker
    results = Results.at(tmp_path)
    # Refused by `sweeps run` beforehand; here it reaches a worker.
    trials = [Trial(k=1e-5, seed=(0, 1), **SMALL), Trial(k=0.1, **SMALL), Trial(k=0.2, **SMALL)]
    trials_module.run_trials(trials, "test", results, tmp_path, one, lambda _: None)
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


def test_many_tasks_are_given_to_tune_in_waves_that_are_one_run_to_the_user(one, tmp_path, monkeypatch):
    given = []

    def counted(tasks, *arguments):
        given.append(len(tasks))
        return schedule(tasks, *arguments)

    monkeypatch.setattr(trials_module, "AT_ONCE", 1)
    monkeypatch.setattr(trials_module, "AT_ONCE_EACH", 2)
    monkeypatch.setattr(schedule_module, "MAX_FAILURES", 0)
    monkeypatch.setattr(schedule_module, "schedule", counted)
    results, told = Results.at(tmp_path), []
    trials = [Trial(k=k, **SMALL) for k in (1e-5, 0.1, 0.2)]
    whole = trials_module.run_trials(trials, "test", results, tmp_path, one, told.append, "single")
    assert given == [2, 1]
    assert sorted(outcomes(results).values()) == ["failed", "ok", "ok"]
    assert told == sorted(told)
    assert told[-1] == 1.0
    ended = [row["started"] for row in results.read("test", "members").to_pylist() if row["status"] == "ok"]
    assert whole.seconds > (max(ended) - min(ended)).total_seconds()


@pytest.mark.parametrize(
    ("resources", "asked", "expected"),
    [
        ({"CPU": 16.0, "GPU": 2.0}, Cluster(), (2, "cuda", 8)),
        ({"CPU": 1.0, "GPU": 2.0}, Cluster(), (2, "cuda", 1)),
        ({"CPU": 16.0, "GPU": 2.0}, Cluster(workers=2), (2, "cuda", 1)),
        ({"CPU": 16.0, "GPU": 2.0}, Cluster(device="cpu"), (16, "cpu", 1)),
        ({"CPU": 4.0}, Cluster(), (4, "cpu", 1)),
        # A running cluster may grow to what was asked for, and then as many share a GPU as do today.
        ({"CPU": 8.0, "GPU": 1.0}, Cluster("auto", 4, "cuda"), (4, "cuda", 8)),
        ({"CPU": 8.0, "GPU": 4.0}, Cluster("auto", 2, "cuda"), (2, "cuda", 2)),
        ({"CPU": 8.0, "GPU": 1.0}, Cluster("auto", 4), (1, "cuda", 1)),
    ],
)
def test_a_gpu_is_shared_by_as_many_as_have_a_core_unless_the_user_has_said_how_many(
    monkeypatch, resources, asked, expected
):
    monkeypatch.setattr(trials_module.ray, "cluster_resources", lambda: resources)
    found = cluster._pool(asked, 0.0)
    assert (found.workers, found.device, found.each) == expected


def test_a_cluster_that_does_not_grow_is_not_waited_for_without_end(pool, monkeypatch):
    monkeypatch.setattr(cluster, "GROWS_WITHIN_S", 0.2)
    told: list[str] = []
    with pytest.raises(BadInputError, match="no cuda worker came to 'auto' within"):
        cluster._pool(Cluster("auto", 2, "cuda"), 0.0, told.append)
    assert told == ["waiting for the first of 2 cuda workers at 'auto' ..."]


def test_a_cluster_without_workers_says_how_it_is_waited_for(monkeypatch):
    monkeypatch.setattr(trials_module.ray, "cluster_resources", lambda: {})
    with pytest.raises(BadInputError, match=r"no cpu for a worker at 'auto'; .* with --workers and --device"):
        cluster._pool(Cluster("auto"), 0.0)


@pytest.mark.parametrize(("each", "sharing", "sizes"), [(1, 1, [4, 2]), (2, 2, [3, 3]), (4, 2, [3, 3])])
def test_what_a_worker_says_decides_how_trials_are_bundled_and_how_many_share_a_gpu(
    monkeypatch, tmp_path, each, sharing, sizes
):
    """The workers are stood in for, as is their GPU."""
    heard: list[tuple[int, int]] = []

    def advise(trial, data_dir, device, members, backend, most_sharing):
        heard.append((members, most_sharing))
        return Advice(4, min(2, most_sharing), f"grouped x 4 on {device}")

    monkeypatch.setattr(tasks_module, "advise", advise)
    monkeypatch.setattr(trials_module.ray, "remote", lambda **part: lambda work: SimpleNamespace(remote=work))
    monkeypatch.setattr(trials_module.ray, "get", lambda answer: answer)
    trials = [Trial(k=0.1, lr=lr) for lr in (1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4)]
    told: list[tuple[Trial, str]] = []
    cells = frozenset(trial.cell for trial in trials)
    pool = cluster.Pool(1, "cuda", 0.0, each)
    units = trials_module.in_units(trials, tmp_path, pool, "auto", cells, lambda *one: told.append(one), {})
    assert heard == [(32, each)]
    assert told == [(trials[0], "grouped x 4 on cuda")]
    assert [(len(unit.trials), unit.sharing) for unit in units] == [(size, sharing) for size in sizes]


def test_what_is_known_of_a_kind_is_not_asked_of_the_workers(monkeypatch, tmp_path):
    monkeypatch.setattr(
        trials_module.ray, "remote", lambda **part: lambda work: SimpleNamespace(remote=None)
    )  # can't be asked
    trials = [Trial(k=0.1, lr=lr, norm=norm) for norm in ("batch", "none") for lr in (1e-4, 2e-4, 3e-4)]
    known = {trial.values(SPEED): Advice(2, choice=f"{trial.norm} x 2") for trial in trials}
    told: list[str] = []
    cells = frozenset(trial.cell for trial in trials)
    pool = cluster.Pool(1, "cpu", 0.0)
    units = trials_module.in_units(trials, tmp_path, pool, "auto", cells, lambda _, choice: told.append(choice), known)
    assert told == ["batch x 2", "none x 2"]
    assert [len(unit.trials) for unit in units] == [2, 1, 2, 1]


def in_two(trials, data_dir, pool, backend, cells, on_choice, known):
    """The first two trials in one unit, the others in another."""
    return [trials_module._Unit(tuple(part), cells, backend) for part in (trials[:2], trials[2:]) if part]


def test_where_memory_runs_out_a_bundle_is_tried_in_halves_and_at_last_member_by_member(pool, tmp_path, monkeypatch):
    ordinary = tasks_module.run_and_record

    def killed_for_memory(task, report):
        members = sum(len(settings["seed"]) for settings in task["trials"])
        with (tmp_path / "tries").open("a") as log:
            log.write(f"{members} {task['backend']}\n")
        if members > 1 and task["backend"] != "single":
            os._exit(1)
        return ordinary(task, report)

    monkeypatch.setattr(tasks_module, "run_and_record", killed_for_memory)
    monkeypatch.setattr(schedule_module, "MAX_FAILURES", 0)
    # Two bundles, of 2 members each; in the second one trial has both.
    monkeypatch.setattr(trials_module, "in_units", in_two)
    results = Results.at(tmp_path / "results")
    trials = (Trial(k=0.1, **SMALL), Trial(k=0.2, **SMALL), Trial(k=0.3, seed=(0, 1), **SMALL))
    told: list[tuple[float, int]] = []
    trials_module.run_trials(
        trials, "test", results, tmp_path, pool, lambda part: told.append((part, len(results.done("test"))))
    )
    assert outcomes(results) == {(trial.id, seed): "ok" for trial in trials for seed in trial.seed}
    # All is done when all is recorded, and not while something is being tried again.
    assert told == sorted(told)
    assert {recorded for part, recorded in told if part == 1.0} == {3}
    tries = (tmp_path / "tries").read_text().split("\n")[:-1]
    assert sorted(tries) == ["1 auto", "1 auto", "2 auto", "2 auto", "2 single"]


def test_what_is_recorded_of_a_bundle_that_fails_stays_and_is_not_run_again(one, tmp_path, monkeypatch):
    ordinary = tasks_module.run_and_record

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
        return ordinary(task, report)

    monkeypatch.setattr(tasks_module, "run_and_record", dying_at_the_second_record)
    monkeypatch.setattr(schedule_module, "MAX_FAILURES", 0)
    monkeypatch.setattr(trials_module, "in_units", in_two)
    results = Results.at(tmp_path / "results")
    trials = [Trial(k=k, **SMALL) for k in (0.1, 0.2, 0.3)]
    trials_module.run_trials(trials, "test", results, tmp_path, one, lambda _: None, "grouped")
    assert outcomes(results) == {(trials[0].id, 0): "ok", (trials[1].id, 0): "failed", (trials[2].id, 0): "ok"}
    tries = (tmp_path / "tries").read_text().split("\n")[:-1]
    # The third had its record when its worker died; of the first two, the second was tried alone.
    assert sorted(tries) == sorted([f"{trials[0].id} {trials[1].id}", trials[1].id, trials[2].id])


def test_workers_that_are_killed_go_on_from_their_checkpoints_a_bundle_as_a_whole(pool, tmp_path, monkeypatch):
    ordinary = tasks_module.run_and_record

    def held_at_half(task, report):
        from study import run

        together, log = run.run_together, tmp_path / task["ids"][0]
        first = not log.exists()

        def logged(trials, data_dir, device, progress, *rest):
            def told(fraction):
                with log.open("a") as lines:
                    lines.write(f"{os.getpid()} {fraction}\n")
                time.sleep(100 if first and fraction == 0.5 else 0)

            return together(trials, data_dir, device, told, *rest, keep_every_s=0)

        run.run_together = logged
        try:
            return ordinary(task, report)
        finally:
            run.run_together = together

    monkeypatch.setattr(tasks_module, "run_and_record", held_at_half)
    monkeypatch.setattr(trials_module, "in_units", in_two)
    trials = [Trial(k=k, **{**SMALL, "epochs": 4}) for k in (0.1, 0.2, 0.3)]
    logs = [tmp_path / trials[0].id, tmp_path / trials[2].id]

    def kill() -> None:
        for log in logs:
            while not (log.exists() and " 0.5" in log.read_text()):
                time.sleep(0.05)
            os.kill(int(log.read_text().split()[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    results = Results.at(tmp_path / "results")
    trials_module.run_trials(trials, "test", results, tmp_path, pool, lambda _: None, "vmap")
    killer.join()
    assert outcomes(results) == {(trial.id, 0): "ok" for trial in trials}
    for log in logs:
        told = [(process, float(fraction)) for process, fraction in map(str.split, log.read_text().splitlines())]
        # No epoch comes twice, and those after the half are another process's.
        assert [fraction for _, fraction in told] == sorted({fraction for _, fraction in told})
        assert told[-1][1] == 1
        assert {process for process, fraction in told if fraction <= 0.5} == {told[0][0]}
        assert {process for process, fraction in told if fraction > 0.5} == {told[-1][0]} != {told[0][0]}
    assert not any(results.checkpoints("test").holds(trial.id) for trial in trials)


def test_a_trial_that_tune_gives_up_before_its_last_try_is_tried_again(tmp_path):
    """As it does where a worker dies while it is made ready for a trial."""
    results, trial = Results.at(tmp_path), Trial(k=0.1)
    outcome = schedule_module.Outcome(errors={0: schedule_module.WORKER_DIED}, early={0})
    units = [trials_module._Unit((trial,), frozenset([trial.cell]), "auto")]
    for again in range(1, schedule_module.MAX_FAILURES + 1):
        units = list(trials_module._again(units, outcome, schedule_module.MAX_FAILURES, "test", results))
        assert [(unit.trials, unit.again) for unit in units] == [((trial,), again)]
    assert list(trials_module._again(units, outcome, schedule_module.MAX_FAILURES, "test", results)) == []
    assert outcomes(results) == {(trial.id, 0): "failed"}


def test_tasks_that_share_a_device_run_at_once_and_others_have_it_to_themselves(pool, tmp_path):
    def work(task, report):
        began = time.time()
        (tmp_path / f"{task['shared']}-{task['x']}").touch()
        deadline = time.monotonic() + 60
        # Four share two cores: none of them ends before all have begun.
        while task["shared"] and len(list(tmp_path.glob("True-*"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        return {"from": began, "to": time.time()}

    tasks = [{"shared": shared, "x": x} for shared in (True, False) for x in range(4)]
    outcome = schedule(tasks, work, pool, lambda _: None, sharing=[2] * 4 + [1] * 4)
    assert outcome.errors == {}
    times = [(outcome.results[task]["from"], outcome.results[task]["to"]) for task in range(8)]

    def at_once(tasks):
        return max(sum(begin <= time < end for begin, end in map(times.__getitem__, tasks)) for time, _ in times)

    assert at_once(range(4)) == 4
    assert at_once(range(4, 8)) <= 2


def test_the_workers_of_a_running_cluster_start_with_the_environment_of_ours(pool, tmp_path):
    """The variable is one that this Ray was not started with; glibc reads its own when a process starts."""
    script = """
import sys
from pathlib import Path
from sweeps import launch
from sweeps.bundles import SPEED, Advice

def environment(task, report):
    return {"started": Path("/proc/self/environ").read_text().split(chr(0))}

launch.ENVIRONMENT = {"NORMLEAK_TEST": "there"}
with launch.connected(launch.Cluster(sys.argv[1], 1, "cpu")) as pool:
    print("NORMLEAK_TEST=there" in launch.schedule([{}], environment, pool, print).results[0]["started"])
"""
    address = trials_module.ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", script, address], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout.split("\n")[-2:] == ["True", ""], done.stderr


def test_workers_compute_with_one_thread(pool, tmp_path):
    def work(task, report):
        tasks_module.run_and_record(task, report)
        import torch

        return {"threads": torch.get_num_threads(), "omp": os.environ["OMP_NUM_THREADS"]}

    task = {
        "trials": [Trial(k=0.1, epochs=1).settings()],
        "ids": [Trial(k=0.1, epochs=1).id],
        "recorded": [Trial(k=0.1, epochs=1).id],
        "sweep": "s",
        "results": str(tmp_path),
        "data_dir": str(tmp_path),
        "environment": {},
        "backend": "auto",
        "sharing": 1,
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
