"""Where a launch is logged to: TensorBoard and W&B by Ray's own loggers, MLflow by its own client.

A sink is told of runs, each a trial of the plan, and of points: what was measured after an epoch.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ray.tune.logger import LoggerCallback, TBXLoggerCallback
from ray.tune.result import TRAINING_ITERATION

from sweeps.launch import ray_internals

Points = Mapping[int, Mapping[str, float]]
"""Numbers by the epoch after which they were measured, and by their name."""
MLFLOW_AT_ONCE = 1000
"""The most numbers that MLflow takes in one request."""


@dataclass(frozen=True, eq=False)
class Run:
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


class Sink(Protocol):
    """What a launch is logged to; each of its methods may raise whatever the library behind it raises."""

    def begin(self, run: Run) -> None:
        """Begin a run."""

    def log(self, run: Run, points: Points) -> None:
        """Log points of a run that has begun."""

    def end(self, run: Run, failed: bool) -> None:
        """End a run."""

    def close(self, interrupted: bool) -> None:
        """Have everything written; nothing is logged until the next run begins."""


def open_sink(name: str, experiment: str, give_up: Callable[[BaseException], None]) -> Sink:
    """Return the sink of that name, with an experiment or project that runs go to.

    Args:
        name: `tensorboard`, `mlflow` or `wandb`.
        experiment: the experiment's name.
        give_up: called with the error where a run can't be written and that is seen only later.
    """
    if name == "mlflow":
        return _MLflow(experiment)
    return _Ray(TBXLoggerCallback() if name == "tensorboard" else ray_internals.wandb_logger(experiment, give_up))


class _Ray:
    """One of Ray's loggers."""

    def __init__(self, logger: LoggerCallback) -> None:
        self._logger = logger
        logger.setup()

    def begin(self, run: Run) -> None:
        """See `Sink.begin`."""
        self._logger.log_trial_start(run)

    def log(self, run: Run, points: Points) -> None:
        """See `Sink.log`."""
        for epoch, numbers in points.items():
            self._logger.log_trial_result(epoch, run, {**numbers, TRAINING_ITERATION: epoch})

    def end(self, run: Run, failed: bool) -> None:
        """See `Sink.end`."""
        self._logger.log_trial_end(run, failed)

    def close(self, interrupted: bool) -> None:
        """See `Sink.close`."""
        self._logger.on_experiment_end(trials=[], interrupted=interrupted)


class _MLflow:
    """An experiment of MLflow's, by its own client: Ray's logger asks the server once for each number."""

    def __init__(self, experiment: str) -> None:
        # Loads mlflow.
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        # By default a server that doesn't answer is tried for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        self._entities, self._client = mlflow.entities, mlflow.MlflowClient()
        self._experiment: str = mlflow.set_experiment(experiment).experiment_id
        self._runs: dict[Run, str] = {}

    def begin(self, run: Run) -> None:
        """See `Sink.begin`."""
        identity: str = self._client.create_run(self._experiment, run_name=str(run)).info.run_id
        self._runs[run] = identity
        params = [self._entities.Param(name, str(value)) for name, value in run.config.items()]
        self._client.log_batch(identity, params=params)

    def log(self, run: Run, points: Points) -> None:
        """See `Sink.log`."""
        now = int(time.time() * 1000)
        metrics = [
            self._entities.Metric(name, value, now, epoch)
            for epoch, numbers in points.items()
            for name, value in numbers.items()
        ]
        for start in range(0, len(metrics), MLFLOW_AT_ONCE):
            self._client.log_batch(self._runs[run], metrics=metrics[start : start + MLFLOW_AT_ONCE])

    def end(self, run: Run, failed: bool) -> None:
        """See `Sink.end`."""
        self._client.set_terminated(self._runs.pop(run), "FAILED" if failed else "FINISHED")

    def close(self, interrupted: bool) -> None:
        """See `Sink.close`."""
