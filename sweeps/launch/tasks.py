"""What a worker does with the trials that it is given: run them and write their records."""

import faulthandler
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.errors import BadInputError
from study.record.results import Results
from study.trial import Trial
from study.worker import use_one_thread
from sweeps.bundles import Advice

ADVISES_WITHIN_S = 600.0
WRITES_AGAIN_AFTER_S = (1.0, 3.0)
REPORTED = ("mem_acc", "true_label_acc", "clean_acc", "test_acc", "mia_auc", "seconds")
Report = Callable[[float], None]
Task = Mapping[str, Any]
Work = Callable[[Task, Report], Mapping[str, Any]]
"""What a worker does with a task: it may report the fraction done, and returns what Ray's users will see of it."""


class NotWrittenError(OSError):
    """The results folder has refused a record, which says nothing of its trial."""


def advise(trial: Trial, data_dir: str, device: str, members: int, backend: str, most_sharing: int) -> Advice:
    """How so many members of that kind train fastest on this process's device, which up to so many may share.

    A network that hangs takes the process with it, and its trials are then run one by one, each within its limit.
    """
    from study.data.load import load
    from study.speed import backend_choice

    use_one_thread()
    faulthandler.dump_traceback_later(ADVISES_WITHIN_S, exit=True)
    try:
        data = load(trial.dataset, Path(data_dir), trial.subset)
        choice = backend_choice.choose(
            trial, data.shape, data.classes, members, device, backend, sharing=most_sharing > 1
        )
    finally:
        faulthandler.cancel_dump_traceback_later()
    sharing = min(choice.workers or 1, most_sharing)
    return Advice(choice.members, sharing, f"{choice}, {sharing} to a device" if sharing > 1 else str(choice))


def run_and_record(task: Task, report: Report) -> Mapping[str, Any]:
    """Run a unit in a worker and write its shards; Ray's users see means over all of its members and over each trial's.

    A unit that takes long is kept in the results folder now and then, and goes on from there when it is tried again.
    """
    from study.run import run_together

    use_one_thread()
    os.environ.update(task["environment"])
    trials = [Trial.of(settings) for settings in task["trials"]]
    for trial, planned in zip(trials, task["ids"], strict=True):
        if trial.id != planned:
            raise BadInputError(f"the files of {trial.dataset} are not those that were planned with")
    results = Results(task["results"])
    checkpoints = results.checkpoints(task["sweep"])
    found = run_together(trials, Path(task["data_dir"]), task["device"], report, task["backend"], checkpoints)
    for trial, records in zip(trials, found, strict=True):
        if trial.id in task["recorded"]:
            for row in records.members:
                row["seconds"] /= task["sharing"]  # of the device, of which it had but a part
            write(results, task["sweep"], trial, vars(records))
    for trial in trials:
        checkpoints.drop(trial.id)
    recorded = {trial.id: _means(records.members) for trial, records in zip(trials, found, strict=True)}
    means = _means([row for records in found for row in records.members])
    return {**means, "trials": {trial: recorded[trial] for trial in task["recorded"]}}


def write(results: Results, sweep: str, trial: Trial, tables: Mapping[str, Any]) -> None:
    """Write a trial's shards in its worker, again if need be: to train it once more takes longer.

    Raises:
        NotWrittenError: the folder still refuses them.
    """
    for wait_s in (*WRITES_AGAIN_AFTER_S, None):
        try:
            results.write(sweep, trial.id, tables)
            return
        except OSError as error:
            if wait_s is None:
                raise NotWrittenError(str(error)) from error
            time.sleep(wait_s)


def _means(members: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    return {name: _mean([row.get(name) for row in members]) for name in REPORTED}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
