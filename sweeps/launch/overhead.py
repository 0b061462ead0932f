"""What Ray Tune adds to the work itself: many short trials against the time they would take without it."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from study.worker import peak_memory
from sweeps.launch.cluster import Cluster, connected
from sweeps.launch.schedule import schedule
from sweeps.launch.tasks import Report, Task


@dataclass(frozen=True)
class Overhead:
    """One measurement, in seconds and bytes.

    Attributes:
        ideal: what the trials take on that many workers if nothing comes between them.
        took: from the first trial's begin to the last one's end.
        startup: from the call to the first trial's begin.
        trials: how many there were.
        workers: how many of them ran at once.
        memory: by how much the most that the driver had has grown over them.
        peak: the most memory that the driver had.
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


def overhead(trials: int, seconds: float, cluster: Cluster) -> Overhead:
    """Run trials that only wait, through the same path as real ones."""
    with connected(cluster) as pool:
        before = peak_memory()
        outcome = schedule([{"seconds": seconds}] * trials, wait, pool, on_progress=lambda _: None)
        peak = peak_memory()
    ideal = math.ceil(trials / pool.workers) * seconds
    return Overhead(ideal, outcome.seconds, outcome.startup_s(pool), trials, pool.workers, peak - before, peak)


def wait(task: Task, _: Report) -> Mapping[str, float]:
    """Do nothing for as long as the task says."""
    time.sleep(task["seconds"])
    return {"waited": task["seconds"]}
