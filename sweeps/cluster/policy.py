"""The least that the nodes of a cluster on AWS must be allowed to do.

The policies are for the roles of the two instance profiles that the cluster's file names. The head's holds what Ray's
AWS provider asks for on a head (`ray/autoscaler/_private/aws/node_provider.py`), on nodes of this cluster alone, plus
the bucket. Creating security groups, key pairs or profiles is left to whoever calls `ray up`.
"""

import re
from typing import Any

from sweeps.cluster.file import ClusterFile

ASSUMED_BY_EC2 = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
"""Who may take a role on: an EC2 instance."""


def head_policy(file: ClusterFile) -> dict[str, Any]:
    """Return the policy of the head: start and end workers of this cluster, pass on their profile, use the bucket."""
    region, cluster = file.provider["region"], file.config["cluster_name"]

    def ec2(kind: str) -> str:
        return f"arn:aws:ec2:{region}:*:{kind}/*"

    parts = ("subnet", "network-interface", "security-group", "key-pair", "volume", "spot-instances-request")
    new_worker = {
        "aws:RequestTag/ray-cluster-name": cluster,
        "aws:RequestTag/ray-node-type": "worker",
        "ec2:InstanceType": file.worker["InstanceType"],
    }
    statements = [
        _allow("SeeNodes", ["ec2:DescribeInstances"], ["*"]),
        _allow("StartWith", ["ec2:RunInstances"], [f"arn:aws:ec2:{region}::image/*", *map(ec2, parts)]),
        _allow("StartWorkers", ["ec2:RunInstances"], [ec2("instance")], new_worker),
        _allow("TagNewWorkers", ["ec2:CreateTags"], [ec2("instance")], {"ec2:CreateAction": "RunInstances"}),
        _allow(
            "TagAndEndNodes",
            ["ec2:CreateTags", "ec2:TerminateInstances"],
            [ec2("instance")],
            {"aws:ResourceTag/ray-cluster-name": cluster},
        ),
        _allow(
            "PassOnTheWorkersRole",
            ["iam:PassRole"],
            [f"arn:aws:iam::*:role/{profile_name(file.worker)}"],
            {"iam:PassedToService": "ec2.amazonaws.com"},
        ),
    ]
    return {"Version": "2012-10-17", "Statement": statements + _bucket(file)}


def worker_policy(file: ClusterFile) -> dict[str, Any]:
    """Return the policy of the workers: use the bucket, and nothing else."""
    return {"Version": "2012-10-17", "Statement": _bucket(file)}


def profile_name(node: dict[str, Any]) -> str:
    """The name of a node's instance profile, which is its role's as well."""
    profile = node.get("IamInstanceProfile", {})
    return str(profile.get("Name") or profile.get("Arn", "").rpartition("/")[2])


def bucket_and_prefix(results: str) -> tuple[str, str]:
    """The two parts of `s3://bucket/prefix`; empty where the URI is another store's."""
    match = re.fullmatch(r"s3://([^/?]+)/?([^?]*?)/?(\?.*)?", results)
    return (match[1], match[2]) if match else ("", "")


def _bucket(file: ClusterFile) -> list[dict[str, Any]]:
    bucket, prefix = bucket_and_prefix(file.results)
    if not bucket:
        return []
    below = "/".join(part for part in (bucket, prefix, "*") if part)
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return [
        _allow("ListRecords", ["s3:ListBucket"], [f"arn:aws:s3:::{bucket}"]),
        _allow("ReadAndWriteRecords", objects, [f"arn:aws:s3:::{below}"]),
    ]


def _allow(
    name: str, actions: list[str], resources: list[str], condition: dict[str, str] | None = None
) -> dict[str, Any]:
    statement: dict[str, Any] = {"Sid": name, "Effect": "Allow", "Action": actions, "Resource": resources}
    return {**statement, "Condition": {"StringEquals": condition}} if condition else statement
