import os
import signal
import subprocess
import sys

import pytest
import ray

from study.errors import BadInputError
from sweeps.interrupt import CtrlC
from sweeps.launch import cluster as cluster_module
from sweeps.launch.cluster import connect
from sweeps.launch.launch import Cluster
from sweeps.launch.schedule import schedule


@pytest.mark.parametrize(
    ("resources", "asked", "expected"),
    [
        ({"CPU": 16.0, "GPU": 2.0}, Cluster(), (2, "cuda", 8)),
        ({"CPU": 1.0, "GPU": 2.0}, Cluster(), (2, "cuda", 1)),
        ({"CPU": 16.0, "GPU": 2.0}, Cluster(workers=2), (2, "cuda", 1)),
        ({"CPU": 16.0, "GPU": 2.0}, Cluster(device="cpu"), (16, "cpu", 1)),
        ({"CPU": 4.0}, Cluster(), (4, "cpu", 1)),
        # A running cluster may grow to what was asked for, and then as many share a GPU as do today.
        ({"CPU": 8.0, "GPU": 1.0}, Cluster("auto", 4, "cuda"), (4, "cuda", 8)),
        ({"CPU": 8.0, "GPU": 4.0}, Cluster("auto", 2, "cuda"), (2, "cuda", 2)),
        ({"CPU": 8.0, "GPU": 1.0}, Cluster("auto", 4), (1, "cuda", 1)),
    ],
)
def test_a_gpu_is_shared_by_as_many_as_have_a_core_unless_the_user_has_said_how_many(
    monkeypatch, resources, asked, expected
):
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    pool = cluster_module._pool(asked, 0.0)
    assert (pool.workers, pool.device, pool.most_sharing) == expected


@pytest.mark.slow
@pytest.mark.ray
def test_a_cluster_that_does_not_grow_is_not_waited_for_without_end(pool, monkeypatch):
    monkeypatch.setattr(cluster_module, "GROWS_WITHIN_S", 0.2)
    messages: list[str] = []
    with pytest.raises(BadInputError, match="no cuda worker came to 'auto' within"):
        cluster_module._pool(Cluster("auto", 2, "cuda"), 0.0, messages.append)
    assert messages == ["waiting for the first of 2 cuda workers at 'auto' ..."]


@pytest.mark.slow
@pytest.mark.ray
def test_a_cluster_that_can_not_grow_to_what_is_asked_for_says_so_while_it_is_waited_for(pool, monkeypatch):
    """Ray's autoscaler, of version 1, runs here as well, and has no node types at all."""
    monkeypatch.setattr(cluster_module, "LOOK_EVERY_S", 0.5)

    class HeardError(Exception):
        pass

    def on_wait(message: str) -> None:
        if not message.startswith("waiting"):
            raise HeardError(message)

    with pytest.raises(HeardError, match="no node that the cluster has or can start has both a GPU and a CPU"):
        cluster_module._pool(Cluster("auto", 2, "cuda"), 0.0, on_wait)


def test_a_cluster_without_workers_says_how_it_is_waited_for(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {})
    with pytest.raises(BadInputError, match=r"no cpu for a worker at 'auto'; .* with --workers and --device"):
        cluster_module._pool(Cluster("auto"), 0.0)


def test_a_sigterm_while_ray_starts_is_left_to_no_part_of_it(monkeypatch):
    """As Ray's compiled part, which would print where the process was, and abort it soon after."""
    heard = []

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: heard.append("by Ray"))
        signal.raise_signal(signal.SIGTERM)

    ours = CtrlC()
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(cluster_module, "CTRL_C", ours)
    with pytest.raises(KeyboardInterrupt), ours:
        cluster_module._init("local", {})
    assert (heard, ours.received) == ([], signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.ray
def test_the_workers_of_a_running_cluster_start_with_the_environment_of_ours(pool):
    """The variable is one that this Ray was not started with; glibc reads its own when a process starts."""
    script = """
import sys
from pathlib import Path
from sweeps.launch import cluster
from sweeps.launch.launch import Cluster
from sweeps.launch.schedule import schedule
from sweeps.launch.schedule import schedule

def environment(task, report):
    return {"started": Path("/proc/self/environ").read_text().split(chr(0))}

cluster.ENVIRONMENT = {"NORMLEAK_TEST": "there"}
with cluster.connect(Cluster(sys.argv[1], 1, "cpu")) as pool:
    print("NORMLEAK_TEST=there" in schedule([{}], environment, pool, lambda *_: None).results[0]["started"])
"""
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run([sys.executable, "-c", script, address], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[-2:] == ["True", ""], done.stderr


@pytest.mark.slow
@pytest.mark.ray
def test_workers_are_as_nice_as_the_launch(pool):
    assert schedule([{}], report_niceness, pool, lambda *_: None).results[0]["niceness"] == os.nice(0)


def report_niceness(task, report):
    return {"niceness": os.nice(0)}


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_with_too_long_a_name_is_refused_before_ray_starts(variable, monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setenv(variable, "/tmp/" + "é" * 50)
    said = f"{variable} names a folder of 105 bytes, .* leave room for 4.: set {variable} to a shorter one, as in"
    with pytest.raises(BadInputError, match=said), connect(Cluster("local", 1, "cpu")):
        pass


def test_a_cluster_that_is_not_there_is_one_clear_sentence():
    with pytest.raises(BadInputError, match=r"no Ray cluster at '127\.0\.0\.1:9'"), connect(Cluster("127.0.0.1:9")):
        pass
