"""A cluster that grows, with Ray's own autoscaler, whose nodes are processes of this machine."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sweeps.launch.cluster import OBJECT_STORE_BYTES
from tests.ray_runs import ROOT, Head, free_ports, ray_head

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
WANTS_MORE = """
import sys
import ray
from sweeps.launch import cluster, ray_internals
from sweeps.launch.launch import Cluster
from tests.patience import wait_until

look, found = ray_internals.launch_failures, []
ray_internals.launch_failures = lambda: found.append(look()) or found[-1]
cluster.LOOK_EVERY_S = 1.0
with cluster.connect(Cluster(sys.argv[1], 4, "cpu"), print, 1):
    print("connected")
    asked = ray.remote(num_cpus=1, num_gpus=1)(lambda: None).remote()
    wait_until(lambda: sum(map(bool, found)) >= 3)
"""
REFUSED = (
    "the autoscaler could not launch a dear node: (MaxSpotInstanceCountExceeded): Max spot instance count exceeded"
)

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def node_type(most: int, **resources: int) -> dict[str, object]:
    resources |= {"object_store_memory": OBJECT_STORE_BYTES}
    return {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": most}


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A cluster whose head has no workers."""
    (port,) = free_ports(1)
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
    file = tmp_path_factory.mktemp("growing") / "config.json"
    file.write_text(json.dumps(config))
    options = ("--num-cpus=0", "--include-dashboard=false", f"--autoscaling-config={file}")
    variables = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        "RAY_enable_autoscaler_v2": "1",
    }
    with ray_head(*options, port=port, **variables) as head:
        yield head


def said(growing: Head, script: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, growing.address, *arguments],
        env=growing.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_as_many_workers_as_there_is_work_for_are_asked_for_at_once(growing: Head):
    """None has anything to do once the first is there, so that those that come were asked for before."""
    waiting, workers, nodes = said(growing, CONNECTS, "cpu", "120")
    assert waiting == f"waiting for the first of 3 cpu workers at '{growing.address}' ..."
    assert (workers, nodes) == ("workers 4", "nodes 3")


def test_a_quota_that_is_exceeded_later_is_told_once(growing: Head):
    *_, connected, failure = said(growing, WANTS_MORE)
    assert (connected, failure) == ("connected", REFUSED)


def test_a_quota_that_is_exceeded_is_told_at_once_and_again_at_the_end(growing: Head):
    waiting, failure, end = said(growing, CONNECTS, "cuda", "10")
    assert waiting.startswith("waiting for the first of 3 cuda workers")
    assert failure == REFUSED
    assert end.startswith("no cuda worker came to ")
    assert f"; {REFUSED}; `ray status` says" in end
