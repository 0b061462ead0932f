"""Ray Tune as a scheduler of trials. With `sweeps.tune`, which searches, and `sweeps.sinks` this is what imports Ray.

A launch is a flat list of tasks, one a trial or a bundle of small ones, given to as many reused workers as the machine
or the cluster carries.
Records are written by the workers; what comes back here is progress, and the reason where a task failed for good.
"""

import faulthandler
import gc
import logging
import math
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from study.worker import ENVIRONMENT, one_thread

# Ray reads most of these when it is imported, and its processes inherit them.
os.environ.update(
    {
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token"),
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        # Ctrl-C must reach this process, which stops the run and says how to go on.
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        # Ray's snapshots of the experiment are of no use to us: the records say what is done.
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        # Progress is reported without the objectives, which are known at the end.
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        **ENVIRONMENT,
    }
)

# Left to itself Ray would leave a token in a file that all users can read; one for a Ray of our own stays in memory.
if (
    not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    and not (Path.home() / ".ray" / "auth_token").is_file()
):
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.schedulers import FIFOScheduler

from study.errors import BadInputError
from study.record import Results
from study.trial import Trial
from sweeps.bundles import MEMBERS, SPEED, Advice, Bundle, Known, alike, bundled, halves, worth_bundling
from sweeps.ctrl_c import CTRL_C

MAX_FAILURES = 2
WORKER_DIED = "its worker process died: out of memory, a crash, or killed from outside"
LETS_GO_S = 5.0
"""What a process whose task is over time has to say so before it ends."""
ADVISES_WITHIN_S = 600.0
WRITES_AGAIN_AFTER_S = (1.0, 3.0)
REPORT_EVERY_S = 0.5
NEARLY_DONE = 0.999
AT_ONCE, AT_ONCE_EACH = 1000, 8
"""Tune keeps all that it knows of every task until the last one is done, so it is given so many at once, or so many a
worker where that is more: then few workers are left without a task while the last ones are finished."""
GROWS_WITHIN_S = 1800  # a cloud's node is started, has its image pulled and the project installed
REPORTED = ("mem_acc", "true_label_acc", "clean_acc", "test_acc", "mia_auc", "seconds")
STORE_ENVIRONMENT = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
)
"""What this process knows of an object store, and its workers on other machines need not."""
OBJECT_STORE_BYTES = 100 * 2**20  # nothing is kept there; the default would reserve a third of the memory

# Tune would hand these on through the workers' runtime environment, which Ray writes into its logs.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(STORE_ENVIRONMENT)

Report = Callable[[float], None]
Task = Mapping[str, Any]
Work = Callable[[Task, Report], Mapping[str, Any]]
"""What a worker does with a task: it may report the fraction done, and returns what Ray's users will see of it."""


class TaskError(RuntimeError):
    """What a task raised, as text: its class and its message in one line."""


class OverTimeError(Exception):
    """A task took longer than it was given."""


class NotWrittenError(OSError):
    """The results folder has refused a record, which says nothing of its trial."""


@dataclass(frozen=True)
class Cluster:
    """Where the workers are.

    Attributes:
        address: `local` for a Ray of one's own, `auto` or an address for a running cluster.
        workers: how many there are; None for one a core, or one a GPU. A running cluster may have fewer, none at all
            included, if it grows by itself.
        device: `cpu`, `cuda`, or `auto` for GPUs where there are any.
    """

    address: str = "local"
    workers: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Pool:
    """The workers of a connected cluster.

    Attributes:
        workers: how many there are: CPUs, or GPUs.
        device: what they compute on.
        asked: when they were asked for.
        each: the most tasks that may share one of them.
    """

    workers: int
    device: str
    asked: float
    each: int = 1


@dataclass
class Outcome:
    """What came of the tasks, by their position in the list.

    Attributes:
        results: what each finished task returned.
        errors: why each task failed that was tried in vain.
        early: those among them that Tune gave up before they had all their tries.
        interrupted: whether the user stopped the run.
        refused: why a record could not be written, which ended the run.
        began: when the first task was being worked on, as `time.time` has it.
        ended: when the last one was done.
    """

    results: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    early: set[int] = field(default_factory=set)
    interrupted: bool = False
    refused: str = ""
    began: float = math.inf
    ended: float = -math.inf

    @property
    def seconds(self) -> float:
        """From the begin of the first task until the end of the last one; 0 if none was done."""
        return max(0.0, self.ended - self.began)

    def startup_s(self, pool: Pool) -> float:
        """Seconds from asking for the workers until the first task was being worked on; 0 if none was done."""
        return self.began - pool.asked if self.ended >= self.began else 0.0

    def add(self, later: "Outcome") -> None:
        """Take over what came of later tasks; what each of them returned is in the records, and not kept."""
        self.interrupted |= later.interrupted
        self.began, self.ended = min(self.began, later.began), max(self.ended, later.ended)


@contextmanager
def connected(cluster: Cluster, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[Pool]:
    """The cluster's workers, let go afterwards.

    Args:
        cluster: where they are.
        on_wait: told that a cluster has none yet and is waited for, which may take minutes.

    Raises:
        BadInputError: the cluster can't be reached, or has no such device.
    """
    asked = time.time()
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Ray has no public switch for the raylet's own messages; what happens to a task is told by its outcome.
    ray._private.worker._worker_logs_enabled = False
    if cluster.address == "local":
        _check_device(cluster.device)
        settings: dict[str, Any] = {
            "num_cpus": cluster.workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    else:
        _check_reachable(cluster.address)
        # The processes of a Ray that was started by another are no children of this one.
        settings = {"runtime_env": {"env_vars": ENVIRONMENT}}
    try:
        ray.init(address=cluster.address, logging_level=logging.CRITICAL, log_to_driver=False, **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInputError(
            f"no Ray cluster at {cluster.address!r}: {str(error).strip().splitlines()[0]} "
            f"(RAY_AUTH_MODE is {os.environ['RAY_AUTH_MODE']}; a cluster with tokens wants its own in RAY_AUTH_TOKEN)."
        ) from None
    try:
        with CTRL_C:
            yield _pool(cluster, asked, on_wait)
    finally:
        # A second Ctrl-C would leave workers behind.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        ray.shutdown()
        signal.signal(signal.SIGINT, handler)


def _pool(cluster: Cluster, asked: float, on_wait: Callable[[str], None] = lambda _: None) -> Pool:
    grows = cluster.address != "local" and cluster.workers is not None and cluster.device != "auto"
    if grows and not _slots(cluster.device):
        on_wait(f"waiting for the first of {cluster.workers} {cluster.device} workers at {cluster.address!r} ...")
        _await_one(cluster)
    device = cluster.device if cluster.device != "auto" else "cuda" if _slots("cuda") else "cpu"
    slots = _slots(device)
    if not slots:
        hint = "" if cluster.address == "local" else "; one that grows is waited for with --workers and --device"
        raise BadInputError(f"there is no {device} for a worker at {cluster.address!r}{hint}.")
    # Each task on a GPU wants a core besides; and who has said how many workers a machine has is to have no more.
    each = max(1, _slots("cpu") // slots) if device == "cuda" and (cluster.workers is None or grows) else 1
    workers = cluster.workers or slots
    # Tune queues what the nodes of today don't carry, which is how a cluster learns that it has to grow.
    return Pool(workers if grows else min(slots, workers), device, asked, each)


def _slots(device: str) -> int:
    """How many workers the nodes of the cluster carry now."""
    return int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0))


def _await_one(cluster: Cluster) -> None:
    """Have a cluster without workers start one: it does so for tasks that nobody can run."""
    resources = {"num_gpus": 1} if cluster.device == "cuda" else {"num_cpus": 1}
    done, _ = ray.wait([ray.remote(**resources)(_nothing).remote()], timeout=GROWS_WITHIN_S)
    if not done:
        raise BadInputError(
            f"no {cluster.device} worker came to {cluster.address!r} within {GROWS_WITHIN_S / 60:.0f} minutes; "
            "`ray status` says what the cluster waits for."
        )


def _nothing() -> None:
    """Done as soon as there is a worker to do it."""


def _check_device(device: str) -> None:
    """Ask torch before Ray is started to find the same; who asks for no GPU does without torch and its memory."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise BadInputError("there is no cuda device here; --device cpu always works.")


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes, and fills the terminal, before it gives up on an address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise BadInputError(f"no Ray cluster at {address!r}: {error.strerror or error}.") from None


def run_trials(
    trials: Sequence[Trial],
    sweep: str,
    results: Results,
    data_dir: Path,
    pool: Pool,
    on_progress: Report,
    backend: str = "auto",
    planned: Sequence[Trial] = (),
    on_choice: Callable[[Trial, str], None] = lambda *_: None,
    callbacks: Sequence[tune.Callback] = (),
    time_limit: float | None = None,
    known: Known | None = None,
) -> Outcome:
    """Run the trials and have their workers write the records; a trial that can't be run is recorded as failed.

    A bundle that fails is tried again in halves, or as it is where its worker died and left a checkpoint, and a trial
    whose worker dies, as it does where memory runs out, at last member by member. What is recorded by then stays.

    Which trials train side by side depends on all that is planned, not on what of it is missing: a sweep that was
    stopped thus ends with the numbers of one that was not.

    Args:
        trials: what to run.
        sweep: the sweep under which to record.
        results: where.
        data_dir: where torchvision's datasets lie, on every node.
        pool: the workers.
        on_progress: told the fraction of all the training that is done and need not be done again.
        backend: how members train side by side, or `auto`.
        planned: all trials of the plan that these belong to; by default these alone.
        on_choice: told how members train side by side, for a trial of each kind of which a worker was asked.
        callbacks: what Tune is to call besides; at its end they are told whether it was `interrupted`.
        time_limit: seconds that a try of a trial may take; a bundle may take the sum of its trials'.
        known: how kinds of trials train fastest on such workers, who are then not asked.

    Raises:
        OSError: records could not be written; their trials are missing, and none is begun any more.
    """
    whole, told = Outcome(), 0.0
    asked = {trial.cell: trial for trial in trials}
    # Of a cell that has got more seeds, only those are run.
    whole_plan = [asked.get(trial.cell, trial) for trial in planned or trials]
    units = in_units(whole_plan, data_dir, pool, backend, frozenset(asked), on_choice, known or {})
    total = left = sum(unit.work for unit in units)
    underway = 0.0

    def advance(fraction: float) -> None:
        # A task that is tried again starts from nothing.
        nonlocal told
        told = max(told, (total - left + fraction * underway) / total)
        # Once trained, a trial is still to be recorded.
        on_progress(min(told, NEARLY_DONE))

    # Tune's own account is a convenience; a store that refuses it now and then must not end a run.
    storage = results.below(sweep, "ray") if results.is_local else None
    common = {
        "sweep": sweep,
        "results": results.location,
        "data_dir": str(data_dir.absolute()),
        "environment": {} if results.is_local else _of_store(),
    }
    at_once = max(AT_ONCE, AT_ONCE_EACH * pool.workers)
    while units and not whole.interrupted:
        wave, later = units[:at_once], units[at_once:]
        underway = sum(unit.work for unit in wave)
        tasks = [_task(unit, time_limit) for unit in wave]
        # A bundle is taken apart rather than tried again as it is.
        tries = MAX_FAILURES if all(len(unit.trials) == 1 for unit in wave) else 0
        shared, work = [unit.sharing for unit in wave], [unit.work for unit in wave]
        outcome = schedule(tasks, run_and_record, pool, advance, work, storage, tries, shared, common, callbacks)
        whole.add(outcome)
        with written(outcome, results):
            units = [*later, *_again(wave, outcome, tries, sweep, results)]
        left = sum(unit.work for unit in units)
    if not whole.interrupted:
        on_progress(1.0)
    return whole


@contextmanager
def written(outcome: Outcome, results: Results) -> Iterator[None]:
    """Where more is recorded of an outcome whose records could be written.

    Raises:
        OSError: they could not, or no more can.
    """
    try:
        if outcome.refused:
            raise OSError(outcome.refused)
        yield
    except OSError as error:
        raise OSError(
            f"records could not be written to {results}: {str(error).rstrip('.')}; "
            "none is half-written, and once they can be the same command goes on where it was."
        ) from None


@dataclass(frozen=True)
class _Unit:
    """What goes to a worker at once.

    Attributes:
        trials: whose members train side by side.
        cells: those to be recorded.
        backend: how members are to train.
        sharing: how many such units share a device.
        again: how often it was tried again as it is.
    """

    trials: Bundle
    cells: frozenset[str]
    backend: str
    sharing: int = 1
    again: int = 0

    @property
    def recorded(self) -> Bundle:
        """Its trials that are to be recorded."""
        return tuple(trial for trial in self.trials if trial.cell in self.cells)

    @property
    def work(self) -> float:
        """The epochs of all its members."""
        return sum(len(trial.members) * trial.epochs for trial in self.trials)


def in_units(
    trials: Sequence[Trial],
    data_dir: Path,
    pool: Pool,
    backend: str,
    cells: frozenset[str],
    on_choice: Callable[[Trial, str], None],
    known: Known,
) -> list[_Unit]:
    """The trials that have one of the cells, bundled where one alone has fewer members than pay on the device."""
    share = -(-len(trials) // pool.workers)
    # Asked of the workers: this machine may have another device than theirs.
    resources = {"num_gpus": 1} if pool.device == "cuda" else {"num_cpus": 1}
    ask = ray.remote(**resources, max_retries=0)(advise).remote
    groups = [group for group in alike(trials) if _any_of(group, cells)]
    asked, told = {}, {}
    for group in groups:
        several = worth_bundling(group, share, pool.device, backend)
        if several and (kind := group[0].values(SPEED)) in known:
            told[group] = known[kind]
        elif several or pool.device == "cuda":
            members = MEMBERS[pool.device] if several else len(group[0].members)
            # Where each task has a device of its own, nobody need know how many it could carry.
            most_sharing = min(pool.each, share)
            asked[group] = ask(group[0], str(data_dir.absolute()), pool.device, members, backend, most_sharing)
    units = []
    for group in groups:
        advice = told.get(group) or _answer(asked.get(group))
        if advice.choice:
            on_choice(group[0], advice.choice)
        share = -(-len(trials) // (pool.workers * advice.sharing))
        bundles = bundled(group, advice.members, share)
        units += [_Unit(bundle, cells, backend, advice.sharing) for bundle in bundles if _any_of(bundle, cells)]
    return units


def _any_of(trials: Bundle, cells: Collection[str]) -> bool:
    return any(trial.cell in cells for trial in trials)


def sharing(trial: Trial, data_dir: Path, pool: Pool, backend: str) -> int:
    """How many tasks like that trial are to share a worker's device."""
    if pool.each == 1:
        return 1
    ask = ray.remote(num_gpus=1, max_retries=0)(advise).remote
    return _answer(ask(trial, str(data_dir.absolute()), pool.device, len(trial.members), backend, pool.each)).sharing


def _answer(asked: Any) -> Advice:
    """What a worker said; one by one where it was not asked or failed, as the trial itself will."""
    try:
        return Advice() if asked is None else ray.get(asked)
    except ray.exceptions.RayError:
        return Advice()


def advise(trial: Trial, data_dir: str, device: str, members: int, backend: str, most_sharing: int) -> Advice:
    """How so many members of that kind train fastest on this process's device, which up to so many may share.

    A network that hangs takes the process with it, and its trials are then run one by one, each within its limit.
    """
    from study import tuner
    from study.data import load

    one_thread()
    faulthandler.dump_traceback_later(ADVISES_WITHIN_S, exit=True)
    try:
        data = load(trial.dataset, Path(data_dir), trial.subset)
        choice = tuner.choose(trial, data.shape, data.classes, members, device, backend, sharing=most_sharing > 1)
    finally:
        faulthandler.cancel_dump_traceback_later()
    sharing = min(choice.workers or 1, most_sharing)
    return Advice(choice.members, sharing, f"{choice}, {sharing} to a device" if sharing > 1 else str(choice))


def _of_store() -> dict[str, str]:
    return {name: os.environ[name] for name in STORE_ENVIRONMENT if name in os.environ}


def _task(unit: _Unit, time_limit: float | None) -> Task:
    """The unit as JSON-like values, which is what Tune's users see of it."""
    return {
        "trials": [trial.settings() for trial in unit.trials],
        "ids": [trial.id for trial in unit.trials],
        "recorded": [trial.id for trial in unit.recorded],
        "backend": unit.backend,
        "sharing": unit.sharing,
        "time_limit": time_limit and time_limit * len(unit.trials),
    }


def _again(units: Sequence[_Unit], outcome: Outcome, tries: int, sweep: str, results: Results) -> Iterator[_Unit]:
    """What of the failed units is worth another try, with a device to itself; the rest is recorded as failed."""
    for position, error in outcome.errors.items():
        unit = units[position]
        # A task may fail with some of its records written, or all of them; those are good.
        left = frozenset(trial.cell for trial in unit.recorded if not results.ran(sweep, trial.id))
        if not left:
            continue
        if unit.again < MAX_FAILURES and (
            position in outcome.early or (error == WORKER_DIED and _kept(unit, sweep, results))
        ):
            yield replace(unit, cells=left, again=unit.again + 1)
        elif len(unit.trials) > 1:
            parts = (_Unit(half, left, unit.backend) for half in halves(unit.trials))
            yield from (part for part in parts if part.recorded)
        elif tries < MAX_FAILURES or unit.sharing > 1:
            yield _Unit(unit.trials, left, unit.backend)
        elif error == WORKER_DIED and unit.backend != "single" and len(unit.trials[0].members) > 1:
            yield _Unit(unit.trials, left, "single")
        else:
            from study.rows import failed

            (trial,) = unit.trials
            results.write(sweep, trial.id, vars(failed(trial, error)))


def _kept(unit: _Unit, sweep: str, results: Results) -> bool:
    """Whether a bundle has a checkpoint, which its halves would have no use for; Tune has tried others again."""
    checkpoints = results.checkpoints(sweep)
    return len(unit.trials) > 1 and any(checkpoints.holds(trial.id) for trial in unit.trials)


def run_and_record(task: Task, report: Report) -> Mapping[str, Any]:
    """Run a unit in a worker and write its shards; Ray's users see means over all of its members and over each trial's.

    A unit that takes long is kept in the results folder now and then, and goes on from there when it is tried again.
    """
    from study.run import run_together

    one_thread()
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


def schedule(
    tasks: Sequence[Task],
    work: Work,
    pool: Pool,
    on_progress: Report,
    weights: Sequence[float] | None = None,
    storage: str | None = None,
    tries: int | None = None,
    sharing: Sequence[int] | None = None,
    common: Task | None = None,
    callbacks: Sequence[tune.Callback] = (),
) -> Outcome:
    """Give the tasks to reused workers until each is done or has failed for good.

    Args:
        tasks: JSON-like mappings; the worker's device is added to each as `device`. A try of one that has a
            `time_limit` fails after so many seconds, and the worker's process ends.
        work: a function of a module that the workers can import.
        pool: the workers.
        on_progress: told the weighted fraction of the work that is done; what has failed is not.
        weights: how much work each task is; all the same by default.
        storage: where Tune keeps its own account of the experiment, a folder or URI that all nodes see; by default
            it is thrown away.
        tries: how often a task that fails is tried again; `MAX_FAILURES` by default.
        sharing: how many tasks like it share a worker's device, for each; 1 by default.
        common: what all tasks have beside their own. It goes from memory to memory alone, for it may have credentials,
            and Tune writes down what each task has of its own.
        callbacks: what Tune is to call besides; at its end they are told whether it was `interrupted`.
    """
    sharing = sharing or [1] * len(tasks)
    given = [{**task, "device": pool.device, "task": position} for position, task in enumerate(tasks)]
    return _fit(
        _trainable(work, ray.put(dict(common or {}))),
        {"task": tune.grid_search(given)},
        pool,
        _Tracker(weights or [1.0] * len(tasks), on_progress),
        callbacks,
        sharing,
        MAX_FAILURES if tries is None else tries,
        storage,
    )


def search(
    searcher: Any,
    count: int,
    work: Work,
    pool: Pool,
    on_progress: Report,
    storage: str | None = None,
    sharing: int = 1,
    callbacks: Sequence[tune.Callback] = (),
) -> Outcome:
    """Give reused workers tasks that a searcher suggests one by one, and the searcher what came of them.

    Args:
        searcher: one of Tune's, with objectives and directions of its own: Tune's configuration names none, for it
            would take the place of them all. Each suggestion has a `task`, with the worker's `device` and the
            position of the `task` among all suggested.
        count: how many tasks to ask for.
        work: as in `schedule`; what it returns has the objectives.
        pool: the workers.
        on_progress: told the fraction of the work that is done; what has failed is not.
        storage: as in `schedule`.
        sharing: how many tasks share a worker's device.
        callbacks: what Tune is to call besides; at its end they are told whether it was `interrupted`.
    """
    tracker = _Tracker([1.0] * count, on_progress)
    trainable, shared = _trainable(work, ray.put({})), [sharing] * count
    return _fit(trainable, {}, pool, tracker, callbacks, shared, MAX_FAILURES, storage, searcher, count)


def _fit(
    trainable: Callable[[dict[str, Any]], None],
    space: Mapping[str, Any],
    pool: Pool,
    tracker: "_Tracker",
    callbacks: Sequence[tune.Callback],
    sharing: Sequence[int],
    tries: int,
    storage: str | None,
    searcher: Any = None,
    count: int = 1,
) -> Outcome:
    """Have Tune carry out the tasks of a space, or so many of a searcher's."""
    device = "GPU" if pool.device == "cuda" else "CPU"

    def part_of_device(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{device: 1 / sharing[config["task"]["task"]]}])

    with nullcontext(storage) if storage else tempfile.TemporaryDirectory(prefix="normleak-") as kept_in:
        tuner = tune.Tuner(
            tune.with_resources(trainable, part_of_device),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=count,
                scheduler=_KeepStartingWorkers(),
                reuse_actors=True,
                # Without a limit Tune places few trials ahead and can leave workers without one.
                max_concurrent_trials=pool.workers * max(sharing),
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}",
                storage_path=kept_in,
                verbose=0,
                callbacks=[tracker, *callbacks],
                failure_config=tune.FailureConfig(max_failures=tries),
                stop=_Stopper(tracker.outcome),
            ),
        )
        try:
            tuner.fit()
        except KeyboardInterrupt:
            CTRL_C.heard()
            tracker.outcome.interrupted = True
            for callback in callbacks:
                callback.on_experiment_end(trials=[], interrupted=True)
    outcome = tracker.outcome
    times = [(result["began"], result["ended"]) for result in outcome.results.values()]
    if times:
        outcome.began, outcome.ended = min(began for began, _ in times), max(ended for _, ended in times)
    return outcome


def _trainable(work: Work, common: Any) -> Callable[[dict[str, Any]], None]:
    """The work as Tune calls it in a worker, reporting at most twice a second and cleaning up after each task.

    Args:
        work: what is done with a task.
        common: a reference to what all tasks have.
    """

    def trainable(config: dict[str, Any]) -> None:
        began = last = time.time()

        def report(fraction: float) -> None:
            nonlocal last
            if time.time() - last >= REPORT_EVERY_S:
                last = time.time()
                tune.report({"fraction": fraction})

        def attempt() -> Mapping[str, Any]:
            try:
                return work({**ray.get(common), **config["task"]}, report)
            finally:
                _clean_up()

        try:
            result = dict(_within(config["task"].get("time_limit"), attempt))
        except Exception as error:
            # Tune rebuilds exceptions from their text, which not every class survives.
            raise TaskError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
        times = {"began": began, "ended": time.time()}
        tune.report({"fraction": 1.0, "result": {**result, **times}, **result, "done": True})

    return trainable


def _within(seconds: float | None, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the work comes to; if it is not done in time, this process ends soon, for no thread of it can be ended.

    Raises:
        OverTimeError: it is not.
    """
    if not seconds:
        return work()
    import study.run  # noqa: F401 - in a new process this takes longer than a small trial, and is not its fault

    done: Future[Mapping[str, Any]] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    # Its watch is no thread of Python's, which compiled code that hangs may keep from running.
    faulthandler.dump_traceback_later(seconds + LETS_GO_S, exit=True)
    threading.Thread(target=run, daemon=True).start()
    if not wait([done], seconds).done:
        raise OverTimeError(f"it took longer than its limit of {seconds:g} s")
    faulthandler.cancel_dump_traceback_later()
    return done.result()


def _clean_up() -> None:
    """Leave nothing on a GPU to the next task of the same process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()  # a tenth of a second, and without a GPU of no use
        torch.cuda.empty_cache()


class _KeepStartingWorkers(FIFOScheduler):  # type: ignore[misc]
    """First in, first out, but a worker that is still starting keeps the trial that it was started for.

    Tune's own scheduler moves that trial to a worker that has just become free and throws the starting one away, so
    that after the loss of a worker short trials run on one worker fewer until the end.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        return None


class _Stopper(tune.Stopper):  # type: ignore[misc]
    """Ends the run once records could not be written: what is trained from then on would be lost."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self._outcome.refused)


class _Tracker(tune.Callback):  # type: ignore[misc]
    """Hears of every report, end and failure of Tune's trials."""

    def __init__(self, weights: Sequence[float], on_progress: Report) -> None:
        self.outcome = Outcome()
        self._weights, self._fractions, self._on_progress = weights, [0.0] * len(weights), on_progress

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks to restore an experiment, which the records do for us."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._advance(trial, result.get("fraction", 0.0))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.outcome.results[_position(trial)] = trial.last_result["result"]
        self._advance(trial, 1.0)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.outcome.refused = self.outcome.refused or _refused(_reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.outcome.errors[_position(trial)] = reason = _reason(trial)
        self.outcome.refused = self.outcome.refused or _refused(reason)
        # Of a worker that dies while it is made ready for a trial, Tune hears twice, and takes the second for the last.
        if trial.run_metadata.num_failures <= trial.max_failures:
            self.outcome.early.add(_position(trial))
        self._advance(trial, 0.0)

    def _advance(self, trial: Any, fraction: float) -> None:
        self._fractions[_position(trial)] = fraction
        done = sum(weight * part for weight, part in zip(self._weights, self._fractions, strict=True))
        self._on_progress(done / sum(self._weights))


def _position(trial: Any) -> int:
    return int(trial.config["task"]["task"])


def _reason(trial: Any) -> str:
    """Why the last try failed, in one line."""
    # `trial.get_error()` reads a copy that is not there yet while callbacks run.
    path = Path(trial.error_file or "")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []
    if not lines:
        return "it failed without a message"
    if any("actor died" in line or "actor is dead" in line for line in lines[-8:]):
        return WORKER_DIED
    return lines[-1].rpartition(f"{TaskError.__name__}: ")[2]


def _means(members: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    return {name: _mean([row.get(name) for row in members]) for name in REPORTED}


def _refused(reason: str) -> str:
    """What the results folder said, if that was the reason."""
    return reason.partition(f"{NotWrittenError.__name__}: ")[2]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
