import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import analysis.__main__
import study.__main__
import sweeps.__main__
from study.trial import parse
from sweeps import registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
APPS = {"study": study.__main__.app, "sweeps": sweeps.__main__.app, "analysis": analysis.__main__.app}
# A command stands in a table cell or on a line of its own, and ends with either.
COMMANDS = sorted(set(re.findall(r"python -m (?:study|sweeps|analysis)[^`|\n]*", README)))


def test_the_readme_shows_commands_of_every_part():
    assert {command.split()[2] for command in COMMANDS} == set(APPS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_parses(command: str):
    _, _, module, verb, *arguments = shlex.split(command)
    group = get_command(APPS[module])
    context = group.make_context(module, [verb])
    chosen = group.get_command(context, verb)
    assert chosen is not None, f"no command {verb}"
    values = chosen.make_context(verb, arguments).params
    parse([*(values.get("overrides") or ()), *(values.get("settings") or ())])
    if module == "sweeps" and "name" in values:
        registry.sweep(values["name"])


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)`", README)) | set(re.findall(r"^make ([a-z]+)$", README, re.MULTILINE))
    assert named
    assert named <= targets


def test_every_file_that_the_readme_names_exists():
    named = set(re.findall(r"`((?:study|sweeps|analysis|tests)(?:/[\w.]+)*)`", README))
    named |= set(re.findall(r"\]\((docs/[^)]+)\)", README))
    assert {"study/run.py", "study", "docs/quickstart.png"} <= named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_shards_of_the_readme_are_as_many_as_are_launched():
    section = README.partition("\n## Without a head\n")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```\n(#!.*?)```", section, re.DOTALL)
    assert (
        re.findall(r"--array=1-(\d+)", script) == re.findall(r'--shard "\$SLURM_ARRAY_TASK_ID/(\d+)"', script) == ["8"]
    )
    (job,) = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", section, re.DOTALL))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    count = job["spec"]["completions"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert f'--shard "$((JOB_COMPLETION_INDEX + 1))/{count}"' in container["args"][0]
