"""The command `study check`: its verdicts, its files and its exit code, and how little it needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.__main__ import app
from study.check import checks
from study.check.finding import Check, Finding, Subject, Verdict, judged
from study.terminal import main
from study.training.determinism import CUBLAS
from study.worker import ENVIRONMENT
from tests.absent import without

ROOT = Path(__file__).parents[3]
HERE = Subject("cpu")


def good(subject: Subject) -> Finding:
    return judged(True, f"all is well on {subject.device}", number=1.5)


def bad(subject: Subject) -> Finding:
    return judged(False, "two and two are five")


def broken(subject: Subject) -> Finding:
    raise RuntimeError("the device fell off the bus\nwith a trace")


def checked(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["study", "check", "--device", "cpu", *arguments])
    with pytest.raises(SystemExit) as ended:
        main(app, "python -m study")
    return int(ended.value.code or 0)


def given(monkeypatch, **found) -> None:
    made = {name: Check(name, f"Is {name} so?", find, gpu_only=name == "gpu") for name, find in found.items()}
    monkeypatch.setattr(checks, "CHECKS", made)


def test_a_check_that_ends_in_an_error_has_failed():
    found = checks.answer(Check("broken", "?", broken), HERE).finding
    assert found == Finding(Verdict.FAILED, "ended in an error: RuntimeError: the device fell off the bus")


def test_what_needs_a_gpu_is_not_made_on_a_cpu_and_says_so():
    found = checks.answer(Check("gpu", "?", broken, gpu_only=True), HERE).finding
    assert found == Finding(Verdict.NOT_APPLICABLE, "needs a GPU, which cpu is not")


def test_a_device_that_passes_ends_with_code_0_and_all_that_was_found_is_in_the_file(monkeypatch, capsys, tmp_path):
    given(monkeypatch, good=good, gpu=bad)
    assert checked(monkeypatch, "--out", str(tmp_path / "check.json")) == 0
    printed = capsys.readouterr().out
    assert "1 of 2: good passed" in printed
    assert "all is well on cpu" in printed
    assert "1 checks passed, none failed, 1 not applicable." in printed
    content = json.loads((tmp_path / "check.json").read_text())
    assert content["passed"] is True
    first, second = content["checks"]
    assert (first["name"], first["verdict"], first["number"]) == ("good", "passed", 1.5)
    assert (second["name"], second["verdict"]) == ("gpu", "not applicable")


@pytest.mark.parametrize("wrong", [bad, broken])
def test_one_that_fails_ends_with_code_1_after_all_others_were_made(wrong, monkeypatch, capsys, tmp_path):
    given(monkeypatch, wrong=wrong, good=good)
    assert checked(monkeypatch, "--out", str(tmp_path / "check.json")) == 1
    assert "wrong failed" in capsys.readouterr().out
    content = json.loads((tmp_path / "check.json").read_text())
    assert (content["passed"], [each["verdict"] for each in content["checks"]]) == (False, ["failed", "passed"])


def test_only_the_check_that_is_named_is_made_and_an_unknown_one_is_refused(monkeypatch, capfd):
    given(monkeypatch, good=good, wrong=bad)
    assert checked(monkeypatch, "--only", "good") == 0
    assert checked(monkeypatch, "--only", "goood") == 2
    assert "did you mean 'good'?" in capfd.readouterr().err


@pytest.mark.slow
def test_it_runs_where_there_is_little_more_than_torch(tmp_path):
    """Neither Ray, pandas and the store of the tests, nor pytest and what is plugged into it."""
    absent = ("ray", "pandas", "moto", "flask", "werkzeug", "boto3", "optuna", "pytest", "xdist", "hypothesis")
    code = without(*absent) + (
        "from study.__main__ import app\n"
        "from study.terminal import main\n"
        "sys.argv = ['study', 'check', *sys.argv[1:]]\n"
        "main(app, 'python -m study')"
    )
    out = tmp_path / "check.json"
    command = [sys.executable, "-c", code, "--device", "cpu", "--seconds", "0", "--rounds", "1", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {each["name"]: each["verdict"] for each in json.loads(out.read_text())["checks"]}
    assert verdicts == {name: "not applicable" if check.gpu_only else "passed" for name, check in checks.CHECKS.items()}


@pytest.mark.gpu
@pytest.mark.parametrize("name", checks.CHECKS)
def test_a_gpu_passes(name, monkeypatch):
    monkeypatch.setenv(CUBLAS, ENVIRONMENT[CUBLAS])
    answer = checks.answer(checks.CHECKS[name], Subject("cuda", seconds=0.1, rounds=1))
    assert answer.finding.verdict is Verdict.PASSED, answer.finding.sentence
