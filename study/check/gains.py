"""What does the engine gain on a device? The memory of packs, and the speed of each way to train."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import nn

from study.check.finding import Finding, Subject, Verdict, judged
from study.check.small import CLASSES, MakePack, packed_by, single
from study.engine.grouped import Grouped
from study.imports import reason
from study.speed.throughput import Rate, build_networks, pass_of, rate
from study.training.precision import use_full_float32
from study.trial import Trial

BUDGET_S = 50.0
"""The seconds after which no further way to train a network is timed."""
MIB = 2**20


@dataclass(frozen=True)
class Load:
    """A network whose speed is measured.

    Attributes:
        name: its printed name.
        trial: how it is trained.
        shape: channels, height and width of an image.
        members: how many members train side by side.
        batches: how many batches make one pass, of which a GPU takes the first three without a graph, once.
    """

    name: str
    trial: Trial
    shape: tuple[int, int, int]
    members: int
    batches: int


def _loads(subject: Subject) -> list[Load]:
    """Return what is timed on a device: on a CPU the small network alone, for the other takes it minutes."""
    if not subject.on_gpu:
        return [Load("LeNet", Trial(), (1, 28, 28), 4, 1)]
    large = Trial(architecture="resnet18")
    return [Load("LeNet", Trial(), (1, 28, 28), 16, 8), Load("ResNet18", large, (3, 32, 32), 4, 4)]


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        name: what it is, in words.
        make: makes a pack of the networks.
        members: how many train side by side.
        settings: the settings in which its trial differs.
        graphs: whether a GPU replays its steps.
        benchmark: whether cuDNN chooses its algorithms by timing them.
        gpu_only: whether it means nothing on a CPU.
    """

    name: str
    make: MakePack
    members: int = 1
    settings: tuple[tuple[str, str], ...] = ()
    graphs: bool = True
    benchmark: bool = False
    gpu_only: bool = False


class _Contiguous(Grouped):
    """The backend `grouped` with channels first in memory, as torch has them unless told otherwise."""

    memory_format = torch.contiguous_format


def _channels_last(networks: Sequence[nn.Module]) -> Any:
    return single([network.to(memory_format=torch.channels_last) for network in networks])


def ways(load: Load) -> list[Way]:
    """Return the ways to train a network; the first is what the others are held against."""
    grouped, many = packed_by("grouped", load.shape), load.members
    return [
        Way("plain loop, eager", single, graphs=False),
        Way("plain loop, replayed", single, gpu_only=True),
        Way("plain loop, channels last", _channels_last),
        Way("plain loop, cudnn.benchmark", single, benchmark=True, gpu_only=True),
        Way("plain loop, tf32", single, settings=(("precision", "tf32"),), gpu_only=True),
        Way("plain loop, bf16", single, settings=(("precision", "bf16"),)),
        Way("plain loop, deterministic", single, settings=(("deterministic", "on"),), gpu_only=True),
        Way("grouped, channels last", grouped, many),
        Way("grouped, contiguous", _Contiguous, many),
        Way("grouped, cudnn.benchmark", grouped, many, benchmark=True, gpu_only=True),
        Way("grouped, tf32", grouped, many, settings=(("precision", "tf32"),), gpu_only=True),
        Way("grouped, bf16", grouped, many, settings=(("precision", "bf16"),)),
        Way("vmap", packed_by("vmap", load.shape), many),
        Way("branches of one graph", packed_by("branches", load.shape), many, gpu_only=True),
    ]


def throughput(subject: Subject) -> Finding:
    """How fast each way to train is, as a ratio to the plain eager loop in the same round."""
    use_full_float32()
    rows = [row for load in _loads(subject) for row in _race(subject, load)]
    timed = [row for row in rows if row["ratio"] is not None]
    best = {row["network"]: row for row in sorted(timed, key=lambda row: row["ratio"])}
    said = [f"{name} {row['ratio']:.2f} times by {row['way']} x {row['members']}" for name, row in best.items()]
    return judged(bool(best), f"the fastest over the plain eager loop: {'; '.join(said) or 'none'}", ways=rows)


def _race(subject: Subject, load: Load) -> Iterator[dict[str, Any]]:
    """Yield a row for each way: it takes turns with the plain eager loop, and is then let go with its memory."""
    over = time.monotonic() + BUDGET_S
    plain, *others = ways(load)
    reference = _rate(subject, load, plain)
    yield _row(load, plain, median(reference(subject.seconds) for _ in range(subject.rounds)), 1.0)
    for way in others:
        if way.gpu_only and not subject.on_gpu:
            yield _row(load, way, note="needs a GPU")
        elif time.monotonic() > over:
            yield _row(load, way, note="not timed: the time was up")
        else:
            yield _timed(subject, load, way, reference)
        if subject.on_gpu:
            torch.cuda.empty_cache()


def _timed(subject: Subject, load: Load, way: Way, reference: Rate) -> dict[str, Any]:
    try:
        measure = _rate(subject, load, way)
        pairs = [(reference(subject.seconds), measure(subject.seconds)) for _ in range(subject.rounds)]
    except Exception as error:  # a way that a network or a device has not
        return _row(load, way, note=f"can't: {reason(error)}")
    return _row(load, way, median(own for _, own in pairs), median(own / plain for plain, own in pairs))


def _row(
    load: Load, way: Way, speed: float | None = None, ratio: float | None = None, note: str = ""
) -> dict[str, Any]:
    of_load = {"network": load.name, "batch_size": load.trial.batch_size}
    return {**of_load, "way": way.name, "members": way.members, "rate": speed, "ratio": ratio, "note": note}


def _rate(subject: Subject, load: Load, way: Way) -> Rate:
    """Return the function that measures the model-samples a second of a way to train."""
    trial = replace(load.trial, **dict(way.settings))  # type: ignore[arg-type]
    networks = build_networks(trial, load.shape, CLASSES, subject.device, way.members)
    one_pass = pass_of(way.make(networks), trial, load.shape, CLASSES, load.batches, way.graphs)

    def with_benchmark() -> int:
        with _cudnn_benchmark(way.benchmark):
            return one_pass()

    return rate(with_benchmark, subject.device)


@contextmanager
def _cudnn_benchmark(enabled: bool) -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = enabled
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def memory(subject: Subject) -> Finding:
    """How much of a GPU's memory training takes, by the size of the pack."""
    rows = [row for load in _loads(subject) for row in _memory_by_size(subject, load)]
    total = torch.cuda.get_device_properties(subject.device).total_memory / MIB
    largest = {row["network"]: row for row in rows if row["mib"] is not None}
    said = [f"{name} x {row['members']} takes {row['mib']:,.0f} MiB" for name, row in largest.items()]
    verdict = Verdict.PASSED if largest else Verdict.FAILED
    return Finding(verdict, f"of {total:,.0f} MiB {'; '.join(said) or 'none was enough'}", {"packs": rows})


def _memory_by_size(subject: Subject, load: Load) -> Iterator[dict[str, Any]]:
    """Yield a row for packs of 1, 2, 4, ... members, to twice as many as are timed, or until memory runs out."""
    size = 1
    while size <= 2 * load.members:
        row = {"network": load.name, "batch_size": load.trial.batch_size, "members": size, "mib": None}
        try:
            yield {**row, "mib": _peak_mib(subject, load, size)}
        except torch.OutOfMemoryError:
            yield row
            return
        finally:
            torch.cuda.empty_cache()
        size *= 2


def _peak_mib(subject: Subject, load: Load, size: int) -> float:
    """Return the most memory that torch reserves while a pack trains, its graphs included."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(subject.device)
    torch.cuda.reset_peak_memory_stats(subject.device)
    networks = build_networks(load.trial, load.shape, CLASSES, subject.device, size)
    one_pass: Callable[[], int] = pass_of(
        packed_by("grouped", load.shape)(networks), load.trial, load.shape, CLASSES, load.batches
    )
    one_pass()
    torch.cuda.synchronize(subject.device)
    return (torch.cuda.max_memory_reserved(subject.device) - before) / MIB
