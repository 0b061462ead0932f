"""Tasks given to reused workers by Ray Tune, and what becomes of each."""

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
from sweeps.launch.tasks import NotWrittenError, Report, Task, Work

MAX_FAILURES = 2
WORKER_DIED = "its worker process died: out of memory, a crash, or killed from outside"
LETS_GO_S = 5.0
"""What a process whose task is over time has to say so before it ends."""
REPORT_EVERY_S = 0.5


class TaskError(RuntimeError):
    """What a task raised, as text: its class and its message in one line."""


class OverTimeError(Exception):
    """A task took longer than it was given."""


@dataclass
class Outcome:
    """What came of the tasks, by their position in the list.

    Attributes:
        results: what each finished task returned.
        errors: why each task failed that was tried in vain.
        early: those among them that Tune gave up before they had all their tries.
        interrupted: whether the user stopped the run.
        refused: why a record could not be written, which ended the run.
        began: when the first task was being worked on, as `time.time` has it.
        ended: when the last one was done.
    """

    results: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    early: set[int] = field(default_factory=set)
    interrupted: bool = False
    refused: str = ""
    began: float = math.inf
    ended: float = -math.inf

    @property
    def seconds(self) -> float:
        """From the begin of the first task until the end of the last one; 0 if none was done."""
        return max(0.0, self.ended - self.began)

    def startup_s(self, pool: Pool) -> float:
        """Seconds from asking for the workers until the first task was being worked on; 0 if none was done."""
        return self.began - pool.asked if self.ended >= self.began else 0.0

    def add(self, later: "Outcome") -> None:
        """Take over what came of later tasks; what each of them returned is in the records, and not kept."""
        self.interrupted |= later.interrupted
        self.began, self.ended = min(self.began, later.began), max(self.ended, later.ended)


def schedule(
    tasks: Sequence[Task],
    work: Work,
    pool: Pool,
    on_progress: Report,
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
        on_progress: told the weighted fraction of the work that is done; what has failed is not.
        weights: how much work each task is; all the same by default.
        storage: where Tune keeps its own account of the experiment, a folder or URI that all nodes see; by default
            it is thrown away.
        tries: how often a task that fails is tried again; `MAX_FAILURES` by default.
        sharing: how many tasks like it share a worker's device, for each; 1 by default.
        common: what all tasks have beside their own. It goes from memory to memory alone, for it may have credentials,
            and Tune writes down what each task has of its own.
        callbacks: what Tune is to call besides; at its end they are told whether it was `interrupted`.
    """
    sharing = sharing or [1] * len(tasks)
    given = [{**task, "device": pool.device, "task": position} for position, task in enumerate(tasks)]
    return _fit(
        _trainable(work, ray.put(dict(common or {}))),
        {"task": tune.grid_search(given)},
        pool,
        _Tracker(weights or [1.0] * len(tasks), on_progress),
        callbacks,
        sharing,
        MAX_FAILURES if tries is None else tries,
        storage,
    )


def search(
    searcher: Any,
    count: int,
    work: Work,
    pool: Pool,
    on_progress: Report,
    storage: str | None = None,
    sharing: int = 1,
    callbacks: Sequence[tune.Callback] = (),
) -> Outcome:
    """Give reused workers tasks that a searcher suggests one by one, and the searcher what came of them.

    Args:
        searcher: one of Tune's, with objectives and directions of its own: Tune's configuration names none, for it
            would take the place of them all. Each suggestion has a `task`, with the worker's `device` and the
            position of the `task` among all suggested.
        count: how many tasks to ask for.
        work: as in `schedule`; what it returns has the objectives.
        pool: the workers.
        on_progress: told the fraction of the work that is done; what has failed is not.
        storage: as in `schedule`.
        sharing: how many tasks share a worker's device.
        callbacks: what Tune is to call besides; at its end they are told whether it was `interrupted`.
    """
    tracker = _Tracker([1.0] * count, on_progress)
    trainable, shared = _trainable(work, ray.put({})), [sharing] * count
    return _fit(trainable, {}, pool, tracker, callbacks, shared, MAX_FAILURES, storage, searcher, count)


def _fit(
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
    """Have Tune carry out the tasks of a space, or so many of a searcher's."""
    device = "GPU" if pool.device == "cuda" else "CPU"

    def part_of_device(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{device: 1 / sharing[config["task"]["task"]]}])

    with nullcontext(storage) if storage else tempfile.TemporaryDirectory(prefix="normleak-") as kept_in:
        backend_choice = tune.Tuner(
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
                storage_path=kept_in,
                verbose=0,
                callbacks=[tracker, *callbacks],
                failure_config=tune.FailureConfig(max_failures=tries),
                stop=_Stopper(tracker.outcome),
            ),
        )
        try:
            backend_choice.fit()
        except KeyboardInterrupt:
            CTRL_C.heard()
            tracker.outcome.interrupted = True
            for callback in callbacks:
                callback.on_experiment_end(trials=[], interrupted=True)
    outcome = tracker.outcome
    times = [(result["began"], result["ended"]) for result in outcome.results.values()]
    if times:
        outcome.began, outcome.ended = min(began for began, _ in times), max(ended for _, ended in times)
    return outcome


def _trainable(work: Work, common: Any) -> Callable[[dict[str, Any]], None]:
    """The work as Tune calls it in a worker, reporting at most twice a second and cleaning up after each task.

    Args:
        work: what is done with a task.
        common: a reference to what all tasks have.
    """

    def trainable(config: dict[str, Any]) -> None:
        began = last = time.time()

        def report(fraction: float) -> None:
            nonlocal last
            if time.time() - last >= REPORT_EVERY_S:
                last = time.time()
                tune.report({"fraction": fraction})

        def attempt() -> Mapping[str, Any]:
            try:
                return work({**ray.get(common), **config["task"]}, report)
            finally:
                _clean_up()

        try:
            result = dict(_within(config["task"].get("time_limit"), attempt))
        except Exception as error:
            # Tune rebuilds exceptions from their text, which not every class survives.
            raise TaskError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
        times = {"began": began, "ended": time.time()}
        tune.report({"fraction": 1.0, "result": {**result, **times}, **result, "done": True})

    return trainable


def _within(seconds: float | None, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the work comes to; if it is not done in time, this process ends soon, for no thread of it can be ended.

    Raises:
        OverTimeError: it is not.
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

    # Its watch is no thread of Python's, which compiled code that hangs may keep from running.
    faulthandler.dump_traceback_later(seconds + LETS_GO_S, exit=True)
    threading.Thread(target=run, daemon=True).start()
    if not wait([done], seconds).done:
        raise OverTimeError(f"it took longer than its limit of {seconds:g} s")
    faulthandler.cancel_dump_traceback_later()
    return done.result()


def _clean_up() -> None:
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


class _Stopper(tune.Stopper):  # type: ignore[misc]
    """Ends the run once records could not be written: what is trained from then on would be lost."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._outcome.refused)


class _Tracker(tune.Callback):  # type: ignore[misc]
    """Hears of every report, end and failure of Tune's trials."""

    def __init__(self, weights: Sequence[float], on_progress: Report) -> None:
        self.outcome = Outcome()
        self._weights, self._fractions, self._on_progress = weights, [0.0] * len(weights), on_progress

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks to restore an experiment, which the records do for us."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._advance(trial, result.get("fraction", 0.0))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.outcome.results[_position(trial)] = trial.last_result["result"]
        self._advance(trial, 1.0)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.outcome.refused = self.outcome.refused or _refused(_reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.outcome.errors[_position(trial)] = reason = _reason(trial)
        self.outcome.refused = self.outcome.refused or _refused(reason)
        # Of a worker that dies while it is made ready for a trial, Tune hears twice, and takes the second for the last.
        if trial.run_metadata.num_failures <= trial.max_failures:
            self.outcome.early.add(_position(trial))
        self._advance(trial, 0.0)

    def _advance(self, trial: Any, fraction: float) -> None:
        self._fractions[_position(trial)] = fraction
        done = sum(weight * part for weight, part in zip(self._weights, self._fractions, strict=True))
        self._on_progress(done / sum(self._weights))


def _position(trial: Any) -> int:
    return int(trial.config["task"]["task"])


def _reason(trial: Any) -> str:
    """Why the last try failed, in one line."""
    # `trial.get_error()` reads a copy that is not there yet while callbacks run.
    path = Path(trial.error_file or "")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []
    if not lines:
        return "it failed without a message"
    if any("actor died" in line or "actor is dead" in line for line in lines[-8:]):
        return WORKER_DIED
    return lines[-1].rpartition(f"{TaskError.__name__}: ")[2]


def _refused(reason: str) -> str:
    """What the results folder said, if that was the reason."""
    return reason.partition(f"{NotWrittenError.__name__}: ")[2]
