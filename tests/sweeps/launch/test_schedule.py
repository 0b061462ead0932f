import os
import time
from pathlib import Path

import pytest
from ray import tune

from study.trial import Trial
from sweeps.launch.schedule import schedule
from sweeps.launch.tasks import run_and_record
from tests.patience import wait_for_end, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_tasks_run_at_once_in_workers_that_are_used_again(pool, tmp_path):
    def work(task, report):
        (tmp_path / str(os.getpid())).touch()
        # Nothing ends before two processes have begun.
        wait_until(lambda: len(list(tmp_path.iterdir())) >= 2)
        return {"square": task["x"] ** 2, "process": os.getpid()}

    outcome = schedule([{"x": x} for x in range(8)], work, pool, lambda *_: None)
    assert [outcome.results[x]["square"] for x in range(8)] == [x**2 for x in range(8)]
    assert len({result["process"] for result in outcome.results.values()}) == pool.workers == 2


def test_progress_is_weighted_by_the_work_and_ends_at_one(pool):
    fractions: list[float] = []

    def work(task, report):
        for step in range(4):
            time.sleep(0.3)
            report((step + 1) / 4)
        return {}

    schedule([{}, {}], work, pool, lambda fraction, _: fractions.append(fraction), weights=[1.0, 3.0])
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    # Both tasks go in quarters; the second counts three times as much.
    assert set(fractions) <= {(first + 3 * second) / 16 for first in range(5) for second in range(5)}
    assert any(0 < fraction < 1 for fraction in fractions)


class Curves(tune.Callback):
    """Notes the points that are reported, and lets the task go on once one has arrived while it works."""

    def __init__(self, go_on: Path) -> None:
        self.points: list[object] = []
        self._go_on = go_on

    def __getstate__(self) -> dict[str, object]:
        return {}

    def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
        self.points += result["curves"]
        if self.points and not result.get("result"):
            self._go_on.touch()


def test_points_of_curves_arrive_while_a_task_works_and_none_is_lost(pool, tmp_path):
    def work(task, report):
        report(0.1, [("trial", 0, [{"epoch": 1}])])

        def is_seen() -> bool:
            report(0.2)
            return (tmp_path / "seen").exists()

        wait_until(is_seen)
        report(1.0, [("trial", 0, [{"epoch": 2}]), ("trial", 1, [{"epoch": 2}])])
        return {}

    curves = Curves(tmp_path / "seen")
    outcome = schedule([{}], work, pool, lambda *_: None, callbacks=[curves])
    assert outcome.errors == {}
    expected = [("trial", 0, [{"epoch": 1}]), ("trial", 0, [{"epoch": 2}]), ("trial", 1, [{"epoch": 2}])]
    assert [tuple(point) for point in curves.points] == expected


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
    outcome = schedule([{"x": name} for name in names], work, pool, lambda *_: None)
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


def test_a_task_over_its_time_limit_fails_and_its_process_ends(pool, tmp_path):
    def work(task, report):
        if "time_limit" in task:
            (tmp_path / str(os.getpid())).touch()
            time.sleep(1000)
        return {}

    outcome = schedule([{"time_limit": 5}, {}], work, pool, lambda *_: None, tries=0)
    assert list(outcome.results) == [1]
    assert outcome.errors == {0: "OverTimeError: it took longer than its limit of 5 s"}
    (process,) = tmp_path.iterdir()
    wait_for_end([int(process.name)])


def test_tasks_that_share_a_device_run_at_once_and_others_have_it_to_themselves(pool, tmp_path):
    def work(task, report):
        began = time.time()
        (tmp_path / f"{task['shared']}-{task['x']}").touch()
        # Four share two cores: none of them ends before all have begun.
        wait_until(lambda: not task["shared"] or len(list(tmp_path.glob("True-*"))) >= 4)
        time.sleep(0.2)  # the others would be seen beside it
        return {"from": began, "to": time.time()}

    tasks = [{"shared": shared, "x": x} for shared in (True, False) for x in range(4)]
    outcome = schedule(tasks, work, pool, lambda *_: None, sharing=[2] * 4 + [1] * 4)
    assert outcome.errors == {}
    times = [(outcome.results[task]["from"], outcome.results[task]["to"]) for task in range(8)]

    def at_once(tasks):
        return max(sum(begin <= time < end for begin, end in map(times.__getitem__, tasks)) for time, _ in times)

    assert at_once(range(4)) == 4
    assert at_once(range(4, 8)) <= 2


def test_workers_compute_with_one_thread(pool, tmp_path):
    def work(task, report):
        run_and_record(task, report)
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
    result = schedule([task], work, pool, lambda *_: None).results[0]
    assert (result["threads"], result["omp"]) == (1, "1")
