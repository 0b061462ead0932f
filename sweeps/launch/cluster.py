"""A Ray of this machine's own or one that runs already, and the workers that it carries."""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.tune.execution import class_cache

from study.errors import BadInputError
from study.worker import ENVIRONMENT
from sweeps.interrupt import CTRL_C

GROWS_WITHIN_S = 1800  # a cloud's node is started, has its image pulled and the project installed
STORE_ENVIRONMENT = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
)
"""What this process knows of an object store, and its workers on other machines need not."""
# Tune would hand these on through the workers' runtime environment, which Ray writes into its logs.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(STORE_ENVIRONMENT)
OBJECT_STORE_BYTES = 100 * 2**20  # nothing is kept there; the default would reserve a third of the memory


@dataclass(frozen=True)
class Cluster:
    """Where the workers are.

    Attributes:
        address: `local` for a Ray of one's own, `auto` or an address for a running cluster.
        workers: how many there are; None for one a core, or one a GPU. A running cluster may have fewer, none at all
            included, if it grows by itself.
        device: `cpu`, `cuda`, or `auto` for GPUs where there are any.
    """

    address: str = "local"
    workers: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Pool:
    """The workers of a connected cluster.

    Attributes:
        workers: how many there are: CPUs, or GPUs.
        device: what they compute on.
        asked: when they were asked for.
        each: the most tasks that may share one of them.
    """

    workers: int
    device: str
    asked: float
    each: int = 1


@contextmanager
def connected(cluster: Cluster, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[Pool]:
    """The cluster's workers, let go afterwards.

    Args:
        cluster: where they are.
        on_wait: told that a cluster has none yet and is waited for, which may take minutes.

    Raises:
        BadInputError: the cluster can't be reached, or has no such device.
    """
    asked = time.time()
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Ray has no public switch for the raylet's own messages; what happens to a task is told by its outcome.
    ray._private.worker._worker_logs_enabled = False
    if cluster.address == "local":
        _check_device(cluster.device)
        settings: dict[str, Any] = {
            "num_cpus": cluster.workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    else:
        _check_reachable(cluster.address)
        # The processes of a Ray that was started by another are no children of this one.
        settings = {"runtime_env": {"env_vars": ENVIRONMENT}}
    try:
        ray.init(address=cluster.address, logging_level=logging.CRITICAL, log_to_driver=False, **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInputError(
            f"no Ray cluster at {cluster.address!r}: {str(error).strip().splitlines()[0]} "
            f"(RAY_AUTH_MODE is {os.environ['RAY_AUTH_MODE']}; a cluster with tokens wants its own in RAY_AUTH_TOKEN)."
        ) from None
    try:
        with CTRL_C:
            yield _pool(cluster, asked, on_wait)
    finally:
        # A second Ctrl-C would leave workers behind.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        ray.shutdown()
        signal.signal(signal.SIGINT, handler)


def _pool(cluster: Cluster, asked: float, on_wait: Callable[[str], None] = lambda _: None) -> Pool:
    grows = cluster.address != "local" and cluster.workers is not None and cluster.device != "auto"
    if grows and not _slots(cluster.device):
        on_wait(f"waiting for the first of {cluster.workers} {cluster.device} workers at {cluster.address!r} ...")
        _await_one(cluster)
    device = cluster.device if cluster.device != "auto" else "cuda" if _slots("cuda") else "cpu"
    slots = _slots(device)
    if not slots:
        hint = "" if cluster.address == "local" else "; one that grows is waited for with --workers and --device"
        raise BadInputError(f"there is no {device} for a worker at {cluster.address!r}{hint}.")
    # Each task on a GPU wants a core besides; and who has said how many workers a machine has is to have no more.
    each = max(1, _slots("cpu") // slots) if device == "cuda" and (cluster.workers is None or grows) else 1
    workers = cluster.workers or slots
    # Tune queues what the nodes of today don't carry, which is how a cluster learns that it has to grow.
    return Pool(workers if grows else min(slots, workers), device, asked, each)


def _slots(device: str) -> int:
    """How many workers the nodes of the cluster carry now."""
    return int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0))


def _await_one(cluster: Cluster) -> None:
    """Have a cluster without workers start one: it does so for tasks that nobody can run."""
    resources = {"num_gpus": 1} if cluster.device == "cuda" else {"num_cpus": 1}
    done, _ = ray.wait([ray.remote(**resources)(_nothing).remote()], timeout=GROWS_WITHIN_S)
    if not done:
        raise BadInputError(
            f"no {cluster.device} worker came to {cluster.address!r} within {GROWS_WITHIN_S / 60:.0f} minutes; "
            "`ray status` says what the cluster waits for."
        )


def _nothing() -> None:
    """Done as soon as there is a worker to do it."""


def _check_device(device: str) -> None:
    """Ask torch before Ray is started to find the same; who asks for no GPU does without torch and its memory."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise BadInputError("there is no cuda device here; --device cpu always works.")


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes, and fills the terminal, before it gives up on an address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise BadInputError(f"no Ray cluster at {address!r}: {error.strerror or error}.") from None


def store_environment() -> dict[str, str]:
    """Return the variables of the environment that object stores read."""
    return {name: os.environ[name] for name in STORE_ENVIRONMENT if name in os.environ}
