"""`ray up` itself with a file of ours, against moto's EC2: up to a head that is created, and what a head asks for.

Whatever Ray would have done by SSH goes to a runner that only notes it, so that nothing leaves this machine.
"""

import gc
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from sweeps.cluster.file import read
from sweeps.cluster.policy import head_policy, worker_policy
from tests.sweeps.cluster.conftest import AMI, REGION, Amazon, Run

Resolve = Callable[[], dict[str, Any]]

pytestmark = [
    pytest.mark.slow,
    # Ray leaves a file of its own open.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Runner:
    """In place of `subprocess`: notes each command that Ray would run here or on a node, as far as it matters to it."""

    DEVNULL = subprocess.DEVNULL

    def __init__(self) -> None:
        self.commands: list[str] = []

    def check_call(self, command: Any, *_: Any, **__: Any) -> int:
        self.commands.append(command if isinstance(command, str) else " ".join(command))
        return 0

    def check_output(self, command: Any, *_: Any, **__: Any) -> bytes:
        self.check_call(command)
        # A node with Docker, and no container yet.
        answers = {"command -v docker": b"docker", ".State.Running": b"false", ".Config.Env": b'["HOME=/home/ray"]'}
        return next((answer for part, answer in answers.items() if part in self.commands[-1]), b"")


@pytest.fixture
def file(amazon: Amazon, home: Path, cluster: Run) -> Path:
    path = home / "my-cluster.yaml"
    mine = ("--results", "s3://mine/study", "--ami", AMI, "--owner", "ada@example.org", "--max-workers", "3")
    assert cluster("init", "--to", path, *mine)[0] == 0
    return path


@pytest.fixture
def resolve(file: Path) -> Iterator[Resolve]:
    """Have Ray resolve the file, which asks AWS, and makes a key and a security group."""
    from ray.autoscaler._private import commands
    from ray.autoscaler._private.aws import utils

    def clear() -> None:
        # Ray keeps its clients, and each test has an account of its own; it also leaves files to be closed.
        utils.resource_cache.cache_clear()
        utils.client_cache.cache_clear()
        gc.collect()

    clear()
    yield lambda: commands._bootstrap_config(yaml.safe_load(file.read_text()), no_config_cache=True)
    clear()


@pytest.fixture
def ray_up(file: Path, resolve: Resolve) -> Callable[[], Runner]:
    """`ray up` with the file."""
    from ray.autoscaler._private import commands

    def up() -> Runner:
        runner = Runner()
        commands.get_or_create_head_node(resolve(), str(file), False, False, True, None, _runner=runner)
        return runner

    return up


def security_groups(amazon: Amazon) -> list[dict[str, Any]]:
    named = [{"Name": "group-name", "Values": ["ray-autoscaler-normleak"]}]
    groups: list[dict[str, Any]] = amazon.client("ec2").describe_security_groups(Filters=named)["SecurityGroups"]
    return groups


def instances(amazon: Amazon) -> list[dict[str, Any]]:
    reservations = amazon.client("ec2").describe_instances()["Reservations"]
    return [instance for reservation in reservations for instance in reservation["Instances"]]


@pytest.mark.slow
def test_ray_creates_the_head_of_the_file(amazon: Amazon, ray_up: Callable[[], Runner]):
    runner = ray_up()
    (head,) = instances(amazon)
    assert head["InstanceType"] == "m7i.xlarge"
    assert head["ImageId"] == AMI
    assert head["IamInstanceProfile"]["Arn"].endswith("/normleak-head")
    assert head["Placement"]["AvailabilityZone"].startswith(REGION)
    assert "InstanceLifecycle" not in head
    tags = {tag["Key"]: tag["Value"] for tag in head["Tags"]}
    expected = {
        "project": "normleak",
        "owner": "ada@example.org",
        "results": "s3://mine/study",
        "ray-cluster-name": "normleak",
        "ray-node-type": "head",
        "ray-node-status": "up-to-date",
    }
    assert tags.items() >= expected.items()
    (container,) = (command for command in runner.commands if "docker run" in command)
    assert "rayproject/ray:2.60.0-py311-cpu" in container
    assert "RAY_AUTH_MODE=token" in container
    assert "NVIDIA" not in container
    assert any("rsync" in command and ".ray/auth_token ubuntu@" in command for command in runner.commands)
    (ray,) = (command for command in runner.commands if "ray start --head" in command)
    assert "--num-cpus=0 --num-gpus=0" in ray
    # The rules of a group that was there are left alone.
    assert [group["GroupId"] for group in head["SecurityGroups"]] == [
        group["GroupId"] for group in security_groups(amazon)
    ]
    assert "203.0.113.7/32" in str(security_groups(amazon))
    assert "0.0.0.0/0" not in str(security_groups(amazon)[0]["IpPermissions"])


@pytest.mark.slow
def test_without_a_token_ray_leaks_a_head(amazon: Amazon, home: Path, ray_up: Callable[[], Runner]):
    """What the check is for: the head is there and is paid for, and the command has failed."""
    (home / ".ray" / "auth_token").unlink()
    with pytest.raises((click.ClickException, AssertionError, OSError, SystemExit)):
        ray_up()
    assert [head["State"]["Name"] for head in instances(amazon)] == ["running"]


def test_without_such_a_group_ray_opens_ssh_to_the_world(amazon: Amazon, resolve: Resolve):
    """What the check warns of."""
    (group,) = security_groups(amazon)
    amazon.client("ec2").delete_security_group(GroupId=group["GroupId"])
    resolve()
    (group,) = security_groups(amazon)
    assert "0.0.0.0/0" in str(group["IpPermissions"])


def test_what_the_head_asks_aws_for_is_what_its_policy_allows(amazon: Amazon, file: Path, resolve: Resolve):
    """Ray's provider on a head: it looks for nodes, starts workers, tags and ends them."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_NODE_STATUS, TAG_RAY_USER_NODE_TYPE

    config = resolve()
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    asked: list[tuple[str, dict[str, Any]]] = []

    def note(params: dict[str, Any], model: Any, **_: Any) -> None:
        asked.append((model.name, params))

    for resource in (provider.ec2, provider.ec2_fail_fast):
        resource.meta.client.meta.events.register("provide-client-params.ec2", note)
    tags = {TAG_RAY_NODE_KIND: "worker", TAG_RAY_USER_NODE_TYPE: "worker", TAG_RAY_NODE_STATUS: "uninitialized"}
    provider.create_node(config["available_node_types"]["worker"]["node_config"], tags, 1)
    workers = provider.non_terminated_nodes({TAG_RAY_NODE_KIND: "worker"})
    assert len(workers) == 1
    provider.set_node_tags(workers[0], {TAG_RAY_NODE_STATUS: "up-to-date"})
    assert provider.is_running(workers[0])
    assert provider.internal_ip(workers[0])
    provider.terminate_nodes(workers)

    nodes = [(node["InstanceType"], node["InstanceLifecycle"]) for node in instances(amazon)]
    assert nodes == [("g6.2xlarge", "spot")]
    policy = head_policy(read(str(file)))
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert {f"ec2:{name}" for name, _ in asked} == {action for action in allowed if action.startswith("ec2:")}
    # The conditions are on what Ray does say of a new worker.
    (run,) = (params for name, params in asked if name == "RunInstances")
    said = {tag["Key"]: tag["Value"] for tag in run["TagSpecifications"][0]["Tags"]}
    (new,) = (statement for statement in policy["Statement"] if statement["Sid"] == "StartWorkers")
    assert new["Condition"]["StringEquals"] == {
        "aws:RequestTag/ray-cluster-name": said["ray-cluster-name"],
        "aws:RequestTag/ray-node-type": said["ray-node-type"],
        "ec2:InstanceType": run["InstanceType"],
    }


# The policies


def test_iam_takes_the_policies(amazon: Amazon, cluster: Run, file: Path):
    """moto parses a policy's grammar as IAM does."""
    iam = amazon.client("iam")
    for role in ("head", "worker"):
        code, printed = cluster("policy", role, file)
        assert code == 0
        iam.put_role_policy(RoleName=f"normleak-{role}", PolicyName="mine", PolicyDocument=printed)
        assert json.loads(printed)["Version"] == "2012-10-17"


def test_a_worker_may_use_the_bucket_and_nothing_else(file: Path):
    statements = worker_policy(read(str(file)))["Statement"]
    assert {
        (action, resource) for each in statements for action in each["Action"] for resource in each["Resource"]
    } == {
        ("s3:ListBucket", "arn:aws:s3:::mine"),
        *((f"s3:{action}Object", "arn:aws:s3:::mine/study/*") for action in ("Get", "Put", "Delete")),
        ("s3:AbortMultipartUpload", "arn:aws:s3:::mine/study/*"),
    }


def test_a_head_may_end_and_tag_only_nodes_of_its_cluster_and_pass_on_only_its_workers_role(file: Path):
    statements = head_policy(read(str(file)))["Statement"]
    for action in ("ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags", "iam:PassRole"):
        for each in statements:
            if action in each["Action"] and any("instance/" in name or "role/" in name for name in each["Resource"]):
                assert each["Condition"], each
    (passed,) = (each for each in statements if "iam:PassRole" in each["Action"])
    assert passed["Resource"] == ["arn:aws:iam::*:role/normleak-worker"]
    assert [each["Sid"] for each in statements if each["Resource"] == ["*"]] == ["SeeNodes"]


def test_machines_of_ones_own_need_no_policy(cluster: Run, tmp_path: Path):
    path = tmp_path / "own.yaml"
    assert cluster("init", "--to", path, "--machine", "10.0.0.1", "--machine", "10.0.0.2")[0] == 0
    code, printed = cluster("policy", "head", path)
    assert code == 2
    assert "needs no policy" in printed
