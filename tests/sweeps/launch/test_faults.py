"""What goes wrong while a sweep runs on a Ray cluster of several nodes, and how it ends complete all the same."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import pandas as pd
import pytest
import torch
from ray.cluster_utils import Cluster

from analysis.__main__ import app as analysis_app
from study.record import schema
from study.record.results import Results
from study.run import run
from study.trial import parse
from sweeps import registry
from sweeps.__main__ import app
from sweeps.launch.asking import UNTIMED
from sweeps.launch.cluster import OBJECT_STORE_BYTES
from sweeps.plan import Plan
from sweeps.sweep import Scale
from tests.patience import wait_for
from tests.ray_runs import ROOT, command
from tests.sweeps.launch import faulty
from tests.sweeps.test_main import PROVENANCE, refused

SETTINGS = ("subset=200", "epochs=2", "k=0.1", "norm=batch", "seed=0,1")
KILLED_WITHIN_S = 12.0
NETWORKS = ("lags", "hangs", "exhausts", "diverges", "fills")
FEW_TRIES = """
from sweeps.__main__ import app, main
from sweeps.launch import trials

trials.MAX_FAILURES = 0  # each further try starts another worker
main(app, "python -m sweeps")
"""

Ended = subprocess.CompletedProcess[str]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def setting(*networks: str) -> str:
    return f"architecture={','.join(f'tests.sweeps.launch.faulty:{network}' for network in networks)}"


@dataclass
class Nodes:
    """A cluster with a head that runs nothing and two workers, and the folder that has its networks go wrong."""

    cluster: Cluster
    faults: Path

    def add_worker(self) -> None:
        self.cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)

    def arguments(self, verb: str, results: Path, *more: str) -> list[str]:
        where = ["--address", self.cluster.address, "--device", "cpu", "--backend", "single", "--results", str(results)]
        return [verb, "quickstart", *where, *more]

    def sweep(self, results: Path, *networks: str) -> list[str]:
        """What runs a trial of each of the networks."""
        settings = [part for each in (*SETTINGS, setting(*networks)) for part in ("--set", each)]
        return self.arguments("run", results, *settings)

    @contextmanager
    def on(self, fault: str, target: Path | None = None) -> Iterator[None]:
        """The fault comes up in its network meanwhile."""
        switch = self.faults / fault
        if target:
            switch.symlink_to(target)
        switch.touch()
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
        out, errors = started.communicate()
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
        head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
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
    """A trial of each network, trained here, where nothing goes wrong."""
    results = Results.at(tmp_path_factory.mktemp("unharmed"))
    for trial in registry.sweep("quickstart").plan(Scale.quick, parse([*SETTINGS, setting(*NETWORKS)])).trials:
        results.write("quickstart", trial.id, run(trial, Path(), backend="single").tables)
    return results


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


def trial_of(results: Path, network: str) -> str:
    """The id of the trial with that network."""
    plan = Plan.saved("quickstart", Results.at(results))
    assert plan is not None
    return next(trial.id for trial in plan.trials if trial.architecture.endswith(f":{network}"))


def outcomes(results: Path) -> dict[str, set[str]]:
    """Status and reason of each network's members."""
    rows = Results.at(results).read("quickstart", "members").to_pylist()
    found: dict[str, set[str]] = {}
    for row in rows:
        told = row["status"] + (f": {row['error']}" if row["error"] else "")
        found.setdefault(row["architecture"].partition(":")[2], set()).add(told)
    return found


def test_trials_that_exhaust_memory_or_diverge_take_no_other_with_them_and_retry_completes_them(
    nodes: Nodes, unharmed: Results, tmp_path: Path
):
    with nodes.on("use_all_memory"), nodes.on("no_number"):
        done = ended(nodes.sweep(tmp_path, "lags", "exhausts", "diverges"), ["-c", FEW_TRIES])
    assert (done.returncode, done.stderr) == (1, "")
    assert "1 done, 0 missing, 1 failed, 1 diverged" in done.stdout, done.stdout
    found = outcomes(tmp_path)
    assert found["lags"] == {"ok"}
    assert re.search("memory|bad_alloc", str(found["exhausts"]))
    assert found["diverges"] == {"diverged: the training loss is nan in epoch 1"}

    # What has diverged is an outcome, which stays.
    for left in (tmp_path / "quickstart").glob(f"*/{trial_of(tmp_path, 'diverges')}.parquet"):
        left.unlink()
    named = [part for network in NETWORKS for part in ("--architecture", f"tests.sweeps.launch.faulty:{network}")]
    completed(nodes.arguments("retry", tmp_path, *named, "--workers", "1"))
    assert_complete(tmp_path, unharmed)


def test_on_a_disk_that_is_full_a_trial_stays_missing_and_the_run_ends_with_a_sentence(
    nodes: Nodes,
    unharmed: Results,
    small_disk: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    results, filler = small_disk / "results", small_disk / "filler"
    with nodes.on("fill_the_disk", filler):
        done = ended(nodes.sweep(results, "fills"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stdout + done.stderr
    assert f"error: records could not be written to {results}: " in done.stderr
    assert "No space left on device" in done.stderr
    assert not (results / "quickstart" / "members" / f"{trial_of(results, 'fills')}.parquet").exists()
    with nodes.on("fill_the_disk", filler):
        faulty.fill_the_disk(torch.zeros(1))
    said = refused(capfd, monkeypatch, app, *nodes.sweep(results, "fills"))
    assert f"results can't be written to '{results}': " in said
    assert "No space left on device" in said

    filler.unlink()
    completed(nodes.sweep(results, "fills"))
    assert_complete(results, unharmed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for some megabytes, which only root can make."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False).returncode:
        pytest.skip("a small disk can't be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_node_that_is_killed_without_grace_costs_no_trial_and_a_truncated_shard_only_its_own(
    nodes: Nodes, unharmed: Results, tmp_path: Path
):
    plan = nodes.sweep(tmp_path, "lags", "fills", "diverges")
    with driver(plan) as running:
        wait_for(tmp_path / "quickstart" / "members", "*.parquet")
        nodes.cluster.remove_node(next(iter(nodes.cluster.worker_nodes)), allow_graceful=False)
        nodes.add_worker()
        out, errors = running.communicate()
    assert (running.returncode, errors) == (0, ""), out + errors
    assert_complete(tmp_path, unharmed)

    shard = tmp_path / "quickstart" / "members" / f"{trial_of(tmp_path, 'fills')}.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    told = completed(plan).stdout
    assert f"  damaged, and set aside: {shard.stem}\n" in told
    assert "about to run 1 trial, 2 members" in told
    assert shard.with_name(f"{shard.name}.damaged").stat().st_size == 100
    assert_complete(tmp_path, unharmed)


def test_a_node_that_dies_while_it_is_asked_how_networks_train_fastest_is_made_up_for_by_another(
    nodes: Nodes, tmp_path: Path
):
    (nodes.faults / "take_the_node_down").touch()
    several = ["k=0.1,0.2,0.3,0.4" if part == "k=0.1" else part for part in nodes.sweep(tmp_path, "downs")]
    done = completed([*several, "--backend", "grouped"])
    nodes.add_worker()
    assert "time_kind" in (nodes.faults / "taken_down").read_text().split()
    assert UNTIMED not in done.stdout
    assert outcomes(tmp_path) == {"downs": {"ok"}}


def test_wherever_a_driver_is_killed_or_stopped_the_next_one_goes_on_and_two_at_once_are_refused(
    nodes: Nodes, unharmed: Results, tmp_path: Path, pytestconfig: pytest.Config
):
    def plan(results: Path, *more: str) -> list[str]:
        return [*nodes.sweep(results, "lags", "fills", *more), "--workers", "1"]

    chance, folders = random.Random(0), (tmp_path / str(number) for number in count())
    results = next(folders)
    with nodes.on("hang"), driver(plan(results, "hangs")) as first:
        wait_for(results / "quickstart", "lease.json")
        second = ended(plan(results))
        assert (second.returncode, second.stderr.count("\n")) == (2, 1), second.stdout + second.stderr
        assert f"error: process {first.pid} on {socket.gethostname()}, since 20" in second.stderr
        assert "has quickstart in" in second.stderr
        first.send_signal(signal.SIGKILL)
    with nodes.on("hang"), driver(plan(results, "hangs")) as running:
        wait_for(results / "quickstart" / "members", "*.parquet")
        running.send_signal(signal.SIGKILL)
    within, kills = KILLED_WITHIN_S, 0
    while kills < pytestconfig.getoption("kills"):
        with driver(plan(results)) as running:
            with suppress(subprocess.TimeoutExpired):
                running.wait(moment := chance.uniform(0, within))
            running.send_signal(signal.SIGKILL)
            running.wait()
        ended_itself, done = running.returncode == 0, outcomes(results)
        print(f"{'ended before' if ended_itself else 'killed after'} {moment:.1f} s, {len(done)} of 2 done")
        assert set(chain(*done.values())) <= {"ok"}
        # The moments are spread over a driver's life, however long that is here; one that ended itself is no kill.
        within *= 0.8 if ended_itself else 1.25
        kills += not ended_itself
        if ended_itself:
            assert_complete(results, unharmed)
            results = next(folders)
    (nodes.faults / "hanging").unlink(missing_ok=True)
    with nodes.on("hang"), driver(plan(results, "hangs")) as stopped:
        wait_for(nodes.faults, "hanging")
        stopped.send_signal(signal.SIGINT)
        out, errors = stopped.communicate()
    assert (stopped.returncode, errors) == (130, ""), out + errors
    assert "stopped; the same command goes on where it was." in out

    completed(plan(results, "hangs"))
    assert_complete(results, unharmed)


def test_a_folder_of_a_later_version_is_refused_before_anything_starts(
    nodes: Nodes, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    plan = registry.sweep("quickstart").plan(Scale.quick)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
        plan.save(Results.at(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for program, arguments in (
        (app, nodes.arguments("run", tmp_path)),
        (app, nodes.arguments("retry", tmp_path)),
        (app, ["status", "quickstart", "--results", str(tmp_path)]),
        (analysis_app, ["tables", str(tmp_path), "--sweep", "quickstart"]),
    ):
        assert f"has schema version {schema.SCHEMA_VERSION + 1}" in refused(capfd, monkeypatch, program, *arguments)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
