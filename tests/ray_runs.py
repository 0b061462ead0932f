"""Sweeps that really run, as fixtures for whoever needs their records, and a Ray for them to join."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

import sweeps.launch  # before any test imports Ray, which reads its environment then
from tests.patience import wait_until

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ["XDG_CACHE_HOME"])
"""The folder that all of pytest's processes share, and no other run does."""
TINY = ["--set", "epochs=3", "--set", "seed=0,1", "--workers", "1"]
"""The quickstart in a few seconds: each worker takes some to start."""

Command = Callable[..., subprocess.CompletedProcess[str]]


def command(module: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass(frozen=True)
class Head:
    """A running head of Ray.

    Attributes:
        address: where it is joined.
        environment: that of who joins it.
        process: the number of its `ray start`.
        logs: the folder of its logs.
    """

    address: str
    environment: dict[str, str]
    process: int
    logs: Path


@contextmanager
def ray_head(*options: str, port: int | None = None, **variables: str) -> Iterator[Head]:
    """Start a head with these options of `ray start`, and with these variables as well; its processes end with it."""
    from sweeps.launch.cluster import OBJECT_STORE_BYTES  # imports Ray, which need not be installed for other tests

    port = port or free_ports(1)[0]
    # Sockets in it have names of at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="head-"))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **token}
    fixed = (
        *("start", "--head", "--block", "--disable-usage-stats", "--num-gpus=0"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}"),
        f"--object-store-memory={OBJECT_STORE_BYTES}",
    )
    said = folder / "said"
    with said.open("w") as output:
        head = subprocess.Popen(
            command("ray.scripts.scripts", *fixed, *options),
            env={**environment, **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: head.poll() is not None or "Ray runtime started" in said.read_text())
        assert head.poll() is None, said.read_text()
        yield Head(f"127.0.0.1:{port}", environment, head.pid, folder / "session_latest" / "logs")
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):  # all of the head's session
            with suppress(ProcessLookupError):
                os.killpg(head.pid, number)
            with suppress(subprocess.TimeoutExpired):
                head.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def sweeps() -> Command:
    """`python -m sweeps` as a user runs it, on a pipe."""

    def run(*arguments: str | Path, module: str = "sweeps") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(module, *arguments), cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )

    return run


@pytest.fixture(scope="session")
def finished(sweeps: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder in which the tiny quickstart has run to its end on Ray, in two launches.

    It runs once for all of pytest's processes, each of which has a copy.
    """
    own = tmp_path_factory.mktemp("finished") / "results"
    once = SHARED / "finished"
    with FileLock(SHARED / "finished.lock"):
        if not once.exists():
            run_tiny_quickstart(sweeps, own)
            shutil.copytree(own, SHARED / "copying")
            (SHARED / "copying").rename(once)
    if not own.exists():
        shutil.copytree(once, own)
    return own


def run_tiny_quickstart(sweeps: Command, results: Path) -> None:
    first = sweeps("run", "quickstart", *TINY, "--limit", "1", "--results", results)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "about to run 1 trial, 2 members" in first.stdout
    assert "1 done, 3 missing" in first.stdout
    rest = sweeps("run", "quickstart", *TINY, "--results", results)
    assert rest.returncode == 0, rest.stdout + rest.stderr
    assert "quickstart: 100%, 3 done, 0 missing, 0 failed; took " in rest.stdout
    for norm in ("batch", "none"):
        assert rest.stdout.count(f"norm={norm}: trained as ") == 1
