"""`python -m sweeps cluster init`: a copy of a template with the user's values, which git leaves alone."""

import subprocess
from pathlib import Path

import pytest

from sweeps.cluster import file as cluster_file
from sweeps.cluster.file import MINE, PROJECT, read
from sweeps.cluster.init import AWS, LOCAL
from tests.sweeps.cluster.conftest import Run

VALUES = {
    "results": "s3://mine/study",
    "region": "eu-west-1",
    "instance_type": "g5.12xlarge",
    "max_workers": "37",
    "ami": "ami-0123456789abcdef0",
    "head_profile": "our-head",
    "worker_profile": "our-worker",
    "owner": "ada@example.org",
}


def options(values: dict[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", value)]


def test_a_copy_has_the_values_and_is_else_the_template(cluster: Run, tmp_path: Path):
    path = tmp_path / "a.yaml"
    code, printed = cluster("init", "--to", path, *options(VALUES))
    assert code == 0
    assert printed.splitlines() == [f"made {path}", f"next: python -m sweeps cluster check {path}"]
    made = read(str(path))
    assert made.results == VALUES["results"]
    assert made.provider["region"] == VALUES["region"]
    assert made.worker["InstanceType"] == VALUES["instance_type"]
    assert made.config["max_workers"] == 37
    assert made.head["ImageId"] == made.worker["ImageId"] == VALUES["ami"]
    assert made.head["IamInstanceProfile"] == {"Name": VALUES["head_profile"]}
    assert made.worker["IamInstanceProfile"] == {"Name": VALUES["worker_profile"]}
    assert made.placeholders() == []
    assert "change:" not in path.read_text()
    kept = [line.replace("# change: ", "# ") for line in (PROJECT / "cluster.yaml").read_text().splitlines()]
    differ = [line for line in path.read_text().splitlines()[2:] if line not in kept]
    assert len(differ) == len(VALUES)


def test_what_is_not_given_stays_to_be_changed(cluster: Run, tmp_path: Path):
    path = tmp_path / "a.yaml"
    code, printed = cluster("init", "--to", path)
    assert code == 0
    assert printed.count("still the template's: ") == len(AWS)
    assert set(read(str(path)).placeholders()) == {"ami-00000000000000000", "nobody", "s3://bucket/study"}


def test_a_copy_for_machines_of_ones_own(cluster: Run, tmp_path: Path):
    path = tmp_path / "a.yaml"
    machines = ("--machine", "10.0.0.1", "--machine", "10.0.0.2", "--machine", "third")
    code, printed = cluster("init", "--to", path, *machines, "--ssh-user", "ray", "--ssh-key", "~/.ssh/id")
    assert code == 0
    assert "still the template's" not in printed
    made = read(str(path))
    assert made.provider == {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "third"]}
    assert made.config["auth"] == {"ssh_user": "ray", "ssh_private_key": "~/.ssh/id"}


def test_every_line_to_be_changed_has_an_option():
    for template, fields in (("cluster.yaml", AWS), ("cluster-local.yaml", LOCAL)):
        assert (PROJECT / template).read_text().count("# change: ") == len(fields)


def test_the_default_name_is_ignored_by_git_and_goes_by_no_template():
    done = subprocess.run(["git", "check-ignore", MINE], cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode == 128:
        pytest.skip("this is no checkout")
    assert done.stdout.strip() == MINE
    assert (
        subprocess.run(
            ["git", "check-ignore", "cluster.yaml"], cwd=PROJECT, capture_output=True, check=False
        ).returncode
        == 1
    )


def test_nothing_is_overwritten(cluster: Run, tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("precious")
    code, printed = cluster("init", "--to", path)
    assert code == 2
    assert "is there already" in printed
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", sorted(set(VALUES) - {"max_workers"}))
@pytest.mark.parametrize("value", ["", "a b: {}\nx", "}"])
def test_a_value_that_can_be_none_is_refused(cluster: Run, tmp_path: Path, name: str, value: str):
    path = tmp_path / "a.yaml"
    code, printed = cluster("init", "--to", path, *options({name: value}))
    assert code == 2
    assert f"is no {name.replace('_', '-')}; one is like" in printed
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--machine", "10.0.0.1"], "two machines at least"),
        (["--machine", "10.0.0.1", "--machine", "10.0.0.1"], "named twice"),
        (["--machine", "10.0.0.1", "--machine", "10.0.0.2", "--region", "eu-west-1"], "--region is for AWS"),
        (["--ssh-user", "ray"], "name them with --machine"),
        (["--max-workers", "0"], "max-workers"),
        (["--machine", "10.0.0.1", "--machine", "a b"], "is no machine"),
        (["--to", "/nowhere/a.yaml"], "can't be written"),
    ],
)
def test_bad_input_is_one_sentence(cluster: Run, tmp_path: Path, arguments: list[str], said: str):
    code, printed = cluster("init", *(arguments if "--to" in arguments else ["--to", str(tmp_path / "a"), *arguments]))
    assert code == 2
    assert said in printed
    assert printed.count("\n") == 1


def test_the_templates_lie_where_they_are_looked_for():
    assert (cluster_file.PROJECT / "cluster.yaml").is_file()
