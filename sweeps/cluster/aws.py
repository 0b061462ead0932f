"""Checks of a cluster's file against AWS: what it names is there, is allowed, and what it costs."""

import json
import math
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from sweeps.cluster.file import ClusterFile
from sweeps.cluster.finding import Finding, failed, ok, unknown
from sweeps.cluster.local import images_of
from sweeps.cluster.policy import ASSUMED_BY_EC2, bucket_and_prefix, profile_name

# Nothing is waited for: a check that hangs would keep a user from starting what works.
PATIENCE = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
REGISTRY = "https://hub.docker.com/v2/repositories"
NEWEST_AMI = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
SPOT_QUOTAS = {
    "g": "L-3819A6DF",  # all G and VT spot instances
    "p": "L-7212CCBC",  # all P4, P3 and P2 spot instances
    "p5": "L-C4BD4855",  # all P5 spot instances
}
"""Quotas are of vCPUs, by the family of the instance type."""
ON_DEMAND_QUOTA = "L-1216C47A"  # running on-demand standard instances
STANDARD = "acdhimrtz"
"""The first letters of the families that one quota counts together."""
PRICING_REGION = "us-east-1"
NOT_ALLOWED = re.compile("AccessDenied|UnauthorizedOperation|Forbidden|OptInRequired|^403$")


class Account:
    """AWS as the cluster's file and the user's own credentials open it."""

    def __init__(self, file: ClusterFile):
        self.file = file
        self.region: str = file.provider["region"]
        self._session = boto3.session.Session(region_name=self.region)

    def client(self, service: str, region: str | None = None) -> Any:
        """A client that gives up soon."""
        return self._session.client(service, region_name=region or self.region, config=PATIENCE)

    @cached_property
    def instance_types(self) -> dict[str, Any]:
        """What AWS says of the two instance types, by name."""
        names = {self.file.head["InstanceType"], self.file.worker["InstanceType"]}
        types = self.client("ec2").describe_instance_types(InstanceTypes=sorted(names))["InstanceTypes"]
        return {entry["InstanceType"]: entry for entry in types}

    @property
    def workers(self) -> int:
        """The most worker nodes."""
        return int(self.file.config["max_workers"])


def findings(file: ClusterFile) -> Iterator[Finding]:
    """Check a cluster on AWS, without starting or changing anything but one small object in the bucket."""
    yield from (_image_tag(image) for image in images_of(file))
    account = Account(file)
    credentials = ask("credentials", account)
    yield credentials
    if credentials.status != "ok":
        yield unknown("AWS", "all else is asked of AWS")
        return
    for name in CHECKS:
        yield ask(name, account)


def ask(name: str, account: Account) -> Finding:
    """Run the check of this name; one that AWS refuses, or that can't reach it, has found out nothing."""
    try:
        return CHECKS[name](account) if name in CHECKS else _credentials(account)
    except NoCredentialsError:
        return failed(name, "there are none for AWS", "aws configure")
    except ClientError as error:
        code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        if name == "credentials":
            return failed(name, message or code, "aws configure")
        if NOT_ALLOWED.search(code):
            return unknown(name, f"you may not ask: {error.operation_name}")
        return unknown(name, f"{error.operation_name}: {message or code}")
    except (BotoCoreError, KeyError) as error:
        return unknown(name, str(error).splitlines()[0])


def _credentials(account: Account) -> Finding:
    return ok("credentials", account.client("sts").get_caller_identity()["Arn"])


def _image_tag(image: str) -> Finding:
    name, registry = "container image", image.partition("/")[0]
    inspect = f"docker manifest inspect {image}"
    repository, _, tag = image.partition(":")
    if "." in registry or ":" in registry or "/" not in image:
        return unknown(name, f"{image} is not of the registry that can be asked", inspect)
    try:
        with urllib.request.urlopen(f"{REGISTRY}/{repository}/tags/{tag or 'latest'}", timeout=5) as answer:
            size = json.load(answer).get("full_size")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return failed(name, f"there is no {image}", "python -m sweeps cluster init --to other.yaml")
        return unknown(name, f"the registry answers {error.code}", inspect)
    except (OSError, ValueError) as error:
        return unknown(name, f"the registry can't be reached: {getattr(error, 'reason', error)}", inspect)
    return ok(name, image + (f", {size / 1e9:.1f} GB" if size else ""))


def _machine_image(account: Account) -> Finding:
    name, file = "machine image", account.file
    newest = (
        f"aws ssm get-parameter --region {account.region} --name {NEWEST_AMI} --query Parameter.Value --output text"
    )
    images = {file.head["ImageId"], file.worker["ImageId"]}
    put_in = f'sed -i "s/ami-[0-9a-f]*/$({newest})/" {file.path}'
    try:
        answers = account.client("ec2").describe_images(ImageIds=sorted(images))["Images"]
    except ClientError as error:
        if not error.response["Error"].get("Code", "").startswith("InvalidAMI"):
            raise
        answers = []
    states = {entry["ImageId"]: entry.get("State") for entry in answers}
    for image in sorted(images):
        if states.get(image) != "available":
            return failed(name, f"there is no {image} in {account.region}", put_in)
    return ok(name, ", ".join(sorted({entry.get("Name", entry["ImageId"]) for entry in answers})))


def _instance_types(account: Account) -> Finding:
    name, file = "instance types", account.file
    wanted = [file.head["InstanceType"], file.worker["InstanceType"]]
    offered = (
        f"aws ec2 describe-instance-type-offerings --region {account.region} "
        "--query 'InstanceTypeOfferings[].InstanceType'"
    )
    try:
        known = account.instance_types
    except ClientError as error:
        if not error.response["Error"].get("Code", "").startswith("InvalidInstanceType"):
            raise
        known = {}
    missing = [each for each in wanted if each not in known]
    if missing:
        return failed(name, f"{account.region} has no {' and no '.join(missing)}", offered)
    gpus = _gpus(known[file.worker["InstanceType"]])
    if not gpus:
        return failed(name, f"{file.worker['InstanceType']} has no GPU", offered)
    total = account.workers * gpus
    return ok(
        name,
        f"{account.workers} workers of {gpus} GPU{'s' * (gpus > 1)} each: --workers {total}, and --device cuda",
    )


def _profile(account: Account, role: str, node: dict[str, Any]) -> Finding:
    """An instance can only be started with a profile that is there, and only a role in it opens anything."""
    name = f"profile of the {'head' if role == 'head' else 'workers'}"
    profile = profile_name(node)
    policy = f'"$(python -m sweeps cluster policy {role} {account.file.path})"'
    give = f"aws iam put-role-policy --role-name {profile} --policy-name {profile} --policy-document {policy}"
    add = f"aws iam add-role-to-instance-profile --instance-profile-name {profile} --role-name {profile}"
    make = (
        f"aws iam create-role --role-name {profile} --assume-role-policy-document '{json.dumps(ASSUMED_BY_EC2)}' && "
        f"{give} && aws iam create-instance-profile --instance-profile-name {profile} && {add}"
    )
    client = account.client("iam")
    try:
        roles = client.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
    except client.exceptions.NoSuchEntityException:
        return failed(name, f"there is no {profile}", make)
    if not roles:
        return failed(name, f"{profile} has no role", add)
    of_role = roles[0]["RoleName"]
    policies = client.list_role_policies(RoleName=of_role)["PolicyNames"]
    attached = client.list_attached_role_policies(RoleName=of_role)["AttachedPolicies"]
    if not policies and not attached:
        return failed(name, f"the role {of_role} of {profile} may do nothing", give.replace(profile, of_role, 1))
    return ok(name, f"{profile}, with {', '.join([*policies, *(entry['PolicyName'] for entry in attached)])}")


def _spot_role(account: Account) -> Finding:
    """The head may not create the account's role for spot instances, which is made once."""
    roles = account.client("iam").list_roles(PathPrefix="/aws-service-role/spot.amazonaws.com/")["Roles"]
    if not roles:
        make = "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
        return failed("spot role", "this account has never asked for a spot instance", make)
    return ok("spot role", roles[0]["RoleName"])


def _worker_quota(account: Account) -> Finding:
    kind = account.file.worker["InstanceType"]
    family = kind.partition(".")[0]
    # A family of a later generation than these has a quota of its own.
    if re.match(r"g|vt", family):
        code = SPOT_QUOTAS["g"]
    elif re.match(r"p[2-4]", family):
        code = SPOT_QUOTAS["p"]
    elif family == "p5":
        code = SPOT_QUOTAS["p5"]
    else:
        shown = f"aws service-quotas list-service-quotas --region {account.region} --service-code ec2"
        return unknown("quota of workers", f"which one counts {kind} is not known here", shown)
    return _quota(account, "quota of workers", code, kind, account.workers)


def _head_quota(account: Account) -> Finding:
    kind = account.file.head["InstanceType"]
    if kind[0] not in STANDARD:
        return unknown("quota of the head", f"which one counts {kind} is not known here")
    return _quota(account, "quota of the head", ON_DEMAND_QUOTA, kind, 1)


def _quota(account: Account, name: str, code: str, kind: str, nodes: int) -> Finding:
    cpus = account.instance_types[kind]["VCpuInfo"]["DefaultVCpus"]
    quota = account.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    wanted = nodes * cpus
    says = f"{quota:g} vCPUs; {nodes} {kind} need {wanted}"
    if quota < wanted:
        ask = (
            f"aws service-quotas request-service-quota-increase --region {account.region} --service-code ec2 "
            f"--quota-code {code} --desired-value {wanted}"
        )
        return failed(name, says, ask)
    return ok(name, says)


def _ssh(account: Account) -> Finding:
    """Ray opens port 22 to the world in a group that it makes, and leaves one alone that has rules already."""
    file, region = account.file, account.region
    if all("SecurityGroupIds" in node for node in (file.head, file.worker)):
        return ok("SSH", "security groups of your own")
    group = file.provider.get("security_group", {}).get("GroupName", f"ray-autoscaler-{file.config['cluster_name']}")
    answers = account.client("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": [group]}])
    groups = answers["SecurityGroups"]
    allow = f"aws ec2 authorize-security-group-ingress --region {region}"
    mine = '--protocol tcp --port 22 --cidr "$(curl -s https://checkip.amazonaws.com)/32"'
    if not groups:
        make = (
            f"group=$(aws ec2 create-security-group --region {region} --group-name {group} --description {group} "
            f"--query GroupId --output text) && {allow} --group-id $group --protocol all --source-group $group && "
            f"{allow} --group-id $group {mine}"
        )
        return failed("SSH", f"Ray would make the group {group}, with port 22 open to the world", make)
    for entry in groups:
        if _open_to_world(entry):
            number = entry["GroupId"]
            close = (
                f"aws ec2 revoke-security-group-ingress --region {region} --group-id {number} --protocol tcp "
                f"--port 22 --cidr 0.0.0.0/0 && {allow} --group-id {number} {mine}"
            )
            return failed("SSH", f"the group {group} has port 22 open to the world", close)
    return ok("SSH", f"the group {group}, with rules of your own")


def _open_to_world(group: dict[str, Any]) -> bool:
    if not group["IpPermissions"]:
        return True  # Ray fills it
    return any(
        entry.get("CidrIp") == "0.0.0.0/0" or entry.get("CidrIpv6") == "::/0"
        for rule in group["IpPermissions"]
        if rule["IpProtocol"] == "-1" or rule.get("FromPort", 0) <= 22 <= rule.get("ToPort", 65535)
        for entry in [*rule.get("IpRanges", ()), *rule.get("Ipv6Ranges", ())]
    )


def _bucket(account: Account) -> Finding:
    """By the user's own credentials; the nodes come in by their profiles."""
    name, results = "bucket", account.file.results
    bucket, prefix = bucket_and_prefix(results)
    if not bucket:
        return unknown(name, "the head has no tag `results` with an s3:// URI")
    client = account.client("s3")
    make = f"aws s3 mb s3://{bucket} --region {account.region}"
    try:
        region = client.head_bucket(Bucket=bucket).get("BucketRegion") or account.region
        key = "/".join(part for part in (prefix, f".check-{secrets.token_hex(8)}") if part)
        client.put_object(Bucket=bucket, Key=key, Body=b"")
        client.delete_object(Bucket=bucket, Key=key)
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        if code in ("404", "NoSuchBucket"):
            return failed(name, f"there is no s3://{bucket}", make)
        if NOT_ALLOWED.search(code):
            return failed(name, f"you may not write to {results}", f"aws s3 cp README.md {results}/")
        raise
    if region != account.region:
        return failed(
            name,
            f"it is in {region} and the nodes in {account.region}: slow, and paid for by the byte",
            f"sed -i 's/region: {account.region}/region: {region}/' {account.file.path}",
        )
    return ok(name, f"{results} can be written")


def _price(account: Account) -> Finding:
    kind = account.file.worker["InstanceType"]
    history = account.client("ec2").describe_spot_price_history(
        InstanceTypes=[kind], ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
    )["SpotPriceHistory"]
    if not history:
        return unknown("price", f"{account.region} has no spot price for {kind}")
    dearest = max(float(entry["SpotPrice"]) for entry in history)
    workers = account.workers * dearest
    says = f"{account.workers} {kind} at {dearest:.4g} USD an hour, today's dearest zone"
    head = account.file.head["InstanceType"]
    try:
        hourly = _on_demand(account, head)
    except (BotoCoreError, ClientError) as error:
        hourly, reason = math.nan, str(error).splitlines()[0]
    else:
        reason = "no such product"
    if math.isnan(hourly):
        return unknown("price", f"{workers:.2f} USD an hour at most ({says}), and the head's {head}: {reason}")
    total = workers + hourly
    return ok("price", f"{total:.2f} USD an hour at most ({says}; {head} at {hourly:.4g}); disks and traffic besides")


def _on_demand(account: Account, kind: str) -> float:
    """The price of an hour in US dollars; NaN where AWS lists none."""
    filters = {
        "instanceType": kind,
        "regionCode": account.region,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    products = account.client("pricing", PRICING_REGION).get_products(
        ServiceCode="AmazonEC2",
        Filters=[{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()],
    )["PriceList"]
    prices = [
        float(dimension["pricePerUnit"]["USD"])
        for product in map(json.loads, products)
        for term in product["terms"].get("OnDemand", {}).values()
        for dimension in term["priceDimensions"].values()
    ]
    return max(prices, default=math.nan)


def _gpus(kind: dict[str, Any]) -> int:
    gpus = kind.get("GpuInfo", {}).get("Gpus", [])
    return sum(int(gpu["Count"]) for gpu in gpus if gpu.get("Manufacturer") == "NVIDIA")


CHECKS: dict[str, Callable[[Account], Finding]] = {
    "machine image": _machine_image,
    "instance types": _instance_types,
    "profile of the head": lambda account: _profile(account, "head", account.file.head),
    "profile of the workers": lambda account: _profile(account, "worker", account.file.worker),
    "spot role": _spot_role,
    "quota of workers": _worker_quota,
    "quota of the head": _head_quota,
    "SSH": _ssh,
    "bucket": _bucket,
    "price": _price,
}
"""What is asked of AWS once it knows the user."""
