"""Connect to the workers of a Ray cluster: one of our own on this machine, or a running one."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import ray

from study.errors import BadInputError
from study.terminal import STOPPING
from study.worker import ENVIRONMENT
from sweeps.interrupt import CTRL_C
from sweeps.launch import environment, ray_internals
from sweeps.launch.launch import Cluster

LOOK_EVERY_S = 5.0
"""How often it is looked whether a cluster that grows has its first worker, or can't launch one."""
GROWS_WITHIN_S = 1800
"""How long a cluster that grows may take for its first worker: to start a node, pull its image, install the project."""
NO_NODE_TYPE = {
    "cpu": "no node that the cluster has or can start has a CPU for a worker",
    "cuda": "no node that the cluster has or can start has both a GPU and a CPU for a worker",
}
"""What is said where a cluster can't grow to what is asked for, by device."""
LONGEST_SOCKET = 107
"""The most bytes of the name of a socket, on Linux."""
SOCKET = "/ray/session_2026-01-01_00-00-00_000000_{process}/sockets/plasma_store"
"""The longest name of a socket that Ray makes in the temporary folder."""
OBJECT_STORE_BYTES = 100 * 2**20
"""Nothing is kept in Ray's object store, which would otherwise reserve a third of the memory."""
STORE_ENVIRONMENT = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"),
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"),
)
"""The variables by which this process reaches an object store, and which workers on other machines may lack."""


@dataclass(frozen=True)
class Pool:
    """The workers of a connected cluster.

    Attributes:
        workers: how many there are: CPUs, or GPUs.
        device: what they compute on, `cpu` or `cuda`.
        asked_at: when they were asked for, as `time.time` has it.
        most_sharing: the most tasks that may share one of them.
    """

    workers: int
    device: str
    asked_at: float
    most_sharing: int = 1


@contextmanager
def connect(
    cluster: Cluster, on_wait: Callable[[str], None] = lambda _: None, most: int | None = None
) -> Iterator[Pool]:
    """Connect to the cluster's workers, and let them go afterwards.

    Args:
        cluster: where the workers are.
        on_wait: called with a sentence if the cluster has no worker yet and is waited for, which may take minutes, and
            with one for each reason for which its autoscaler could not launch a node, also later, from another thread.
        most: the most workers that there is work for, if that is known.

    Raises:
        BadInputError: the cluster can't be reached or has no such device, or Ray was imported too early.
    """
    environment.check_import_order()
    asked_at = time.time()
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ray_internals.silence_raylet()
    ray_internals.keep_sigterm_handler()
    ray_internals.keep_out_of_logs(STORE_ENVIRONMENT)
    if cluster.address == "local":
        _check_device(cluster.device)
        _check_temporary_folder()
        settings: dict[str, Any] = {
            "num_cpus": cluster.workers,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    else:
        _check_reachable(cluster.address)
        # The processes of a running cluster don't inherit this one's environment.
        settings = {"runtime_env": {"env_vars": ENVIRONMENT}}
    try:
        with CTRL_C:
            _init(cluster.address, settings)
            tell = _once(on_wait)
            pool = _pool(cluster, asked_at, tell, most)
            with _telling_failures(tell) if _grows(cluster) else nullcontext():
                yield pool
    finally:
        # A second Ctrl-C would leave workers behind.
        handlers = {each: signal.signal(each, signal.SIG_IGN) for each in STOPPING}
        ray_internals.shut_down()
        for each, handler in handlers.items():
            signal.signal(each, handler)


def _init(address: str, settings: Mapping[str, Any]) -> None:
    """Start Ray on this machine, or join a running cluster.

    The processes that it starts get no SIGTERM. Slurm sends it to all processes of a job step, and once the raylet has
    gone, Ray ends this process with code 1, wherever it is: only this process is to hear of it, and it ends the others.
    One that comes meanwhile is heard afterwards: Ray's compiled part, once it is started, would print where it was and
    abort the process 3 s after it.

    Raises:
        BadInputError: the cluster can't be reached.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # what is blocked here is blocked in children
    try:
        ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False, **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInputError(
            f"no Ray cluster at {address!r}: {str(error).strip().splitlines()[0]} "
            f"(RAY_AUTH_MODE is {os.environ['RAY_AUTH_MODE']}; a cluster that uses tokens needs its own in "
            "RAY_AUTH_TOKEN)."
        ) from None
    finally:
        CTRL_C.take_over()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pool(
    cluster: Cluster,
    asked_at: float,
    on_wait: Callable[[str], None] = lambda _: None,
    most: int | None = None,
) -> Pool:
    """Return the workers that the connected cluster has, or may grow to."""
    grows = _grows(cluster)
    if grows and not _count_workers(cluster.device):
        _await_first_worker(cluster, min(cluster.workers or 1, most or sys.maxsize), on_wait)
    device = cluster.device if cluster.device != "auto" else "cuda" if _count_workers("cuda") else "cpu"
    available = _count_workers(device)
    if not available:
        hint = (
            "" if cluster.address == "local" else "; to wait for a cluster that grows, run with --workers and --device"
        )
        raise BadInputError(f"there is no {device} for a worker at {cluster.address!r}{hint}.")
    # A task on a GPU needs a core as well. A user who says how many workers a machine has is to have no more.
    may_share = device == "cuda" and (cluster.workers is None or grows)
    most_sharing = max(1, _count_workers("cpu") // available) if may_share else 1
    workers = cluster.workers or available
    # Tune queues what the nodes of today can't carry, which is how a cluster learns that it has to grow.
    return Pool(workers if grows else min(available, workers), device, asked_at, most_sharing)


def _grows(cluster: Cluster) -> bool:
    """Return whether a cluster may get the workers that it is asked for only then."""
    return cluster.address != "local" and cluster.workers is not None and cluster.device != "auto"


def _once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return what tells each sentence only once."""
    told: set[str] = set()

    def tell_once(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            tell(sentence)

    return tell_once


@contextmanager
def _telling_failures(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell within the block for which reasons the cluster's autoscaler could not launch a node."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            for failure in ray_internals.launch_failures():
                tell(failure)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join(LOOK_EVERY_S)  # a cluster that is gone does not answer


def _count_workers(device: str) -> int:
    """Count the workers that the nodes of the cluster can carry now."""
    return int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0))


def _await_first_worker(cluster: Cluster, wanted: int, on_wait: Callable[[str], None]) -> None:
    """Have a cluster without workers start as many as are wanted, and wait for the first.

    It does so for tasks that no node can run. Once there is a worker, Tune's own tasks ask for the others.

    Raises:
        BadInputError: none came in time.
    """
    on_wait(f"waiting for the first of {wanted} {cluster.device} workers at {cluster.address!r} ...")
    gpus = int(cluster.device == "cuda")
    ask, asked_at = ray.remote(num_cpus=1, num_gpus=gpus)(_do_nothing).remote, time.time()
    asked, deadline = [ask() for _ in range(wanted)], time.monotonic() + GROWS_WITHIN_S
    request = {"CPU": 1.0, **({"GPU": 1.0} if gpus else {})}
    failures: dict[str, None] = {}
    while not ray.wait(asked, timeout=min(LOOK_EVERY_S, GROWS_WITHIN_S))[0]:
        infeasible = ray_internals.is_infeasible(request, wanted, asked_at)
        for failure in [NO_NODE_TYPE[cluster.device]] * infeasible + ray_internals.launch_failures():
            failures[failure] = None
            on_wait(failure)
        if time.monotonic() > deadline:
            why = "".join(f"; {failure}" for failure in failures)
            raise BadInputError(
                f"no {cluster.device} worker came to {cluster.address!r} within {GROWS_WITHIN_S / 60:.0f} minutes"
                f"{why}; `ray status` says what the cluster waits for."
            )


def _do_nothing() -> None:
    """Return at once: a task that is done as soon as there is a worker."""


def _check_device(device: str) -> None:
    """Refuse a GPU that isn't here before Ray is started; torch, which takes much memory, is loaded only for that.

    Raises:
        BadInputError: there is none.
    """
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise BadInputError("there is no cuda device here; --device cpu always works.")


def _check_temporary_folder() -> None:
    """Refuse a temporary folder with so long a name that Ray can't make its sockets below it.

    Raises:
        BadInputError: its name is too long.
    """
    variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    folder = os.environ.get(variable, "/tmp").rstrip("/")
    most = LONGEST_SOCKET - len(SOCKET.format(process=os.getpid()))
    if (length := len(os.fsencode(folder))) > most:
        raise BadInputError(
            f"{variable} names a folder of {length} bytes, {folder!r}, and the sockets that Ray makes below it leave "
            f"room for {most}: set {variable} to a shorter one, as in {variable}=/tmp."
        )


def _check_reachable(address: str) -> None:
    """Refuse an address where nothing answers; Ray would try for minutes and fill the terminal.

    Raises:
        BadInputError: nothing answers within five seconds.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise BadInputError(f"no Ray cluster at {address!r}: {error.strerror or error}.") from None


def store_environment() -> dict[str, str]:
    """Return the variables of this process by which an object store is reached."""
    return {name: os.environ[name] for name in STORE_ENVIRONMENT if name in os.environ}
