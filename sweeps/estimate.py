"""Estimate what trials will take: timed on this machine, read off earlier records, or counted in operations.

Before a launch the trials are timed. A plan times nothing: it takes what is known already, and says where that is from.
"""

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from study import perturbations, worker
from study.data import folders
from study.data.catalog import DATASETS, DatasetInfo
from study.networks.catalog import NETWORKS
from study.networks.published import PUBLISHED
from study.record.provenance import device_name
from study.record.results import Results
from study.setting import Stage
from study.settings import names_where
from study.speed import timings
from study.storage.cache import cache_folder
from study.trial import Trial
from sweeps.bundles import (
    MOST_MEMBERS,
    SPEED,
    Bundle,
    Kinds,
    member_counts,
    member_epochs,
    packable_groups,
    worth_bundling,
)

MOST_KINDS = 12
"""The most kinds of trials that are each timed before a launch."""
CORRUPTION = names_where(lambda setting: setting.stage in (Stage.DATA, Stage.CORRUPTION))
"""The settings that decide whether the dataset can be corrupted so."""
COARSE = ("dataset", "subset", "resize", "architecture", "hidden_layers")
"""The settings that decide most of the seconds of a step, where there are too many kinds to time each."""
SIZE = names_where(lambda setting: setting.stage is Stage.DATA)
"""The settings that decide how many samples there are."""
REGULARIZED = ("regularizer", *names_where(lambda setting: setting.stage is Stage.NETWORK))
"""The settings that decide whether the network can be regularized so."""
OWN_NETWORK = ("batch_size", "samples", "mechanism", *REGULARIZED)
"""The settings that decide what a network of the user's is tried for."""
START_UP_S = 15.0
"""How long Ray and its workers are assumed to take to start, where no launch has measured it."""
ALIKE = names_where(lambda setting: setting.decides_duration)
"""The settings in which a record must equal a trial to tell how long that will take."""
TERAFLOPS = {"cuda": 10.0, "cpu": 0.1}
"""The sustained speed of a GPU and of a CPU's core at which operations are turned into time, unless the user gives one.

A core of a server's CPU trains packs of LeNets, and single larger networks, at .04 to .17 teraflop/s.
"""
MECHANISM_PASSES = 1250
"""What an epoch costs at which the mechanism is measured, in samples trained on; `python -m study bench` times it."""
AT_MOST = "at most, for training ends where a network has converged"
"""What is said of an estimate that counts all epochs of a trial which may have fewer."""


@dataclass(frozen=True)
class Timing:
    """What trials would take one after the other on one single-threaded worker of this machine.

    Attributes:
        seconds: the sum over all trials.
        workers: how many workers there will be.
        choices: how members train side by side, in words, with a trial of each kind.
        kinds: what they were found by, unless one kind stands for several.
    """

    seconds: float
    workers: int
    choices: Sequence[tuple[Trial, str]]
    kinds: Kinds


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
    be regularized, or one of the user's that is unfit. Then each kind of network among them is trained for a moment to
    choose its backend, and the workers find that choice in the cache. Where there are very many kinds, one stands for
    all of its dataset and architecture.

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
    checked = {trial.values(CORRUPTION + _network_settings(trial)): trial for trial in trials}
    names = SPEED if len({trial.values(SPEED) for trial in trials}) <= MOST_KINDS else COARSE
    planned, cells = planned or trials, {trial.cell for trial in trials}
    workers = workers or cores()
    kinds: dict[tuple[object, ...], tuple[Trial, int]] = {}
    for group, members in _groups_by_pack(planned, workers, backend):
        if any(trial.cell in cells for trial in group):
            kind = group[0].values(names)
            kinds[kind] = group[0], members
    epochs, counts, share = member_epochs(trials), member_counts(planned), -(-len(planned) // workers)
    of_kinds = [
        (trial, min(members, counts[trial.values(SPEED)], share * len(trial.members)), epochs[trial.values(SPEED)])
        for trial, members in kinds.values()
    ]
    work = (list(checked.values()), of_kinds, data_dir, device, backend)
    with worker.start_processes(worker.ENVIRONMENT, 1, _check_and_time, *work) as (process,):
        timed: _KindTimings | None = process.result()
    if timed is None:
        return None
    per_sample = dict(zip(kinds, timed.seconds, strict=True))
    seconds = sum(_passes(trial, timed.sizes[trial.values(SIZE)]) * per_sample[trial.values(names)] for trial in trials)
    choices = [
        (trial, str(timings.fastest(each.choices, members)))
        for (trial, members), each in zip(kinds.values(), timed.kinds, strict=True)
    ]
    return Timing(seconds, workers, choices, dict(zip(kinds, timed.kinds, strict=True)) if names == SPEED else {})


def _network_settings(trial: Trial) -> tuple[str, ...]:
    """Return the settings that decide whether its network is fit for the trial."""
    if trial.architecture not in NETWORKS:
        return OWN_NETWORK
    return () if trial.regularizer == "none" else REGULARIZED


def _groups_by_pack(planned: Sequence[Trial], workers: int | None, backend: str) -> Iterable[tuple[Bundle, int]]:
    """Yield the groups that can train side by side on CPUs, and how many members a worker is given of each."""
    for group in packable_groups(planned):
        several = worth_bundling(group, -(-len(planned) // (workers or cores())), backend)
        yield group, MOST_MEMBERS if several else len(group[0].members)


def cores() -> int:
    """Return how many cores this process may use, which is how many workers a launch has unless told otherwise."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class _KindTimings:
    """What a process timed, as values that this one can read without torch.

    Attributes:
        sizes: how many samples there are for training, test and validation, by `SIZE`.
        seconds: what a sample takes, for each kind of trial.
        kinds: the times of each kind of trial.
    """

    sizes: Mapping[tuple[object, ...], tuple[int, int, int]]
    seconds: Sequence[float]
    kinds: Sequence[timings.Timed]


def _check_and_time(
    checked: Sequence[Trial], kinds: Sequence[tuple[Trial, int, int]], data_dir: str, device: str | None, backend: str
) -> _KindTimings | None:
    """Do the work of `check_and_time` in a process of its own.

    `kinds` has a trial of each, how many members are to train side by side, and the epochs of all members of the kind.
    """
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
    seconds, timed = [], []
    for trial in checked:
        data = load(trial.dataset, data_dir, trial.subset, trial.validation, trial.resize, trial.test_images)
        sizes[trial.values(SIZE)] = len(data.train), len(data.test), len(data.validation)
    for trial, members, epochs in kinds:
        data = load(trial.dataset, data_dir, trial.subset, resize=trial.resize, test_images=trial.test_images)
        kind = trial, data.shape, data.classes
        work = epochs * len(data.train)
        choices = backend_choice.timed(*kind, members, "cpu", backend, again=True, work=work)
        seconds.append(timings.fastest(choices, members).seconds)
        timed.append(timings.Timed(backend_choice.key_here(*kind, "cpu", backend), tuple(choices)))
    return _KindTimings(sizes, seconds, timed)


def _passes(trial: Trial, sizes: tuple[int, int, int]) -> float:
    """Count the samples that all members are trained on at most; those that are only measured count a third."""
    clean, test, validation = sizes
    train = clean * (1 + trial.k * (trial.corruption == "ood"))
    points = max(1, -(-trial.epochs // trial.eval_every))  # a network that isn't trained is measured once
    mechanism = min(trial.mechanism, trial.epochs + 1) * MECHANISM_PASSES
    networks = 2 if trial.source != "none" else 1  # a source is trained as well
    training = networks * trial.epochs * _share(trial) * train
    # Of a folder it isn't known here whether its images are in colour, which costs about as much.
    shape = DATASETS[trial.dataset].shape if trial.dataset in DATASETS else (3, 32, 32)
    attacks = perturbations.passes(trial.suites, trial.dataset, shape, trial.attack_samples or test)
    return len(trial.members) * (training + points * (train + test + validation) / 3 + mechanism + attacks)


def _share(trial: Trial) -> float:
    """Return the share of D' that a member is trained on."""
    return 0.5 if trial.protocol == "splits" else 1.0


def start_up_s() -> float:
    """Return the seconds from the start of Ray on this machine to the first trial, as the last launch measured them."""
    try:
        return float((cache_folder() / "start_up_s").read_text())
    except (OSError, ValueError):
        return START_UP_S


def keep_start_up(seconds: float) -> None:
    """Keep what a launch on this machine took to start, for the estimate of the next one."""
    with suppress(OSError):  # without a cache the next one assumes what this one did
        (cache_folder() / "start_up_s").write_text(f"{seconds:.1f}")


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


@dataclass(frozen=True)
class Durations:
    """What recorded members took on one device.

    Attributes:
        device: the device; None where nothing is recorded.
        seconds_each: the median seconds of an epoch or, of members that were trained until they converged, of a member,
            by the values of `ALIKE`.
    """

    device: str | None
    seconds_each: Mapping[tuple[object, ...], float]

    @property
    def kind(self) -> str:
        """Return `cpu` for a core of a CPU, whose name starts with its instruction set, and `cuda` for a GPU."""
        return "cpu" if (self.device or "").startswith(("x86_64 ", "aarch64 ", "arm64 ")) else "cuda"

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
                epochs = 1 if row["stopping"] == "converged" else max(1, row["epochs"])
                by_kind.setdefault(tuple(row[name] for name in ALIKE), []).append(row["seconds"] / epochs)
        return cls(device, {kind: median(seconds) for kind, seconds in by_kind.items()})

    def seconds(self, trial: Trial) -> float | None:
        """Return the seconds that the trial will take on such a device; None if nothing like it was recorded."""
        if self.device is None:
            return None
        kind = (folders.identity(trial.dataset), *trial.values(ALIKE[1:]))
        each = self.seconds_each.get(kind)
        epochs = 1 if trial.stopping == "converged" else max(1, trial.epochs)
        return None if each is None else each * epochs * len(trial.members)


def _durations(results: Results) -> Iterable[dict[str, Any]]:
    if not results.exists():
        return
    for sweep in results.sweeps():
        columns = [*ALIKE, "epochs", "device", "seconds", "status"]
        for row in results.read(sweep, "members", columns).to_pylist():
            if row["status"] == "ok":
                yield row


@dataclass(frozen=True)
class Known:
    """What is known of the time that trials take, before any of them is timed.

    Attributes:
        durations: what earlier members took, off their records.
        device: what the trials are assumed to run on, where nothing is recorded: `cpu`, a core of one, or `cuda`.
        teraflops: the speed at which operations are turned into time where nothing was timed.
        packs: how many members are given to a worker of this machine at once, by the values of `SPEED`.
    """

    durations: "Durations"
    device: str
    teraflops: float
    packs: dict[tuple[object, ...], int] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Sequence[Trial], results: Results, teraflops: float | None = None) -> "Known":
        """Gather what is known of a plan's trials.

        Args:
            plan: all trials of the plan, by which they are bundled.
            results: where earlier members may be recorded.
            teraflops: the speed of the devices that the user has in mind; by default this machine's, roughly.
        """
        device = "cuda" if teraflops or has_gpu() else "cpu"
        packs: dict[tuple[object, ...], int] = {}
        for group, members in _groups_by_pack(plan, None, "auto"):
            packs[group[0].values(SPEED)] = members
        return cls(Durations.recorded(results), device, teraflops or TERAFLOPS[device], packs)

    def seconds(self, trial: Trial) -> tuple[float | None, str]:
        """Return the seconds that a trial takes on a device, None if that is unknown, and where that is from."""
        recorded = self.durations.seconds(trial)
        if recorded is not None:
            return recorded, f"as recorded on {self.durations.device}"
        seconds, source = self._seconds_of_all_epochs(trial)
        return seconds, f"{source}, {AT_MOST}" if seconds and trial.stopping == "converged" else source

    def _seconds_of_all_epochs(self, trial: Trial) -> tuple[float | None, str]:
        """Return the same where nothing like the trial was recorded."""
        if self.device == "cpu" and self.durations.device in (None, device_name("cpu")):
            timed = self._timed(trial)
            if timed is not None:
                return timed, "as timed on this machine"
        elif self.durations.device is not None:
            return None, "like none recorded"
        operations = flops(trial)
        if operations is None:
            return None, "of a dataset or network that is not built in"
        each = "a core" if self.device == "cpu" else "a GPU"
        return operations / (self.teraflops * 1e12), f"operations, at an assumed {self.teraflops:g} teraflop/s {each}"

    def choice(self, trial: Trial) -> str:
        """Return how the trial's members will train on a core of this machine, and why; empty if that isn't known."""
        timed = _timings(trial)
        plain = next((timing for timing in timed if timing.backend == "single"), None)
        if self.device != "cpu" or plain is None:
            return ""
        fastest = timings.fastest(timed, self._members(trial))
        if fastest == plain:
            return f"{fastest}, which no pack was faster than"
        noise = f", steps varying by {fastest.noise:.0%}" if fastest.noise else ""
        return f"{fastest}, {plain.seconds / fastest.seconds:.1f} times as fast as one by one{noise}"

    def _timed(self, trial: Trial) -> float | None:
        """Return the seconds that a trial takes on a core of this machine, if its kind was timed here."""
        timed = _timings(trial)
        if not timed:
            return None
        passes = _passes(trial, _sizes(trial, DATASETS[trial.dataset]))
        return passes * timings.fastest(timed, self._members(trial)).seconds

    def _members(self, trial: Trial) -> int:
        return self.packs.get(trial.values(SPEED), len(trial.members))


def _timings(trial: Trial) -> Sequence[timings.Choice]:
    """Return what was timed on this machine of the trial's kind; nothing where none was, or no cache can be had."""
    dataset = DATASETS.get(trial.dataset)
    if dataset is None:
        return []
    try:
        return timings.read(timings.cache_file(), timings.key_of(trial, _shape(trial, dataset), dataset.classes))
    except OSError:
        return []


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU, found without loading torch."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


@dataclass(frozen=True)
class Estimate:
    """What a list of trials takes on devices of one kind.

    Attributes:
        seconds: of each trial that can be estimated, in order.
        sources: how many trials each source stands for; those that can't be estimated are in `unknown`.
        unknown: the same for those that can't be estimated.
        device: what the seconds are of: `cpu`, a core, or `cuda`.
    """

    seconds: Sequence[float]
    sources: Mapping[str, int]
    unknown: Mapping[str, int]
    device: str

    @classmethod
    def of(cls, trials: Iterable[Trial], known: Known) -> "Estimate":
        """Estimate a list of trials by what is known."""
        seconds, sources, unknown = [], Counter[str](), Counter[str]()
        for trial in trials:
            taken, source = known.seconds(trial)
            (unknown if taken is None else sources)[source] += 1
            seconds += [] if taken is None else [taken]
        return cls(seconds, sources, unknown, known.device if known.durations.device is None else known.durations.kind)

    @property
    def hours(self) -> float:
        """The sum in hours."""
        return sum(self.seconds) / 3600

    @property
    def source(self) -> str:
        """Where the seconds are from, in words."""
        several = len(self.sources) + len(self.unknown) > 1
        parts = [f"{count} {source}" if several else source for source, count in self.sources.items()]
        return "; ".join(parts + [f"{count} {why}, and not counted" for why, count in self.unknown.items()])


def flops(trial: Trial) -> float | None:
    """Return the floating-point operations of a trial: three forward passes for a training step, one for a measurement.

    None where they were not counted: the dataset or the network is the user's, or its images have a size of their own.
    """
    if trial.architecture in PUBLISHED:
        return 3 * PUBLISHED[trial.architecture].operations * _passes(trial, _sizes(trial, DATASETS[trial.dataset]))
    dataset, network = DATASETS.get(trial.dataset), NETWORKS.get(trial.architecture)
    if dataset is None or network is None:
        return None
    forward = network.operations_for(_shape(trial, dataset), dataset.classes, trial.hidden_layers)
    return None if forward is None else 3 * forward * _passes(trial, _sizes(trial, dataset))


def _shape(trial: Trial, dataset: DatasetInfo) -> tuple[int, int, int]:
    """Return the channels, height and width of an image of a built-in dataset, as the trial enlarges it."""
    return (dataset.shape[0], trial.resize, trial.resize) if trial.resize else dataset.shape


def _sizes(trial: Trial, dataset: DatasetInfo) -> tuple[int, int, int]:
    """Return how many samples of a built-in dataset there are for training, test and validation."""
    samples = trial.subset or dataset.train
    validation = round(trial.validation * samples)
    return samples - validation, trial.test_images or dataset.test, validation
