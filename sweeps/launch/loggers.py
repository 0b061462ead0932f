"""Log a sweep's trials to TensorBoard, MLflow or W&B as well, while they train.

Tune's trials are tasks: one may carry several trials of the plan, and is tried again or taken apart if it fails. A run
is therefore a trial of the plan: it has the curve of each member, and is finished with the means over its members when
its record has been written. The records stay the truth.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
from ray import tune

from study.errors import BadInputError
from study.record.results import Results
from study.settings import format_value
from study.storage.location import is_uri, public
from sweeps.launch.ray_internals import INTERRUPTED_S
from sweeps.launch.sinks import Points, Run, Sink, open_sink
from sweeps.launch.tasks import Task

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""The module that each logger needs; the extra of the logger's name installs it."""
FOLDER = "tensorboard"
"""The folder for TensorBoard, beside the records of a sweep."""
LIVE_AFTER_S = 10.0
"""How long a task must have trained before its runs begin: most are done by then, and nobody watches them."""
COUNTS = ("epoch", "step")
"""The columns of `epochs` that say when the others were measured."""

OnGivenUp = Callable[[str], None]


class Loggers:
    """The loggers of a launch, with an experiment or project for each sweep, opened when it is first asked for.

    Args:
        names: the loggers wanted, of `PACKAGES`.
        results: where the records are.
        on_given_up: called with a sentence if a logger is given up.

    Raises:
        BadInputError: one of them is not installed, or can't write beside these results.
    """

    def __init__(self, names: Iterable[str], results: Results, on_given_up: OnGivenUp) -> None:
        self._names, self._results, self._on_given_up = tuple(dict.fromkeys(names)), results, on_given_up
        self._open: dict[str, list[_RecordLogger]] = {}
        for name in self._names:
            if find_spec(PACKAGES[name]) is None:
                raise BadInputError(f"{name} logging needs {PACKAGES[name]}; pip install 'normleak[{name}]'.")
        if "tensorboard" in self._names and is_uri(results.location):
            raise BadInputError(
                f"tensorboard logs go to a results folder, not to {results}; mlflow and wandb need none."
            )

    def of(self, sweep: str) -> Sequence[tune.Callback]:
        """Return what Tune is to call while it runs that sweep.

        Raises:
            BadInputError: a logger can't begin.
        """
        if sweep not in self._open:
            self._open[sweep] = [self._begin(name, sweep) for name in self._names]
        return self._open[sweep]

    def _begin(self, name: str, sweep: str) -> "_RecordLogger":
        folder = Path(self._results.below(sweep, FOLDER)) if name == "tensorboard" else None
        logger = _RecordLogger(name, folder, self._on_given_up)
        try:
            logger.sink = open_sink(name, sweep, logger.give_up)
        except Exception as error:
            raise BadInputError(f"{name} logging can't begin: {_one_line(error)}") from None
        return logger


class _RecordLogger(tune.Callback):  # type: ignore[misc]
    """Log the trials of the plan that Tune's trials carry.

    The curves of a trial that takes long are logged as they come, and its means when it has been recorded. A thread
    does so, for training neither stops nor waits for it; if it fails, the logger is given up.

    Args:
        name: as the user knows it.
        folder: where each run gets a folder; None for the working directory.
        on_given_up: called with a sentence if it is given up.
    """

    sink: Sink | None = None

    def __init__(self, name: str, folder: Path | None, on_given_up: OnGivenUp) -> None:
        self._name, self._folder, self._on_given_up = name, folder, on_given_up
        self._thread = _Background()
        self._tries: dict[str, _Try] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its callbacks to restore an experiment, which the records do for us."""
        return {}

    def give_up(self, error: BaseException) -> None:
        """Log no more, and say why."""
        if self.sink is not None:
            self.sink = None
            self._on_given_up(f"{self._name} logging is given up, records are not: {_one_line(error)}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        underway = self._tries.setdefault(trial.trial_id, _Try())
        for trial_id, member, rows in result.get("curves", ()):
            settings = trial.config["task"]["trials"][trial.config["task"]["ids"].index(trial_id)]
            underway.add(trial_id, _points(settings, member, rows))
        if underway.is_long:
            for trial_id in list(underway.waiting):
                self._log_curves(underway, trial_id, trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        task: Task = trial.config["task"]
        underway = self._tries.setdefault(trial.trial_id, _Try())
        means_by_trial = trial.last_result["result"]["trials"]
        for trial_id, settings in zip(task["ids"], task["trials"], strict=True):
            if trial_id in means_by_trial:
                run = self._log_curves(underway, trial_id, trial)
                means = {name: value for name, value in means_by_trial[trial_id].items() if value is not None}
                # Their step is the epoch after which they were measured.
                self._log(run, {settings["epochs"]: means})
                self._end(underway.runs.pop(trial_id), failed=False)
        self._end_failed(trial.trial_id)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end_failed(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end_failed(trial.trial_id)

    def on_experiment_end(self, trials: list[Any], interrupted: bool = False, **info: Any) -> None:
        for tune_id in list(self._tries):
            self._end_failed(tune_id)
        if self._thread.wait(INTERRUPTED_S if interrupted else None):
            if self.sink is not None:
                try:
                    self.sink.close(interrupted)
                except Exception as error:
                    self.give_up(error)
        else:
            self.give_up(TimeoutError("it was not written in time"))

    def _log_curves(self, underway: "_Try", trial_id: str, trial: Any) -> Run:
        """Have the points of a trial that wait logged, and return its run, which is begun if need be."""
        if trial_id not in underway.runs:
            run = underway.runs[trial_id] = self._run(trial_id, trial)
            self._do(lambda sink: sink.begin(run))
        if points := underway.waiting.pop(trial_id, None):
            self._log(underway.runs[trial_id], points)
        return underway.runs[trial_id]

    def _run(self, trial_id: str, trial: Any) -> Run:
        settings = trial.config["task"]["trials"][trial.config["task"]["ids"].index(trial_id)]
        folder = Path.cwd() if self._folder is None else self._folder / trial_id
        parameters = {
            name: format_value(value) if isinstance(value, tuple) else value for name, value in settings.items()
        }
        unique = f"{trial_id}-{trial.trial_id}-{trial.num_failures}"
        return Run(trial_id, unique, parameters, str(folder), trial.experiment_dir_name)

    def _end_failed(self, tune_id: str) -> None:
        """End the runs of one of Tune's trials that are left, as those of a try without a record."""
        for run in self._tries.pop(tune_id, _Try()).runs.values():
            self._end(run, failed=True)

    def _log(self, run: Run, points: Points) -> None:
        self._do(lambda sink: sink.log(run, points))

    def _end(self, run: Run, failed: bool) -> None:
        self._do(lambda sink: sink.end(run, failed))

    def _do(self, log: Callable[[Sink], None]) -> None:
        """Have the thread log something, unless the logger has been given up by then."""

        def attempt() -> None:
            if self.sink is not None:
                try:
                    log(self.sink)
                except Exception as error:
                    self.give_up(error)

        self._thread.do(attempt)


@dataclass
class _Try:
    """One of Tune's trials underway.

    Attributes:
        runs: the runs that have begun, by the trial of the plan.
        waiting: the points that are not logged yet, by the trial of the plan.
        began: when it was first heard of, by the monotonic clock.
    """

    runs: dict[str, Run] = field(default_factory=dict)
    waiting: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def is_long(self) -> bool:
        """Whether it takes so long that its curves are worth logging before its end."""
        return time.monotonic() - self.began >= LIVE_AFTER_S

    def add(self, trial_id: str, points: Points) -> None:
        """Have points of a trial wait to be logged."""
        waiting = self.waiting.setdefault(trial_id, {})
        for epoch, numbers in points.items():
            waiting.setdefault(epoch, {}).update(numbers)


class _Background:
    """Do things one after another in a thread, which the end of the process doesn't wait for."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, action: Callable[[], None]) -> None:
        """Do something after all that was asked for before; it must not raise."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        self._queue.put(action)

    def wait(self, seconds: float | None) -> bool:
        """Wait until all is done, or for so many seconds; return whether it is."""
        done = threading.Event()
        self.do(done.set)
        return done.wait(seconds)

    def _work(self) -> None:
        while True:
            self._queue.get()()


def _points(settings: Mapping[str, Any], member: int, rows: Iterable[Mapping[str, Any]]) -> Points:
    """Return rows of `epochs` of a member as points of its trial's run, named after the metric and the member."""
    place, model = divmod(member, settings["models"])
    label = f"seed_{settings['seed'][place]}" + (f"_model_{model}" if settings["models"] > 1 else "")
    return {
        row["epoch"]: {
            f"{name}/{label}": value for name, value in row.items() if name not in COUNTS and value is not None
        }
        for row in rows
    }


def _one_line(error: BaseException) -> str:
    """Return what went wrong in one line, without credentials; Ray puts an actor's own error last."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return public((lines[-1] if isinstance(error, ray.exceptions.RayError) else lines[0]).strip())
