"""A cluster that grows, with Ray's own autoscaler, whose nodes are processes of this machine."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sweeps.launch.cluster import OBJECT_STORE_BYTES
from tests.patience import wait_until
from tests.ray_runs import ROOT

HEAD = f"{'f' * 51}00000"
"""What Ray's provider of such nodes calls the head."""
COMMANDS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter"),
)
"""The lists that a cluster's configuration has to have."""
CONNECTS = """
import sys
import ray
from sweeps.launch import cluster
from sweeps.launch.launch import Cluster
from tests.patience import wait_until

cluster.LOOK_EVERY_S, cluster.GROWS_WITHIN_S = 1.0, float(sys.argv[3])
try:
    with cluster.connect(Cluster(sys.argv[1], 4, sys.argv[2]), print, 3) as pool:
        print("workers", pool.workers)
        wait_until(lambda: ray.cluster_resources().get("CPU", 0) >= 3)
        print("nodes", int(ray.cluster_resources()["CPU"]))
except cluster.BadInputError as error:
    print(error)
"""

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def node_type(most: int, **resources: int) -> dict[str, object]:
    resources |= {"object_store_memory": OBJECT_STORE_BYTES}
    return {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": most}


@pytest.fixture(scope="module")
def growing() -> Iterator[dict[str, str]]:
    """The environment of who connects to a cluster whose head has no workers, and its address in `ADDRESS`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Sockets in it have names of at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="grows-"))
    config = {
        "cluster_name": "grows",
        "max_workers": 8,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": 10,
        "provider": {
            "type": "external",
            "module": "tests.sweeps.launch.no_quota.Provider",
            "gcs_address": f"127.0.0.1:{port}",
            "launch_multiple": True,
            "head_node_id": HEAD,
        },
        "available_node_types": {
            "ray.head.default": node_type(0),
            "cheap": node_type(4, CPU=1),
            "dear": node_type(4, CPU=1, GPU=1),
        },
        "head_node_type": "ray.head.default",
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in COMMANDS},
    }
    (folder / "config.json").write_text(json.dumps(config))
    environment = {
        **os.environ,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        "RAY_enable_autoscaler_v2": "1",
    }
    head = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--disable-usage-stats"),
            *(
                "--num-cpus=0",
                "--num-gpus=0",
                "--include-dashboard=false",
                f"--object-store-memory={OBJECT_STORE_BYTES}",
            ),
            *("--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}"),
            f"--autoscaling-config={folder / 'config.json'}",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: head.poll() is not None or any(folder.glob("session_latest/logs/monitor.*")))
        assert head.poll() is None
        without = ("RAY_OVERRIDE_NODE_ID_FOR_TESTING", "RAY_CLOUD_INSTANCE_ID")
        own = {name: value for name, value in environment.items() if name not in without}
        yield {**own, "ADDRESS": f"127.0.0.1:{port}"}
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):  # all of the head's session
            with suppress(ProcessLookupError):
                os.killpg(head.pid, number)
            with suppress(subprocess.TimeoutExpired):
                head.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def connect(growing: dict[str, str], device: str, within_s: float) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CONNECTS, growing["ADDRESS"], device, str(within_s)],
        env=growing,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_as_many_workers_as_there_is_work_for_are_asked_for_at_once(growing: dict[str, str]):
    """None has anything to do once the first is there, so that those that come were asked for before."""
    waiting, workers, nodes = connect(growing, "cpu", 120)
    assert waiting == f"waiting for the first of 3 cpu workers at '{growing['ADDRESS']}' ..."
    assert (workers, nodes) == ("workers 4", "nodes 3")


def test_a_quota_that_is_exceeded_is_told_at_once_and_again_at_the_end(growing: dict[str, str]):
    why = (
        "the autoscaler could not launch a dear node: (MaxSpotInstanceCountExceeded): Max spot instance count exceeded"
    )
    waiting, failure, end = connect(growing, "cuda", 10)
    assert waiting.startswith("waiting for the first of 3 cuda workers")
    assert failure == why
    assert end.startswith("no cuda worker came to ")
    assert f"; {why}; `ray status` says" in end
