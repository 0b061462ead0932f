"""What a worker does with a task: run the trials of a unit and record them, or time how they train fastest."""

import faulthandler
import os
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from study.errors import BadInputError
from study.record.results import Results
from study.record.rows import Curves
from study.record.weights import Keep
from study.speed.timings import Timed
from study.trial import Trial
from study.worker import use_one_thread

TIMES_WITHIN_S = 600.0
"""How long a worker may take to time a kind of network."""
WRITES_AGAIN_AFTER_S = (1.0, 3.0)
NO_DATA_WAIT_S = 3.0
"""How long a worker that can't have the data waits before it says so."""
REPORTED = ("mem_acc", "true_label_acc", "clean_acc", "test_acc", "mia_auc", "seconds")
"""The columns of `members` whose means Ray and its loggers see."""

Point = tuple[str, int, Sequence[Mapping[str, Any]]]
"""The id of a trial, the number of one of its members, and new rows of that member's curve, as `epochs` has them."""
Report = Callable[..., None]
"""A function that is told the fraction done and, where a task is asked for `curves`, the points that are new."""
Task = Mapping[str, Any]
Work = Callable[[Task, Report], Mapping[str, Any]]
"""A function that carries out a task in a worker. It may report how far it is, and returns what Ray sees of it."""


class NotWrittenError(OSError):
    """The results folder refused a record, which says nothing about its trial."""


class NoDataError(OSError):
    """A node can't have the data that a trial was planned with, which says nothing about the trial."""


def run_and_record(task: Task, report: Report) -> Mapping[str, Any]:
    """Run a unit in a worker and write its shards.

    A unit that takes long is checkpointed in the results folder now and then, and a later try continues from there.

    Returns:
        Means over all members of the unit and, under `trials`, over those of each trial that was recorded; when it
        `began` to train, and how many of the recorded trials `diverged`.

    Raises:
        NoDataError: this node has not the data of the trials.
        NotWrittenError: the results folder refuses a record.
    """
    from study.run import run_together

    trials = prepare(task)
    began = time.time()
    results = Results(task["results"])
    checkpoints = results.checkpoints(task["sweep"])
    keep = keep_weights(results, task["sweep"], task["recorded"])
    progress, curves = reporting_curves(task, task["recorded"], report)
    place = task["data_dir"], task["device"]
    known = task.get("known", {})
    records = run_together(
        trials, *place, progress, task["backend"], checkpoints, keep=keep, curves=curves, known=known
    )
    for trial, own in zip(trials, records, strict=True):
        if trial.id in task["recorded"]:
            for row in own.members:
                row["seconds"] /= task["sharing"]  # of the device, of which it had but a part
            write(results, task["sweep"], trial, own.tables)
    for trial in trials:
        checkpoints.drop(trial.id)
    by_trial = {trial.id: _means(own.members) for trial, own in zip(trials, records, strict=True)}
    means = _means([row for own in records for row in own.members])
    diverged = sum(
        any(row["status"] == "diverged" for row in own.members)
        for trial, own in zip(trials, records, strict=True)
        if trial.id in task["recorded"]
    )
    recorded = {trial: by_trial[trial] for trial in task["recorded"]}
    return {**means, "trials": recorded, "began": began, "diverged": diverged}


def prepare(task: Task) -> list[Trial]:
    """Make this process ready for a task, and return the task's trials, whose data is then at hand.

    Raises:
        NoDataError: this node has not their data, or other files than those that they were planned with.
    """
    from study.data.load import load

    os.environ.update(task["environment"])
    trials = [Trial.of(settings) for settings in task["trials"]]
    try:
        for trial, planned_id in zip(trials, task["ids"], strict=True):
            if trial.id != planned_id:
                raise BadInputError(f"the files of {trial.dataset} are not those that the trial was planned with.")
            load(trial.dataset, task["data_dir"], test_images=trial.test_images)
            if trial.ood not in ("none", "photos"):
                load(trial.ood, task["data_dir"])
    except BadInputError as error:
        # Meanwhile workers of other nodes take the next tasks, which would fail here as soon.
        time.sleep(NO_DATA_WAIT_S)
        raise NoDataError(f"on node {platform.node()}: {error}") from error
    return trials


def write(results: Results, sweep: str, trial: Trial, tables: Mapping[str, Any]) -> None:
    """Write a trial's shards from its worker.

    Raises:
        NotWrittenError: the folder refuses them.
    """
    _insist(lambda: results.write(sweep, trial.id, tables))


def reporting_curves(
    task: Task, recorded: Collection[str], report: Report
) -> tuple[Callable[[float], None], Curves | None]:
    """Return how a run is to tell its progress, and its curves if anybody wants them: both go out together."""
    if not task.get("curves"):
        return report, None
    new: list[Point] = []

    def progress(fraction: float) -> None:
        report(fraction, new)
        new.clear()

    def curves(trial: str, member: int, rows: Sequence[Mapping[str, Any]]) -> None:
        if trial in recorded:
            new.append((trial, member, rows))

    return progress, curves


def keep_weights(results: Results, sweep: str, recorded: Collection[str]) -> Keep:
    """Return the function by which a worker keeps the weights of the members of the trials that it records.

    It raises `NotWrittenError` where the folder refuses them.
    """
    weights = results.weights(sweep)

    def keep(trial: str, member: int, content: bytes | None) -> None:
        if trial in recorded:
            _insist(lambda: weights.keep(trial, member, content))

    return keep


def _insist(write: Callable[[], None]) -> None:
    """Write something, trying again if the results folder refuses it: training anew would take longer.

    Raises:
        NotWrittenError: the folder still refuses it.
    """
    for wait_s in (*WRITES_AGAIN_AFTER_S, None):
        try:
            write()
            return
        except OSError as error:
            if wait_s is None:
                raise NotWrittenError(str(error)) from error
            time.sleep(wait_s)


def time_kind(
    trial: Trial,
    data_dir: str,
    environment: Mapping[str, str],
    device: str,
    members: int,
    backend: str,
    shared: bool,
    epochs: float,
) -> Timed:
    """Time how the members of such trials train fastest on this process's device.

    A network that hangs ends the process. Its trials are then run one by one, each within its time limit.

    Args:
        trial: one of the kind.
        data_dir: where torchvision's datasets lie, as a path or URI.
        environment: the variables by which an object store is reached.
        device: this process's device, `cpu` or `cuda`.
        members: how many members there are to be packed.
        backend: how members train side by side, or `auto`.
        shared: whether several tasks may share the device; how many should is then timed as well.
        epochs: the epochs of all members of the kind, by which it is decided how long it is worth timing.
    """
    from study.data.load import load
    from study.speed import backend_choice

    use_one_thread()
    os.environ.update(environment)
    faulthandler.dump_traceback_later(TIMES_WITHIN_S, exit=True)
    try:
        data = load(trial.dataset, data_dir, trial.subset, resize=trial.resize, test_images=trial.test_images)
        kind = trial, data.shape, data.classes
        work = epochs * len(data.train)
        choices = backend_choice.timed(*kind, members, device, backend, sharing=shared, work=work)
    finally:
        faulthandler.cancel_dump_traceback_later()
    return Timed(backend_choice.key_here(*kind, device, backend), tuple(choices))


def _means(members: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    return {name: _mean([row.get(name) for row in members]) for name in REPORTED}


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are there; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
