"""A cluster's file with the user's values, beside the template, so that the records' code stays as committed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from study.errors import BadInputError
from sweeps.cluster.file import PROJECT

HEADER = """\
# Made by `python -m sweeps cluster init` from {template}; git leaves it alone. Check it with
# `python -m sweeps cluster check {path}`.
"""


@dataclass(frozen=True)
class _Field:
    """A line of a template that the user changes.

    Attributes:
        line: finds it, and in its first group what stays before the value.
        form: what a value looks like.
        example: one that is valid.
    """

    line: str
    form: str
    example: str


AWS = {
    "max_workers": _Field(r"^(max_workers: )\d+", r"[1-9]\d*", "8"),
    "region": _Field(r"^(  region: )\S+", r"[a-z]{2,}(-[a-z]+)+-\d", "us-west-2"),
    "ami": _Field(r"(ImageId: &machine )\S+", r"ami-[0-9a-f]{8,17}", "ami-0123456789abcdef0"),
    "head_profile": _Field(r"(Name: )normleak-head\b", r"[\w+=,.@-]+", "normleak-head"),
    "worker_profile": _Field(r"(Name: )normleak-worker\b", r"[\w+=,.@-]+", "normleak-worker"),
    "instance_type": _Field(r"(InstanceType: )g\S+", r"[a-z][a-z0-9-]*\.[a-z0-9-]+", "g6.2xlarge"),
    "results": _Field(r"(Key: results, Value: )[^}]+", r"s3://[a-z0-9][a-z0-9.-]+(/[\w./=+@-]+)?", "s3://bucket/study"),
    "owner": _Field(r"(Key: owner, Value: )[^}]+", r"[\w+=.:/@-][\w +=.:/@-]*", "ada@example.org"),
}
LOCAL = {
    "head": _Field(r"^(  head_ip: )\S+", r"[\w.-]+", "192.0.2.1"),
    "workers": _Field(r"^(  worker_ips: )\[.*?\]", r"\[[\w., -]+\]", "[192.0.2.2]"),
    "ssh_user": _Field(r"^(  ssh_user: )\S+", r"[\w-]+", "ubuntu"),
    "ssh_key": _Field(r"^(  ssh_private_key: )\S+", r"\S+", "~/.ssh/id_ed25519"),
}


def init_aws(path: str, values: dict[str, str | None]) -> list[str]:
    """Write a copy of `cluster.yaml` with these values, by the names of `AWS`; None keeps the template's.

    Returns:
        The lines that are left to be changed by hand.

    Raises:
        BadInputError: a value can't be one, or the file is there already.
    """
    return _write("cluster.yaml", path, AWS, values)


def init_local(path: str, machines: Sequence[str], ssh_user: str | None, ssh_key: str | None) -> list[str]:
    """Write a copy of `cluster-local.yaml` for these machines, of which the first is the head.

    Returns:
        The lines that are left to be changed by hand.

    Raises:
        BadInputError: there is no worker, a value can't be one, or the file is there already.
    """
    if len(machines) < 2:
        raise BadInputError("a cluster of your own has two machines at least: repeat --machine, the head first.")
    if len(set(machines)) != len(machines):
        raise BadInputError("a machine is named twice; the head runs no trial.")
    for machine in machines:
        if not re.fullmatch(LOCAL["head"].form, machine):
            raise BadInputError(f"{machine!r} is no machine; one is like {LOCAL['head'].example}.")
    workers = f"[{', '.join(machines[1:])}]"
    values = {"head": machines[0], "workers": workers, "ssh_user": ssh_user, "ssh_key": ssh_key}
    return _write("cluster-local.yaml", path, LOCAL, values)


def _write(template: str, path: str, fields: dict[str, _Field], values: dict[str, str | None]) -> list[str]:
    text = (PROJECT / template).read_text()
    for name, value in values.items():
        if value is not None:
            text = _fill(text, name, fields[name], value)
    # The template's own introduction says how to make such a copy.
    body = text[re.match(r"(?:#.*\n)*", text).end() :]  # type: ignore[union-attr]
    try:
        with Path(path).open("x") as file:
            file.write(HEADER.format(template=template, path=path) + body)
    except FileExistsError:
        raise BadInputError(f"{path} is there already; remove it, or name another with --to.") from None
    except OSError as error:
        raise BadInputError(f"{path} can't be written: {error.strerror}.") from None
    return [line.strip() for line in body.splitlines() if "# change: " in line]


def _fill(text: str, name: str, field: _Field, value: str) -> str:
    if not re.fullmatch(field.form, value):
        option = name.replace("_", "-")
        raise BadInputError(f"{value!r} is no {option}; one is like {field.example}.")
    lines = text.splitlines(keepends=True)
    (number,) = (number for number, line in enumerate(lines) if re.search(field.line, line))
    line = re.sub(field.line, lambda match: match[1] + value, lines[number])
    lines[number] = line.replace("# change: ", "# ")
    return "".join(lines)
