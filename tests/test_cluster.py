"""`cluster.yaml` against Ray's validator, AWS's own model and the project's pins; each check also on a broken copy."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.model import ListShape, Shape, StructureShape
from botocore.validate import ParamValidator
from click import ClickException, Group
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "cluster.yaml").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GUIDE = (ROOT / "docs" / "cluster.md").read_text()
IMAGE = re.compile(r"rayproject/ray:([\d.]+)-py3(\d+)-cpu")
DRIVER = re.compile(r"-e 'NVIDIA_REQUIRE_CUDA=cuda>=(\d+)\.\d+'")

Check = Callable[[str], None]


def nodes(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)["available_node_types"]


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every value of the file that is no container, with the key that it stands under."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each, key)
    else:
        yield key, str(value)


# The checks: each raises where a copy of the file is wrong. They import Ray late, for it reads its environment then,
# which `sweeps.launch` sets where its tests run too.


def prepared(text: str) -> dict[str, Any]:
    """With Ray's defaults."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(yaml.safe_load(text))


def ray_accepts(text: str) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(prepared(text))


def aws_accepts(text: str) -> None:
    """Names, types and choices of what is handed to EC2, by the model that its own client brings along."""
    shape = run_instances()
    for name, node in nodes(text).items():
        # Ray adds the two counts.
        request = {**node["node_config"], "MinCount": 1, "MaxCount": 1}
        report = ParamValidator().validate(request, shape)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"
        assert list(unknown_choices(request, shape)) == []
        # Without an image of the user's, Ray takes one of 2022.
        assert {"InstanceType", "ImageId", "IamInstanceProfile"} <= set(request)


@cache
def run_instances() -> Shape:
    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def unknown_choices(value: Any, shape: Shape) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        for name, each in value.items():
            yield from unknown_choices(each, shape.members[name])
    elif isinstance(shape, ListShape):
        for each in value:
            yield from unknown_choices(each, shape.member)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{value!r} is no {shape.name}"


def versions_agree(text: str, constraints: str = CONSTRAINTS) -> None:
    """Of Ray, Python and CUDA: in the image, in what is asked of the driver, and where the project pins them."""
    pins = dict(line.split("==") for line in constraints.splitlines())
    docker = yaml.safe_load(text)["docker"]
    image = IMAGE.fullmatch(docker["image"])
    assert image is not None
    ray, python = image.groups()
    (cuda,) = (match[1] for option in docker["worker_run_options"] if (match := DRIVER.fullmatch(option)))
    assert f"ray[tune]=={ray}" in PROJECT["dependencies"]
    assert ray == pins["ray"] == version("ray")
    assert f"3.{python}" in SpecifierSet(PROJECT["requires-python"])
    assert cuda == pins["cuda-toolkit"].partition(".")[0]


def the_head_takes_no_trials(text: str) -> None:
    config = yaml.safe_load(text)
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"], "the head is not to be taken away"
    # On machines of one's own, Ray makes nothing of `resources`.
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(config["head_start_ray_commands"][-1].split())


def workers_are_spot_and_come_and_go(text: str) -> None:
    config = prepared(text)
    (worker,) = (node for name, node in config["available_node_types"].items() if name != config["head_node_type"])
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert worker["min_workers"] == 0
    assert worker["max_workers"] == config["max_workers"] > 0
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert config["provider"]["cache_stopped_nodes"] is False, "a stopped node still costs its disk"


def only_workers_are_given_gpus(text: str) -> None:
    """An image without CUDA's libraries, which torch brings, says nothing of GPUs either."""
    docker = yaml.safe_load(text)["docker"]
    options = docker.get("worker_run_options", [])
    assert {"-e NVIDIA_VISIBLE_DEVICES=all", "-e NVIDIA_DRIVER_CAPABILITIES=compute,utility"} <= set(options)
    assert "NVIDIA" not in " ".join(docker["run_options"])


def the_token_is_asked_for(text: str) -> None:
    config = yaml.safe_load(text)
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"].get("/home/ray/.ray/auth_token") == "~/.ray/auth_token"


def a_job_has_time_to_stop(text: str) -> None:
    options = " ".join(yaml.safe_load(text)["docker"]["run_options"])
    (seconds,) = re.findall(r"-e RAY_JOB_STOP_WAIT_TIME_S=(\d+)", options)
    assert int(seconds) >= 30


def nothing_is_secret(text: str) -> None:
    for key, value in leaves(yaml.safe_load(text)):
        assert not re.search(r"credential|password|secret|private_key|access_key", key, re.IGNORECASE), key
        # An AWS key, a token or digest in hexadecimal, a secret in base 64, a key in PEM, a token in the environment.
        assert not re.search(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|[0-9a-f]{32}|-----BEGIN|AUTH_TOKEN=", value), key
        for word in re.findall(r"[A-Za-z0-9/+=]{32,}", value):
            assert not all(re.search(kind, word) for kind in ("[A-Z]", "[a-z]", "[0-9]")), key


def what_is_the_users_says_change(text: str) -> None:
    users = r"^max_workers:|^  region:|ImageId: &|  Name: |Key: owner|Key: results|InstanceType: g"
    lines = text.splitlines()
    found = [line for line in lines if re.search(users, line)]
    assert len(found) == 8
    assert [line for line in found if "  # change: " not in line] == []
    assert [line for line in lines if "change:" in line and line not in found] == []


def the_project_is_mounted_without_what_it_made(text: str) -> None:
    config = yaml.safe_load(text)
    assert config["file_mounts"]["/home/ray/normleak"] == "."
    patterns = config["rsync_exclude"]

    def excluded(path: str) -> bool:
        """As rsync has it: a pattern from / is of the whole path, another of any part."""
        first = path.partition("/")[0]
        return any(
            fnmatch(first, pattern[1:])
            if pattern[0] == "/"
            else any(fnmatch(part, pattern) for part in path.split("/"))
            for pattern in patterns
        )

    made = ["results/a.parquet", "results-mnist/a.parquet", "data/mnist", ".venv/bin", "study/__pycache__/run.pyc"]
    assert [path for path in made if not excluded(path)] == []
    # The records name the commit.
    needed = [
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "study/data/load.py",
        "study/engine/single.py",
        ".git/HEAD",
    ]
    assert [path for path in needed if excluded(path)] == []


def its_commands_are_real(text: str) -> None:
    config = yaml.safe_load(text)
    for command in [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]:
        parse(command)
    (setup,) = config["setup_commands"]
    assert config["head_setup_commands"] == config["worker_setup_commands"] == []
    for extra in re.findall(r"\.\[(\w+)\]", setup):
        assert extra in PROJECT["optional-dependencies"]
    assert "-c constraints.txt" in setup
    assert "index" not in setup


def parse(command: str) -> None:
    """Have Ray's own command line read the arguments, and do nothing."""
    from ray.scripts.scripts import cli

    program, *arguments = shlex.split(command)
    assert program == "ray"
    group: Group = cli
    name, command_, rest = group.resolve_command(group.make_context("ray", arguments), arguments)
    assert command_ is not None
    command_.make_context(name, rest)


CHECKS = [
    ray_accepts,
    aws_accepts,
    versions_agree,
    the_head_takes_no_trials,
    workers_are_spot_and_come_and_go,
    only_workers_are_given_gpus,
    the_token_is_asked_for,
    a_job_has_time_to_stop,
    nothing_is_secret,
    what_is_the_users_says_change,
    the_project_is_mounted_without_what_it_made,
    its_commands_are_real,
]

BREAKS = [
    (ray_accepts, "idle_timeout_minutes:", "idle_timeout_minute:"),
    (ray_accepts, "head_node_type: head", "head_node_type: tail"),
    (ray_accepts, "min_workers: 0", "min_workers: 9"),
    (ray_accepts, "{CPU: 0, GPU: 0}", "{CPU: -1, GPU: 0}"),
    (ray_accepts, "  container_name: normleak\n", ""),
    (aws_accepts, "InstanceType: g", "InstanceTyp: g"),
    (aws_accepts, "VolumeSize: 200", "VolumeSiz: 200"),
    (aws_accepts, "VolumeSize: 200", "VolumeSize: much"),
    (aws_accepts, "VolumeType: gp3", "VolumeType: gp4"),
    (aws_accepts, "m7i.xlarge", "m7i.xlarg"),
    (aws_accepts, "MarketType: spot", "MarketType: sport"),
    (aws_accepts, "ImageId: *machine", "KeyName: mine"),
    (versions_agree, "ray:2.60.0", "ray:2.59.1"),
    (versions_agree, "ray:2.60.0-py311-cpu", "ray:latest-gpu"),
    (versions_agree, "-py311", "-py310"),
    (versions_agree, "-py311", "-py314"),
    (versions_agree, "cuda>=13.0", "cuda>=12.9"),
    (the_head_takes_no_trials, "{CPU: 0, GPU: 0}", "{CPU: 4, GPU: 0}"),
    (the_head_takes_no_trials, " --num-cpus=0", ""),
    (workers_are_spot_and_come_and_go, "MarketType: spot", "MarketType: on-demand"),
    (workers_are_spot_and_come_and_go, "min_workers: 0", "min_workers: 1"),
    (workers_are_spot_and_come_and_go, "idle_timeout_minutes: 10", "idle_timeout_minutes: 600"),
    (workers_are_spot_and_come_and_go, "cache_stopped_nodes: false", "cache_stopped_nodes: true"),
    (only_workers_are_given_gpus, "    - -e NVIDIA_VISIBLE_DEVICES=all\n", ""),
    (only_workers_are_given_gpus, "  worker_run_options:\n", ""),
    (the_token_is_asked_for, "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
    (the_token_is_asked_for, "  /home/ray/.ray/auth_token: ~/.ray/auth_token", ""),
    (a_job_has_time_to_stop, "RAY_JOB_STOP_WAIT_TIME_S=60", "RAY_JOB_STOP_WAIT_TIME_S=3"),
    (nothing_is_secret, "RAY_AUTH_MODE=token", f"AWS_SECRET={'Ab1/' * 10}"),
    (nothing_is_secret, "RAY_AUTH_MODE=token", f"AWS_KEY=AKIA{'A' * 16}"),
    (nothing_is_secret, "RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN=here"),
    (nothing_is_secret, "RAY_AUTH_MODE=token", f"T={'0a' * 32}"),
    (nothing_is_secret, "ssh_user: ubuntu", "ssh_user: ubuntu\n  ssh_private_key: key.pem"),
    *((what_is_the_users_says_change, line, line.partition("#")[0]) for line in TEXT.splitlines() if "change:" in line),
    (the_project_is_mounted_without_what_it_made, "  - /results*\n", ""),
    (the_project_is_mounted_without_what_it_made, "/data*", '"data*"'),
    (the_project_is_mounted_without_what_it_made, ".venv", ".git"),
    (its_commands_are_real, "--num-cpus=0", "--num-cpu=0"),
    (its_commands_are_real, "ray stop", "ray halt"),
    (its_commands_are_real, "'.[cluster]'", "'.[clusters]'"),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_file(check: Check):
    check(TEXT)


@pytest.mark.parametrize(("check", "old", "new"), BREAKS, ids=lambda part: getattr(part, "__name__", None))
def test_a_broken_copy_is_found_out(check: Check, old: str, new: str):
    assert old in TEXT
    with pytest.raises((AssertionError, ValueError, RuntimeError, jsonschema.ValidationError, ClickException)):
        check(TEXT.replace(old, new))


def test_every_check_is_seen_to_fail():
    assert {check for check, _, _ in BREAKS} == set(CHECKS)


def test_ray_itself_misses_a_typo_in_a_node_config():
    ray_accepts(TEXT.replace("InstanceType: g", "InstanceTyp: g"))


def test_another_pin_than_the_image_has_is_found_out():
    with pytest.raises(AssertionError):
        versions_agree(TEXT, re.sub(r"^ray==.*$", "ray==2.61.0", CONSTRAINTS, flags=re.MULTILINE))


def test_a_node_installs_once_and_again_only_after_a_change(tmp_path: Path):
    """The command itself, in a home of its own, with a pip that counts its calls and at first fails."""
    project, programs = tmp_path / "normleak", tmp_path / "bin"
    project.mkdir()
    programs.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (project / name).write_text("one")
    (programs / "pip").write_text('#!/bin/sh\necho "$@" >> ~/calls\ntest -e ~/works\n')
    (programs / "pip").chmod(0o755)
    (command,) = yaml.safe_load(TEXT)["setup_commands"]

    def set_up() -> tuple[bool, int]:
        environment = {"HOME": str(tmp_path), "PATH": f"{programs}:/usr/bin:/bin"}
        done = subprocess.run(["bash", "-c", command], env=environment, cwd=tmp_path, check=False)
        return done.returncode == 0, len((tmp_path / "calls").read_text().splitlines())

    assert set_up() == (False, 1)
    (tmp_path / "works").touch()
    assert set_up() == (True, 2)
    assert set_up() == (True, 2)
    (project / "constraints.txt").write_text("two")
    assert set_up() == (True, 3)
    (project / "pyproject.toml").unlink()
    assert set_up() == (False, 3)


# The template for machines of one's own

LOCAL = (ROOT / "cluster-local.yaml").read_text()


def test_the_local_template_is_valid_and_starts_what_works():
    ray_accepts(LOCAL)
    nothing_is_secret(LOCAL.replace("  ssh_private_key: ~/", "  path: ~/"))
    config, aws = yaml.safe_load(LOCAL), yaml.safe_load(TEXT)
    assert config["provider"]["type"] == "local"
    assert config["rsync_exclude"] == aws["rsync_exclude"]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "-c constraints.txt -e '.[cluster]'" in config["setup_commands"][0]
    assert config["head_setup_commands"] == config["worker_setup_commands"] == []
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    assert "RAY_enable_autoscaler_v2=0 RAY_AUTH_MODE=token RAY_JOB_STOP_WAIT_TIME_S=60 && ray start --head" in head
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(head.split())
    assert worker.startswith("RAY_AUTH_MODE=token ray start ")
    parse(head.partition(" && ")[2])
    parse(worker.partition(" ")[2])


# The job on Kubernetes


def test_the_job_on_kubernetes_is_of_this_ray_and_of_the_workers_that_it_pays_for():
    job = yaml.safe_load((ROOT / "rayjob.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["kind"], job["spec"]["shutdownAfterJobFinishes"]) == ("RayJob", True)
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    (workers,) = cluster["workerGroupSpecs"]
    assert (workers["minReplicas"], cluster["enableInTreeAutoscaling"]) == (0, True)
    (container,) = workers["template"]["spec"]["containers"]
    gpus = int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert f"--workers {workers['maxReplicas'] * gpus} " in job["spec"]["entrypoint"]
    assert job["spec"]["entrypoint"].endswith(" --yes"), "nobody is there to be asked"


# The commands of docs/cluster.md


def test_every_ray_command_of_the_guide_is_read_by_ray():
    commands = re.findall(r"^ray [^\n]*$", GUIDE, re.MULTILINE) + re.findall(r"`(ray \w+ --?[^`]*)`", GUIDE)
    verbs = {"up", "attach", "exec", "dashboard", "down", "get-auth-token", "start", "job"}
    assert {command.split()[1] for command in commands} >= verbs
    for command in commands:
        parse(command)
    with pytest.raises(ClickException):
        parse("ray attach cluster.yaml --tmx")


def test_the_guide_has_the_image_and_the_workers_of_the_file():
    config = yaml.safe_load(TEXT)
    assert set(re.findall(r"rayproject/ray[^`\s]*", GUIDE)) == {config["docker"]["image"]}
    workers = [int(number) for number in re.findall(r"python -m sweeps run .*--workers (\d+)", GUIDE)]
    assert set(workers) == {config["max_workers"]}


def test_the_other_clusters_of_the_guide_are_valid_too(tmp_path: Path):
    gcp, kuberay, _ = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
    config = yaml.safe_load(TEXT)
    ray_accepts(yaml.safe_dump({**config, **gcp}))
    the_head_takes_no_trials(yaml.safe_dump({**config, **gcp}))
    with pytest.raises((ValueError, jsonschema.ValidationError)):
        ray_accepts(yaml.safe_dump({**config, **gcp, "head_node_type": "other"}))
    assert kuberay["spec"]["rayVersion"] == version("ray")
    assert kuberay["spec"]["authOptions"] == {"mode": "token"}
    assert kuberay["spec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert [group["minReplicas"] for group in kuberay["spec"]["workerGroupSpecs"]] == [0]
