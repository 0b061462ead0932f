"""Which backend, and how many members at once: measured in seconds, once for each kind of network and device.

A pack pays on one device and not on another, and a plain loop is never far off; so the candidates are timed side by
side on this device, the plain loop among them, and only a clear win takes its place. The choice is kept in the user's
cache folder: workers on the same machine, and later runs, take the same one and so compute the same numbers.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from study import models
from study.corruption import Corrupted
from study.engine.backends import BACKENDS, pack
from study.engine.pack import UnfitError
from study.errors import unknown
from study.provenance import device_name
from study.train import Member, train
from study.trial import Trial

ROUNDS_S = 2.0
"""How long the candidates take turns, once each has been tried."""
STEP_S = 0.3
"""What one timed step of the plain loop may take: of networks that are slower, fewer samples are timed."""
FEW = 8
HOPELESS = 1.5
"""How much slower than the best a candidate's first step may be for the others to be timed too."""
WIN = 0.97
"""The share of the plain loop's time that another candidate must stay below to be chosen in its stead."""


@dataclass(frozen=True)
class Choice:
    """How a kind of network is trained on a device.

    Attributes:
        backend: a key of `BACKENDS`.
        members: how many train at once; `single` has one.
        seconds: of training, for one sample of one member.
    """

    backend: str
    members: int
    seconds: float

    def __str__(self) -> str:
        return self.backend if self.backend == "single" else f"{self.backend} x {self.members}"


def choose(
    trial: Trial, shape: tuple[int, int, int], classes: int, members: int, device: str, backend: str = "auto"
) -> Choice:
    """How to train that many members of the trial's kind.

    Args:
        trial: the kind of network, and how it is trained.
        shape: channels, height and width of an image.
        classes: the number of logits.
        members: how many there are to train.
        device: a torch device.
        backend: a key of `BACKENDS`, or `auto` for the fastest of them.

    Returns:
        What was measured now, or is known from earlier.

    Raises:
        BadInputError: there is no such backend, it does not fit the network, or that can't be built.
    """
    if backend not in ("auto", *BACKENDS):
        raise unknown("backend", backend, ("auto", *BACKENDS))
    kind = _kind(trial, shape, classes, members, device, backend)
    kept = _kept()
    with FileLock(kept.with_suffix(".lock")):
        known = _read(kept)
        if kind not in known:
            known[kind] = asdict(measure(trial, shape, classes, members, device, backend))
            _write(kept, known)
    return Choice(**known[kind])


def measure(
    trial: Trial, shape: tuple[int, int, int], classes: int, members: int, device: str, backend: str = "auto"
) -> Choice:
    """Time every backend that fits the network; see `choose`."""
    samples = _samples(trial, shape, classes, device)
    steps: dict[tuple[str, int], Callable[[], float]] = {}
    best: dict[tuple[str, int], float] = {}
    for name in BACKENDS if backend == "auto" else (backend,):
        for size in [1] if name == "single" else _sizes(members):
            try:
                step = _timed(name, size, trial, shape, classes, samples, device)
                seconds = step()
            except torch.OutOfMemoryError:
                break
            except UnfitError:
                if backend != "auto":
                    raise
                break
            # Larger packs of what is slow already are not worth the time, nor the memory.
            if best and seconds > HOPELESS * min(best.values()):
                break
            steps[name, size], best[name, size] = step, seconds
    end = time.perf_counter() + ROUNDS_S
    # In turns, so that whatever else the machine does meets all of them alike.
    while time.perf_counter() < end:
        for candidate, step in steps.items():
            best[candidate] = min(best[candidate], step())
    plain, fastest = ("single", 1), min(best, key=best.__getitem__)
    chosen = plain if plain in best and best[fastest] > WIN * best[plain] else fastest
    return Choice(*chosen, best[chosen])


def _sizes(members: int) -> list[int]:
    """One member, and then an eighth, a quarter, half, and all of them; in general, even packs."""
    sizes, packs = set(), 1
    while packs < 2 * members:
        sizes.add(-(-members // packs))
        packs *= 2
    return sorted(sizes)


def _timed(
    backend: str, members: int, trial: Trial, shape: tuple[int, int, int], classes: int, samples: int, device: str
) -> Callable[[], float]:
    """A function that takes one step on noise and returns the seconds for one sample of one member."""
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, *shape), generator=noise, dtype=torch.uint8).to(device)
    labels = torch.randint(0, classes, (samples,), generator=noise).to(device)
    corrupted = Corrupted(images, labels, labels, torch.zeros_like(labels, dtype=torch.bool))
    # The learning rate changes no speed, but a large one could diverge here.
    endless = replace(trial, epochs=1_000_000, lr=1e-12, batch_size=samples)
    networks = [
        models.build(trial.architecture, shape, classes, trial.norm, seed).to(device) for seed in range(members)
    ]
    together = pack(backend, networks, shape)
    epochs = train(together, [Member(endless, seed, corrupted) for seed in range(members)])
    for _ in range(2 if device == "cpu" else 5):
        next(epochs)

    def step() -> float:
        _wait(device)
        start = time.perf_counter()
        next(epochs)
        _wait(device)
        return (time.perf_counter() - start) / (samples * members)

    return step


def _samples(trial: Trial, shape: tuple[int, int, int], classes: int, device: str) -> int:
    """The batch size to time with: the trial's, or fewer samples where a step of the plain loop takes too long."""
    few = min(FEW, trial.batch_size)
    seconds = _timed("single", 1, trial, shape, classes, few, device)()
    return max(few, min(trial.batch_size, int(STEP_S / seconds)))


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _kind(trial: Trial, shape: tuple[int, int, int], classes: int, members: int, device: str, backend: str) -> str:
    """All that the speed depends on, as a key of the cache."""
    settings = [trial.architecture, trial.norm, trial.regularizer, trial.optimizer, trial.batch_size, trial.precision]
    threads = torch.get_num_threads()
    return json.dumps([*settings, shape, classes, members, backend, device_name(device), threads, torch.__version__])


def _kept() -> Path:
    """The file of choices in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(home) if home else Path.home() / ".cache") / "normleak"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "tuning.json"


def _read(kept: Path) -> dict[str, dict[str, Any]]:
    """The choices that were made; none where the file is missing or damaged."""
    try:
        found = json.loads(kept.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(kept: Path, known: dict[str, dict[str, Any]]) -> None:
    partial = kept.with_suffix(".part")
    partial.write_text(json.dumps(known, indent=1))
    partial.replace(kept)
