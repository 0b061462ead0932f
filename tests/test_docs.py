"""The README and the pages of `docs` name nothing that is not there: commands, options, settings, files and links."""

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import analysis.__main__
import study.__main__
import sweeps.__main__
from study import imports
from study.record.results import Results
from study.terminal import main
from study.trial import parse
from sweeps import registry

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
APPS = {"study": study.__main__.app, "sweeps": sweeps.__main__.app, "analysis": analysis.__main__.app}
# A command stands in a table cell or on a line of its own, and ends with either.
COMMANDS = sorted(
    {found for text in PAGES.values() for found in re.findall(r"python -m (?:study|sweeps|analysis) [^`|\n)']*", text)}
)
TOPICS = (
    *("commands", "results", "ledger", "tuning", "cluster", "reliability", "speed"),
    *("definitions", "audit", "records", "extending", "python", "design"),
)


def test_the_readme_is_one_page_and_each_topic_has_one():
    assert len((ROOT / "README.md").read_bytes()) <= 12_000
    assert {f"docs/{topic}.md" for topic in TOPICS} == set(PAGES) - {"README.md"}
    for topic in TOPICS:
        assert f"(docs/{topic}.md)" in PAGES["README.md"], "the README says where it is"


@pytest.mark.parametrize("topic", TOPICS)
def test_a_page_opens_with_what_it_is_for(topic: str):
    title, blank, opening, *_ = PAGES[f"docs/{topic}.md"].splitlines()
    assert re.fullmatch(r"# \w.*", title)
    assert blank == ""
    assert re.match(r"[A-Z]\w+ ", opening)


def test_commands_of_every_part_are_shown():
    assert {command.split()[2] for command in COMMANDS} == set(APPS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command: str):
    _, _, module, *arguments = shlex.split(re.sub(r'"\$.*', "1/8", command).replace(" ROLE", " head"))
    chosen = get_command(APPS[module])
    while hasattr(chosen, "commands") and arguments:
        verb, *arguments = arguments
        context = chosen.make_context(module, [verb])
        found = chosen.get_command(context, verb)
        assert found is not None, f"no command {verb}"
        chosen = found
    if hasattr(chosen, "commands"):
        return
    values = chosen.make_context(module, arguments).params
    parse([*(values.get("overrides") or ()), *(values.get("settings") or ())])
    if module == "sweeps" and values.get("name"):
        assert values["name"] in {*registry.SWEEPS, "wide_digits"} or imports.parse(values["name"])


@pytest.mark.parametrize(
    ("listing", "page", "heading"),
    [("settings", "docs/definitions.md", "Settings"), ("columns", "docs/records.md", "Tables")],
)
def test_a_page_lists_what_the_command_prints(listing: str, page: str, heading: str, monkeypatch, capsys):
    renewed_by = f"python -m study {listing} --format markdown"
    monkeypatch.setattr(sys, "argv", ["study", *renewed_by.split()[3:]])
    with pytest.raises(SystemExit):
        main(APPS["study"], "python -m study")
    section = PAGES[page].partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    printed = re.findall(r"^\|.*\n", capsys.readouterr().out, re.MULTILINE)
    assert printed == re.findall(r"^\|.*\n", section, re.MULTILINE), renewed_by


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name for text in PAGES.values() for name in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)$", text, re.MULTILINE)
    }
    assert named
    assert {name for pair in named for name in pair if name} <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str):
    named = set(re.findall(r"`((?:study|sweeps|analysis|tests|examples|docs)(?:/[\w.]+)*)`", PAGES[page]))
    assert [name for name in named if not (ROOT / name).exists()] == []


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]) if "://" not in link]
    for link in links:
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.resolve().is_file(), link
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), link


def test_as_many_shards_are_launched_as_there_are():
    section = PAGES["docs/cluster.md"].partition("\n## Without a head\n")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```\n(#!.*?)```", section, re.DOTALL)
    assert (
        re.findall(r"--array=1-(\d+)", script) == re.findall(r'--shard "\$SLURM_ARRAY_TASK_ID/(\d+)"', script) == ["8"]
    )
    (job,) = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", section, re.DOTALL))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    count = job["spec"]["completions"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert f'--shard "$((JOB_COMPLETION_INDEX + 1))/{count}"' in container["args"][0]


@pytest.mark.slow
@pytest.mark.ray
def test_the_python_page_runs_as_it_stands(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With fewer epochs, and with the records of a sweep that has run."""
    blocks = re.findall(r"```python\n(.*?)```", PAGES["docs/python.md"], re.DOTALL)
    assert len(blocks) >= 5
    shutil.copytree(finished, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(re.sub(r"epochs=\d+", "epochs=1", block), names)
    assert "mine" in Results.at("results").sweeps()
    assert len(names["curves"]) == len(names["epochs"]) > 0
