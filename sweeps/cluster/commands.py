"""`python -m sweeps cluster`: make a cluster's file, check it, and print the policies that its nodes need."""

import json
from collections import Counter
from enum import StrEnum
from typing import Annotated

import typer

from study.errors import BadInputError
from study.terminal import application, console
from sweeps.cluster.file import MINE, read
from sweeps.cluster.finding import Status
from sweeps.cluster.init import init_aws, init_local

app = application("Make and check the file of a cluster for `ray up`.")

File = Annotated[str, typer.Argument(metavar="FILE", help="The cluster's file.")]


class Role(StrEnum):
    """Whose policy."""

    head = "head"
    worker = "worker"


@app.command()
def init(
    to: Annotated[str, typer.Option(help="The file to make, which must not be there yet.")] = MINE,
    results: Annotated[str | None, typer.Option(metavar="URI", help="Where the records go: s3://bucket/study.")] = None,
    region: Annotated[str | None, typer.Option(help="AWS region of the bucket and of the quota.")] = None,
    instance_type: Annotated[str | None, typer.Option(help="Of the workers; any with an NVIDIA GPU.")] = None,
    max_workers: Annotated[int | None, typer.Option(min=1, help="The most worker nodes to pay for at once.")] = None,
    ami: Annotated[str | None, typer.Option(help="Machine image; `check` says how to get the newest.")] = None,
    head_profile: Annotated[str | None, typer.Option(help="Instance profile of the head.")] = None,
    worker_profile: Annotated[str | None, typer.Option(help="Instance profile of the workers.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who is asked about the bill.")] = None,
    machine: Annotated[
        list[str] | None,
        typer.Option(help="A machine of your own in place of AWS, the head's first; repeatable."),
    ] = None,
    ssh_user: Annotated[str | None, typer.Option(help="The user on machines of your own.")] = None,
    ssh_key: Annotated[str | None, typer.Option(help="The private key that opens machines of your own.")] = None,
) -> None:
    """Make a cluster's file with your values, untracked, from the template for AWS or for machines of your own.

    To edit the template itself would mark every record as made by changed code.

    Example: python -m sweeps cluster init --results s3://bucket/study --region us-west-2 --max-workers 8
    Example: python -m sweeps cluster init --machine 192.0.2.1 --machine 192.0.2.2 --ssh-user ubuntu
    """
    of_aws = {
        "results": results and results.rstrip("/"),
        "region": region,
        "instance_type": instance_type,
        "max_workers": None if max_workers is None else str(max_workers),
        "ami": ami,
        "head_profile": head_profile,
        "worker_profile": worker_profile,
        "owner": owner,
    }
    if machine:
        given = [f"--{name.replace('_', '-')}" for name, value in of_aws.items() if value is not None]
        if given:
            raise BadInputError(f"{', '.join(given)} is for AWS, and --machine for machines of your own.")
        left = init_local(to, machine, ssh_user, ssh_key)
    else:
        if ssh_user is not None or ssh_key is not None:
            raise BadInputError("--ssh-user and --ssh-key are for machines of your own: name them with --machine.")
        left = init_aws(to, of_aws)
    console.print(f"made {to}")
    for line in left:
        console.print(f"still the template's: {line}", soft_wrap=True)
    console.print(f"next: python -m sweeps cluster check {to}", soft_wrap=True)


@app.command()
def check(file: File = MINE) -> None:
    """Look for what would make `ray up` fail after the head is paid for; nothing is started.

    Exit code 1 says that something is not ok. What could not be checked, for want of a network or of rights, is said.

    Example: python -m sweeps cluster check my-cluster.yaml
    """
    from sweeps.cluster.check import check as findings_of

    counts: Counter[Status] = Counter()
    for finding in findings_of(read(file)):
        counts[finding.status] += 1
        console.print(f"{finding.status:<20} {finding.name}: {finding.detail}", soft_wrap=True)
        if finding.remedy:
            # A command that is broken over two lines can't be copied.
            console.print(f"{'':<20} {finding.remedy}", soft_wrap=True)
    console.print(", ".join(f"{counts[status]} {status}" for status in Status if counts[status]))
    if counts[Status.failed]:
        raise typer.Exit(1)
    console.print(f"next: ray up {file}", soft_wrap=True)


@app.command()
def policy(role: Annotated[Role, typer.Argument(help="Of whom.")], file: File = MINE) -> None:
    """Print the least that the head or a worker must be allowed on AWS, as an IAM policy.

    Example: python -m sweeps cluster policy head my-cluster.yaml
    """
    from sweeps.cluster.policy import head_policy, worker_policy

    read_file = read(file)
    if read_file.provider["type"] != "aws":
        raise BadInputError(f"{file} is of no cluster on AWS, and needs no policy.")
    made = head_policy(read_file) if role == Role.head else worker_policy(read_file)
    # `echo` and no console, which would break long lines.
    typer.echo(json.dumps(made, indent=2))
