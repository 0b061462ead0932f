"""A cluster of machines of one's own, end to end: two network namespaces with SSH, `ray up`, a sweep, `ray down`.

Each machine has its own processes, so that the `ray stop` that Ray runs there sees none of this machine's, and its own
network, home, /tmp and /dev/shm. All of it ends with the first process of the namespaces that hold the two.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.patience import wait_until

ROOT = Path(__file__).parents[2]
MACHINES = Path(__file__).with_name("machines.sh")
HEAD, WORKER = "10.77.0.2", "10.77.0.3"
SSHD = Path("/usr/sbin/sshd")
PROGRAMS = ("ip", "mount", "nsenter", "rsync", "setpriv", "ssh", "ssh-keygen", "unshare")
SSHD_CONFIG = """\
HostKey {folder}/host_key
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin yes
AuthorizedKeysFile .ssh/authorized_keys
"""
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@dataclass(frozen=True)
class Desk:
    """Where the cluster is looked after from.

    Attributes:
        folder: what all machines share; each has its home in it.
        process: the first process of the namespaces, by its number here.
    """

    folder: Path
    process: int

    @property
    def project(self) -> Path:
        """A copy of what git knows, which is what `ray up` copies on."""
        return self.folder / "desk" / "project"

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command as at the desk, and return what it prints."""
        inside = ["nsenter", f"--target={self.process}", "--mount", "--net", "--pid", f"--wd={self.project}"]
        environment = {
            "HOME": str(self.folder / "desk"),
            "PATH": f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [*inside, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-8000:]}"
        return done.stdout

    def ours(self, *arguments: str, check: bool = True) -> str:
        """`python -m sweeps` at the desk."""
        return self.run("python", "-m", "sweeps", *arguments, check=check)

    def processes(self, machine: str) -> list[str]:
        """The command lines that run on a machine, by its address."""
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        return self.run("ssh", "-i", "../.ssh/key", *options, f"root@{machine}", "ps -eo args").splitlines()[1:]


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def prepare(folder: Path) -> None:
    """The homes of the desk and of both machines, on which the project's packages are installed already."""
    users = Path("/etc/passwd").read_text()
    for name in ("desk", "m2", "m3"):
        home = folder / name
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        for skeleton in Path("/etc/skel").glob(".*"):
            shutil.copy(skeleton, home)
        mine = re.sub(r"^(root:.*?:.*?:.*?:.*?:)[^:]*(:).*$", rf"\g<1>{home}\g<2>/bin/bash", users, flags=re.MULTILINE)
        (folder / f"{name}.passwd").write_text(mine)
    for key in (folder / "host_key", folder / "desk" / ".ssh" / "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (folder / "sshd_config").write_text(SSHD_CONFIG.format(folder=folder))
    project = folder / "desk" / "project"
    for name in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines():
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    stamp = subprocess.run(
        ["sha256sum", "pyproject.toml", "constraints.txt"], cwd=project, check=True, capture_output=True, text=True
    ).stdout
    for name in ("m2", "m3"):
        shutil.copy(folder / "desk" / ".ssh" / "key.pub", folder / name / ".ssh" / "authorized_keys")
        (folder / name / "normleak").mkdir()
        (folder / name / "normleak" / ".venv").symlink_to(sys.prefix)
        (folder / name / "installed").write_text(stamp)


def reason_to_skip() -> str:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or not SSHD.is_file():
        return f"not installed: {', '.join(missing) or SSHD}"
    if os.geteuid() != 0:
        return "namespaces with SSH take root's rights"
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return "this is no checkout"
    tried = subprocess.run(
        [
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
            "ip",
            "link",
            "add",
            "lan",
            "type",
            "bridge",
        ],
        capture_output=True,
        check=False,
    )
    return "" if tried.returncode == 0 else "no namespaces can be made here"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    if reason := reason_to_skip():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("machines")
    prepare(folder)
    keep = {ROOT.resolve(), Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), folder}
    seen = ":".join(str(path) for path in keep if path.is_relative_to("/tmp"))
    # Nothing of it outlives the tests, were they killed.
    namespaces = [
        "setpriv",
        "--pdeathsig=KILL",
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]
    with subprocess.Popen([*namespaces, "bash", MACHINES, folder, seen]) as process:
        try:
            wait_until(lambda: process.poll() is not None or (folder / "ready").exists())
            assert process.poll() is None
            (first,) = children(process.pid)
            yield Desk(folder, first)
        finally:
            # `unshare` waits for its child and hears nothing gentler; the child and all below it end with it.
            process.kill()


def test_a_machine_sees_only_its_own_processes(desk: Desk):
    """What keeps the `ray stop` of a machine from every other Ray on this one."""
    for machine in (HEAD, WORKER):
        names = [command.split()[0].rstrip(":").rpartition("/")[2] for command in desk.processes(machine)]
        assert set(names) <= {"sshd", "ps", "bash", "sh"}


def test_a_sweep_runs_on_machines_of_ones_own(desk: Desk):
    machines = ("--machine", HEAD, "--machine", WORKER, "--ssh-user", "root", "--ssh-key", "~/.ssh/key")
    assert desk.ours("cluster", "init", *machines).startswith("made my-cluster.yaml\nnext: ")

    # Without a token nothing is started.
    refused = desk.ours("cluster", "check", check=False)
    assert "not ok               token: there is no ~/.ray/auth_token" in refused
    assert "next: ray up" not in refused
    token = desk.folder / "desk" / ".ray" / "auth_token"
    token.parent.mkdir(mode=0o700)
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    found = desk.ours("cluster", "check")
    assert "not ok" not in found
    assert f"ssh {WORKER}: SSH-2.0-" in found

    desk.run("ray", "up", "--yes", "my-cluster.yaml")
    results = desk.folder / "results"
    sweep = f"run quickstart --set epochs=1 --set seed=0 --set k=0.1 --backend single --results {results} --yes"
    # There is one worker, and it comes after `ray up` has ended.
    waits = f"cd normleak && .venv/bin/python -m sweeps {sweep} --address auto --workers 1 --device cpu"
    said = desk.run("ray", "exec", "my-cluster.yaml", waits)
    assert "2 done, 0 missing, 0 failed" in said, said[-4000:]
    members = pd.read_parquet(results / "quickstart" / "members")
    assert sorted(members["norm"]) == ["batch", "none"]
    # Who has no token is not let in, and the head, which has one, runs no trial.
    status = ("ray", "status", f"--address={HEAD}:6379")
    assert "Total Usage" in desk.run("env", "RAY_AUTH_MODE=token", *status)
    assert "Total Usage" not in desk.run("env", "RAY_AUTH_MODE=disabled", *status, check=False)
    assert any("raylet" in command for command in desk.processes(WORKER))

    desk.run("ray", "down", "--yes", "my-cluster.yaml")
    assert not any("raylet" in command or "gcs_server" in command for command in desk.processes(HEAD))
