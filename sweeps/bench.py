"""What Ray Tune adds to the work itself: many short trials against the time they would take without it."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.launch import Cluster, Report, Task, connected, schedule


@dataclass(frozen=True)
class Overhead:
    """Seconds of one measurement.

    Attributes:
        ideal: what the trials take on that many workers if nothing comes between them.
        took: from the first trial's begin to the last one's end.
        startup: from the call to the first trial's begin.
        workers: how many trials ran at once.
    """

    ideal: float
    took: float
    startup: float
    workers: int


def overhead(trials: int, seconds: float, cluster: Cluster) -> Overhead:
    """Run trials that only wait, through the same path as real ones."""
    with connected(cluster) as pool:
        outcome = schedule([{"seconds": seconds}] * trials, wait, pool, on_progress=lambda _: None)
    ideal = math.ceil(trials / pool.workers) * seconds
    return Overhead(ideal, outcome.seconds, outcome.startup_s, pool.workers)


def wait(task: Task, _: Report) -> Mapping[str, float]:
    """Do nothing for as long as the task says."""
    time.sleep(task["seconds"])
    return {"waited": task["seconds"]}
