"""Measure how fast a sweep trains as a user gets it, against the engine's best pack alone.

Both take turns in the workers themselves, an epoch and a pass of the pack, so that other load slows both alike.
"""

import io
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from study.record.results import Results
from study.speed.timings import Choice, fastest
from study.trial import Trial
from study.worker import use_one_thread
from sweeps.bundles import MOST_MEMBERS
from sweeps.estimate import check_and_time
from sweeps.launch.cluster import connect
from sweeps.launch.launch import Cluster, Launch
from sweeps.launch.tasks import Report, Task, run_and_record
from sweeps.launch.trials import run_trials

SWEEP = "bench"
SHAPE, CLASSES = (1, 28, 28), 10
SAMPLES, TEST_SAMPLES = 10_000, 1_667
"""A test set as large beside D as that of MNIST."""
MEMBERS = 5
BATCHES = 16
"""The batches of a pass of the best pack, as in `python -m study bench`."""
TURNS = "turns"
"""The folder in which workers leave what their turns took."""


@dataclass(frozen=True)
class Turns:
    """What the turns of one task took, in seconds.

    Attributes:
        work: of the thread itself, for the trials: loading, training, measuring and recording them.
        alone: of the best pack alone, by the clock.
        alone_work: the same, of the thread itself.
        samples: the model-samples on which the best pack was trained.
        setup: to make the best pack ready, by the clock, before the first task of a worker.
    """

    work: float
    alone: float
    alone_work: float
    samples: int
    setup: float


@dataclass(frozen=True)
class Throughput:
    """A sweep's throughput beside that of the best pack alone.

    Attributes:
        choice: how the best pack trains.
        workers: how many workers there were.
        trained: the model-samples of the sweep's training.
        took: seconds from the beginning of the first trial, whose data is loaded then, to the end of the last one.
        launched: seconds from the launch on a running Ray to its end.
        ray: the seconds that Ray took to start.
        turns: of each task.
    """

    choice: Choice
    workers: int
    trained: int
    took: float
    launched: float
    ray: float
    turns: Sequence[Turns]

    @property
    def alone(self) -> float:
        """The model-samples a second of the best pack in one worker."""
        return self._sum("samples") / self._sum("alone")

    @property
    def running(self) -> float:
        """Those of the sweep, from the beginning of its first trial to the end of the last one."""
        return self.trained / (self.workers * self.took - self._sum("alone"))

    @property
    def whole(self) -> float:
        """Those of the sweep, with all that comes before its first trial but Ray's own start."""
        return self.trained / (self.workers * self.launched - self._sum("alone") - self._sum("setup"))

    @property
    def at_work(self) -> float:
        """The sweep's over the best pack's, by the time in which the workers' threads themselves worked."""
        return self.trained / self._sum("work") / (self._sum("samples") / self._sum("alone_work"))

    def _sum(self, name: str) -> float:
        return float(sum(getattr(each, name) for each in self.turns))


def measure_throughput(
    trials: int, epochs: int, eval_every: int, cluster: Cluster, on_progress: Callable[[float], None]
) -> Throughput:
    """Run a sweep of so many trials of five LeNets on images of noise, with turns of the best pack in between."""
    with tempfile.TemporaryDirectory(prefix="normleak-") as folder:
        write_noise(Path(folder) / "noise")
        (Path(folder) / TURNS).mkdir()
        common: dict[str, Any] = {"dataset": f"parquet:{folder}/noise", "epochs": epochs, "eval_every": eval_every}
        ks = [round(0.3 * (number + 1) / trials, 6) for number in range(trials)]
        planned = tuple(Trial(**common, k=k, seed=tuple(range(MEMBERS))) for k in ks)
        timing = check_and_time(planned, "", workers=cluster.workers)
        assert timing is not None, "what is trained on CPUs of this machine is timed"
        (kind,) = timing.kinds.values()
        began = time.monotonic()
        with connect(cluster) as pool:
            connected = time.monotonic()
            launch = Launch(SWEEP, Results.at(folder), "", planned, cluster=cluster, timed=timing.kinds)
            outcome = run_trials(launch, pool, lambda fraction, _: on_progress(fraction), train_in_turns)
            launched = time.monotonic() - connected
        if outcome.interrupted:
            raise KeyboardInterrupt
        turns = [Turns(**json.loads(path.read_text())) for path in (Path(folder) / TURNS).iterdir()]
    return Throughput(
        fastest(kind.choices, MOST_MEMBERS),
        pool.workers,
        trials * MEMBERS * epochs * SAMPLES,
        outcome.seconds,
        launched,
        connected - began,
        turns,
    )


@cache
def best_pack(choice: Choice, device: str) -> Callable[[], int]:
    """Return a function that trains the best pack for a pass, and returns its model-samples; one pack a process."""
    from study.speed.throughput import training_pass

    one_pass = training_pass(Trial(), SHAPE, CLASSES, BATCHES, device, choice.backend, choice.members)
    one_pass()
    return one_pass


def train_in_turns(task: Task, report: Report) -> Mapping[str, Any]:
    """Run and record the trials of a task, with a pass of the best pack after each epoch."""
    use_one_thread()
    began = time.perf_counter()
    (timed,) = task["known"].values()
    one_pass = best_pack(fastest(timed, MOST_MEMBERS), task["device"])
    setup, began_work = time.perf_counter() - began, time.thread_time()
    alone = alone_work = 0.0
    samples = 0

    def turn(fraction: float) -> None:
        nonlocal alone, alone_work, samples
        clock, work = time.perf_counter(), time.thread_time()
        samples += one_pass()
        alone, alone_work = alone + time.perf_counter() - clock, alone_work + time.thread_time() - work
        report(fraction)

    result = run_and_record(task, turn)
    turns = Turns(time.thread_time() - began_work - alone_work, alone, alone_work, samples, setup)
    (Path(task["results"]) / TURNS / task["ids"][0]).write_text(json.dumps(asdict(turns)))
    return result


def write_noise(folder: Path) -> None:
    """Write images of noise as large as MNIST's, in ten classes, as Parquet files like a user's own."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, samples in (("train", SAMPLES), ("test", TEST_SAMPLES)):
        pixels = random.integers(0, 256, (samples, *SHAPE[1:]), dtype=np.uint8)
        images = pa.array([{"bytes": _png(each), "path": None} for each in pixels])
        labels = pa.array(np.arange(samples) % CLASSES)
        pq.write_table(pa.table({"image": images, "label": labels}), folder / f"{part}-0.parquet")


def _png(pixels: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()
