"""The benchmark of the analysis: made-up records of a large grid are written, then loaded and tabulated."""

import itertools
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.load import load
from analysis.metrics import METRICS
from analysis.report.tables import summary
from analysis.statistics.curves import curves
from study.record.results import Results
from study.record.schema import SCHEMAS
from study.trial import Trial
from study.worker import peak_memory
from sweeps.plan import Plan

SWEEP = "bench"
SEEDS = 5


def bench(members: int, epochs: int) -> pd.DataFrame:
    """Measure the seconds that it takes to load and tabulate members and their curves.

    Args:
        members: the number of members, five for each trial.
        epochs: the number of points of each member's curve.

    Returns:
        One row: `members`, `curve_rows`, `import_seconds`, `members_seconds`, `curves_seconds`, `seconds` (all of
        them), `cpu_seconds` (of all cores together) and `peak_gb` (the most memory that the process had).
    """
    with TemporaryDirectory() as folder:
        _in_fresh_process(_write, folder, -(-members // SEEDS), epochs)
        start = time.perf_counter()
        numbers = _in_fresh_process(_tabulate, folder)
        seconds = time.perf_counter() - start
    counts = {"members": numbers.pop("members"), "curve_rows": numbers.pop("curve_rows")}
    steps = {"import_seconds": seconds - numbers["members_seconds"] - numbers["curves_seconds"], **numbers}
    return pd.DataFrame([{**counts, **steps, "seconds": seconds}])


def _in_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, so that its memory can be measured, and return its result."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def trials(count: int, epochs: int) -> tuple[Trial, ...]:
    """Return the first `count` cells of a factorial of 4,000, each a trial with five seeds."""
    axes: dict[str, tuple[Any, ...]] = {
        "architecture": ("lenet", "resnet18", "resnet34", "vgg11"),
        "k": (0.05, 0.1, 0.15, 0.2, 0.3),
        "lr": (1e-4, 1e-3),
        "batch_size": (64, 128, 256, 512, 1024),
        "optimizer": ("adam", "adamw", "sgd", "rmsprop"),
        "norm": ("batch", "group", "instance", "layer", "none"),
    }
    points = itertools.islice(itertools.product(*axes.values()), count)
    seed = tuple(range(SEEDS))
    return tuple(Trial(**dict(zip(axes, point, strict=True)), epochs=epochs, seed=seed) for point in points)


def _write(folder: str, count: int, epochs: int) -> None:
    results, planned = Results.at(Path(folder)), trials(count, epochs)
    Plan(SWEEP, 1, planned).save(results)
    generator = np.random.default_rng(0)
    for trial in planned:
        results.write(SWEEP, trial.id, {"members": _members(trial, generator), "epochs": _epochs(trial, generator)})


def _members(trial: Trial, generator: np.random.Generator) -> list[dict[str, Any]]:
    settings = trial.settings()
    shared = {**settings, "trial": trial.id, "cell": trial.cell, "model": 0, "status": "ok"}
    return [
        {**shared, "member": member, "seed": seed, **{metric.column: generator.random() for metric in METRICS}}
        for member, seed in enumerate(trial.seed)
    ]


def _epochs(trial: Trial, generator: np.random.Generator) -> pa.Table:
    rows = SEEDS * trial.epochs
    epoch = np.tile(np.arange(1, trial.epochs + 1), SEEDS)
    columns = {"trial": [trial.id] * rows, "member": np.repeat(np.arange(SEEDS), trial.epochs), "epoch": epoch}
    schema = SCHEMAS["epochs"]
    columns |= {name: generator.random(rows) for name in schema.names if name not in (*columns, "step")}
    return pa.table(
        [pa.array(columns.get(name, epoch), schema.field(name).type) for name in schema.names], schema=schema
    )


def _tabulate(folder: str) -> dict[str, Any]:
    results, start = Results.at(folder), time.perf_counter()
    loaded = load(results, SWEEP)
    cells, middle = summary(loaded.members), time.perf_counter()
    points, end = curves(loaded, results), time.perf_counter()
    assert cells["n"].sum() == len(loaded.members)
    return {
        "members": len(loaded.members),
        "curve_rows": int(points["n"].sum()),
        "members_seconds": middle - start,
        "curves_seconds": end - middle,
        "cpu_seconds": time.process_time(),
        "peak_gb": peak_memory() / 1e9,
    }
