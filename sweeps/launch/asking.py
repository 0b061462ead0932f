"""Ask the workers how each kind of trial trains fastest, before the trials are bundled.

The answer goes along with the trials, so that workers on devices of the same kind need not find it out again.
"""

import math
import time
from collections.abc import Iterable

import ray

from study.speed.timings import Timed
from study.trial import Trial
from sweeps.bundles import SPEED, Kind, Packing, member_counts, member_epochs
from sweeps.launch.cluster import Pool, store_environment
from sweeps.launch.launch import Launch
from sweeps.launch.schedule import MAX_FAILURES
from sweeps.launch.tasks import TIMES_WITHIN_S, time_kind

UNTIMED = "single trials, each with a worker to itself, because every worker that was asked how they train fastest died"
"""What is said of how a kind of trial trains where no worker lived to tell."""


def kind_of(trial: Trial) -> Kind:
    """Return what decides how fast a trial trains."""
    return trial.values(SPEED)


def ask(
    unknown: Iterable[tuple[Trial, int]], most_sharing: int, launch: Launch, pool: Pool
) -> dict[tuple[Kind, int], Timed | None]:
    """Have workers time how kinds of trials train fastest, for this machine may have another device.

    A worker that dies meanwhile says nothing about the trials, so another is asked, unless the network may have hung.

    Args:
        unknown: a trial of each kind, with how many members there are to be packed.
        most_sharing: the most tasks that may share a device.
        launch: how the trials are run.
        pool: the workers.

    Returns:
        The times by kind and members. There are none where a trial fails, as it will when it is run, and where no
        worker lived to tell them, which the user is told.
    """
    resources = {"num_gpus": 1} if pool.device == "cuda" else {"num_cpus": 1}
    asking = ray.remote(**resources, max_retries=0)(time_kind).remote
    data = launch.data_dir, store_environment()
    left = {(kind_of(trial), members): trial for trial, members in unknown}
    planned = launch.planned or launch.trials
    epochs, counts, share = member_epochs(launch.trials), member_counts(planned), -(-len(planned) // pool.workers)
    answers: dict[tuple[Kind, int], Timed | None] = dict.fromkeys(left)
    for _ in range(1 + MAX_FAILURES):
        began = time.monotonic()
        asked = {}
        for (kind, members), trial in left.items():
            # Of trials that are not in the launch, as those of a search to come, it isn't known how many there are.
            together = min(members, counts.get(kind, members), max(1, share) * len(trial.members))
            work = epochs.get(kind, math.inf)
            asked[kind, members] = asking(trial, *data, pool.device, together, launch.backend, most_sharing > 1, work)
        for each, reference in asked.items():
            try:
                answers[each] = ray.get(reference)
            except ray.exceptions.RayTaskError:  # what the trial itself raises
                pass
            except ray.exceptions.RayError:
                continue
            del left[each]
        if not left or time.monotonic() - began >= TIMES_WITHIN_S:
            break
    for trial in left.values():
        launch.on_packing(trial, UNTIMED)
    return answers


def tasks_per_device(trial: Trial, launch: Launch, pool: Pool) -> int:
    """Return how many tasks like that trial are to share a worker's device."""
    if pool.most_sharing == 1:
        return 1
    members = len(trial.members)
    timed = ask([(trial, members)], pool.most_sharing, launch, pool)[kind_of(trial), members]
    return Packing.of(timed.choices, members, pool.most_sharing).sharing if timed else 1
