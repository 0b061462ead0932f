"""Sweeps whose records go straight to an object store: S3 as moto serves it on loopback, on a running Ray cluster."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from analysis.load import load
from study.data import folders
from study.record.leases import holder_in, holder_of
from study.record.results import Results
from study.storage.object_store import open_object_store
from study.trial import Trial
from sweeps import registry
from sweeps.launch import trials
from sweeps.launch.cluster import Pool, connect
from sweeps.launch.launch import Cluster, Launch
from sweeps.sweep import Scale
from tests.patience import wait_until
from tests.ray_runs import ROOT, Command, command
from tests.stores import ACCESS_KEY, ENVIRONMENT, SECRET_KEY, Store
from tests.study.data.sources import encoded, pixels, write_parquet
from tests.sweeps.test_main import assert_same_science, side_by_side

pytestmark = [pytest.mark.ray, pytest.mark.slow]

AXES = {"epochs": 2, "k": 0.1, "seed": (0, 1)}


@dataclass(frozen=True)
class Running:
    """A Ray cluster: its workers, its address, and the folder in which it leaves its logs."""

    pool: Pool
    address: str
    logs: Path

    def run(self, results: str) -> list[str]:
        """What runs the quickstart's two arms there, trained one by one, whatever is measured beforehand."""
        axes = ["--set", "epochs=2", "--set", "k=0.1", "--set", "seed=0,1", "--backend", "single", "--device", "cpu"]
        return ["run", "quickstart", *axes, "--address", self.address, "--results", results]

    def assert_nothing_tells(self, secrets: list[str], left: dict[str, bytes]) -> None:
        logs = {str(path): path.read_bytes() for path in self.logs.rglob("*") if path.is_file()}
        assert any("driver_artifacts" in path for path in logs), "what Tune keeps of its tasks was not looked at"
        for place, content in {**left, **logs}.items():
            for secret in secrets:
                assert secret.encode() not in content, place


@pytest.fixture(scope="module")
def cluster() -> Iterator[Running]:
    """One whose nodes have credentials of their own, as where they come from the machine."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {**ENVIRONMENT, "AWS_ACCESS_KEY_ID": "NODE", "AWS_SECRET_ACCESS_KEY": "node"}.items():
            patched.setenv(name, value)
        with connect(Cluster(workers=2, device="cpu")) as pool:
            logs = Path(ray._private.worker._global_node.get_session_dir_path())
            yield Running(pool, ray.get_runtime_context().gcs_address, logs)


@pytest.fixture(scope="module")
def local(cluster: Running, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The same sweep in a folder."""
    results = Results.at(tmp_path_factory.mktemp("local"))
    plan = registry.sweep("quickstart").plan(Scale.quick, {name: _levels(value) for name, value in AXES.items()})
    plan.save(results)
    trials.run_trials(Launch("quickstart", results, "", plan.trials, backend="single"), cluster.pool, lambda *_: None)
    return results


def _levels(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def test_a_sweep_goes_straight_to_a_slow_store_and_is_read_there(
    sweeps: Command, cluster: Running, store: Store, local: Results, monkeypatch: pytest.MonkeyPatch
):
    """With credentials that only the URI has; they are left nowhere."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store.delay = 0.1
    results = Results.at(store.uri(f"URIKEY:{SECRET_KEY}@"))
    done = sweeps(*cluster.run(results.location))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"records: {results.below('quickstart')}" in done.stdout
    assert store.keys - {"client"} == {"URIKEY"}
    assert_same_science(results, local)
    assert len(load(results, "quickstart").members) == 4

    left = store.objects(results.location)
    assert {key.split("/")[3] for key in left if key.count("/") > 2} == {
        *("plans", "members", "epochs", "layers", "lease.json")
    }
    assert holder_of(results.store, "quickstart") is None
    plans = [json.loads(content) for key, content in left.items() if "/plans/" in key]
    assert [results.argument in plan["command"] for plan in plans] == [True]
    left["printed"] = (done.stdout + done.stderr).encode()
    cluster.assert_nothing_tells(["URIKEY", SECRET_KEY], left)


def test_two_shards_at_once_share_a_sweep_on_a_store(sweeps: Command, store: Store, local: Results):
    results = Results.at(store.uri())
    axes = [part for axis in ("epochs=2", "k=0.1", "seed=0,1") for part in ("--set", axis)]
    printed = side_by_side(results.location, *axes, "--backend", "single", "--workers", "1")
    for number, text in enumerate(printed, 1):
        assert f"quickstart, shard {number}/2: 1 done, 0 missing" in text
    assert_same_science(results, local)
    held = [file.name for file in results.store.list("quickstart/leases")]
    assert [name.rpartition("/")[2].partition("-")[2] for name in held] == ["2-1.json", "2-2.json"]
    assert [holder_in(results.store, name) for name in held] == [None, None]
    assert "2 done, 0 missing" in sweeps("status", "quickstart", "--results", results.location).stdout


def test_a_killed_driver_is_taken_up_again_on_a_store_that_fails_now_and_then(
    sweeps: Command, cluster: Running, store: Store, local: Results
):
    """With credentials of the environment, which the nodes are given, and which are left nowhere."""
    store.fail_every = 3
    results = Results.at(store.uri())
    driver = subprocess.Popen(command("sweeps", *cluster.run(results.location)), cwd=ROOT, stdout=subprocess.DEVNULL)
    wait_until(lambda: results.done("quickstart"))
    driver.send_signal(signal.SIGKILL)
    driver.wait()

    done = sweeps(*cluster.run(results.location))
    assert done.returncode == 0, done.stdout + done.stderr
    assert store.failed >= 3
    assert store.keys - {"client"} == {ACCESS_KEY}
    assert_same_science(results, local)
    printed = {"printed": (done.stdout + done.stderr).encode()}
    cluster.assert_nothing_tells([ACCESS_KEY, SECRET_KEY], {**store.objects(results.location), **printed})


def test_a_store_that_refuses_the_records_is_told_of_without_a_secret(
    cluster: Running, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trials, "MAX_FAILURES", 0)
    results = Results.at(store.uri(f"URIKEY:{SECRET_KEY}@"))
    store.left = 0
    launch = Launch("test", results, "", (Trial(k=0.1, epochs=1, batch_size=256),), backend="single")
    with pytest.raises(OSError, match="403 Forbidden") as caught:
        trials.run_trials(launch, cluster.pool, lambda *_: None)
    cluster.assert_nothing_tells(["URIKEY", SECRET_KEY], {"error": str(caught.value).encode()})
    assert os.environ["RAY_AUTH_TOKEN"] not in str(caught.value)


def test_each_node_fetches_a_dataset_from_a_store_and_its_records_name_the_files(
    sweeps: Command, cluster: Running, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The launch keeps its copies elsewhere than the nodes, as on another machine, and has other credentials."""
    uri, folder, results = store.uri(prefix="data/tiny"), tmp_path / "tiny", Results.at(tmp_path / "results")
    place = open_object_store(uri)
    for split, count in (("train", 40), ("test", 20)):
        images = [encoded(image) for image in pixels(count, 28, 28)]
        write_parquet(folder / f"{split}-0.parquet", images, list(range(10)) * (count // 10))
        place.put(f"{split}-0.parquet", (folder / f"{split}-0.parquet").read_bytes())
    nodes = Path(os.environ["XDG_CACHE_HOME"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    axes = [f"dataset=parquet:{uri}", "epochs=1", "seed=0", "norm=batch"]
    where = ["--address", cluster.address, "--device", "cpu", "--backend", "single", "--results", results.location]
    done = sweeps("run", "quickstart", *(part for axis in axes for part in ("--set", axis)), *where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row["dataset"] for row in results.read("quickstart", "members").to_pylist()} == {
        folders.identity(f"parquet:{folder}")
    }
    for cache in (tmp_path / "cache", nodes):
        copies = cache / "normleak" / "data"
        copy = max((path for path in copies.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
        assert sorted(path.name for path in copy.iterdir()) == ["test-0.parquet", "train-0.parquet"]
    assert store.keys - {"client"} == {ACCESS_KEY}
