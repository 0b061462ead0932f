"""What goes wrong while a sweep runs on a Ray cluster of several nodes, and how it ends complete all the same."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sweeps import launch  # first, for Ray reads the environment that it sets

# isort: split
from ray.cluster_utils import Cluster

from study import record
from study.record import Results
from sweeps.sweep import Plan
from tests.ray_runs import ROOT, command
from tests.sweeps import faulty
from tests.sweeps.test_main import PROVENANCE, wait_for

TINY = ["--set", "subset=200", "--set", "epochs=2", "--set", "k=0.1", "--set", "norm=batch", "--set", "seed=0,1"]
NETWORKS = ("lags", "hangs", "exhausts", "diverges", "fills")
FEW_TRIES = """
import sys
from sweeps import launch
from sweeps.__main__ import app, main

launch.MAX_FAILURES = 0  # each further try starts another worker
main(app, "python -m sweeps")
"""

Ended = subprocess.CompletedProcess[str]


@dataclass
class Nodes:
    """A cluster with a head that runs nothing and two workers, and the folder that has its networks go wrong."""

    cluster: Cluster
    faults: Path

    def add_worker(self) -> None:
        self.cluster.add_node(num_cpus=1, object_store_memory=launch.OBJECT_STORE_BYTES)

    def arguments(self, verb: str, results: Path, *more: str) -> list[str]:
        where = ["--address", self.cluster.address, "--device", "cpu", "--backend", "single", "--results", str(results)]
        return [verb, "quickstart", *where, *more]

    def sweep(self, results: Path, *networks: str) -> list[str]:
        """What runs a trial of each of the networks."""
        named = ",".join(f"tests.sweeps.faulty:{network}" for network in networks)
        return self.arguments("run", results, *TINY, "--set", f"architecture={named}")

    @contextmanager
    def on(self, fault: str, target: Path | None = None) -> Iterator[None]:
        """The fault comes up in its network meanwhile."""
        switch = self.faults / fault
        switch.symlink_to(target) if target else switch.touch()
        try:
            yield
        finally:
            switch.unlink()


@contextmanager
def driver(arguments: Sequence[str], program: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """A running `python -m sweeps`, or another program with its arguments; it is gone afterwards."""
    started = subprocess.Popen(
        [sys.executable, *program, *arguments] if program else command("sweeps", *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def ended(arguments: Sequence[str], program: Sequence[str] = ()) -> Ended:
    with driver(arguments, program) as started:
        out, errors = started.communicate(timeout=150)
        return Ended(arguments, started.returncode, out, errors)


def completed(arguments: Sequence[str]) -> Ended:
    done = ended(arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    faults = tmp_path_factory.mktemp("faults")
    quickly = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_initial_delay_ms": 500}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(faulty.FAULTS, str(faults))
        head = {"num_cpus": 0, "object_store_memory": launch.OBJECT_STORE_BYTES, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={**head, "_system_config": quickly})
        try:
            found = Nodes(cluster, faults)
            found.add_worker()
            found.add_worker()
            yield found
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def unharmed(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A trial of each network in a run in which nothing goes wrong."""
    results = tmp_path_factory.mktemp("unharmed")
    print(completed(nodes.sweep(results, *NETWORKS)).stdout)
    return Results.at(results)


def assert_complete(results: Path, unharmed: Results) -> None:
    """One row for each member of the plan, in every scientific column that of the run without faults."""
    found = Results.at(results)
    plan = Plan.saved("quickstart", found)
    assert plan is not None
    trials = [trial.id for trial in plan.trials]
    for table, keys in (("members", ["trial", "member"]), ("epochs", ["trial", "member", "epoch"])):
        frames = [
            where.read("quickstart", table, trials=trials).to_pandas().sort_values(keys, ignore_index=True)
            for where in (found, unharmed)
        ]
        assert not frames[0].duplicated(keys).any()
        kept = [name for name in frames[0].columns if name not in PROVENANCE]
        pd.testing.assert_frame_equal(frames[0][kept], frames[1][kept], check_exact=True)
    assert len(found.read("quickstart", "members")) == plan.members
    assert not [path for path in results.rglob("*.tmp")]


def outcomes(results: Path) -> dict[str, set[str]]:
    """Status and reason of each network's members."""
    rows = Results.at(results).read("quickstart", "members").to_pylist()
    found: dict[str, set[str]] = {}
    for row in rows:
        told = row["status"] + (f": {row['error']}" if row["error"] else "")
        found.setdefault(row["architecture"].partition(":")[2], set()).add(told)
    return found


def test_trials_that_hang_exhaust_memory_or_diverge_take_no_other_with_them_and_retry_completes_them(
    nodes: Nodes, unharmed: Results, tmp_path: Path
):
    """So does it a trial with a truncated shard."""
    plan = nodes.sweep(tmp_path, "lags", "hangs", "exhausts", "diverges")
    with nodes.on("hang"), nodes.on("use_all_memory"), nodes.on("no_number"):
        done = ended([*plan, "--time-limit", "20"], ["-c", FEW_TRIES])
    assert (done.returncode, done.stderr) == (1, "")
    assert "1 done, 0 missing, 2 failed, 1 diverged" in done.stdout, done.stdout + str(outcomes(tmp_path))



def test_a_node_that_is_killed_without_grace_costs_no_trial(nodes: Nodes, unharmed: Results, tmp_path: Path):
    with driver(nodes.sweep(tmp_path, "lags", "fills", "diverges"), ()) as running:
        wait_for(tmp_path / "quickstart" / "members", "*.parquet")
        nodes.cluster.remove_node(nodes.cluster.worker_nodes and next(iter(nodes.cluster.worker_nodes)), False)
        nodes.add_worker()
        out, errors = running.communicate(timeout=150)
    assert (running.returncode, errors) == (0, ""), out + errors
    assert_complete(tmp_path, unharmed)
