"""`python -m sweeps cluster check`: each fault is seen with the command that mends it, and nothing is started."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from sweeps.cluster import aws, local
from sweeps.cluster.check import check
from sweeps.cluster.file import ClusterFile, read
from sweeps.cluster.finding import Status
from tests.sweeps.cluster.conftest import AMI, Amazon, Run, free_port

# Each has an account of its own, which takes a second.
pytestmark = pytest.mark.slow

MINE = ("--results", "s3://mine/study", "--ami", AMI, "--owner", "ada@example.org")


@pytest.fixture
def file(amazon: Amazon, home: Path, cluster: Run) -> Path:
    """A cluster's file with values of the account's."""
    path = home / "my-cluster.yaml"
    assert cluster("init", "--to", path, *MINE)[0] == 0
    return path


def lines(printed: str, status: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith(status)]


def test_a_whole_account_and_file_are_ok(cluster: Run, file: Path, amazon: Amazon):
    code, printed = cluster("check", file)
    assert (code, lines(printed, "not ok"), lines(printed, "could not")) == (0, [], []), printed
    names = [line[21:].partition(":")[0] for line in lines(printed, "ok")]
    assert names == [
        *("values", "token", "token mode", "files", "versions", "container image", "credentials", "machine image"),
        *("instance types", "profile of the head", "profile of the workers", "spot role"),
        *("quota of workers", "quota of the head", "SSH", "bucket", "price"),
    ]
    assert f"Ray {version('ray')}, Python 3.11" in printed
    assert "8 workers of 1 GPU each: --workers 8" in printed
    assert "64 vCPUs; 8 g6.2xlarge need 64" in printed
    assert "0.20 USD an hour at most (8 g6.2xlarge at 1e-05 USD an hour" in printed  # moto's price of everything
    assert printed.splitlines()[-1] == f"next: ray up {file}"
    # Nothing was started, and nothing is left in the bucket.
    assert amazon.client("ec2").describe_instances()["Reservations"] == []
    assert "Contents" not in amazon.client("s3").list_objects_v2(Bucket="mine")


def edit(old: str, new: str) -> Callable[[Path, Amazon], None]:
    def change(file: Path, amazon: Amazon) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return change


def without_profile(name: str) -> Callable[[Path, Amazon], None]:
    def change(file: Path, amazon: Amazon) -> None:
        iam = amazon.client("iam")
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
        iam.delete_instance_profile(InstanceProfileName=name)

    return change


def without_role(file: Path, amazon: Amazon) -> None:
    amazon.client("iam").remove_role_from_instance_profile(
        InstanceProfileName="normleak-worker", RoleName="normleak-worker"
    )


def without_policy(file: Path, amazon: Amazon) -> None:
    amazon.client("iam").delete_role_policy(RoleName="normleak-head", PolicyName="normleak-head")


def without_spot_role(file: Path, amazon: Amazon) -> None:
    iam = amazon.client("iam")
    (role,) = iam.list_roles(PathPrefix="/aws-service-role/")["Roles"]
    iam.delete_role(RoleName=role["RoleName"])


def without_group(file: Path, amazon: Amazon) -> None:
    ec2 = amazon.client("ec2")
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["ray-autoscaler-normleak"]}])[
        "SecurityGroups"
    ]
    ec2.delete_security_group(GroupId=group["GroupId"])


def open_group(file: Path, amazon: Amazon) -> None:
    without_group(file, amazon)
    amazon.add_group("0.0.0.0/0")


def small_quota(file: Path, amazon: Amazon) -> None:
    amazon.quotas[aws.SPOT_QUOTAS["g"]] = 0.0


def no_head(file: Path, amazon: Amazon) -> None:
    amazon.quotas[aws.ON_DEMAND_QUOTA] = 2.0


def without_bucket(file: Path, amazon: Amazon) -> None:
    amazon.client("s3").delete_bucket(Bucket="mine")


def bucket_elsewhere(file: Path, amazon: Amazon) -> None:
    amazon.client("s3").delete_bucket(Bucket="mine")
    elsewhere = {"LocationConstraint": "eu-central-1"}
    amazon.client("s3", "eu-central-1").create_bucket(Bucket="mine", CreateBucketConfiguration=elsewhere)


LOCAL_FAULTS = {
    "placeholder": ("Value: ada@example.org", "Value: nobody", "values", "grep -n 'change:' "),
    "no mount": ("  /home/ray/.ray/auth_token: ~/.ray/auth_token", "", "token", "cluster init"),
    "no mode": ("-e RAY_AUTH_MODE=token", "-e A=b", "token mode", "grep -n RAY_AUTH_MODE "),
    "no files": ("/home/ray/normleak: .", "/home/ray/normleak: ./nothing", "files", "cd "),
    "other Ray": ("ray:2.60.0", "ray:2.59.1", "versions", "sed -i 's|rayproject/ray:2.59.1"),
    "other Python": ("-py311", "-py310", "versions", "sed -i "),
}


@pytest.mark.parametrize("fault", LOCAL_FAULTS)
def test_a_fault_of_the_file_is_seen_with_the_command_that_mends_it(
    cluster: Run, file: Path, without_credentials: None, fault: str
):
    old, new, name, remedy = LOCAL_FAULTS[fault]
    edit(old, new)(file, Amazon(""))
    code, printed = cluster("check", file)
    assert code == 1
    seen = lines(printed, "not ok")[0]
    assert seen[21:].partition(":")[0] == name
    below = printed.splitlines()[printed.splitlines().index(seen) + 1]
    assert below.startswith(" " * 21)
    assert remedy in below
    assert "next:" not in printed


AWS_FAULTS = {
    "no AMI": (
        edit(f"&machine {AMI}", "&machine ami-00001111"),
        "machine image",
        "aws ssm get-parameter --region us-west-2",
    ),
    "no type": (edit("g6.2xlarge", "g6.3xlarge"), "instance types", "aws ec2 describe-instance-type-offerings"),
    "no GPU": (edit("g6.2xlarge", "m6i.large"), "instance types", "aws ec2 describe-instance-type-offerings"),
    "no head's profile": (without_profile("normleak-head"), "profile of the head", "aws iam create-role"),
    "no workers' profile": (without_profile("normleak-worker"), "profile of the workers", "aws iam create-role"),
    "no role": (without_role, "profile of the workers", "aws iam add-role-to-instance-profile"),
    "no policy": (without_policy, "profile of the head", "aws iam put-role-policy --role-name normleak-head"),
    "no spot role": (without_spot_role, "spot role", "aws iam create-service-linked-role"),
    "no quota": (small_quota, "quota of workers", "--quota-code L-3819A6DF --desired-value 64"),
    "no quota for the head": (no_head, "quota of the head", "--quota-code L-1216C47A --desired-value 4"),
    "no group": (without_group, "SSH", "group=$(aws ec2 create-security-group"),
    "open group": (open_group, "SSH", "aws ec2 revoke-security-group-ingress"),
    "no bucket": (without_bucket, "bucket", "aws s3 mb s3://mine"),
    "bucket elsewhere": (bucket_elsewhere, "bucket", "sed -i 's/region: us-west-2/region: eu-central-1/'"),
}


@pytest.mark.parametrize("fault", AWS_FAULTS)
def test_a_fault_of_the_account_is_seen_with_the_command_that_mends_it(file: Path, amazon: Amazon, fault: str):
    change, name, remedy = AWS_FAULTS[fault]
    change(file, amazon)
    finding = aws.ask(name, aws.Account(read(str(file))))
    assert finding.status == Status.failed, finding
    assert remedy in finding.remedy
    # The command is one that a shell can read.
    assert subprocess.run(["bash", "-n", "-c", finding.remedy], check=False).returncode == 0


def test_an_image_that_the_registry_has_not_is_seen(cluster: Run, file: Path, amazon: Amazon):
    amazon.tags.clear()
    code, printed = cluster("check", file)
    assert code == 1
    assert lines(printed, "not ok") == [
        "not ok               container image: there is no rayproject/ray:2.60.0-py311-cpu"
    ]


def test_a_missing_token_is_seen_before_any_head_exists(cluster: Run, file: Path, amazon: Amazon, home: Path):
    token = home / ".ray" / "auth_token"
    token.unlink()
    code, printed = cluster("check", file)
    assert code == 1
    assert lines(printed, "not ok") == ["not ok               token: there is no ~/.ray/auth_token"]
    assert "ray get-auth-token --generate" in printed
    assert amazon.client("ec2").describe_instances()["Reservations"] == []


@pytest.mark.parametrize(
    ("content", "mode", "told", "said"),
    [
        ("", 0o600, "", "is empty"),
        ("f" * 64, 0o644, "", "can be read by others"),
        ("f" * 64, 0o600, "e" * 64, "RAY_AUTH_TOKEN is another"),
        (None, 0, "e" * 64, "ray get-auth-token --generate"),
    ],
)
def test_a_token_that_will_not_do_is_seen(
    cluster: Run,
    file: Path,
    home: Path,
    without_credentials: None,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    mode: int,
    told: str,
    said: str,
):
    token = home / ".ray" / "auth_token"
    if content is None:
        token.unlink()
    else:
        token.write_text(content)
        token.chmod(mode)
    if told:
        monkeypatch.setenv("RAY_AUTH_TOKEN", told)
    code, printed = cluster("check", file)
    assert code == 1
    assert said in printed
    assert "e" * 64 not in printed
    assert "f" * 64 not in printed


# What can't be seen from here


@pytest.fixture
def without_credentials(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


def test_without_credentials_only_what_is_here_is_checked(cluster: Run, file: Path, without_credentials: None):
    code, printed = cluster("check", file)
    assert code == 1
    assert lines(printed, "not ok") == ["not ok               credentials: there are none for AWS"]
    assert "aws configure" in printed
    assert lines(printed, "could not be checked") == ["could not be checked AWS: all else is asked of AWS"]


def test_without_a_network_it_says_so_and_ends_soon(cluster: Run, file: Path, monkeypatch: pytest.MonkeyPatch):
    nobody = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody)
    monkeypatch.setattr(aws, "REGISTRY", nobody)
    code, printed = cluster("check", file)
    assert code == 0
    unseen = lines(printed, "could not be checked")
    assert [line[21:].partition(":")[0] for line in unseen] == ["container image", "credentials", "AWS"]
    assert "docker manifest inspect rayproject/ray:2.60.0-py311-cpu" in printed


def test_who_never_answers_is_not_waited_for(cluster: Run, file: Path, silent: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent}")
    monkeypatch.setattr(aws, "PATIENCE", aws.PATIENCE.merge(aws.Config(read_timeout=0.5)))
    started = time.monotonic()
    code, printed = cluster("check", file)
    assert code == 0
    assert time.monotonic() - started < 60
    assert "credentials: Read timeout" in printed


def test_what_aws_refuses_to_say_could_not_be_checked(cluster: Run, file: Path, amazon: Amazon):
    amazon.quotas.clear()
    amazon.prices.clear()
    code, printed = cluster("check", file)
    assert code == 0
    assert [line[21:].partition(":")[0] for line in lines(printed, "could not be checked")] == [
        "quota of workers",
        "quota of the head",
        "price",
    ]
    assert "no such quota" in printed
    assert "0.00 USD an hour at most" in printed


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# Machines of one's own


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Something on loopback in place of each machine's SSH."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    connect = socket.create_connection

    def greet() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.sendall(b"SSH-2.0-Test\r\n")

    def to_loopback(address: tuple[str, int], timeout: float) -> socket.socket:
        if address == ("127.0.0.9", 22):
            raise ConnectionRefusedError(111, "Connection refused")
        return connect(("127.0.0.1", port), timeout=timeout)

    monkeypatch.setattr(local.socket, "create_connection", to_loopback)
    monkeypatch.setattr(local.shutil, "which", lambda name: f"/usr/bin/{name}")
    thread = threading.Thread(target=greet)
    thread.start()
    yield
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def own(home: Path, cluster: Run) -> Path:
    path = home / "own.yaml"
    (home / "key").touch()
    machines = ("--machine", "127.0.0.1", "--machine", "127.0.0.2")
    assert cluster("init", "--to", path, *machines, "--ssh-user", "ray", "--ssh-key", home / "key")[0] == 0
    return path


def test_machines_of_ones_own_are_asked_for_ssh(cluster: Run, own: Path, answering: None):
    code, printed = cluster("check", own)
    assert (code, lines(printed, "not ok"), lines(printed, "could not")) == (0, [], []), printed
    assert "ssh 127.0.0.2: SSH-2.0-Test" in printed
    assert "autoscaler: Ray's first" in printed


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[127.0.0.2]", "[127.0.0.2, 127.0.0.9]", "ssh 127.0.0.9: no answer on port 22"),
        ("RAY_enable_autoscaler_v2=0 ", "", "export RAY_UP_enable_autoscaler_v2=0"),
        ("RAY_AUTH_MODE=token ray start --address", "ray start --address", "the nodes don't ask for the token"),
        ("/key ", "/none ", "ssh-keygen -t ed25519 -f "),
    ],
)
def test_a_fault_of_machines_of_ones_own_is_seen(
    cluster: Run, own: Path, answering: None, old: str, new: str, said: str
):
    text = own.read_text()
    assert old in text
    own.write_text(text.replace(old, new))
    code, printed = cluster("check", own)
    assert code == 1
    assert said in printed


def test_rsync_is_asked_for(cluster: Run, own: Path, answering: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local.shutil, "which", lambda name: None)
    code, printed = cluster("check", own)
    assert code == 1
    assert "apt install ssh rsync" in printed


def test_another_cloud_is_said_not_to_be_looked_into(own: Path):
    file = read(str(own))
    elsewhere = ClusterFile(file.path, {**file.config, "provider": {"type": "gcp"}})
    assert list(check(elsewhere))[-1].status == Status.unknown


# Bad input


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no"),
        ("a: [", "is no YAML"),
        ("a: 1", "names no provider"),
        ("cluster_name: a\nprovider: {type: aws}\nnonsense: 1", "Ray does not accept"),
        ("cluster_name: a\nprovider: {type: nonsense}", "Ray does not accept"),
    ],
)
def test_bad_input_is_one_sentence(cluster: Run, tmp_path: Path, content: str | None, said: str):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_text(content)
    code, printed = cluster("check", path)
    assert code == 2, printed
    assert printed.startswith("error: ")
    assert said in printed
    assert printed.count("\n") == 1
