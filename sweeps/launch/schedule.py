"""Have Ray Tune give tasks to reused workers, and collect what came of each."""

import faulthandler
import gc
import math
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from sweeps.interrupt import CTRL_C
from sweeps.launch.cluster import Pool
from sweeps.launch.tasks import NoDataError, NotWrittenError, Point, Task, Work

MAX_FAILURES = 2
"""How often a task that fails is tried again."""
WORKER_DIED = "its worker process died: out of memory, a crash, or killed from outside"
EXIT_GRACE_S = 5.0
"""How long a process whose task is over its time limit has to report it before it is ended."""
REPORT_EVERY_S = 0.5


class TaskError(RuntimeError):
    """What a task raised, as text: its class and its message in one line."""


class OverTimeError(Exception):
    """A task took longer than its time limit."""


@dataclass
class Outcome:
    """What came of a list of tasks, by their position in it.

    Attributes:
        results: what each finished task returned.
        errors: why each failed task failed the last time.
        given_up_early: the failed tasks that Tune gave up before they had all their tries.
        interrupted: whether the user stopped the run.
        write_error: why a record could not be written, which ended the run; empty if all could.
        gave_up_on_data: whether the run was ended because no node seems to have the data.
        uncompacted: why the records could not be compacted the last time; empty if they could, or need not be.
        began: when the first task began, as `time.time` has it; once it had loaded all that it needs, if it says so.
        ended: when the last one ended.
    """

    results: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    given_up_early: set[int] = field(default_factory=set)
    interrupted: bool = False
    write_error: str = ""
    gave_up_on_data: bool = False
    uncompacted: str = ""
    began: float = math.inf
    ended: float = -math.inf

    @property
    def seconds(self) -> float:
        """Seconds from the start of the first task to the end of the last one; 0 if none was done."""
        return max(0.0, self.ended - self.began)

    def startup_s(self, pool: Pool) -> float:
        """Return the seconds from asking for the workers to the start of the first task; 0 if none was done."""
        return self.began - pool.asked_at if self.ended >= self.began else 0.0

    def extend(self, later: "Outcome") -> None:
        """Take over when later tasks were worked on and whether they were interrupted; the records have the rest."""
        self.interrupted |= later.interrupted
        self.began, self.ended = min(self.began, later.began), max(self.ended, later.ended)


Advance = Callable[[float, Outcome], None]
"""Called with the weighted fraction of the tasks that is done, and with what has come of them so far."""


def schedule(
    tasks: Sequence[Task],
    work: Work,
    pool: Pool,
    on_progress: Advance,
    weights: Sequence[float] | None = None,
    storage: str | None = None,
    tries: int | None = None,
    sharing: Sequence[int] | None = None,
    common: Task | None = None,
    callbacks: Sequence[tune.Callback] = (),
) -> Outcome:
    """Give the tasks to reused workers until each is done or has failed for good.

    Args:
        tasks: JSON-like mappings; the worker's device is added to each as `device`. A try of one that has a
            `time_limit` fails after so many seconds, and the worker's process ends.
        work: a function of a module that the workers can import.
        pool: the workers.
        on_progress: called with the weighted fraction of the work that is done, failed tasks not being, and with what
            came of the tasks so far.
        weights: how much work each task is; all the same by default.
        storage: where Tune keeps its own account of the experiment, a folder or URI that all nodes see; by default
            it is thrown away.
        tries: how often a task that fails is tried again; `MAX_FAILURES` by default.
        sharing: for each task, how many tasks like it share a worker's device; 1 by default.
        common: what all tasks have beside their own. It goes from memory to memory alone, for it may have credentials,
            and Tune writes down what each task has of its own.
        callbacks: further Tune callbacks; at the end they are told whether it was `interrupted`.
    """
    sharing = sharing or [1] * len(tasks)
    numbered = [{**task, "device": pool.device, "task": position} for position, task in enumerate(tasks)]
    return _run_tune(
        _trainable(work, ray.put(dict(common or {}))),
        {"task": tune.grid_search(numbered)},
        pool,
        _Tracker(weights or [1.0] * len(tasks), on_progress, pool.workers),
        callbacks,
        sharing,
        MAX_FAILURES if tries is None else tries,
        storage,
    )


def schedule_suggestions(
    searcher: Any,
    count: int,
    work: Work,
    pool: Pool,
    on_progress: Advance,
    storage: str | None = None,
    sharing: int = 1,
    common: Task | None = None,
    callbacks: Sequence[tune.Callback] = (),
) -> Outcome:
    """Give reused workers the tasks that a searcher suggests one by one, and tell the searcher what came of them.

    Args:
        searcher: one of Tune's, with objectives and directions of its own: Tune's configuration names none, for it
            would take the place of them all. Each suggestion has a `task`, with the worker's `device` and the
            position of the `task` among all suggested.
        count: how many tasks to ask for.
        work: as in `schedule`; what it returns has the objectives.
        pool: the workers.
        on_progress: as in `schedule`.
        storage: as in `schedule`.
        sharing: how many tasks share a worker's device.
        common: as in `schedule`.
        callbacks: as in `schedule`.
    """
    return _run_tune(
        _trainable(work, ray.put(dict(common or {}))),
        {},
        pool,
        _Tracker([1.0] * count, on_progress, pool.workers),
        callbacks,
        [sharing] * count,
        MAX_FAILURES,
        storage,
        searcher,
        count,
    )


def _run_tune(
    trainable: Callable[[dict[str, Any]], None],
    space: Mapping[str, Any],
    pool: Pool,
    tracker: "_Tracker",
    callbacks: Sequence[tune.Callback],
    sharing: Sequence[int],
    tries: int,
    storage: str | None,
    searcher: Any = None,
    count: int = 1,
) -> Outcome:
    """Have Tune carry out the tasks of a space, or as many of a searcher's as `count` says."""
    device = "GPU" if pool.device == "cuda" else "CPU"

    def part_of_device(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{device: 1 / sharing[config["task"]["task"]]}])

    with nullcontext(storage) if storage else tempfile.TemporaryDirectory(prefix="normleak-") as storage_path:
        tuner = tune.Tuner(
            tune.with_resources(trainable, part_of_device),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=count,
                scheduler=_KeepStartingWorkers(),
                reuse_actors=True,
                # Without a limit Tune places few trials ahead and can leave workers without one.
                max_concurrent_trials=pool.workers * max(sharing),
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}",
                storage_path=storage_path,
                verbose=0,
                callbacks=[tracker, *callbacks],
                failure_config=tune.FailureConfig(max_failures=tries),
                stop=_StopInVain(tracker.outcome),
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:
            CTRL_C.acknowledge()
            tracker.outcome.interrupted = True
            for callback in callbacks:
                callback.on_experiment_end(trials=[], interrupted=True)
    outcome = tracker.outcome
    times = [(result["began"], result["ended"]) for result in outcome.results.values()]
    if times:
        outcome.began, outcome.ended = min(began for began, _ in times), max(ended for _, ended in times)
    return outcome


def _trainable(work: Work, common: Any) -> Callable[[dict[str, Any]], None]:
    """Wrap the work as Tune calls it in a worker, with a report at most twice a second and a clean-up after each task.

    Args:
        work: what is done with a task.
        common: a Ray reference to what all tasks have.
    """

    def trainable(config: dict[str, Any]) -> None:
        began = last = time.time()
        waiting: list[Point] = []

        def report(fraction: float, points: Sequence[Point] = ()) -> None:
            nonlocal last
            waiting.extend(points)
            if time.time() - last >= REPORT_EVERY_S:
                last = time.time()
                tune.report({"fraction": fraction, "curves": list(waiting)})
                waiting.clear()

        def attempt() -> Mapping[str, Any]:
            try:
                return work({**ray.get(common), **config["task"]}, report)
            finally:
                _free_gpu_memory()

        try:
            result = dict(_run_within(config["task"].get("time_limit"), attempt))
        except Exception as error:
            # Tune rebuilds exceptions from their text, which not every class survives.
            raise TaskError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
        timed = {"began": began, **result, "ended": time.time()}
        tune.report({"fraction": 1.0, "curves": waiting, "result": timed, **result, "done": True})

    return trainable


def _run_within(seconds: float | None, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Run the work and return its result; if it takes too long, this process ends soon, for threads can't be ended.

    Raises:
        OverTimeError: it took longer than so many seconds.
    """
    if not seconds:
        return work()
    import study.run  # noqa: F401 - in a new process this takes longer than a small trial, and is not its fault

    done: Future[Mapping[str, Any]] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    # This watch is no Python thread, which compiled code that hangs may keep from running.
    faulthandler.dump_traceback_later(seconds + EXIT_GRACE_S, exit=True)
    threading.Thread(target=run, daemon=True).start()
    if not wait([done], seconds).done:
        raise OverTimeError(f"it took longer than its limit of {seconds:g} s")
    faulthandler.cancel_dump_traceback_later()
    return done.result()


def _free_gpu_memory() -> None:
    """Leave nothing on a GPU to the next task of the same process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()  # a tenth of a second, and without a GPU of no use
        torch.cuda.empty_cache()


class _KeepStartingWorkers(FIFOScheduler):  # type: ignore[misc]
    """First in, first out, but a worker that is still starting keeps the trial that it was started for.

    Tune's own scheduler moves that trial to a worker that has just become free and throws the starting one away, so
    that after the loss of a worker short trials run on one worker fewer until the end.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        return None


class _StopInVain(tune.Stopper):  # type: ignore[misc]
    """End a run that is in vain: records could not be written, or no node can have the data."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._outcome.write_error) or self._outcome.gave_up_on_data


class _Tracker(tune.Callback):  # type: ignore[misc]
    """Collect the outcome and the progress of the tasks from the reports, ends and failures of Tune's trials."""

    def __init__(self, weights: Sequence[float], on_progress: Advance, workers: int) -> None:
        self.outcome = Outcome()
        self._in_a_row, self._most_in_a_row = 0, (MAX_FAILURES + 1) * workers
        self._weights, self._fractions, self._on_progress = weights, [0.0] * len(weights), on_progress

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its callbacks to restore an experiment, which the records do for us."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._advance(trial, result.get("fraction", 0.0))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.outcome.results[_position(trial)] = trial.last_result["result"]
        self._in_a_row = 0
        self._advance(trial, 1.0)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._note(_last_error(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.outcome.errors[_position(trial)] = error = _last_error(trial)
        self._note(error)
        # Tune hears twice of a worker that dies while it is made ready for a trial, and takes the second for the last.
        if trial.num_failures <= trial.max_failures:
            self.outcome.given_up_early.add(_position(trial))
        self._advance(trial, 0.0)

    def _note(self, error: str) -> None:
        """Note what a failure says of the results folder, or of the data on all nodes."""
        self.outcome.write_error = self.outcome.write_error or _write_error(error)
        self._in_a_row = self._in_a_row + 1 if data_error(error) else 0
        self.outcome.gave_up_on_data |= self._in_a_row >= self._most_in_a_row

    def _advance(self, trial: Any, fraction: float) -> None:
        self._fractions[_position(trial)] = fraction
        done = sum(weight * part for weight, part in zip(self._weights, self._fractions, strict=True))
        self._on_progress(done / sum(self._weights), self.outcome)


def _position(trial: Any) -> int:
    """Return the position of Tune's trial in the list of tasks."""
    return int(trial.config["task"]["task"])


def _last_error(trial: Any) -> str:
    """Return in one line why the last try of Tune's trial failed."""
    # `trial.get_error()` reads a copy that is not there yet while callbacks run.
    path = Path(trial.error_file or "")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []
    if not lines:
        return "it failed without a message"
    if any("actor died" in line or "actor is dead" in line for line in lines[-8:]):
        return WORKER_DIED
    return lines[-1].rpartition(f"{TaskError.__name__}: ")[2]


def _write_error(error: str) -> str:
    """Return what the results folder said if a record could not be written; empty if the error is another."""
    return error.partition(f"{NotWrittenError.__name__}: ")[2]


def data_error(error: str) -> str:
    """Return on which node, and why, a trial's data could not be had; empty if the error is another."""
    return error.partition(f"{NoDataError.__name__}: ")[2]
