"""Estimate what trials will take: timed on this machine, read off earlier records, or counted in operations."""

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from study import worker
from study.data import folders
from study.data.catalog import DATASETS
from study.networks.catalog import NETWORKS
from study.record.results import Results
from study.settings import Stage, names_where
from study.trial import Trial
from sweeps.bundles import MEMBERS, SPEED, Packing, Packings, packable_groups, worth_bundling

MOST_KINDS = 12
"""The most kinds of trials that are each timed before a launch."""
CORRUPTION = names_where(lambda setting: setting.stage in (Stage.DATA, Stage.CORRUPTION))
"""The settings that decide whether the dataset can be corrupted so."""
COARSE = ("dataset", "subset", "architecture")
"""The settings that decide most of the seconds of a step, where there are too many kinds to time each."""
SIZE = names_where(lambda setting: setting.stage is Stage.DATA)
"""The settings that decide how many samples there are."""
REGULARIZED = ("regularizer", *names_where(lambda setting: setting.stage is Stage.NETWORK))
"""The settings that decide whether the network can be regularized so."""
ALIKE = names_where(lambda setting: setting.decides_duration)
"""The settings in which a record must equal a trial to tell how long that will take."""
TERAFLOPS = 10.0
"""The sustained speed at which operations are turned into hours, unless the user gives another."""


@dataclass(frozen=True)
class Estimate:
    """Device-hours of a list of trials, and where they come from.

    Attributes:
        hours: the sum over the trials that can be estimated.
        unknown: how many can't: their dataset or network is the user's own, and no record is like them.
        source: where the hours come from, in words.
    """

    hours: float
    unknown: int
    source: str


@dataclass(frozen=True)
class Timing:
    """What trials would take one after the other on one single-threaded worker of this machine.

    Attributes:
        seconds: the sum over all trials.
        workers: how many workers there will be.
        choices: how members train side by side, in words, with a trial of each kind.
        packings: the same for the launch, of the kinds that are worth a bundle.
    """

    seconds: float
    workers: int
    choices: Sequence[tuple[Trial, str]]
    packings: Packings


def check_and_time(
    trials: Sequence[Trial],
    data_dir: str,
    device: str | None = "cpu",
    backend: str = "auto",
    workers: int | None = None,
    planned: Sequence[Trial] = (),
) -> Timing | None:
    """Check that the trials can be run, before any is, and time what they would take on this machine.

    Every dataset is read, so that one that is missing or can't be corrupted so is refused. So is a network that can't
    be regularized. Then each kind of network among them is trained for a moment to choose its backend, and the workers
    find that choice in the cache. Where there are very many kinds, one stands for all of its dataset and architecture.

    All of it is done in a process like a worker's, for torch takes half a GB that the launcher need not have.

    Args:
        trials: what is to be run.
        data_dir: where torchvision's datasets lie, as a path or URI.
        device: what they are to be trained on here, `auto` for a GPU where there is one; None if they train elsewhere.
        backend: how members are to train side by side.
        workers: how many workers there will be; None for one a core.
        planned: all trials of the plan that these belong to, by which they are bundled; these alone by default.

    Returns:
        What was timed; None where the trials are to be trained on a GPU, or elsewhere.

    Raises:
        BadInputError: a dataset can't be had, the settings don't fit it or the network, or the backend can't express
            a network.
    """
    checked = {
        trial.values(CORRUPTION if trial.regularizer == "none" else CORRUPTION + REGULARIZED): trial for trial in trials
    }
    names = SPEED if len({trial.values(SPEED) for trial in trials}) <= MOST_KINDS else COARSE
    planned, cells = planned or trials, {trial.cell for trial in trials}
    workers = workers or len(os.sched_getaffinity(0))
    kinds: dict[tuple[object, ...], tuple[Trial, int]] = {}
    bundles: dict[tuple[object, ...], bool] = {}
    for group in packable_groups(planned):
        if any(trial.cell in cells for trial in group):
            several = worth_bundling(group, -(-len(planned) // workers), "cpu", backend)
            kind = group[0].values(names)
            kinds[kind] = group[0], MEMBERS["cpu"] if several else len(group[0].members)
            bundles[kind] = several and names == SPEED
    work = (list(checked.values()), list(kinds.values()), data_dir, device, backend)
    with worker.start_processes(worker.ENVIRONMENT, 1, _check_and_time, *work) as (process,):
        timed: _KindTimings | None = process.result()
    if timed is None:
        return None
    per_sample = dict(zip(kinds, timed.seconds, strict=True))
    seconds = sum(_passes(trial, timed.sizes[trial.values(SIZE)]) * per_sample[trial.values(names)] for trial in trials)
    choices = [(trial, packing.choice) for (trial, _), packing in zip(kinds.values(), timed.packings, strict=True)]
    packings = {kind: packing for kind, packing in zip(kinds, timed.packings, strict=True) if bundles[kind]}
    return Timing(seconds, workers, choices, packings)


@dataclass(frozen=True)
class _KindTimings:
    """What a process timed, as values that this one can read without torch.

    Attributes:
        sizes: how many samples there are for training, test and validation, by `SIZE`.
        seconds: what a sample takes, for each kind of trial.
        packings: how each kind trains fastest.
    """

    sizes: Mapping[tuple[object, ...], tuple[int, int, int]]
    seconds: Sequence[float]
    packings: Sequence[Packing]


def _check_and_time(
    checked: Sequence[Trial], kinds: Sequence[tuple[Trial, int]], data_dir: str, device: str | None, backend: str
) -> _KindTimings | None:
    """Do the work of `check_and_time` in a process of its own; `kinds` has how many members each is to have."""
    import torch

    from study.data.load import load
    from study.run import check
    from study.speed import backend_choice

    for trial in checked:
        check(trial, data_dir)
    if device is None or device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        return None
    worker.use_one_thread()
    sizes: dict[tuple[object, ...], tuple[int, int, int]] = {}
    choices = []
    for trial in checked:
        data = load(trial.dataset, data_dir, trial.subset, trial.validation)
        sizes[trial.values(SIZE)] = len(data.train), len(data.test), len(data.validation)
    for trial, members in kinds:
        data = load(trial.dataset, data_dir, trial.subset)
        choices.append(backend_choice.choose(trial, data.shape, data.classes, members, "cpu", backend))
    packings = [Packing(choice.members, choice=str(choice)) for choice in choices]
    return _KindTimings(sizes, [choice.seconds for choice in choices], packings)


def _passes(trial: Trial, sizes: tuple[int, int, int]) -> float:
    """Count the samples that all members are trained on; those that are only measured count a third."""
    clean, test, validation = sizes
    train = clean * (1 + trial.k * (trial.corruption == "ood"))
    points = -(-trial.epochs // trial.eval_every)
    return len(trial.members) * (trial.epochs * _share(trial) * train + points * (train + test + validation) / 3)


def _share(trial: Trial) -> float:
    """Return the share of D' that a member is trained on."""
    return 0.5 if trial.protocol == "splits" else 1.0


def device_hours(trials: Sequence[Trial], durations: "Durations", teraflops: float) -> Estimate:
    """Estimate from durations of similar trials where there are records, else from operations at a sustained speed."""
    seconds = [device_seconds(trial, durations, teraflops) for trial in trials]
    known = [value for value in seconds if value is not None]
    if durations.device is None:
        source = f"counted operations at {teraflops:g} teraflop/s sustained"
    else:
        source = f"measured durations on {durations.device}"
    return Estimate(sum(known) / 3600, len(seconds) - len(known), source)


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Return when the last trial is done if each worker takes the next one in line as soon as it is free.

    Args:
        seconds: what each trial takes, in the order in which they are launched.
        workers: how many trials run at once.

    Returns:
        Seconds from the start.
    """
    free_at = [0.0] * workers
    for trial_seconds in seconds:
        heapq.heappushpop(free_at, free_at[0] + trial_seconds)
    return max(free_at)


def device_seconds(trial: Trial, durations: "Durations", teraflops: float) -> float | None:
    """Return the seconds that a trial takes on a device; None if that is unknown."""
    if durations.device is not None:
        return durations.seconds(trial)
    operations = flops(trial)
    return None if operations is None else operations / (teraflops * 1e12)


@dataclass(frozen=True)
class Durations:
    """What recorded members took on one device.

    Attributes:
        device: the device; None where nothing is recorded.
        epoch_seconds: the median seconds of an epoch, by the values of `ALIKE`.
    """

    device: str | None
    epoch_seconds: Mapping[tuple[object, ...], float]

    @classmethod
    def recorded(cls, results: Results) -> "Durations":
        """Read them off all members of a results folder that ran on the device most of them ran on."""
        rows = list(_durations(results))
        if not rows:
            return cls(None, {})
        device = Counter(row["device"] for row in rows).most_common(1)[0][0]
        by_kind: dict[tuple[object, ...], list[float]] = {}
        for row in rows:
            if row["device"] == device:
                by_kind.setdefault(tuple(row[name] for name in ALIKE), []).append(row["seconds"] / row["epochs"])
        return cls(device, {kind: median(seconds) for kind, seconds in by_kind.items()})

    def seconds(self, trial: Trial) -> float | None:
        """Return the seconds that the trial will take on such a device; None if nothing like it was recorded."""
        kind = (folders.identity(trial.dataset), *trial.values(ALIKE[1:]))
        per_epoch = self.epoch_seconds.get(kind)
        return None if per_epoch is None else per_epoch * trial.epochs * len(trial.members)


def _durations(results: Results) -> Iterable[dict[str, Any]]:
    if not results.exists():
        return
    for sweep in results.sweeps():
        columns = [*ALIKE, "epochs", "device", "seconds", "status"]
        for row in results.read(sweep, "members", columns).to_pylist():
            if row["status"] == "ok":
                yield row


def flops(trial: Trial) -> float | None:
    """Return the floating-point operations of a trial: three forward passes for a training step, one for a measurement.

    None where they were not counted: the dataset or the network is the user's, or its images have a size of their own.
    """
    dataset, network = DATASETS.get(trial.dataset), NETWORKS.get(trial.architecture)
    if dataset is None or network is None:
        return None
    forward = network.operations_for(dataset.shape, dataset.classes)
    if forward is None:
        return None
    samples = trial.subset or dataset.train
    train = samples - round(trial.validation * samples)
    evaluations = -(-trial.epochs // trial.eval_every)
    passes = 3 * trial.epochs * _share(trial) * train + evaluations * (samples + dataset.test)
    return len(trial.members) * passes * forward
