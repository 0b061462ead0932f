"""Where else the means of a sweep go, if its user has it: TensorBoard, MLflow or W&B, through Ray's own loggers.

Tune's trials are tasks: one may carry several trials of the plan, and is tried again or taken apart if it fails. So
Ray's loggers are shown the trials of the plan instead, each when its record has been written: a run is a record.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sweeps.launch.tasks import Task  # first, for Ray reads the environment that it sets

# isort: split
import ray
from ray import tune
from ray.tune.logger import LoggerCallback, TBXLoggerCallback
from ray.tune.result import TRAINING_ITERATION
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.errors import BadInputError
from study.record.location import is_uri, public
from study.record.results import Results
from study.settings import format_value
from sweeps.interrupt import CTRL_C

NEEDED = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""The module that each sink needs; the extra of the sink's name has it."""
FOLDER = "tensorboard"
INTERRUPTED_S = 20  # what W&B has for its last runs after Ctrl-C

Tell = Callable[[str], None]


class Sinks:
    """The sinks of a launch, with an experiment or project for each sweep, opened when it is first asked for.

    Args:
        names: those wanted, of `NEEDED`.
        results: where the records are.
        tell: told in one line if a sink is given up.

    Raises:
        BadInputError: one of them is not installed, or can't write beside these results.
    """

    def __init__(self, names: Iterable[str], results: Results, tell: Tell) -> None:
        self._names, self._results, self._tell = tuple(dict.fromkeys(names)), results, tell
        self._opened: dict[str, list[_Sink]] = {}
        for name in self._names:
            if find_spec(NEEDED[name]) is None:
                raise BadInputError(f"{name} logging needs {NEEDED[name]}; pip install 'normleak[{name}]'.")
        if "tensorboard" in self._names and is_uri(results.location):
            raise BadInputError(
                f"tensorboard logs go to a results folder, not to {results}; mlflow and wandb need none."
            )

    def of(self, sweep: str) -> Sequence[tune.Callback]:
        """What Tune is to call while it runs that sweep.

        Raises:
            BadInputError: a sink refuses to begin.
        """
        if sweep not in self._opened:
            self._opened[sweep] = [self._open(name, sweep) for name in self._names]
        return self._opened[sweep]

    def _open(self, name: str, sweep: str) -> "_Sink":
        folder = Path(self._results.below(sweep, FOLDER)) if name == "tensorboard" else None
        sink = _Sink(name, folder, self._tell)
        try:
            sink.logger = _logger(name, sweep, sink.give_up)
            sink.logger.setup()
        except Exception as error:
            raise BadInputError(f"{name} logging can't begin: {_line(error)}") from None
        return sink


class _Sink(tune.Callback):  # type: ignore[misc]
    """Hears of Tune's trials, and writes those of the plan that they carried with one of Ray's loggers.

    If that fails it is given up, for training neither stops nor waits for it.

    Args:
        name: as the user knows it.
        folder: where each run gets a folder; None for the working directory.
        tell: told if it is given up.
    """

    logger: LoggerCallback | None = None

    def __init__(self, name: str, folder: Path | None, tell: Tell) -> None:
        self._name, self._folder, self._tell = name, folder, tell

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as for every callback of ours that Tune would keep."""
        return {}

    def give_up(self, error: BaseException) -> None:
        """Write no more, and say why."""
        if self.logger is not None:
            self.logger = None
            self._tell(f"{self._name} logging is given up, records are not: {_line(error)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        task: Task = trial.config["task"]
        found = trial.last_result["result"]["trials"]
        # What is recorded is not run again, and so not written again either.
        with CTRL_C.held():
            for planned, settings in zip(task["ids"], task["trials"], strict=True):
                if planned in found:
                    known = {name: value for name, value in found[planned].items() if value is not None}
                    self._write(self._run(planned, settings, trial), known)

    def _run(self, planned: str, settings: Mapping[str, Any], trial: Any) -> "_Run":
        own = Path.cwd() if self._folder is None else self._folder / planned
        parameters = {
            name: format_value(value) if isinstance(value, tuple) else value for name, value in settings.items()
        }
        return _Run(planned, f"{planned}-{trial.trial_id}", parameters, str(own), trial.experiment_dir_name)

    def on_experiment_end(self, trials: list[Any], interrupted: bool = False, **info: Any) -> None:
        if self.logger is not None:
            try:
                self.logger.on_experiment_end(trials=[], interrupted=interrupted)
            except Exception as error:
                self.give_up(error)

    def _write(self, run: "_Run", means: Mapping[str, float]) -> None:
        if self.logger is not None:
            try:
                self.logger.log_trial_start(run)
                # Their step is the epoch after which they were measured.
                self.logger.log_trial_result(1, run, {**means, TRAINING_ITERATION: run.config["epochs"]})
                self.logger.log_trial_end(run)
            except Exception as error:
                self.give_up(error)


@dataclass(frozen=True, eq=False)
class _Run:
    """A trial of the plan with what Ray's loggers read of one of Tune's.

    Attributes:
        name: its id.
        trial_id: another for each time that it is run, as W&B wants it.
        config: its settings.
        local_path: the run's folder.
        experiment_dir_name: the launch.
    """

    name: str
    trial_id: str
    config: Mapping[str, Any]
    local_path: str
    experiment_dir_name: str

    def __str__(self) -> str:
        return self.name

    @property
    def evaluated_params(self) -> Mapping[str, Any]:
        """What TensorBoard shows as hyperparameters."""
        return self.config

    def init_local_path(self) -> None:
        """Make its folder."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


GiveUp = Callable[[BaseException], None]


def _logger(name: str, sweep: str, give_up: GiveUp) -> LoggerCallback:
    if name == "tensorboard":
        return TBXLoggerCallback()
    return _mlflow(sweep) if name == "mlflow" else _wandb(sweep, give_up)


def _mlflow(sweep: str) -> LoggerCallback:
    # Loads mlflow.
    from ray.air.integrations.mlflow import MLflowLoggerCallback, mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    # A server that doesn't answer is tried for minutes by default, and training waits.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    # Without an address Ray would have mlflow forget that of its environment.
    return MLflowLoggerCallback(mlflow.get_tracking_uri(), experiment_name=sweep)


def _wandb(sweep: str, give_up: GiveUp) -> LoggerCallback:
    # Loads wandb.
    from ray.air.integrations.wandb import WandbLoggerCallback, _WandbLoggingActor

    class Logger(WandbLoggerCallback):  # type: ignore[misc]
        """Ray's, whose writers are on this machine and know of W&B what this process does.

        Ray's own would be given the key through their runtime environment, which Ray writes into its logs.
        """

        _remote_logger_class: Any

        def _start_logging_actor(self, *args: Any, **kwargs: Any) -> None:
            if self._remote_logger_class is None:
                known = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
                here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
                remote = ray.remote(num_cpus=0, scheduling_strategy=here)
                self._remote_logger_class = remote(_knowing(_WandbLoggingActor, ray.put(known)))
            super()._start_logging_actor(*args, **kwargs)

        def _cleanup_logging_actor(self, trial: Any) -> None:
            written = self._trial_logging_futures[trial]
            super()._cleanup_logging_actor(trial)
            try:
                ray.get(written, timeout=0)
            except ray.exceptions.GetTimeoutError:
                give_up(TimeoutError(f"run {trial} was not written in time"))
            except Exception as error:
                give_up(error)

        def on_experiment_end(self, trials: list[Any], interrupted: bool = False, **info: Any) -> None:
            within = INTERRUPTED_S if interrupted else self._upload_timeout
            self._cleanup_logging_actors(timeout=within, kill_on_timeout=True)

    return Logger(sweep, excludes=[TRAINING_ITERATION])


def _knowing(writer: type, known: Any) -> type:
    """A writer whose process has these variables, which go from memory to memory alone."""

    class Writer(writer):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            os.environ.update(ray.get(known))
            super().__init__(*args, **kwargs)

    return Writer


def _line(error: BaseException) -> str:
    """What went wrong in one line; Ray tells of an actor's error last."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return public((lines[-1] if isinstance(error, ray.exceptions.RayError) else lines[0]).strip())
