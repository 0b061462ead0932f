"""Checks of a cluster's file that need nobody but this machine, and for machines of one's own their SSH."""

import os
import re
import shutil
import socket
import stat
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from sweeps.cluster.file import PROJECT, ClusterFile
from sweeps.cluster.finding import Finding, failed, ok, unknown

TOKEN = Path("~/.ray/auth_token")
IMAGE = re.compile(r"(?P<name>[^:]+):(?P<ray>\d+\.\d+\.\d+)-py(?P<python>3\d+)(-[\w.]+)?")
CONNECT_S = 5.0


def findings(file: ClusterFile) -> Iterator[Finding]:
    """Check what every cluster needs."""
    yield _values(file)
    yield _token(file)
    yield _token_required(file)
    yield _mounts(file)
    yield _versions(file)


def machine_findings(file: ClusterFile) -> Iterator[Finding]:
    """Check what machines of one's own need besides."""
    programs = [name for name in ("ssh", "rsync") if shutil.which(name) is None]
    yield (
        failed("programs", f"`ray up` needs {' and '.join(programs)} here", f"apt install {' '.join(programs)}")
        if programs
        else ok("programs", "ssh and rsync are here")
    )
    key = file.config.get("auth", {}).get("ssh_private_key", "")
    if key and not Path(key).expanduser().is_file():
        yield failed("key", f"there is no {key}", f"ssh-keygen -t ed25519 -f {key}")
    elif key:
        yield ok("key", key)
    user = file.config.get("auth", {}).get("ssh_user", "")
    for address in [file.provider.get("head_ip", ""), *file.provider.get("worker_ips", ())]:
        yield _answers_ssh(address, f"ssh {f'-i {key} ' if key else ''}{user}@{address} true")
    if any("--head" in command and "RAY_enable_autoscaler_v2=0" in command for command in file.start_commands):
        yield ok("autoscaler", "Ray's first, which starts the workers")
    elif os.environ.get("RAY_UP_enable_autoscaler_v2") == "0":  # noqa: SIM112
        yield ok("autoscaler", "Ray's first, by RAY_UP_enable_autoscaler_v2=0")
    else:
        yield failed(
            "autoscaler",
            "Ray's second, its default, starts no worker on machines of one's own",
            "export RAY_UP_enable_autoscaler_v2=0",
        )


def _values(file: ClusterFile) -> Finding:
    left = file.placeholders()
    if left:
        return failed("values", f"still the template's: {', '.join(left)}", f"grep -n 'change:' {file.path}")
    return ok("values", "none is the template's")


def _token(file: ClusterFile) -> Finding:
    """Ray starts a head that is paid for, and only then looks for the token that it copies there."""
    name = "token"
    source = next((source for target, source in _mounted(file) if target.endswith("/.ray/auth_token")), None)
    if source is None:
        return failed(
            name, f"{file.path} mounts none, so that any node may join", "python -m sweeps cluster init --to other.yaml"
        )
    path = Path(source).expanduser()
    told = os.environ.get("RAY_AUTH_TOKEN", "")
    generate = f"(umask 077 && ray get-auth-token --generate > {os.devnull})"
    if not path.is_file():
        return failed(name, f"there is no {source}", generate)
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        return failed(name, f"{source} can't be read: {error}", f"ls -l {source}")
    if not token:
        return failed(name, f"{source} is empty", f"rm {source} && {generate}")
    if told and told != token:
        return failed(name, f"RAY_AUTH_TOKEN is another than {source}", "unset RAY_AUTH_TOKEN")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return failed(name, f"{source} can be read by others", f"chmod 600 {source}")
    return ok(name, source)


def _token_required(file: ClusterFile) -> Finding:
    """A node with a token and without the mode lets everybody in."""
    docker = file.config.get("docker", {})
    options = [*docker.get("run_options", ()), *docker.get("head_run_options", ())]
    starts = [command for command in file.start_commands if "ray start" in command]
    if any("RAY_AUTH_MODE=token" in option for option in options):
        return ok("token mode", "in the containers")
    if starts and all("RAY_AUTH_MODE=token" in command for command in starts):
        return ok("token mode", "where Ray is started")
    return failed(
        "token mode", "the nodes don't ask for the token", f"grep -n RAY_AUTH_MODE {PROJECT / 'cluster.yaml'}"
    )


def _mounts(file: ClusterFile) -> Finding:
    missing = [source for _, source in _mounted(file) if not Path(source).expanduser().exists()]
    missing = [source for source in missing if not source.endswith("auth_token")]
    if missing:
        return failed("files", f"{', '.join(missing)} to be copied to the nodes is not here", f"cd {PROJECT}")
    if any(source == "." for _, source in _mounted(file)) and not Path("pyproject.toml").is_file():
        return failed("files", "the nodes would get this folder, which is not the project's", f"cd {PROJECT}")
    return ok("files", "all that is copied to the nodes is here")


def _mounted(file: ClusterFile) -> list[tuple[str, str]]:
    mounts: dict[str, Any] = file.config.get("file_mounts") or {}
    return [(str(target), str(source)) for target, source in mounts.items()]


def _versions(file: ClusterFile) -> Finding:
    """Ray and Python of the image, or of this machine, against what the project pins."""
    name = "versions"
    pins = dict(
        line.split("==") for line in (PROJECT / "constraints.txt").read_text().splitlines() if line.count("==") == 1
    )
    supported = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"]
    install = "pip install -c constraints.txt -e '.[cluster]'"
    if version("ray") != pins["ray"]:
        return failed(name, f"Ray is {version('ray')} here, and {pins['ray']} in constraints.txt", install)
    images = images_of(file)
    if not images:
        return ok(name, f"Ray {pins['ray']}; each machine installs it for its own Python, {supported}")
    for image in images:
        match = IMAGE.fullmatch(image)
        if match is None:
            return unknown(name, f"the tag of {image} doesn't say", f"docker run --rm {image} ray --version")
        python = f"{match['python'][0]}.{match['python'][1:]}"
        wanted = f"{match['name']}:{pins['ray']}-py311"
        if match["ray"] != pins["ray"]:
            return failed(name, f"{image} has not Ray {pins['ray']}", _replace(file, image, wanted))
        if python not in SpecifierSet(supported):
            return failed(name, f"Python {python} is not {supported}", _replace(file, image, wanted))
    return ok(name, f"Ray {pins['ray']}, Python {python} in the image")


def images_of(file: ClusterFile) -> list[str]:
    """The images that the nodes run in; none without Docker."""
    docker = file.config.get("docker", {})
    images = [docker.get(key) for key in ("image", "head_image", "worker_image")]
    return list(dict.fromkeys(image for image in images if image))


def _replace(file: ClusterFile, old: str, new: str) -> str:
    return f"sed -i 's|{old}|{new}|' {file.path}"


def _answers_ssh(address: str, command: str) -> Finding:
    try:
        with socket.create_connection((address, 22), timeout=CONNECT_S) as connection:
            connection.settimeout(CONNECT_S)
            greeting = connection.recv(64)
    except OSError as error:
        return failed(f"ssh {address}", f"no answer on port 22: {error.strerror or error}", command)
    if not greeting.startswith(b"SSH-"):
        return failed(f"ssh {address}", "what answers on port 22 is no SSH", command)
    return ok(f"ssh {address}", greeting.decode("ascii", "replace").strip())
