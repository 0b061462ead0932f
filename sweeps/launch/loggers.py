"""Log a sweep's trials to TensorBoard, MLflow or W&B as well, through Ray's own loggers.

Tune's trials are tasks: one may carry several trials of the plan, and is tried again or taken apart if it fails. Ray's
loggers are therefore shown the trials of the plan, each when its record has been written: a run is a record.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.logger import LoggerCallback, TBXLoggerCallback
from ray.tune.result import TRAINING_ITERATION

from study.errors import BadInputError
from study.record.results import Results
from study.settings import format_value
from study.storage.location import is_uri, public
from sweeps.interrupt import CTRL_C
from sweeps.launch import ray_internals
from sweeps.launch.tasks import Task

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""The module that each logger needs; the extra of the logger's name installs it."""
FOLDER = "tensorboard"
"""The folder for TensorBoard, beside the records of a sweep."""

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
            logger.ray_logger = _ray_logger(name, sweep, logger.give_up)
            logger.ray_logger.setup()
        except Exception as error:
            raise BadInputError(f"{name} logging can't begin: {_one_line(error)}") from None
        return logger


class _RecordLogger(tune.Callback):  # type: ignore[misc]
    """Log the trials of the plan that Tune's trials carried, with one of Ray's loggers.

    If that fails the logger is given up, for training neither stops nor waits for it.

    Args:
        name: as the user knows it.
        folder: where each run gets a folder; None for the working directory.
        on_given_up: called with a sentence if it is given up.
    """

    ray_logger: LoggerCallback | None = None

    def __init__(self, name: str, folder: Path | None, on_given_up: OnGivenUp) -> None:
        self._name, self._folder, self._on_given_up = name, folder, on_given_up

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its callbacks to restore an experiment, which the records do for us."""
        return {}

    def give_up(self, error: BaseException) -> None:
        """Log no more, and say why."""
        if self.ray_logger is not None:
            self.ray_logger = None
            self._on_given_up(f"{self._name} logging is given up, records are not: {_one_line(error)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        task: Task = trial.config["task"]
        means_by_trial = trial.last_result["result"]["trials"]
        # A recorded trial is not run again, so what is not logged now never is.
        with CTRL_C.defer():
            for trial_id, settings in zip(task["ids"], task["trials"], strict=True):
                if trial_id in means_by_trial:
                    means = {name: value for name, value in means_by_trial[trial_id].items() if value is not None}
                    self._log(self._run(trial_id, settings, trial), means)

    def _run(self, trial_id: str, settings: Mapping[str, Any], trial: Any) -> "_Run":
        folder = Path.cwd() if self._folder is None else self._folder / trial_id
        parameters = {
            name: format_value(value) if isinstance(value, tuple) else value for name, value in settings.items()
        }
        return _Run(trial_id, f"{trial_id}-{trial.trial_id}", parameters, str(folder), trial.experiment_dir_name)

    def on_experiment_end(self, trials: list[Any], interrupted: bool = False, **info: Any) -> None:
        if self.ray_logger is not None:
            try:
                self.ray_logger.on_experiment_end(trials=[], interrupted=interrupted)
            except Exception as error:
                self.give_up(error)

    def _log(self, run: "_Run", means: Mapping[str, float]) -> None:
        if self.ray_logger is not None:
            try:
                self.ray_logger.log_trial_start(run)
                # Their step is the epoch after which they were measured.
                self.ray_logger.log_trial_result(1, run, {**means, TRAINING_ITERATION: run.config["epochs"]})
                self.ray_logger.log_trial_end(run)
            except Exception as error:
                self.give_up(error)


@dataclass(frozen=True, eq=False)
class _Run:
    """A trial of the plan, with what Ray's loggers read of one of Tune's trials.

    Attributes:
        name: its id.
        trial_id: unique to each time that it is run, as W&B wants it.
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
        """Make the run's folder."""
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


def _ray_logger(name: str, sweep: str, give_up: Callable[[BaseException], None]) -> LoggerCallback:
    """Return Ray's logger of that name, which logs to an experiment or project named after the sweep."""
    if name == "tensorboard":
        return TBXLoggerCallback()
    return _mlflow_logger(sweep) if name == "mlflow" else ray_internals.wandb_logger(sweep, give_up)


def _mlflow_logger(sweep: str) -> LoggerCallback:
    # Loads mlflow.
    from ray.air.integrations.mlflow import MLflowLoggerCallback, mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    # By default a server that doesn't answer is tried for minutes, and training waits.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    # Without an address Ray would have mlflow forget that of its environment.
    return MLflowLoggerCallback(mlflow.get_tracking_uri(), experiment_name=sweep)


def _one_line(error: BaseException) -> str:
    """Return what went wrong in one line, without credentials; Ray puts an actor's own error last."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return public((lines[-1] if isinstance(error, ray.exceptions.RayError) else lines[0]).strip())
