"""AWS on loopback: moto's EC2, IAM, S3 and STS in a process of its own, and beside it what moto has not."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from sweeps.cluster import aws
from sweeps.cluster.commands import app
from tests.stores import ENVIRONMENT

REGION = "us-west-2"
AMI = "ami-1e749f67"
"""An Ubuntu that moto has from the start; to have it list them all takes seconds."""
MOTO = "from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
STARTS_WITHIN_S = 120
ANY_POLICY = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'

Run = Callable[..., tuple[int, str]]


@dataclass
class Amazon:
    """An account on loopback.

    Attributes:
        endpoint: where moto listens.
        quotas: vCPUs by the code of the quota.
        prices: of an hour on demand, by instance type.
        tags: images that the registry has.
    """

    endpoint: str
    quotas: dict[str, float] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)

    def client(self, service: str, region: str = REGION) -> Any:
        return boto3.client(service, region_name=region, endpoint_url=self.endpoint)

    def add_profile(self, name: str, policy: str = ANY_POLICY) -> None:
        iam = self.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=policy)
        iam.create_instance_profile(InstanceProfileName=name)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)

    def add_group(self, cidr: str) -> str:
        """The security group that Ray would make, with SSH for these addresses."""
        ec2 = self.client("ec2")
        (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        name = "ray-autoscaler-normleak"
        number: str = ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc["VpcId"])["GroupId"]
        rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": cidr}]}
        ec2.authorize_security_group_ingress(GroupId=number, IpPermissions=[rule])
        return number

    def answer(self, request: Request) -> Response:
        """Service Quotas, Pricing, and the registry of images."""
        target = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if target == "GetServiceQuota":
            quota = self.quotas.get(json.loads(request.data)["QuotaCode"])
            if quota is None:
                return Response('{"__type": "NoSuchResourceException", "message": "no such quota"}', status=400)
            return Response(json.dumps({"Quota": {"Value": quota}}))
        if target == "GetProducts":
            filters = {entry["Field"]: entry["Value"] for entry in json.loads(request.data)["Filters"]}
            assert filters["regionCode"] == REGION
            price = self.prices.get(filters["instanceType"])
            terms = {"OnDemand": {"t": {"priceDimensions": {"d": {"pricePerUnit": {"USD": str(price)}}}}}}
            return Response(json.dumps({"PriceList": [] if price is None else [json.dumps({"terms": terms})]}))
        known = request.path in self.tags
        return Response('{"full_size": 1500000000}' if known else "{}", status=200 if known else 404)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of a moto of its own; one in this process would share its buckets with the other tests."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, "-c", MOTO.format(port=port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _await(f"{endpoint}/moto-api/data.json", process)
            yield endpoint
        finally:
            process.kill()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def amazon(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Amazon]:
    """An account with all that the template of a cluster wants, its own values apart."""
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST"), timeout=30).close()
    account = Amazon(moto)
    for name, value in {**ENVIRONMENT, "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": moto}.items():
        monkeypatch.setenv(name, value)
    account.quotas = {aws.SPOT_QUOTAS["g"]: 64.0, aws.ON_DEMAND_QUOTA: 5.0}
    account.prices = {"m7i.xlarge": 0.2}
    account.tags = {"/rayproject/ray/tags/2.60.0-py311-cpu"}
    account.add_profile("normleak-head")
    account.add_profile("normleak-worker")
    account.client("iam").create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    account.add_group("203.0.113.7/32")
    account.client("s3").create_bucket(Bucket="mine", CreateBucketConfiguration={"LocationConstraint": REGION})
    server = make_server("127.0.0.1", 0, Request.application(account.answer), threaded=True)
    beside = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", beside)
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", beside)
    monkeypatch.setattr(aws, "REGISTRY", beside)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield account
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a token in it."""
    folder = tmp_path / "home"
    (folder / ".ray").mkdir(parents=True)
    token = folder / ".ray" / "auth_token"
    token.write_text("f" * 64)
    token.chmod(0o600)
    monkeypatch.setenv("HOME", str(folder))
    # The tests' own Ray has one in the environment.
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    return folder


@pytest.fixture
def cluster(capsys: pytest.CaptureFixture[str]) -> Run:
    """`python -m sweeps cluster` in this process: its exit code, and what it prints, errors as well."""
    from study.terminal import main

    def run(*arguments: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["cluster", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                main(app, "python -m sweeps cluster")
        code = ended.value.code
        assert code is None or isinstance(code, int)
        captured = capsys.readouterr()
        return code or 0, captured.out + captured.err

    return run
