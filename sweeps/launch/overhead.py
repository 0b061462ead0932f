"""Measure what Ray Tune adds to the work itself: many short trials, against the time they would take without it."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from study.worker import peak_memory
from sweeps.launch.cluster import connect
from sweeps.launch.launch import Cluster
from sweeps.launch.schedule import schedule
from sweeps.launch.tasks import Report, Task


@dataclass(frozen=True)
class Overhead:
    """One measurement, in seconds and bytes.

    Attributes:
        ideal: what the trials take on that many workers if nothing comes between them.
        took: from the start of the first trial to the end of the last one.
        startup: from the call to the start of the first trial.
        trials: how many there were.
        workers: how many of them ran at once.
        memory: by how much the driver's peak memory grew over them.
        peak: the driver's peak memory.
    """

    ideal: float
    took: float
    startup: float
    trials: int
    workers: int
    memory: int
    peak: int

    @property
    def per_trial(self) -> float:
        """Seconds for which a worker waits between two trials."""
        return (self.took - self.ideal) * min(self.workers, self.trials) / self.trials


def measure_overhead(trials: int, seconds: float, cluster: Cluster) -> Overhead:
    """Run so many trials that only wait for so many seconds, the way real ones are run."""
    with connect(cluster) as pool:
        before = peak_memory()
        outcome = schedule([{"seconds": seconds}] * trials, wait, pool, on_progress=lambda *_: None)
        peak = peak_memory()
    ideal = math.ceil(trials / pool.workers) * seconds
    return Overhead(ideal, outcome.seconds, outcome.startup_s(pool), trials, pool.workers, peak - before, peak)


def wait(task: Task, _: Report) -> Mapping[str, float]:
    """Do nothing for as long as the task says."""
    time.sleep(task["seconds"])
    return {"waited": task["seconds"]}
